// llama_tp: tensor parallelism for Llama, plainly. This file only finds the subcommand.
#include <array>
#include <cstdio>
#include <exception>
#include <string>

#include "base/machine.h"
#include "commands/commands.h"

namespace {

struct Command {
  const char *name, *summary;
  int (*run)(const llama_tp::Arguments&);
};

constexpr std::array<Command, 6> commands{{
    {"train", "train or fine-tune: mpirun -np 2 ./llama_tp train --model DIR --train-file FILE --output-dir OUT",
     llama_tp::train_command},
    {"generate", "continue a text:       mpirun -np 2 ./llama_tp generate -m DIR -p \"Once upon a time\"",
     llama_tp::generate_command},
    {"eval", "loss and perplexity:   mpirun -np 2 ./llama_tp eval -m DIR --file FILE", llama_tp::evaluate_command},
    {"inspect", "parameters and slices: ./llama_tp inspect -m DIR --tensor-parallel 8", llama_tp::inspect_command},
    {"tokenize", "text to ids and back:  ./llama_tp tokenize -m DIR -p \"Once upon a time\"",
     llama_tp::tokenize_command},
    {"bench", "speed and memory:      mpirun -np 2 ./llama_tp bench --config data/configs/bench-134m.json",
     llama_tp::bench_command},
}};

int usage(std::FILE* to) {
  std::fprintf(to, "llama_tp trains and runs Llama models with tensor parallelism, each rank with its own slice.\n\n");
  for (const Command& command : commands) std::fprintf(to, "  %-9s %s\n", command.name, command.summary);
  std::fprintf(to, "\nEach has --help. Without mpirun a command runs as one rank.\n");
  return to == stdout ? 0 : 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    llama_tp::check_machine();
    const std::string name = argc > 1 ? argv[1] : "";
    if (name.empty()) return usage(stderr);
    if (name == "--help" || name == "-h" || name == "help") return usage(stdout);
    for (const Command& command : commands)
      if (name == command.name) return command.run(llama_tp::Arguments(argv + 2, argv + argc));
    llama_tp::fail("\"", name, "\" is no command; there are train, generate, eval, inspect, tokenize and bench");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_tp: %s\n", llama_tp::one_line(error.what()).c_str());
    return 1;
  }
}
