// PTX as nvcc writes it, read into instructions whose operands are places among a warp's registers. Constants, special
// registers and addresses of variables have places, too, which are filled before a warp begins.
// (PTX ISA 9.0.)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace llama_tp::ptx {

struct Instruction;
class Warp;

// What an instruction does for these lanes of a warp.
using Execute = void (*)(Warp& warp, const Instruction& instruction, uint32_t lanes);

// How the lanes of a warp go on.
enum class Flow : uint8_t {
  next,      // each by itself, to the next instruction
  branch,    // to its target
  end,       // nowhere
  together,  // to the next, all at once: it needs all lanes of the warp
  barrier,   // when the block's other threads have come
  phase,     // when a phase of a barrier in memory has ended
};

struct Instruction {
  std::string_view opcode;  // "ld.global.v4.f32", of a table that stays
  Execute execute = nullptr;
  Flow flow = Flow::next;
  std::vector<uint32_t> operands;  // places, in the order in which they are written, braces left out
  std::vector<int64_t> offsets;    // of each operand that is an address [place + offset], else 0
  int first_in_braces = -1;        // of the first list in braces; -1: none
  int guard = -1;                  // the place of a predicate; -1: always
  bool guard_negated = false;
  size_t target = 0;  // of a branch, an instruction
  int line = 0;       // in the text
};

enum class Filling : uint8_t {
  constant,
  thread_x,
  block_x,
  block_y,
  block_z,
  threads_x,
  blocks_x,
  blocks_y,
  blocks_z,
  local_memory
};

struct FilledPlace {
  uint32_t place;
  Filling with;
  uint64_t value;  // a constant's bits; of a local variable where it begins in a thread's local memory
};

struct Parameter {
  uint32_t at = 0, bytes = 0;  // where it lies in the block of parameters
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  std::vector<Instruction> code;
  std::vector<FilledPlace> filled;
  uint32_t places = 0;        // of a warp's registers
  uint32_t local_bytes = 0;   // of a thread
  uint32_t shared_bytes = 0;  // of a block, beside what its launch asks for
};

// Where shared memory begins for instructions that take an address there: not at 0, as on Hopper, where the system has
// the first 1,024 bytes.
constexpr uint32_t first_shared_address = 1024;

// The kernels of a module. Its variables with an initial value live as long as the program.
// Errors: anything that this file does not know, with its line.
std::map<std::string, Kernel> read_module(const std::string& text);

// Of the table of instructions (instructions.h).
struct Known {
  Execute execute = nullptr;
  Flow flow = Flow::next;
};
const std::map<std::string, Known, std::less<>>& instructions();

}  // namespace llama_tp::ptx
