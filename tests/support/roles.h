// Tests that start their own program, under mpirun or alone, and judge what it printed and when: with --as=ROLE it is a
// rank that plays a part.
#pragma once

#include <string>

#include "parallel/launch.h"

namespace llama_tp {

std::string this_program();  // its path

// The end of a command line: this program in a role.
std::string as(const std::string& role);

// For main: does what `play` does of the role that the command line gives, and without one runs the tests.
int play_or_judge(int argc, char** argv, int (*play)(const std::string& role, Launch& launch));

}  // namespace llama_tp
