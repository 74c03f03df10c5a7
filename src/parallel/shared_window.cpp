#include "parallel/shared_window.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/parts.h"
#include "parallel/rank_order_sum.h"
#include "parallel/streaming_copy.h"

namespace llama_tp {

namespace {

// A rank's buffer of one turn, divided among its lanes: with three buffers, those of two ranks fit a core's L2.
constexpr int64_t turn_bytes = int64_t{256} << 10;
constexpr int64_t turns_in_memory = 3;
constexpr int most_lanes = 16;
// A reduce-scatter divides a lane's buffer once more, among the ranks.
constexpr int64_t least_bytes_of_a_piece = 1024;
// Below this a second thread costs more than it copies.
constexpr int64_t least_bytes_of_a_lane = int64_t{32} << 10;
// All-reduces up to this size take one turn: every rank sums everything.
constexpr int64_t largest_sum_by_all = int64_t{16} << 10;
// Cuts between lanes and ranks fall on these, so that no two write one cache line.
constexpr int64_t line_bytes = 128;

struct alignas(line_bytes) Flag {
  std::atomic<uint64_t> turn{0};
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "ranks are processes: a lock would be another one in each");
constexpr int64_t flags_bytes = most_lanes * static_cast<int64_t>(sizeof(Flag));

void copy(void* to, const void* from, int64_t bytes) {
  if (to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
}

char* at(void* base, int64_t offset) { return static_cast<char*>(base) + offset; }
const char* at(const void* base, int64_t offset) { return static_cast<const char*>(base) + offset; }

int least_of_all(MpiGroup& group, int value) {
  std::vector<int> values(static_cast<size_t>(group.size()));
  group.all_gather(&value, values.data(), sizeof value);
  return *std::min_element(values.begin(), values.end());
}

int lanes_for(int threads, int ranks) {
  constexpr int64_t most_ranks = turn_bytes / least_bytes_of_a_piece;
  require(ranks <= most_ranks, ranks, " ranks of one node share a group, and at most ", most_ranks,
          " can: start fewer ranks a node, each with more threads (-t)");
  return std::clamp(threads, 1, std::min(most_lanes, static_cast<int>(turn_bytes / ranks / least_bytes_of_a_piece)));
}

// A chunk's elements, divided among the ranks that sum them.
struct Pieces {
  int64_t elements, step;
  Pieces(int64_t all, int ranks, int64_t element_bytes)
      : elements(all), step(round_up(ceil_div(all, ranks), line_bytes / element_bytes)) {}
  int64_t begin(int rank) const { return std::min(rank * step, elements); }
  int64_t count(int rank) const { return begin(rank + 1) - begin(rank); }
};

}  // namespace

// One thread's view of the window.
class SharedWindow::Lane {
 public:
  Lane(const SharedWindow& window, Progress& progress, int lane)
      : rank(window.rank_),
        size(window.size_),
        bytes(window.lane_bytes_),
        window_(window),
        progress_(progress),
        lane_(lane) {}

  const int rank, size;
  const int64_t bytes;  // of one buffer

  // Rank r's buffer, `back` turns ago (0, 1 or 2).
  char* buffer(int r, uint64_t back = 0) const {
    const int64_t index = static_cast<int64_t>((progress_.turn - back) % turns_in_memory) * window_.lanes_ + lane_;
    return window_.memory_.part_of(r) + flags_bytes + index * bytes;
  }
  // For sum_in_rank_order: one pointer a rank.
  std::vector<const void*>& inputs() const { return progress_.inputs; }

  // Ends the turn: returns when every rank has ended it.
  void next_turn() {
    const uint64_t turn = ++progress_.turn;
    flag(rank).store(turn, std::memory_order_release);
    for (int r = 0; r < size; r++) {
      if (r == rank) continue;
      Patience patience(window_.policy_);
      while (flag(r).load(std::memory_order_acquire) < turn) patience.pause();
    }
  }

 private:
  std::atomic<uint64_t>& flag(int r) const { return reinterpret_cast<Flag*>(window_.memory_.part_of(r))[lane_].turn; }

