// Linked to a test, makes the GPU one without Hopper's instructions.
#include "ptx/runtime.h"

namespace llama_tp {
namespace {

[[maybe_unused]] const bool chosen = (ptx::compute_capability() = 80, true);

}  // namespace
}  // namespace llama_tp
