#include "parallel/whereabouts.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "parallel/rank_names.h"

namespace llama_tp {

namespace {

template <class Enum>
using Names = std::array<std::string_view, static_cast<size_t>(Enum::count_)>;
constexpr Names<GroupName> group_names{"other",  "job",         "world", "weights' copy",
                                       "tensor", "kv_replicas", "fsdp",  "data"};
constexpr Names<Meeting> meeting_names{"setup",     "all_reduce", "all_gather", "reduce_scatter",
                                       "broadcast", "barrier",    "gather"};
constexpr Names<Activity> activity_names{"starting", "reading data", "loading weights",   "computing", "evaluating",
                                         "saving",   "generating",   "waiting for input", "measuring"};
static_assert(!group_names.back().empty() && !meeting_names.back().empty() && !activity_names.back().empty(),
              "a name for each");

// Only the rank itself writes its page, and others read what has not changed for seconds: single values need no order.
constexpr auto relaxed = std::memory_order_relaxed;

// A rank that waits looks around much more often, even where it has to share its core.
constexpr auto time_for_a_beat = std::chrono::milliseconds(300);
constexpr int nobody = -1;

bool uses_files(Activity activity) {
  return activity == Activity::reading_data || activity == Activity::loading_weights || activity == Activity::saving;
}

}  // namespace

struct Whereabouts::Page {
  std::atomic<int> process{0};
  std::atomic<Activity> activity{Activity::starting};
  std::atomic<int64_t> step{0};
  // The collective that the rank is in, or was in last.
  std::atomic<bool> inside{false};
  std::atomic<bool> device_computes{false};  // while the rank waits for it, so that it stands in none
  std::atomic<uint64_t> beats{0};
  std::atomic<GroupName> group{GroupName::other};
  std::atomic<Meeting> meeting{Meeting::setup};
  std::atomic<int64_t> bytes{0};
  std::array<std::atomic<int64_t>, static_cast<size_t>(GroupName::count_)>
      numbers;                        // begun, by group; 0: its setup, −1: none
  std::atomic<int> reporter{nobody};  // in the first rank's page: who of the node has reported

  Page() {
    for (std::atomic<int64_t>& each : numbers) each.store(-1, relaxed);
  }

