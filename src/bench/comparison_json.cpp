#include "bench/comparison_json.h"

#include "base/json.h"
#include "train/memory_json.h"

namespace llama_tp {

namespace {

OrderedJson traffic_json(const GroupTraffics& traffic) {
  OrderedJson json = OrderedJson::array();
  for (size_t group = 0; group < traffic.size(); group++)
    for (size_t i = 0; i < traffic[group].size(); i++)
      if (traffic[group][i].calls > 0)
        json.push_back({{"group", group_names[group]},
                        {"collective", name_of(static_cast<Collective>(i))},
                        {"calls", traffic[group][i].calls},
                        {"bytes", traffic[group][i].bytes}});
  return json;
}

OrderedJson rank_json(const RankMemory& rank) {
  return {{"peak_bytes", rank.peak},
          {"planned_bytes", rank.planned_peak},
          {"reserved_bytes", rank.reserved},
          {"given_bytes", rank.given},
          {"in_use_bytes", rank.in_use},
          {"categories", categories_json(rank.measured)},
          {"planned_categories", categories_json(rank.planned)},
          {"communication", traffic_json(rank.traffic)},
          {"planned_communication", traffic_json(rank.planned_traffic)}};
}

OrderedJson result_json(const SchemeResult& result) {
  OrderedJson json{{"scheme", result.scheme.name},
                   {"global_batch", result.batch.global_batch()},
                   {"micro_batch", result.batch.micro_batch},
                   {"accumulation", result.batch.accumulation},
                   {"fits", result.is_measured()}};
  if (!result.is_measured()) return json;
  OrderedJson phases = OrderedJson::object(), ranks = OrderedJson::array();
  const PhaseTimes times = result.times();
  for (size_t i = 0; i < times.size(); i++)
    if (times[i].compute + times[i].communication > 0)
      phases[std::string(name_of(static_cast<Phase>(i)))] = {{"compute_seconds", times[i].compute},
                                                             {"communication_seconds", times[i].communication}};
  for (const RankMemory& rank : result.ranks) ranks.push_back(rank_json(rank));
  json.update({{"as_planned", result.as_planned()},
               {"step_seconds", result.seconds()},
               {"tokens_per_second", result.tokens_per_second()},
               {"phases", phases},
               {"losses", result.losses},
               {"ranks", ranks}});
  return json;
}

OrderedJson comparison_json(const Comparison& comparison) {
  OrderedJson results = OrderedJson::array();
  for (const SchemeResult& result : comparison.results) results.push_back(result_json(result));
  return {{"batch", name_of(comparison.rule)}, {"block_size", comparison.block_size}, {"schemes", results}};
}

}  // namespace

std::string comparison_json(const ComparisonRun& run, const std::string& verdict) {
  OrderedJson growth = OrderedJson::array();
  for (const Comparison& comparison : run.growth) growth.push_back(comparison_json(comparison));
  return json_text(OrderedJson{{"comparisons", {comparison_json(run.equal), comparison_json(run.smallest)}},
                               {"growth", growth},
                               {"unfit", run.unfit},
                               {"verdict", verdict}},
                   1);
}

std::string lone_rank_json(const SchemeResult& result, const LoneRank& lone) {
  OrderedJson json = result_json(result);
  json.erase("losses");
  json["rank"] = lone.rank;
  json["world"] = lone.world;
  return json_text(json, 1);
}

}  // namespace llama_tp
