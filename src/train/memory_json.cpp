#include "train/memory_json.h"

#include <algorithm>

#include "base/json.h"

namespace llama_tp {

namespace {

OrderedJson phases_json(const GroupTraffic& group, size_t collective) {
  OrderedJson phases = OrderedJson::object();
  for (size_t phase = 0; phase < phase_count; phase++)
    if (const Traffic& traffic = group.of_phase[phase][collective]; traffic.calls > 0)
      phases[std::string(name_of(static_cast<Phase>(phase)))] = {{"calls", traffic.calls}, {"bytes", traffic.bytes}};
  return phases;
}

// One entry for ranks that are alike, in the order of each one's first rank.
std::vector<RankEntry> joined(const std::vector<RankEntry>& entries) {
  std::vector<RankEntry> distinct;
  for (const RankEntry& entry : entries) {
    const auto known =
        std::find_if(distinct.begin(), distinct.end(), [&](const RankEntry& one) { return one.json == entry.json; });
    if (known == distinct.end())
      distinct.push_back(entry);
    else
      known->ranks.insert(known->ranks.end(), entry.ranks.begin(), entry.ranks.end());
  }
  for (RankEntry& entry : distinct) std::sort(entry.ranks.begin(), entry.ranks.end());
  std::sort(distinct.begin(), distinct.end(),
            [](const RankEntry& a, const RankEntry& b) { return a.ranks.front() < b.ranks.front(); });
  return distinct;
}

std::vector<RankEntry> in_order(const std::vector<std::string>& of_ranks) {
  std::vector<RankEntry> entries;
  for (const std::string& json : of_ranks) entries.push_back({{static_cast<int64_t>(entries.size())}, json});
  return entries;
}

}  // namespace

OrderedJson categories_json(const CategoryBytes& bytes) {
  OrderedJson json = OrderedJson::object();
  for (size_t i = 0; i < bytes.size(); i++)
    if (bytes[i] > 0) json[std::string(name_of(static_cast<Category>(i)))] = bytes[i];
  return json;
}

std::string memory_entry(const MemoryPlan& planned, const Ledger& ledger) {
  OrderedJson phases = OrderedJson::object();
  for (int i = 0; i < phase_count; i++)
    if (const int64_t bytes = ledger.peak_of(static_cast<Phase>(i)); bytes > 0)
      phases[std::string(name_of(static_cast<Phase>(i)))] = bytes;
  return json_text(OrderedJson{{"planned_bytes", planned.total()},
                               {"peak_bytes", ledger.peak()},
                               {"categories", categories_json(ledger.at_peak())},
                               {"phases", phases}});
}

std::string traffic_entry(const std::vector<GroupTraffic>& traffic) {
  OrderedJson collectives = OrderedJson::array();
  for (const GroupTraffic& group : traffic)
    for (size_t i = 0; i < group.of.size(); i++)
      if (group.of[i].calls > 0)
        collectives.push_back({{"group", group.group},
                               {"group_size", group.size},
                               {"collective", name_of(static_cast<Collective>(i))},
                               {"calls", group.of[i].calls},
                               {"bytes", group.of[i].bytes},
                               {"phases", phases_json(group, i)}});
  return json_text(collectives);
}

std::string memory_report(const std::vector<RankEntry>& entries) {
  OrderedJson report = OrderedJson::array();
  for (const RankEntry& entry : joined(entries)) {
    report.push_back({{"ranks", entry.ranks}});
    report.back().update(parse_ordered_json_or_discard(entry.json));
  }
  return json_text(report);
}

std::string traffic_report(const std::vector<RankEntry>& entries) {
  OrderedJson report = OrderedJson::array();
  for (const RankEntry& entry : joined(entries))
    for (const OrderedJson& collective : parse_ordered_json_or_discard(entry.json)) {
      report.push_back({{"ranks", entry.ranks}});
      report.back().update(collective);
    }
  return json_text(report);
}

std::string resident_entry(const ResidentMemory& resident, int64_t arenas) {
  if (resident.total == 0) return "null";  // the system does not say
  const OrderedJson remainder{
      {"heap", resident.anonymous - arenas}, {"files", resident.files}, {"shared", resident.shared}};
  return json_text(OrderedJson{
      {"resident_bytes", resident.total}, {"remainder_bytes", resident.total - arenas}, {"remainder", remainder}});
}

std::string device_entry(int64_t in_use, int64_t arenas) {
  return json_text(OrderedJson{{"in_use_bytes", in_use}, {"remainder_bytes", in_use - arenas}});
}

std::string memory_text(const std::vector<std::string>& memory, const std::vector<std::string>& traffic,
                        const std::vector<std::string>& resident, const std::vector<std::string>& device) {
  const auto list_of = [](const std::vector<std::string>& entries) {
    std::string list;
    for (const std::string& entry : entries) list += (list.empty() ? "" : ", ") + entry;
    return "[" + list + "]";
  };
  return "{\"ranks\": " + memory_report(in_order(memory)) +
         ", \"communication\": " + traffic_report(in_order(traffic)) + ", \"resident\": " + list_of(resident) +
         (device.empty() ? "" : ", \"device\": " + list_of(device)) + "}\n";
}

}  // namespace llama_tp
