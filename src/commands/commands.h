// The subcommands. Each takes its arguments without its own name and returns the exit status; errors are thrown.
#pragma once

#include <string>
#include <vector>

namespace llama_tp {

using Arguments = std::vector<std::string>;

int train_command(const Arguments& arguments);
int generate_command(const Arguments& arguments);
int evaluate_command(const Arguments& arguments);
int inspect_command(const Arguments& arguments);
int plan_command(const Arguments& arguments);
int tokenize_command(const Arguments& arguments);
int bench_command(const Arguments& arguments);

}  // namespace llama_tp
