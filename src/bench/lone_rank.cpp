#include "bench/lone_rank.h"

#include "base/parse_count.h"
#include "bench/measurements.h"
#include "bench/scheme_run.h"
#include "model/placement.h"
#include "report/format.h"
#include "train/model_flops.h"

namespace llama_tp {

namespace {

constexpr TableWidths columns{.label = 34, .cell = 14};

// The number behind `key=`, and what follows it.
int number_behind(const std::string& key, const std::string& part, const std::string& written) {
  const std::string digits = part.starts_with(key + "=") ? part.substr(key.size() + 1) : "";
  const std::optional<int64_t> number = parse_count(digits, 0, INT32_MAX);
  require(number.has_value(), "--rehearse ", written, ": \"", part, "\" is no ", key, "; write it like rank=0,world=8");
  return static_cast<int>(*number);
}

std::string table_line(const std::string& label, const std::string& first, const std::string& second) {
  return columns.line(label, {first, second});
}

std::string in_mib(int64_t bytes) { return mebibytes(static_cast<double>(bytes), 3); }

void say_memory(const Bench& bench, const RankMemory& rank) {
  bench.say(table_line("memory, MiB", "planned", "measured"));
  for (size_t i = 0; i < category_count; i++)
    if (rank.planned[i] + rank.measured[i] > 0)
      bench.say(
          table_line(text("  ", name_of(static_cast<Category>(i))), in_mib(rank.planned[i]), in_mib(rank.measured[i])));
  bench.say(table_line("  together at the peak", in_mib(rank.planned_peak), in_mib(rank.peak)));
  bench.say(table_line("  reserved in the arenas", "", in_mib(rank.reserved)));
  bench.say(table_line("  given by the system", "", in_mib(rank.given)));
  bench.say(table_line("  of it in no arena", "", in_mib(rank.given - rank.reserved)));
  if (rank.in_use > 0) {
    bench.say(table_line("  in use, as the driver counts", "", in_mib(rank.in_use)));
    bench.say(table_line("  context, kernels, libraries", "", in_mib(rank.in_use - rank.reserved)));
  }
  bench.say(table_line("  as planned", "", rank.as_planned() ? "to the byte" : "NO"));
}

// On a device phases and collectives are the host's, which runs ahead: only the whole step means something.
void say_times(const Bench& bench, const SchemeResult& result, const MachineRates& machine) {
  const bool ahead = bench.backend->device() != nullptr;
  bench.say(table_line("a step, ms", "computing", "stand-ins"));
  const PhaseTimes times = result.times();
  for (size_t i = 0; i < phase_count; i++)
    if (!ahead && times[i].compute + times[i].communication > 0)
      bench.say(table_line(text("  ", name_of(static_cast<Phase>(i))), fixed(times[i].compute * 1e3, 1),
                           fixed(times[i].communication * 1e3, 1)));
  const double stand_ins = ahead ? 0 : result.communication(), seconds = result.seconds() - stand_ins;
  bench.say(table_line("  together", fixed(seconds * 1e3, 1), ahead ? "among it" : fixed(stand_ins * 1e3, 1)));
  const double flops = model_flops(bench.config, result.batch) / result.scheme.mesh.ranks() / seconds;
  bench.say(table_line("  its part of the model, GFLOP/s", fixed(flops / 1e9, 0),
                       fixed(100 * flops / machine.product_flops, 1) + "%"));
}

void say_traffic(const Bench& bench, const SchemeResult& result) {
  bench.say(table_line("not sent in a step", "calls", "MiB in a ring"));
  for (int group = 0; group < group_count; group++)
    for (int i = 0; i < static_cast<int>(Collective::count_); i++) {
      const auto collective = static_cast<Collective>(i);
      const Traffic& traffic = result.ranks[0].traffic[static_cast<size_t>(group)][static_cast<size_t>(i)];
      if (traffic.calls > 0)
        bench.say(table_line(text("  ", group_names[static_cast<size_t>(group)], ": ", name_of(collective)),
                             with_commas(traffic.calls), mebibytes(result.sent(group, collective), 3)));
    }
}

}  // namespace

LoneRank parse_lone_rank(const std::string& written) {
  const size_t comma = std::min(written.find(','), written.size());
  const LoneRank lone{number_behind("rank", written.substr(0, comma), written),
                      number_behind("world", comma < written.size() ? written.substr(comma + 1) : "", written)};
  require(lone.world >= 1 && lone.world <= most_ranks, "--rehearse ", written, ": a world has 1 to ", most_ranks,
          " ranks");
  require(lone.rank < lone.world, "--rehearse ", written, ": rank ", lone.rank, " is not one of ", lone.world,
          "; give 0 to ", lone.world - 1);
  return lone;
}

void bench_lone_rank(const Bench& bench, const MachineRates& machine) {
  const SchemeResult result = run_usual_scheme(bench);
  const LoneRank& lone = *bench.settings.lone_rank;
  bench.say(text("rehearsal   rank ", lone.rank, " of ", result.scheme.name,
                 ", alone: ", result.batch.accumulation > 1 ? text(result.batch.accumulation, " × ") : "",
                 with_commas(result.batch.tokens()), " tokens; nothing is sent or saved, and losses mean nothing"));
  say_memory(bench, result.ranks[0]);
  say_times(bench, result, machine);
  say_traffic(bench, result);
}

}  // namespace llama_tp
