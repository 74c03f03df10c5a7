#include "train/memory_report.h"

#include <algorithm>

#include "base/json.h"

namespace llama_tp {

std::string memory_entry(const MemoryPlan& planned, const Ledger& ledger) {
  OrderedJson categories = OrderedJson::object(), phases = OrderedJson::object();
  for (int i = 0; i < category_count; i++)
    if (const int64_t bytes = ledger.at_peak()[static_cast<size_t>(i)]; bytes > 0)
      categories[std::string(name_of(static_cast<Category>(i)))] = bytes;
  for (int i = 0; i < phase_count; i++)
    if (const int64_t bytes = ledger.peak_of(static_cast<Phase>(i)); bytes > 0)
      phases[std::string(name_of(static_cast<Phase>(i)))] = bytes;
  return json_text(OrderedJson{{"planned_bytes", planned.total()},
                               {"peak_bytes", ledger.peak()},
                               {"categories", categories},
                               {"phases", phases}});
}

std::string memory_report(const std::vector<std::string>& entries) {
  std::vector<std::string> distinct;
  OrderedJson report = OrderedJson::array();
  for (size_t rank = 0; rank < entries.size(); rank++) {
    const auto known = std::find(distinct.begin(), distinct.end(), entries[rank]);
    const auto index = static_cast<size_t>(known - distinct.begin());
    if (known == distinct.end()) {
      distinct.push_back(entries[rank]);
      report.push_back({{"ranks", OrderedJson::array()}});
      report.back().update(parse_ordered_json_or_discard(entries[rank]));
    }
    report[index]["ranks"].push_back(rank);
  }
  return json_text(report);
}

std::string resident_entry(const ResidentMemory& resident, int64_t arenas) {
  const OrderedJson remainder{
      {"heap", resident.anonymous - arenas}, {"files", resident.files}, {"shared", resident.shared}};
  return json_text(OrderedJson{
      {"resident_bytes", resident.total}, {"remainder_bytes", resident.total - arenas}, {"remainder", remainder}});
}

std::string memory_text(const std::vector<std::string>& entries, const std::vector<std::string>& residents) {
  std::string list;
  for (const std::string& entry : residents) list += (list.empty() ? "" : ", ") + entry;
  return "{\"ranks\": " + memory_report(entries) + ", \"resident\": [" + list + "]}\n";
}

}  // namespace llama_tp
