// make racecheck: every kernel whose threads meet in memory, emulated under ThreadSanitizer. Each must run without a
// report; and with any one of the barriers and waits that it reached left out, ThreadSanitizer must report a race, or
// else nothing needs it. So the list of barriers is the kernels' own, and the check is checked. One that several
// subjects reach must be missed by one of them.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "emulation/machine.h"
#include "kernel_runs.h"

// A child process ends with this status at the first race; all reports count, also those that look alike.
constexpr int race_status = 66;
extern "C" const char* __tsan_default_options() {
  return "exitcode=66:halt_on_error=1:suppress_equal_stacks=0:suppress_equal_addresses=0";
}

namespace llama_tp {
namespace {

using namespace kernels;

// Several tiles, two heads of a group; a tile of queries that sees no key, and keys that no query sees: every path
// between the barriers is taken.
const AttentionSizes attention{2, 1, 32, 230, 230, {0, 150, 0, 150, 150, 80, 150, 10, 230, 0, 160, 10}};
// The same of wider heads, and with more tiles than the ring has.
const AttentionSizes hopper_attention{2, 1, 64, 700, 700, {0, 600, 0, 600, 600, 80, 600, 10, 680, 0, 610, 10}};
// In more chunks of keys than a block has warps to join them.
const AttentionSizes decoding{2, 1, 32, 1, 700, {0, 1, 0, 700}};
// On tensor cores.
const AttentionSizes decoding_wide_heads{2, 1, 64, 1, 700, {0, 1, 0, 700}};
constexpr NormOptions centered{NormKind::layer_norm_1p, 1e-5f};

struct Subject {
  const char* name;
  void (*run)();
};

const std::vector<Subject> subjects{
    {"norms", [] { run_norms<float>(centered, 5, 2600); }},
    // So many that a block of norm_backward takes three.
    {"norms_of_many_rows", [] { run_norms<float>(centered, 600, 68); }},
    {"head_norms", [] { run_head_norms<float>({.heads = 9, .kv_heads = 2, .head_dim = 48, .epsilon = 1e-6f}, 40); }},
    {"cross_entropy", [] { run_cross_entropy<float>(40, 700); }},
    {"sample", [] { run_sample(2, 700); }},
    {"sample_of_parts", [] { run_sample(1, 8192 + 700); }},
    {"sums", [] { run_sums<float>(3000, 20, 70); }},
    {"adamw", [] { run_adamw<float>(600); }},
    // Grids that begin before the one ahead has ended.
    {"one_token", [] { run_tokens<float>(1); }},
    {"few_tokens", [] { run_tokens<bf16>(3); }},
    // No shared memory; but blocks that add to the rows of a table must not meet.
    {"embedding", [] { run_embedding<float>(70, 9, 40); }},
    {"attention_forward", [] { AttentionRun<bf16>(attention).forward_tiles(); }},
    {"attention_forward_hopper", [] { AttentionRun<bf16>(hopper_attention).forward_hopper(); }},
    {"attention_rows", [] { AttentionRun<bf16>(decoding).forward_rows(); }},
    {"attention_few_queries", [] { AttentionRun<bf16>(decoding_wide_heads).forward_few_queries(); }},
    {"attention_backward", [] { AttentionRun<bf16>(attention).backward_tiles(); }},
    {"attention_backward_hopper", [] { AttentionRun<bf16>(hopper_attention).backward_hopper(); }}};

// ---- the check

enum class Outcome { clean, race, other };

// Memory that this process and its children share. ThreadSanitizer does not work on after a fork of a process that has
// several threads, so the emulation runs in children alone, and they leave here what they have found.
struct Shared {
  size_t count;
  emulation::BarrierSite barriers[64];
};
Shared& shared =
    *static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

[[noreturn]] void run_and_exit(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    _exit(1);
  }
  const std::vector<emulation::BarrierSite> reached = emulation::barrier_sites();
  shared.count = std::min(reached.size(), std::size(shared.barriers));
  std::copy_n(reached.begin(), shared.count, shared.barriers);
  _exit(0);
}

// Silent about the race where that is what is asked for.
Outcome outcome_of(const std::function<void()>& run, bool silent) {
  std::fflush(stdout);
  const pid_t child = fork();
  require(child >= 0, "racecheck: fork failed");
  if (child == 0) {
    if (silent && std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    run_and_exit(run);
  }
  int status = 0;
  require(waitpid(child, &status, 0) == child && WIFEXITED(status), "racecheck: a run crashed");
  if (WEXITSTATUS(status) == race_status) return Outcome::race;
  return WEXITSTATUS(status) == 0 ? Outcome::clean : Outcome::other;
}

std::string base_name(const char* path) {
  const std::string whole = path;
  return whole.substr(whole.rfind('/') + 1);
}

bool report(const char* subject, bool as_hoped, const std::string& what) {
  std::printf("  %-24s %-54s %s\n", subject, what.c_str(), as_hoped ? "ok" : "FAILED");
  return as_hoped;
}

bool is_racy_without(const emulation::BarrierSite& site, const Subject& subject) {
  return outcome_of(
             [&] {
               emulation::leave_out(site);
               subject.run();
             },
             true) == Outcome::race;
}

struct Barrier {
  emulation::BarrierSite site;
  std::vector<const Subject*> reached_by;
};

// Adds what the subject reaches.
bool is_clean(const Subject& subject, std::vector<Barrier>& barriers) {
  shared.count = 0;
  const bool clean = outcome_of(subject.run, false) == Outcome::clean;
  for (size_t i = 0; i < shared.count; i++) {
    const emulation::BarrierSite& site = shared.barriers[i];
    auto barrier = std::find_if(barriers.begin(), barriers.end(), [&](const Barrier& one) { return one.site == site; });
    if (barrier == barriers.end()) barrier = barriers.insert(barrier, {site, {}});
    barrier->reached_by.push_back(&subject);
  }
  return report(subject.name, clean, "no race");
}

bool is_needed(const Barrier& barrier) {
  const auto by = std::find_if(barrier.reached_by.begin(), barrier.reached_by.end(),
                               [&](const Subject* subject) { return is_racy_without(barrier.site, *subject); });
  const bool needed = by != barrier.reached_by.end();
  return report(needed ? (*by)->name : barrier.reached_by.front()->name, needed,
                text("a race without the barrier at ", base_name(barrier.site.file), ":", barrier.site.line));
}

}  // namespace
}  // namespace llama_tp

int main() {
  const llama_tp::emulation::DeviceAccess access;
  bool good = true;
  std::vector<llama_tp::Barrier> barriers;
  for (const auto& subject : llama_tp::subjects) good = llama_tp::is_clean(subject, barriers) && good;
  for (const auto& barrier : barriers) good = llama_tp::is_needed(barrier) && good;
  return good ? 0 : 1;
}