  const SharedWindow& window_;
  Progress& progress_;
  const int lane_;
};

SharedWindow::SharedWindow(MpiGroup& group, int threads, const WaitPolicy& policy)
    : rank_(group.rank()),
      size_(group.size()),
      lanes_(lanes_for(least_of_all(group, threads), group.size())),
      lane_bytes_(turn_bytes / lanes_ / line_bytes * line_bytes),
      policy_(policy),
      memory_(group, flags_bytes + turns_in_memory * turn_bytes),
      progress_(static_cast<size_t>(lanes_)) {
  for (Progress& progress : progress_) progress.inputs.resize(static_cast<size_t>(size_));
  new (memory_.part_of(rank_)) Flag[most_lanes];
  group.barrier();
}

// Calls work(lane, begin, count) for each lane with its cut of `units` (elements or bytes). traffic: bytes that the
// collective moves, which decides how many lanes are worth it, alike on all ranks. The whole team of threads is always
// asked for: a team of another size would be allocated anew.
template <class Work>
void SharedWindow::in_lanes(int64_t units, int64_t unit_bytes, int64_t traffic, const Work& work) {
  const int lanes = static_cast<int>(std::clamp<int64_t>(traffic / least_bytes_of_a_lane, 1, lanes_));
  const int64_t step = round_up(ceil_div(units, lanes), line_bytes / unit_bytes);
  std::exception_ptr error;  // no exception may leave a parallel region
  const auto run = [&](int index) {
    const int64_t begin = std::min(index * step, units), end = std::min(begin + step, units);
    Lane lane(*this, progress_[static_cast<size_t>(index)], index);
    try {
      if (begin < end) work(lane, begin, end - begin);
    } catch (const Stopped&) {  // perhaps by the report of another lane, which is what has to be told
#pragma omp critical
      if (!error) error = std::current_exception();
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  };
  if (lanes == 1) {
    run(0);
  } else {
    // Each thread takes its lanes in ascending order, on every rank: some lowest lane always advances, even where a
    // rank has fewer threads than lanes.
#pragma omp parallel for schedule(static)
    for (int index = 0; index < lanes; index++) run(index);
  }
  if (error) std::rethrow_exception(error);
}

// One lane's cut of an all-reduce, taken in chunks that fill a buffer.
struct SharedWindow::Share {
  Lane& lane;
  void* x;
  DType dtype;
  int64_t count;                                                   // elements
  int64_t element = size_of(dtype), chunk = lane.bytes / element;  // in bytes; in elements

  void sum_by_all() const;
  void sum_by_pieces() const;

 private:
  // Of the chunk that begins behind `done` elements.
  void copy_in(int64_t done) const;
  void sum_own_piece(int64_t done) const;
  void copy_out(int64_t done) const;
  Pieces pieces(int64_t done) const { return {std::min(chunk, count - done), lane.size, element}; }
  char* place(int64_t index) const { return at(x, index * element); }
};

// Every rank sums everything.
void SharedWindow::Share::sum_by_all() const {
  for (int64_t done = 0; done < count; done += chunk) {
    const int64_t now = std::min(chunk, count - done);
    streaming_copy(lane.buffer(lane.rank), place(done), now * element);
    lane.next_turn();
    for (int r = 0; r < lane.size; r++) lane.inputs()[static_cast<size_t>(r)] = lane.buffer(r, 1);
    sum_in_rank_order(lane.inputs(), dtype, now, place(done));
  }
}

// Each rank sums its piece of the chunk and the others copy the result.
void SharedWindow::Share::sum_by_pieces() const {
  copy_in(0);
  lane.next_turn();
  for (int64_t done = 0; done < count; done += chunk) {
    sum_own_piece(done);
    if (done + chunk < count) copy_in(done + chunk);
    lane.next_turn();
    copy_out(done);
  }
}

// Nobody copies its own piece in: it is only read by the rank itself, where it lies.
void SharedWindow::Share::copy_in(int64_t done) const {
  const Pieces all = pieces(done);
  const int64_t before = all.begin(lane.rank), after = all.begin(lane.rank + 1);
  streaming_copy(lane.buffer(lane.rank), place(done), before * element);
  streaming_copy(lane.buffer(lane.rank) + after * element, place(done + after), (all.elements - after) * element);
}

// From the buffers of the turn before. The sum goes to its place and, for the others, into this rank's buffer.
void SharedWindow::Share::sum_own_piece(int64_t done) const {
  const Pieces all = pieces(done);
  const int64_t first = all.begin(lane.rank), own = all.count(lane.rank);
  char* const sum = place(done + first);
  for (int r = 0; r < lane.size; r++)
    lane.inputs()[static_cast<size_t>(r)] = r == lane.rank ? sum : lane.buffer(r, 1) + first * element;
  sum_in_rank_order(lane.inputs(), dtype, own, sum);
  streaming_copy(lane.buffer(lane.rank, 1) + first * element, sum, own * element);
}

// The others' sums, a turn after they were made.
void SharedWindow::Share::copy_out(int64_t done) const {
  const Pieces all = pieces(done);
  for (int r = 0; r < lane.size; r++)
    if (r != lane.rank)
      copy(place(done + all.begin(r)), lane.buffer(r, 2) + all.begin(r) * element, all.count(r) * element);
}

void SharedWindow::all_reduce(void* x, DType dtype, int64_t elements) {
  const int64_t element = size_of(dtype), bytes = elements * element;
  in_lanes(elements, element, bytes, [&](Lane& lane, int64_t begin, int64_t count) {
    const Share share{lane, at(x, begin * element), dtype, count};
    bytes <= largest_sum_by_all ? share.sum_by_all() : share.sum_by_pieces();
  });
}

void SharedWindow::all_gather(const void* part, void* whole, int64_t part_bytes) {
  in_lanes(part_bytes, 1, part_bytes * size_, [&](Lane& lane, int64_t begin, int64_t count) {
    for (int64_t done = 0; done < count; done += lane.bytes) {
      const int64_t now = std::min(lane.bytes, count - done), offset = begin + done;
      streaming_copy(lane.buffer(lane.rank), at(part, offset), now);
      lane.next_turn();
      copy(at(whole, lane.rank * part_bytes + offset), at(part, offset), now);
      for (int r = 0; r < lane.size; r++)
        if (r != lane.rank) copy(at(whole, r * part_bytes + offset), lane.buffer(r, 1), now);
    }
  });
}

void SharedWindow::reduce_scatter(const void* whole, void* part, DType dtype, int64_t part_elements) {
  const int64_t element = size_of(dtype), part_bytes = part_elements * element;
  in_lanes(part_elements, element, part_bytes * size_, [&](Lane& lane, int64_t begin, int64_t count) {
    // A buffer holds a chunk for every rank.
    const int64_t chunk_bytes = lane.bytes / lane.size / line_bytes * line_bytes, chunk = chunk_bytes / element;
    for (int64_t done = 0; done < count; done += chunk) {
      const int64_t now = std::min(chunk, count - done), offset = (begin + done) * element;
      for (int r = 0; r < lane.size; r++)
        if (r != lane.rank)
          streaming_copy(lane.buffer(lane.rank) + r * chunk_bytes, at(whole, r * part_bytes + offset), now * element);
      lane.next_turn();
      for (int r = 0; r < lane.size; r++)
        lane.inputs()[static_cast<size_t>(r)] =
            r == lane.rank ? at(whole, r * part_bytes + offset) : lane.buffer(r, 1) + lane.rank * chunk_bytes;
      sum_in_rank_order(lane.inputs(), dtype, now, at(part, offset));
    }
  });
}

void SharedWindow::broadcast(void* x, int64_t bytes, int root) {
  in_lanes(bytes, 1, bytes, [&](Lane& lane, int64_t begin, int64_t count) {
    for (int64_t done = 0; done < count; done += lane.bytes) {
      const int64_t now = std::min(lane.bytes, count - done);
      if (lane.rank == root) streaming_copy(lane.buffer(root), at(x, begin + done), now);
      lane.next_turn();
      if (lane.rank != root) copy(at(x, begin + done), lane.buffer(root, 1), now);
    }
  });
}

}  // namespace llama_tp
