#include "train/what_fits.h"

#include <algorithm>

#include "report/format.h"

namespace llama_tp {

namespace {

constexpr int most_shards = 64;  // of the weights, times those that were asked for

// Something else to ask for, in the words of the command line.
struct Change {
  std::string words;
  AskedTraining asked;
};

RankPlan plan_of(const AskedTraining& asked, Backend& backend) {
  return plan_rank(asked.config, asked.options, asked.mesh, asked.rank, asked.dtype, backend);
}

// A forward has no more samples than before, where the data had fewer than were asked for.
void set_micro_batch(int64_t samples, AskedTraining& asked) {
  asked.micro_batch = samples;
  asked.options.batch.micro_batch = std::min(asked.options.batch.micro_batch, samples);
}

// The lists below are ordered: each entry changes more than the one before it, and needs less.

std::vector<Change> smaller_batches(const AskedTraining& asked) {
  std::vector<Change> list;
  const BatchShape& batch = asked.options.batch;
  const auto half_of = [&](int64_t samples) {
    return dividing_micro_batch(asked.global_batch, samples / 2, batch.data_ranks);
  };
  for (int64_t samples = half_of(batch.micro_batch); samples >= 1; samples = half_of(samples)) {
    list.push_back({text("--per-device-train-batch-size ", samples), asked});
    set_micro_batch(samples, list.back().asked);
  }
  return list;
}

std::vector<Change> recomputed(const AskedTraining& asked) {
  if (asked.options.recompute) return {};
  Change change{"--gradient-checkpointing", asked};
  change.asked.options.recompute = true;
  return {change};
}

// Ranks of one host share its memory: there only those on other hosts have as much each.
std::vector<Change> more_ranks(const AskedTraining& asked, Backend& backend) {
  const bool on_host = backend.device() == nullptr;
  std::vector<Change> list;
  for (int times = 2; times <= most_shards; times *= 2) {
    MeshShape mesh = asked.mesh;
    mesh.fsdp *= times;
    const int64_t samples = dividing_micro_batch(asked.global_batch, asked.micro_batch, mesh.data_ranks());
    if (samples == 0) continue;
    list.push_back(
        {text(samples < asked.micro_batch ? text("--per-device-train-batch-size ", samples, " ") : "", "--fsdp ",
              mesh.fsdp, " on ", mesh.ranks(), " ranks", on_host ? text(" on ", times, " times as many machines") : ""),
         asked});
    set_micro_batch(samples, list.back().asked);
    list.back().asked.mesh = mesh;
    list.back().asked.options.batch.data_ranks = mesh.data_ranks();
  }
  return list;
}

// The smallest batch and recompute, then these on more and more ranks.
std::vector<Change> all_together(const AskedTraining& asked, Backend& backend) {
  AskedTraining least = asked;
  std::string words;
  for (const auto& list_of : {smaller_batches, recomputed})
    if (const std::vector<Change> list = list_of(least); !list.empty()) {
      words += list.back().words + " ";
      least.options = list.back().asked.options;
      least.micro_batch = list.back().asked.micro_batch;
    }
  std::vector<Change> list{{words.substr(0, words.find_last_not_of(' ') + 1), least}};
  for (const Change& more : more_ranks(least, backend)) list.push_back({words + more.words, more.asked});
  return list;
}

// "; --fsdp 8 on 8 ranks (12.34 GiB)" for the first that fits; "" where none does.
std::string first_that_fits(const std::vector<Change>& changes, int64_t free, Backend& backend) {
  for (const Change& change : changes)
    if (const int64_t needs = plan_of(change.asked, backend).memory.total(); needs <= free)
      return text("; ", change.words, " (", bytes_text(needs), ")");
  return "";
}

// The categories that the rank holds at its peak, the largest first.
std::string table_of(const Ledger& ledger) {
  std::vector<std::pair<int64_t, std::string_view>> held;
  for (int i = 0; i < category_count; i++)
    held.emplace_back(ledger.at_peak()[static_cast<size_t>(i)], name_of(static_cast<Category>(i)));
  std::sort(held.rbegin(), held.rend());
  std::string list;
  for (const auto& [bytes, name] : held)
    if (bytes > 0) list += text(list.empty() ? "" : ", ", name, " ", bytes_text(bytes));
  return list;
}

std::string so_far_as_divided(int64_t global_batch) {
  return global_batch > 0 ? text(", so far as --global-batch-size ", global_batch, " can be divided") : "";
}

}  // namespace

std::string describe_too_large(const AskedTraining& asked, int64_t free, Backend& backend) {
  const RankPlan own = plan_of(asked, backend);
  std::string fitting;
  for (const auto& list : {smaller_batches(asked), recomputed(asked), more_ranks(asked, backend)})
    fitting += first_that_fits(list, free, backend);
  if (fitting.empty()) fitting = first_that_fits(all_together(asked, backend), free, backend);
  return text("this rank needs ", bytes_text(own.memory.total()), " (", table_of(own.ledger), "), but ",
              are_free(free, backend), " (", backend.description(), "); ",
              fitting.empty() ? text("nor would it fit with fewer samples, recompute and ", most_shards,
                                     " times the ranks together", so_far_as_divided(asked.global_batch),
                                     "; take a smaller model or --block-size")
                              : "what would fit: " + fitting.substr(2));
}

}  // namespace llama_tp
