// stdout and stderr as a command finds them: closed ones are made harmless at the start, and a result that does not
// arrive is an error.
#pragma once

namespace llama_tp {

// First thing in main: where stdin, stdout or stderr is closed, the next file that is opened would take its place and
// receive what is printed. /dev/null takes it instead.
void hold_standard_streams();

// Hands on what was printed. Errors: a full disk, or whoever reads has gone, now or since the last call.
void flush_stdout();

}  // namespace llama_tp
