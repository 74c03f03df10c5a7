// Linked to a test of operations, makes the emulated GPU one with Hopper's instructions.
#include "emulation/machine.h"

namespace llama_tp {
namespace {

[[maybe_unused]] const bool chosen = (emulation::be_hopper(true), true);

}  // namespace
}  // namespace llama_tp
