// llama_tp: tensor parallelism for Llama, plainly. This file only finds the subcommand.
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "base/machine.h"
#include "commands/commands.h"
#include "io/files.h"
#include "parallel/launch.h"
#include "report/output.h"

namespace {

struct Command {
  const char *name, *summary;
  int (*run)(const llama_tp::Arguments&);
};

constexpr std::array<Command, 7> commands{{
    {"train", "train or fine-tune: mpirun -np 2 ./llama_tp train --model DIR --train-file FILE --output-dir OUT",
     llama_tp::train_command},
    {"generate", "continue a text:       mpirun -np 2 ./llama_tp generate -m DIR -p \"Once upon a time\"",
     llama_tp::generate_command},
    {"eval", "loss and perplexity:   mpirun -np 2 ./llama_tp eval -m DIR --file FILE", llama_tp::evaluate_command},
    {"inspect", "parameters and slices: ./llama_tp inspect -m DIR --tensor-parallel 8", llama_tp::inspect_command},
    {"plan", "memory before a run:   ./llama_tp plan --config llama-3.1-8b --tensor-parallel 8",
     llama_tp::plan_command},
    {"tokenize", "text to ids and back:  ./llama_tp tokenize -m DIR -p \"Once upon a time\"",
     llama_tp::tokenize_command},
    {"bench", "speed and memory:      mpirun -np 2 ./llama_tp bench --config data/configs/bench-134m.json",
     llama_tp::bench_command},
}};

int usage(std::FILE* to, bool speaks) {
  if (!speaks) return to == stdout ? 0 : 2;
  std::fprintf(to, "llama_tp trains and runs Llama models with tensor parallelism, each rank with its own slice.\n\n");
  for (const Command& command : commands) std::fprintf(to, "  %-9s %s\n", command.name, command.summary);
  std::fprintf(to, "\nEach has --help. Without mpirun a command runs as one rank.\n");
  return to == stdout ? 0 : 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    llama_tp::check_machine();
  } catch (const std::exception& error) {  // by each rank: what would say it once may not run on this machine
    std::fprintf(stderr, "llama_tp: %s\n", error.what());
    return 1;
  }
  llama_tp::hold_standard_streams();
  llama_tp::allow_many_open_files();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error with a name, not a death without a word
  const std::string name = argc > 1 ? argv[1] : "";
  for (const Command& command : commands)
    if (name == command.name) return command.run(llama_tp::Arguments(argv + 2, argv + argc));
  llama_tp::Launch launch;
  return launch.guard([&] {
    if (name.empty()) return usage(stderr, launch.rank() == 0);
    if (name == "--help" || name == "-h" || name == "help") return usage(stdout, launch.rank() == 0);
    llama_tp::fail("\"", name, "\" is no command; there are train, generate, eval, inspect, plan, tokenize and bench");
  });
}
