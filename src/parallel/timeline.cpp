#include "parallel/timeline.h"

namespace llama_tp {

size_t Timeline::call(int group, Collective collective, int64_t bytes) {
  add_work();
  events_.push_back({TimelineEvent::Kind::collective, 0, 0, group, collective, {1, bytes}, 0});
  return events_.size() - 1;
}

void Timeline::wait(size_t call) {
  add_work();
  TimelineEvent event{TimelineEvent::Kind::wait};
  event.awaited = call;
  events_.push_back(event);
}

std::vector<TimelineEvent> Timeline::end() {
  add_work();
  return std::move(events_);
}

void Timeline::add_work() {
  for (size_t i = 0; i < known_.size(); i++) {
    const Work& now = backend_.work(static_cast<Operation>(i));
    if (now.calls == known_[i].calls) continue;
    events_.push_back({TimelineEvent::Kind::work, now.flops - known_[i].flops, now.bytes - known_[i].bytes});
    known_[i] = now;
  }
}

}  // namespace llama_tp
