// How a command refuses: one line on stderr that says where, what, why and what to do, from whichever ranks; at once,
// and with nothing changed on the disk.
#pragma once

#include <string>
#include <vector>

#include "support/command.h"

namespace llama_tp {

using Words = std::vector<std::string>;

// Runs `llama_tp arguments` and expects a failure that is printed once and says all of `words`.
CommandResult expect_refused(int ranks, const std::string& arguments, const Words& words);
// The same for what a line did; `alone`: without mpirun, where the status is 1 and no rank is named.
void expect_refusal(const CommandResult& result, const Words& words, bool alone);

// Paths, sizes and contents of everything in a folder, to compare before and after.
std::string snapshot(const std::string& folder);

}  // namespace llama_tp
