// Arenas and the ledger against a plain account of the same calls; a rehearsal against the run that it stands for.
#include "backend/arena.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "backend/device.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

int64_t padded(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Random pushes, pops, scopes and scopes within them, always the same for one seed. Every tensor is filled with a
// number of its own, which must still be there when its scope ends.
class Script {
 public:
  Script(Arena& arena, Ledger& ledger, unsigned seed) : arena_(arena), ledger_(ledger), random_(seed) { scope(6); }

  int64_t most = 0;  // bytes held at once, with the padding
  CategoryBytes at_most{};

 private:
  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  template <class Take>
  void take(const Take& take_from) {
    const auto category = static_cast<Category>(below(category_count - 1));
    const Shape shape{1 + below(40), 1 + below(40)};
    const DType dtype = std::array{DType::f32, DType::bf16, DType::f64}[static_cast<size_t>(below(3))];
    const Tensor tensor = take_from(category, shape, dtype);
    EXPECT_EQ(tensor.shape, shape);
    EXPECT_EQ(tensor.data == nullptr, arena_.rehearses());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 256, 0u);
    if (tensor.data != nullptr) std::memset(tensor.data, ++number_ % 251, static_cast<size_t>(tensor.bytes()));
    live_.push_back({tensor, static_cast<unsigned char>(number_ % 251), category});
    account();
  }

  void account() {
    CategoryBytes held{};
    int64_t all = 0;
    for (const Live& live : live_) {
      const int64_t bytes = live.tensor.bytes();
      held[static_cast<size_t>(live.category)] += bytes;
      held[static_cast<size_t>(Category::alignment)] += padded(bytes) - bytes;
      all += padded(bytes);
    }
    EXPECT_EQ(arena_.used(), all);
    EXPECT_EQ(ledger_.current(), all);
    if (all > most) {
      most = all;
      at_most = held;
    }
  }

  void drop(size_t back_to) {
    for (; live_.size() > back_to; live_.pop_back()) {
      const Tensor& tensor = live_.back().tensor;
      for (int64_t i = 0; tensor.data != nullptr && i < tensor.bytes(); i++)
        ASSERT_EQ(tensor.as<unsigned char>()[i], live_.back().number);
    }
  }

  void scope(int depth) {
    const size_t before = live_.size();
    {
      PushScope kept(arena_);
      Frame frame(arena_);
      for (int64_t i = below(8); i >= 0; i--) {
        if (below(2) == 0) take([&](auto... what) { return frame.take(what...); });
        if (below(2) == 0) take([&](auto... what) { return arena_.push(what...); });
        if (depth > 0) scope(depth - 1 - static_cast<int>(below(2)));
      }
      drop(before);
    }
    account();
  }

  struct Live {
    Tensor tensor;
    unsigned char number;
    Category category;
  };
  Arena& arena_;
  Ledger& ledger_;
  std::mt19937 random_;
  std::vector<Live> live_;
  int number_ = 0;
};

TEST(Arena, ARehearsalFindsWhatTheRunNeedsAndTensorsNeverMeet) {
  const auto backend = make_backend("cpu", {});
  for (unsigned seed = 0; seed < 20; seed++) {
    Ledger planned, held;
    Arena rehearsal("step", planned), arena("step", held);
    const Script plan(rehearsal, planned, seed);
    arena.reserve(*backend, rehearsal.high_water());  // not a byte more
    const Script run(arena, held, seed);
    for (const auto& [script, one, ledger] : {std::tie(plan, rehearsal, planned), std::tie(run, arena, held)}) {
      EXPECT_EQ(script.most, run.most);
      EXPECT_EQ(one.high_water(), run.most);
      EXPECT_EQ(ledger.peak(), run.most);
      EXPECT_EQ(ledger.at_peak(), run.at_most);
      EXPECT_EQ(one.used(), 0);
    }
  }
}

TEST(Arena, PopsBackToAMarkWhileTheOtherEndStays) {
  Ledger ledger;
  Arena arena("step", ledger);
  Frame frame(arena);
  frame.take(Category::transient, {64}, DType::f32);
  arena.push(Category::saved_whole, {64}, DType::f32);
  const size_t mark = arena.mark();
  arena.push(Category::saved_split, {1}, DType::f32);
  arena.push(Category::saved_split, {0, 5}, DType::f32);  // nothing takes nothing
  EXPECT_EQ(arena.used(), 3 * 256);
  arena.pop_to(mark);
  EXPECT_EQ(arena.used(), 2 * 256);
  EXPECT_EQ(arena.high_water(), 3 * 256);
}

TEST(Arena, TooMuchIsAnErrorThatNamesTheTensorAndTakesNothing) {
  const auto backend = make_backend("cpu", {});
  Ledger ledger;
  Arena arena("step", ledger);
  arena.reserve(*backend, 1024);
  Frame frame(arena);
  frame.take(Category::transient, {512}, DType::bf16);  // exactly full
  EXPECT_EQ(arena.used(), 1024);
  for (const bool pushed : {false, true}) {
    const std::string error = error_of([&] {
      if (pushed)
        arena.push(Category::logits, {1, 1}, DType::f32);
      else
        frame.take(Category::logits, {1, 1}, DType::f32);
    });
    EXPECT_TRUE(holds(error, "step arena of 1024 bytes", "logits [1, 1] F32 (4 bytes, 1024 in use)", "report"));
  }
  EXPECT_EQ(ledger.current(), 1024);
  EXPECT_TRUE(holds(error_of([&] { arena.reserve(*backend, 2048); }), "step", "reserved once"));
}

