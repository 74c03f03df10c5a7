#include "report/chrome_trace.h"

#include <algorithm>

#include "base/json.h"

namespace llama_tp {

namespace {

constexpr double microseconds = 1e6;

}  // namespace

std::string chrome_trace(const Trace& trace) {
  OrderedJson events = OrderedJson::array();
  const auto name_it = [&](const char* what, int process, int track, const std::string& name) {
    events.push_back(
        {{"ph", "M"}, {"name", what}, {"pid", process}, {"tid", track}, {"args", OrderedJson{{"name", name}}}});
  };
  for (size_t i = 0; i < trace.processes.size(); i++)
    name_it("process_name", static_cast<int>(i), 0, trace.processes[i]);
  std::vector<std::pair<int, std::string>> tracks;  // a thread each, numbered in the order of their first event
  for (const TraceEvent& event : trace.events) {
    const std::pair<int, std::string> track{event.process, event.track};
    const auto known = std::find(tracks.begin(), tracks.end(), track);
    const auto number = static_cast<int>(known - tracks.begin());
    if (known == tracks.end()) {
      tracks.push_back(track);
      name_it("thread_name", event.process, number, event.track);
    }
    OrderedJson json{{"ph", "X"},
                     {"name", event.name},
                     {"pid", event.process},
                     {"tid", number},
                     {"ts", event.begin * microseconds},
                     {"dur", (event.end - event.begin) * microseconds}};
    if (event.bytes >= 0) json["args"] = {{"bytes", event.bytes}};
    events.push_back(std::move(json));
  }
  for (const TraceCounter& counter : trace.counters)
    events.push_back({{"ph", "C"},
                      {"name", counter.name},
                      {"pid", counter.process},
                      {"ts", counter.time * microseconds},
                      {"args", OrderedJson{{"bytes", counter.value}}}});
  return json_text(OrderedJson{{"displayTimeUnit", "ms"}, {"traceEvents", events}});
}

}  // namespace llama_tp
