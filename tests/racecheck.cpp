// make racecheck: every kernel whose threads meet in memory, emulated under ThreadSanitizer. Each must run without a
// report; and with any one of the barriers that it reached left out, ThreadSanitizer must report a race, or else
// nothing needs that barrier. So the list of barriers is the kernels' own, and the check is checked.
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
#include "kernels/kernels.h"

// A child process ends with this status at the first race; all reports count, also those that look alike.
constexpr int race_status = 66;
extern "C" const char* __tsan_default_options() {
  return "exitcode=66:halt_on_error=1:suppress_equal_stacks=0:suppress_equal_addresses=0";
}

namespace llama_tp {
namespace {

using namespace kernels;

template <class X>
std::vector<X> values(int64_t n) {
  std::vector<X> made(static_cast<size_t>(n));
  for (size_t i = 0; i < made.size(); i++) {
    const float value = 0.25f * static_cast<float>(i * 7 % 13) - 1.5f;
    if constexpr (sizeof(X) == sizeof(bf16))
      made[i] = to_bf16(value);
    else
      made[i] = static_cast<X>(value);
  }
  return made;
}

void run_norms() {
  constexpr int64_t tokens = 5, hidden = 600;
  const NormOptions options{NormKind::layer_norm_1p, 1e-5f};
  auto x = values<float>(tokens * hidden), part = x, y = x, dx = x, statistics = values<float>(tokens * 2);
  auto w = values<float>(hidden), dw = w, db = w;
  std::vector<char> workspace(static_cast<size_t>(norm_backward_workspace(options, tokens, hidden)));
  const NormWeights<float> weights{w.data(), w.data(), options};
  norm_forward(nullptr, x.data(), weights, y.data(), statistics.data(), tokens, hidden);
  add_norm_forward(nullptr, x.data(), part.data(), weights, x.data(), y.data(), statistics.data(), tokens, hidden);
  norm_backward<float>(nullptr, y.data(), x.data(), weights, statistics.data(), {dx.data(), dw.data(), db.data()},
                       tokens, hidden, workspace.data());
}

// More tokens than a block takes, and more heads than it has warps.
void run_head_norms() {
  constexpr int64_t tokens = 40, dim = 48;
  const HeadNormShape shape{.heads = 9, .kv_heads = 2, .head_dim = dim, .epsilon = 1e-6f};
  const auto qkv = values<float>(tokens * 13 * dim), w = values<float>(dim);
  auto y = qkv, dq = w, dk = w;
  std::vector<char> workspace(static_cast<size_t>(head_norm_backward_workspace(shape, tokens)));
  const HeadNormWeights<float> weights{w.data(), w.data()};
  head_norm_forward(nullptr, qkv.data(), weights, shape, y.data(), tokens);
  head_norm_backward(nullptr, qkv.data(), weights, shape, y.data(), dq.data(), dk.data(), tokens, workspace.data());
}

void run_cross_entropy() {
  constexpr int64_t tokens = 40, vocabulary = 700;
  const auto logits = values<float>(tokens * vocabulary);
  auto statistics = values<float>(tokens * 3), lse = values<float>(tokens);
  const std::vector<int32_t> targets(tokens, 3);
  double loss = 0;
  cross_entropy_statistics(nullptr, logits.data(), targets.data(), {0, vocabulary, vocabulary}, statistics.data(),
                           tokens);
  cross_entropy_loss(nullptr, statistics.data(), targets.data(), lse.data(), &loss, 1, tokens);
}

// More candidates than are compared with each other; what is chosen has the penalty, so that it is read behind the
// thread that takes that away.
void run_sample() {
  constexpr int64_t vocabulary = 700, sequences = 2;
  std::vector<float> logits(static_cast<size_t>(sequences * vocabulary), 1.0f);
  std::vector<int32_t> recent(static_cast<size_t>(sequences * penalty_window), -1), ids(sequences);
  for (const size_t sequence : {0u, 1u}) {
    logits[sequence * vocabulary + 5] = 40;
    recent[sequence * penalty_window + 40] = 5;
  }
  const std::vector<float> uniforms(sequences, 0.5f);
  std::vector<double> chances(2 * sequences);
  sample(nullptr, logits.data(), {1, sequences, vocabulary, vocabulary}, recent.data(), uniforms.data(),
         {.repeat_penalty = 1.5f, .top_k = 300}, ids.data(), chances.data());
}

void run_sums() {
  constexpr int64_t n = 3000, tokens = 20, width = 70;
  const auto x = values<float>(n), dy = values<float>(tokens * width);
  auto db = values<float>(width);
  double result = 0;
  std::vector<double> workspace(static_cast<size_t>(add_sum_of_squares_workspace(n)) / sizeof(double));
  add_sum_of_squares(nullptr, x.data(), &result, n, workspace.data());
  bias_backward(nullptr, dy.data(), db.data(), tokens, width);
}

void run_adamw() {
  constexpr int64_t n = 600;
  auto w = values<float>(n), grad = w, m = w;
  std::vector<float> v(static_cast<size_t>(n), 1.0f);
  const double squared_norm = 4;
  AdamWOptions options;
  options.max_grad_norm = 1;
  adamw<float>(nullptr, options, {w.data(), nullptr, grad.data(), m.data(), v.data()}, &squared_norm, n);
}

// No shared memory; but blocks that add to the rows of a table must not meet.
void run_embedding() {
  constexpr int64_t tokens = 70, rows = 9, hidden = 40;
  const auto dy = values<float>(tokens * hidden);
  auto dtable = values<float>(rows * hidden);
  std::vector<int32_t> ids(tokens);
  for (size_t t = 0; t < ids.size(); t++) ids[t] = static_cast<int32_t>(t * t % rows);
  embedding_backward(nullptr, ids.data(), dy.data(), {0, rows}, -1, dtable.data(), tokens, hidden);
}

// Several tiles, two heads of a group; a tile of queries that sees no key, and keys that no query sees: every path
// between the barriers is taken.
struct AttentionCase {
  static constexpr int64_t heads = 2, kv_heads = 1, head_dim = 32, tokens = 230;
  const std::vector<int32_t> ranges{0, 150, 0, 150, 150, 80, 150, 10, 230, 0, 160, 10};
  const AttentionShape shape{.heads = heads,
                             .kv_heads = kv_heads,
                             .head_dim = head_dim,
                             .tokens = tokens,
                             .cache = tokens,
                             .ranges = ranges.data(),
                             .sequences = 3,
                             .longest_query = 150,
                             .longest_key = 150};
  const AttentionOptions options{0.2f, 0};
  std::vector<bf16> q = values<bf16>(heads * tokens * head_dim), k = values<bf16>(kv_heads * tokens * head_dim), v = k,
                    out = q, dout = q, dq = q, dk = k, dv = k;
  std::vector<float> lse = values<float>(heads * tokens);
};

void run_attention_forward() {
  AttentionCase c;
  attention_forward_tiles(nullptr, {c.q.data(), c.k.data(), c.v.data()}, c.shape, c.options, c.out.data(),
                          c.lse.data());
}

// The same of wider heads, and with more tiles than the ring has.
struct HopperCase {
  static constexpr int64_t heads = 2, head_dim = 64, tokens = 700;
  const std::vector<int32_t> ranges{0, 600, 0, 600, 600, 80, 600, 10, 680, 0, 610, 10};
  const AttentionShape shape{heads, 1, head_dim, tokens, tokens, ranges.data(), 3, 600, 600};
  const AttentionOptions options{0.2f, 0};
  std::vector<bf16> q = values<bf16>(heads * tokens * head_dim), k = values<bf16>(tokens * head_dim), v = k, out = q,
                    dout = q, dq = q, dk = k, dv = k;
  std::vector<float> lse = values<float>(heads * tokens);
};

void run_attention_forward_hopper() {
  HopperCase c;
  attention_forward_hopper(nullptr, {c.q.data(), c.k.data(), c.v.data()}, c.shape, c.options, c.out.data(),
                           c.lse.data());
}

void run_attention_backward_hopper() {
  HopperCase c;
  std::vector<char> workspace(static_cast<size_t>(attention_backward_tiles_workspace(c.shape)));
  attention_backward_hopper(nullptr, {c.q.data(), c.k.data(), c.v.data()}, {c.dout.data(), c.out.data(), c.lse.data()},
                            c.shape, c.options, {c.dq.data(), c.dk.data(), c.dv.data()}, workspace.data());
}

void run_attention_backward() {
  AttentionCase c;
  std::vector<char> workspace(static_cast<size_t>(attention_backward_tiles_workspace(c.shape)));
  attention_backward_tiles(nullptr, {c.q.data(), c.k.data(), c.v.data()}, {c.dout.data(), c.out.data(), c.lse.data()},
                           c.shape, c.options, {c.dq.data(), c.dk.data(), c.dv.data()}, workspace.data());
}

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

struct Subject {
  const char* name;
  void (*run)();
};

const std::vector<Subject> subjects{{"norms", run_norms},
                                    {"head_norms", run_head_norms},
                                    {"cross_entropy", run_cross_entropy},
                                    {"sample", run_sample},
                                    {"sums", run_sums},
                                    {"adamw", run_adamw},
                                    {"embedding", run_embedding},
                                    {"attention_forward", run_attention_forward},
                                    {"attention_forward_hopper", run_attention_forward_hopper},
                                    {"attention_backward", run_attention_backward},
                                    {"attention_backward_hopper", run_attention_backward_hopper}};

std::string base_name(const char* path) {
  const std::string whole = path;
  return whole.substr(whole.rfind('/') + 1);
}

// Whether the subject is clean as it is and racy without each of its barriers.
bool check(const Subject& subject) {
  bool good = true;
  const auto report = [&](bool as_hoped, const std::string& what) {
    std::printf("  %-24s %-54s %s\n", subject.name, what.c_str(), as_hoped ? "ok" : "FAILED");
    good = good && as_hoped;
  };
  shared.count = 0;
  report(outcome_of(subject.run, false) == Outcome::clean, "no race");
  const std::vector<emulation::BarrierSite> barriers(shared.barriers, shared.barriers + shared.count);
  for (const emulation::BarrierSite& site : barriers) {
    const Outcome outcome = outcome_of(
        [&] {
          emulation::leave_out(site);
          subject.run();
        },
        true);
    report(outcome == Outcome::race, text("a race without the barrier at ", base_name(site.file), ":", site.line));
  }
  return good;
}

}  // namespace
}  // namespace llama_tp

int main() {
  bool good = true;
  for (const auto& subject : llama_tp::subjects) good = llama_tp::check(subject) && good;
  return good ? 0 : 1;
}