TEST(Tensor, IsSeenByRowsAndInOtherShapes) {
  std::array<float, 12> numbers{};
  const Tensor whole{numbers.data(), DType::f32, {4, 3}};
  const Tensor part = whole.rows(1, 2);
  EXPECT_EQ(part.shape, (Shape{2, 3}));
  EXPECT_EQ(part.as<float>(), &numbers[3]);
  EXPECT_EQ(whole.rows(4, 0).elements(), 0);
  const Tensor rehearsed{nullptr, DType::f32, {4, 3}}, empty{numbers.data(), DType::f32, {0, 3}};
  EXPECT_EQ(rehearsed.rows(1, 2).data, nullptr);
  EXPECT_EQ(empty.rows(0, 0).shape, empty.shape);
  for (const auto& [begin, count] : {std::pair{-1, 1}, {0, -1}, {0, 5}, {4, 1}})
    EXPECT_TRUE(holds(error_of([&] { whole.rows(begin, count); }), "are outside of [4, 3]"));

  EXPECT_EQ(whole.reshaped({2, 6}).shape, (Shape{2, 6}));
  EXPECT_EQ(whole.reshaped({2, 6}).data, whole.data);
  EXPECT_TRUE(holds(error_of([&] { whole.reshaped({2, 5}); }), "[4, 3] cannot be seen as [2, 5]"));
  EXPECT_TRUE(holds(error_of([] { Shape{1, 1, 1, 1, 1}; }), "at most 4 axes"));
  EXPECT_EQ(Shape{}.elements(), 0);
}

TEST(Ledger, KnowsThePeakOfEachPhaseAndWhatHeldIt) {
  Ledger ledger;
  ledger.add(Category::parameters, 100);  // the first phase is load
  ledger.enter(Phase::forward);
  ledger.add(Category::saved_split, 50);
  ledger.enter(Phase::backward);
  ledger.add(Category::transient, 30);
  ledger.subtract(Category::saved_split, 50);
  ledger.add(Category::transient, 19);
  ledger.enter(Phase::optimizer);
  ledger.subtract(Category::transient, 49);
  ledger.add(Category::gradients, 7);
  EXPECT_EQ(ledger.peak_of(Phase::load), 100);
  EXPECT_EQ(ledger.peak_of(Phase::forward), 150);
  EXPECT_EQ(ledger.peak_of(Phase::backward), 180);
  EXPECT_EQ(ledger.peak_of(Phase::optimizer), 149);  // what it found when it began
  EXPECT_EQ(ledger.peak_of(Phase::save), 0);
  EXPECT_EQ(ledger.current(), 107);
  EXPECT_EQ(ledger.peak(), 180);
  CategoryBytes at_peak{};
  at_peak[static_cast<size_t>(Category::parameters)] = 100;
  at_peak[static_cast<size_t>(Category::saved_split)] = 50;
  at_peak[static_cast<size_t>(Category::transient)] = 30;
  EXPECT_EQ(ledger.at_peak(), at_peak);
}

TEST(Ledger, ItsLogHasEachChangeInItsPhaseWhileItIsKept) {
  Ledger ledger;
  std::vector<LedgerEntry> log;
  ledger.add(Category::parameters, 100);
  ledger.log_to(&log);
  ledger.enter(Phase::forward);
  ledger.add(Category::saved_split, 50);
  ledger.add(Category::alignment, 0);  // no change
  ledger.enter(Phase::backward);
  ledger.subtract(Category::saved_split, 20);
  ledger.subtract(Category::alignment, 0);
  ledger.log_to(nullptr);
  ledger.subtract(Category::saved_split, 30);
  std::vector<std::tuple<Phase, Category, int64_t>> changes;
  for (const LedgerEntry& entry : log) changes.emplace_back(entry.phase, entry.category, entry.bytes);
  EXPECT_EQ(changes, (decltype(changes){{Phase::forward, Category::data, 0},
                                        {Phase::forward, Category::saved_split, 50},
                                        {Phase::backward, Category::data, 0},
                                        {Phase::backward, Category::saved_split, -20}}));
}

TEST(Ledger, EachCategoryIsInOneGroup) {
  CategoryBytes bytes{};
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = int64_t{1} << (4 * i);  // a digit each
  int64_t together = 0;
  for (const MemoryGroup group : memory_groups) together += sum_of(bytes, group);
  EXPECT_EQ(together, 0x111111111111111);
  EXPECT_EQ(group_of(Category::moments), MemoryGroup::state);
  EXPECT_EQ(group_of(Category::unsharded_gradients), MemoryGroup::gathered);
  EXPECT_EQ(sum_of(bytes, MemoryGroup::activations),
            sum_of(bytes, {Category::saved_split, Category::saved_whole, Category::transient}));
}

}  // namespace
}  // namespace llama_tp
