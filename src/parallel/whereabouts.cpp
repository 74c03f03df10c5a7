#include "parallel/whereabouts.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <string_view>

#include "base/error.h"

namespace llama_tp {

namespace {

template <class Enum>
using Names = std::array<std::string_view, static_cast<size_t>(Enum::count_)>;
constexpr Names<GroupName> group_names{"other",  "job",         "world", "weights' copy",
                                       "tensor", "kv_replicas", "fsdp",  "data"};
constexpr Names<Meeting> meeting_names{"setup",     "all_reduce", "all_gather", "reduce_scatter",
                                       "broadcast", "barrier",    "gather"};
constexpr Names<Activity> activity_names{"starting",   "reading data", "loading weights", "computing",
                                         "evaluating", "saving",       "generating",      "measuring"};

// Only the rank itself writes its page, and others read what has not changed for seconds: single values need no order.
constexpr auto relaxed = std::memory_order_relaxed;

}  // namespace

struct Whereabouts::Page {
  std::atomic<int> process{0};
  std::atomic<Activity> activity{Activity::starting};
  std::atomic<int64_t> step{0};
  // The collective that the rank is in, or was in last.
  std::atomic<bool> inside{false};
  std::atomic<GroupName> group{GroupName::other};
  std::atomic<Meeting> meeting{Meeting::setup};
  std::atomic<int64_t> bytes{0};
  std::array<std::atomic<int64_t>, static_cast<size_t>(GroupName::count_)>
      numbers;                        // begun, by group; 0: its setup, −1: none
  std::atomic<bool> reported{false};  // in the first rank's page

  Page() {
    for (std::atomic<int64_t>& each : numbers) each.store(-1, relaxed);
  }

  std::atomic<int64_t>& number(GroupName name) { return numbers[static_cast<size_t>(name)]; }
};

Whereabouts::Whereabouts(MpiGroup& node, std::vector<int> node_ranks, std::string host)
    : memory_(node, static_cast<int64_t>(sizeof(Page))),
      node_ranks_(std::move(node_ranks)),
      host_(std::move(host)),
      local_rank_(static_cast<size_t>(node.rank())) {
  new (memory_.part_of(node.rank())) Page;
  page(local_rank_).process.store(getpid(), relaxed);
  node.barrier();
}

Whereabouts::Page& Whereabouts::page(size_t local_rank) const {
  return *reinterpret_cast<Page*>(memory_.part_of(static_cast<int>(local_rank)));
}

void Whereabouts::begin(Activity activity, int64_t step) const {
  page(local_rank_).activity.store(activity, relaxed);
  page(local_rank_).step.store(step, relaxed);
}

MeetingPoint::Visit::Visit(MeetingPoint& point, Meeting meeting, int64_t bytes) : whereabouts_(point.whereabouts_) {
  if (whereabouts_ == nullptr) return;
  whereabouts_->here_ = &point;
  Whereabouts::Page& page = whereabouts_->page(whereabouts_->local_rank_);
  page.group.store(point.name_, relaxed);
  page.meeting.store(meeting, relaxed);
  page.bytes.store(bytes, relaxed);
  page.number(point.name_).store(meeting == Meeting::setup ? 0 : ++point.number_, relaxed);
  page.inside.store(true, relaxed);
}

MeetingPoint::Visit::~Visit() {
  if (whereabouts_ == nullptr) return;
  whereabouts_->here_ = nullptr;
  whereabouts_->page(whereabouts_->local_rank_).inside.store(false, relaxed);
}

// ---- the report

namespace {

// "rank 3", "ranks 3, 4, 5"; at most eight of them.
std::string list_of(const std::vector<int>& ranks) {
  constexpr size_t named = 8;
  std::string list = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), named); i++) list += text(i == 0 ? "" : ", ", ranks[i]);
  return list + (ranks.size() > named ? ", …" : "");
}

std::string described(Meeting meeting, GroupName group, int64_t number, int64_t bytes) {
  return text(meeting_names[static_cast<size_t>(meeting)], " (", number > 0 ? text("number ", number, " of ") : "",
              "group ", group_names[static_cast<size_t>(group)], bytes > 0 ? text(", ", bytes, " bytes") : "", ")");
}

}  // namespace

// "rank 1 on node1 (process 1234), computing in step 7 after all_reduce (number 16 of group tensor, 4096 bytes)"
std::string Whereabouts::place_of(size_t local_rank) const {
  Page& there = page(local_rank);
  const GroupName group = there.group.load(relaxed);
  const int64_t number = there.number(group).load(relaxed), step = there.step.load(relaxed);
  const std::string collective =
      number < 0 ? "" : described(there.meeting.load(relaxed), group, number, there.bytes.load(relaxed));
  const std::string_view activity = activity_names[static_cast<size_t>(there.activity.load(relaxed))];
  const std::string during = text(activity, step > 0 ? text(" in step ", step) : "");
  return text("rank ", node_ranks_[local_rank], " on ", host_, " (process ", there.process.load(relaxed), "), ",
              there.inside.load(relaxed) ? text("which is in ", collective, ", ", during)
                                         : text(during, number < 0 ? "" : " after " + collective));
}

// Ranks of the node that have not come to the collective in which this one waits, or came with another one; and where
// all of these wait for others in turn, those that wait for nobody.
std::vector<size_t> Whereabouts::missing() const {
  Page& here = page(local_rank_);
  const GroupName group = here.group.load(relaxed);
  const int64_t number = here.number(group).load(relaxed);
  const auto is_missing = [&](size_t local) {
    Page& there = page(local);
    const int64_t come = there.number(group).load(relaxed);
    const bool same = there.group.load(relaxed) == group && there.meeting.load(relaxed) == here.meeting.load(relaxed) &&
                      there.bytes.load(relaxed) == here.bytes.load(relaxed);
    return come < number || (come == number && there.inside.load(relaxed) && !same);
  };
  std::vector<size_t> found, idle;
  bool all_wait = true;
  for (size_t local = 0; local < node_ranks_.size(); local++) {
    const std::vector<int>& members = here_->world_ranks_;
    const bool member = std::find(members.begin(), members.end(), node_ranks_[local]) != members.end();
    const bool waits = page(local).inside.load(relaxed);
    if (member && is_missing(local)) {
      found.push_back(local);
      all_wait = all_wait && waits;
    } else if (!waits) {
      idle.push_back(local);
    }
  }
  if (all_wait) found.insert(found.end(), idle.begin(), idle.end());
  return found;
}

void Whereabouts::report() const {
  if (here_ == nullptr || page(0).reported.exchange(true)) throw Stopped();
  std::string ranks;
  for (const size_t local : missing()) ranks += (ranks.empty() ? " for " : "; for ") + place_of(local);
  std::vector<int> elsewhere;
  for (const int rank : here_->world_ranks_)
    if (std::find(node_ranks_.begin(), node_ranks_.end(), rank) == node_ranks_.end()) elsewhere.push_back(rank);
  if (!elsewhere.empty())
    ranks += text(ranks.empty() ? " for " : "; or for ", list_of(elsewhere), ", which cannot be seen from this node");
  Page& here = page(local_rank_);
  const GroupName group = here.group.load(relaxed);
  fail("waited ", timeout_.count(), " s in ",
       described(here.meeting.load(relaxed), group, here.number(group).load(relaxed), here.bytes.load(relaxed)), ranks,
       "; see whether it is stopped, swapped out or waits for a disk, or raise --timeout");
}

}  // namespace llama_tp
