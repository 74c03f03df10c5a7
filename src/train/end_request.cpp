#include "train/end_request.h"

#include <csignal>

namespace llama_tp {

namespace {

volatile std::sig_atomic_t requested = 0;

void set_mask(int how) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(how, &signals, nullptr);
}

}  // namespace

void hold_end_requests() { set_mask(SIG_BLOCK); }

void accept_end_requests() {
  struct sigaction action {};
  action.sa_handler = [](int) { requested = 1; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  set_mask(SIG_UNBLOCK);
}

bool end_is_requested() { return requested != 0; }

}  // namespace llama_tp
