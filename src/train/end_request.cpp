#include "train/end_request.h"

#include <csignal>

namespace llama_tp {

namespace {

volatile std::sig_atomic_t requested = 0;

}  // namespace

void accept_end_requests() {
  struct sigaction action {};
  action.sa_handler = [](int) { requested = 1; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

bool end_is_requested() { return requested != 0; }

}  // namespace llama_tp