  std::atomic<int64_t>& number(GroupName name) { return numbers[static_cast<size_t>(name)]; }
};

Whereabouts::Whereabouts(MpiGroup& node, std::vector<int> node_ranks, std::vector<std::string> hosts)
    : memory_(node, static_cast<int64_t>(sizeof(Page))),
      node_ranks_(std::move(node_ranks)),
      hosts_(std::move(hosts)),
      local_rank_(static_cast<size_t>(node.rank())) {
  new (memory_.part_of(node.rank())) Page;
  page(local_rank_).process.store(getpid(), relaxed);
  node.barrier();
}

Whereabouts::Page& Whereabouts::page(size_t local_rank) const {
  return *reinterpret_cast<Page*>(memory_.part_of(static_cast<int>(local_rank)));
}

void Whereabouts::set_timeout(std::chrono::duration<double> timeout, TimeLimited limited) {
  timeout_ = timeout;
  limited_ = limited;
  int own = static_cast<int>(local_rank_);
  if (timeout.count() > 0) page(0).reporter.compare_exchange_strong(own, nobody);
}

bool Whereabouts::is_overdue(std::chrono::duration<double> waited) const {
  if (timeout_.count() == 0 || waited <= timeout_) return false;
  const Activity activity = page(local_rank_).activity.load(relaxed);
  return activity != Activity::awaiting_input && (limited_ == TimeLimited::everything || !uses_files(activity));
}

void Whereabouts::begin(Activity activity, int64_t step) const {
  page(local_rank_).activity.store(activity, relaxed);
  page(local_rank_).step.store(step, relaxed);
}

void Whereabouts::beat() const { page(local_rank_).beats.fetch_add(1, relaxed); }

MeetingPoint::Visit::Visit(MeetingPoint& point, Meeting meeting, int64_t bytes) : whereabouts_(point.whereabouts_) {
  if (whereabouts_ == nullptr) return;
  whereabouts_->here_ = &point;
  Whereabouts::Page& page = whereabouts_->page(whereabouts_->local_rank_);
  page.group.store(point.name_, relaxed);
  page.meeting.store(meeting, relaxed);
  page.bytes.store(bytes, relaxed);
  page.number(point.name_).store(meeting == Meeting::setup ? 0 : ++point.number_, relaxed);
  page.device_computes.store(false, relaxed);
  page.inside.store(true, relaxed);
}

MeetingPoint::Visit::~Visit() {
  if (whereabouts_ == nullptr) return;
  whereabouts_->here_ = nullptr;
  whereabouts_->page(whereabouts_->local_rank_).inside.store(false, relaxed);
}

void MeetingPoint::look_from_device(bool stands, std::chrono::duration<double> stood) const {
  if (whereabouts_ == nullptr) return;
  Whereabouts::Page& page = whereabouts_->page(whereabouts_->local_rank_);
  if (page.group.load(relaxed) != name_) return;
  whereabouts_->beat();
  page.device_computes.store(!stands, relaxed);
  page.inside.store(true, relaxed);
  if (!whereabouts_->is_overdue(stood)) return;
  whereabouts_->here_ = this;
  whereabouts_->report();
}

// ---- the report

namespace {

std::string described(Meeting meeting, GroupName group, int64_t number, int64_t bytes) {
  return text(meeting_names[static_cast<size_t>(meeting)], " (", number > 0 ? text("number ", number, " of ") : "",
              "group ", group_names[static_cast<size_t>(group)], bytes > 0 ? text(", ", bytes, " bytes") : "", ")");
}

}  // namespace

// "rank 1 on node1 (process 1234), computing in step 7 after all_reduce (number 16 of group tensor, 4096 bytes)"
std::string Whereabouts::place_of(size_t local_rank, Waits waits) const {
  Page& there = page(local_rank);
  const GroupName group = there.group.load(relaxed);
  const int64_t number = there.number(group).load(relaxed), step = there.step.load(relaxed);
  const std::string collective =
      number < 0 ? "" : described(there.meeting.load(relaxed), group, number, there.bytes.load(relaxed));
  const std::string_view activity = activity_names[static_cast<size_t>(there.activity.load(relaxed))];
  const std::string during = text(activity, step > 0 ? text(" in step ", step) : "");
  const std::string place = waits == Waits::for_ranks ? text("which waits in ", collective, ", ", during)
                            : waits == Waits::for_own_device
                                ? text("whose device still computes, with ", collective, " asked for last, ", during)
                            : there.inside.load(relaxed) ? text("which does not go on in ", collective, ", ", during)
                                                         : text(during, number < 0 ? "" : " after " + collective);
  return text(name_ranks({node_ranks_[local_rank]}, hosts_), " (process ", there.process.load(relaxed), "), ", place);
}

// Which ranks of the node wait in a collective, or for their device before it, and show that they live. One that does not
// has been stopped in it.
std::vector<Whereabouts::Waits> Whereabouts::find_waits() const {
  std::vector<uint64_t> before;
  for (size_t local = 0; local < node_ranks_.size(); local++) before.push_back(page(local).beats.load(relaxed));
  std::this_thread::sleep_for(time_for_a_beat);
  std::vector<Waits> waits;
  for (size_t local = 0; local < node_ranks_.size(); local++) {
    const bool lives = page(local).inside.load(relaxed) && page(local).beats.load(relaxed) != before[local];
    const bool computes = page(local).device_computes.load(relaxed);
    waits.push_back(!lives ? Waits::no : computes ? Waits::for_own_device : Waits::for_ranks);
  }
  waits[local_rank_] = Waits::for_ranks;
  return waits;
}

// Ranks of the node that have not come to the collective in which this one waits, came with another one, or do not go
// on in it, or whose device computes meanwhile; and where all of these wait for others in turn, those that wait for nobody.
std::vector<size_t> Whereabouts::find_missing(const std::vector<Waits>& waits) const {
  Page& here = page(local_rank_);
  const GroupName group = here.group.load(relaxed);
  const int64_t number = here.number(group).load(relaxed);
  const auto waits_for_ranks = [&](size_t local) { return waits[local] == Waits::for_ranks; };
  const auto has_come = [&](size_t local) {
    Page& there = page(local);
    const int64_t come = there.number(group).load(relaxed);
    const bool same = there.group.load(relaxed) == group && there.meeting.load(relaxed) == here.meeting.load(relaxed) &&
                      there.bytes.load(relaxed) == here.bytes.load(relaxed);
    return come > number || (come == number && (!there.inside.load(relaxed) || (same && waits_for_ranks(local))));
  };
  const std::vector<int>& members = here_->world_ranks_;
  std::vector<size_t> missing, idle;
  bool all_wait = true;
  for (size_t local = 0; local < node_ranks_.size(); local++) {
    const bool member = std::find(members.begin(), members.end(), node_ranks_[local]) != members.end();
    if (member && !has_come(local)) {
      missing.push_back(local);
      all_wait = all_wait && waits_for_ranks(local);
    } else if (!waits_for_ranks(local)) {
      idle.push_back(local);
    }
  }
  if (all_wait) missing.insert(missing.end(), idle.begin(), idle.end());
  return missing;
}

void Whereabouts::report() const {
  int before = nobody;
  if (here_ == nullptr || !page(0).reporter.compare_exchange_strong(before, static_cast<int>(local_rank_))) {
    // Stays where it is, alive, while another rank looks.
    for (int beats = 0; beats < 20; beats++) {
      beat();
      std::this_thread::sleep_for(time_for_a_beat / 10);
    }
    throw Stopped();
  }
  const std::vector<Waits> waits = find_waits();
  std::string ranks;
  for (const size_t local : find_missing(waits))
    ranks += (ranks.empty() ? " for " : "; for ") + place_of(local, waits[local]);
  std::vector<int> elsewhere;
  for (const int rank : here_->world_ranks_)
    if (std::find(node_ranks_.begin(), node_ranks_.end(), rank) == node_ranks_.end()) elsewhere.push_back(rank);
  if (!elsewhere.empty())
    ranks += text(ranks.empty() ? " for " : "; or for ", name_ranks(elsewhere, hosts_),
                  ", which cannot be seen from this node");
  Page& here = page(local_rank_);
  const GroupName group = here.group.load(relaxed);
  const std::string mend = ranks.empty()
                               ? ", to which all ranks have come; see with NCCL_DEBUG=INFO what NCCL does"
                               : text("; see whether it is stopped, swapped out or waits for a disk",
                                      elsewhere.empty() ? "" : ", and whether the network between the hosts works");
  fail("waited ", timeout_.count(), " s in ",
       described(here.meeting.load(relaxed), group, here.number(group).load(relaxed), here.bytes.load(relaxed)), ranks,
       mend, ", or raise --timeout");
}

}  // namespace llama_tp
