// One reserved range of memory with two ends: what must live from forward to backward is pushed from the bottom and
// popped in reverse; transients are taken from the top inside a Frame and end with its C++ scope. No general allocator,
// no free list.
//
//   Frame frame(arena);
//   Tensor gate = frame.take(Category::transient, {tokens, ffn}, DType::bf16);   // gone when `frame` is
//
// An arena that has not reserved memory only counts: its tensors have null data, and high_water() is what a real run
// must reserve. That is how memory is planned before it is taken (a rehearsal).
#pragma once

#include <string>
#include <vector>

#include "backend/ledger.h"
#include "backend/tensor.h"

namespace llama_tp {

class Backend;

class Arena {
 public:
  static constexpr int64_t alignment = 256;  // bytes; cache lines, AVX512 and CUDA's coalescing all divide it

  Arena(std::string name, Ledger& ledger) : name_(std::move(name)), ledger_(ledger) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Takes the memory. Errors: the backend has no such amount.
  void reserve(Backend& backend, int64_t bytes);
  bool rehearses() const { return backend_ == nullptr; }
  int64_t reserved() const { return capacity_; }
  // The most that both ends held together.
  int64_t high_water() const { return high_water_; }
  int64_t used() const { return bottom_ + top_; }

  // Errors: the arena is full (a bug: the rehearsal differed from the run), naming tensor size and category.
  Tensor push(Category category, const Shape& shape, DType dtype);
  // A mark to pop back to.
  size_t mark() const { return bottom_items_.size(); }
  void pop_to(size_t mark);

 private:
  friend class Frame;
  struct Item {
    Category category;
    int64_t bytes, padding;
  };
  Item account(Category category, const Shape& shape, DType dtype);
  void release(const Item& item);

  std::string name_;
  Ledger& ledger_;
  Backend* backend_ = nullptr;
  char* base_ = nullptr;
  int64_t capacity_ = 0, bottom_ = 0, top_ = 0, high_water_ = 0;
  std::vector<Item> bottom_items_, top_items_;
};

// The scope of transients at the arena's top. Frames nest as C++ scopes do.
class Frame {
 public:
  explicit Frame(Arena& arena) : arena_(arena), mark_(arena.top_items_.size()) {}
  ~Frame();
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  Tensor take(Category category, const Shape& shape, DType dtype);

 private:
  Arena& arena_;
  size_t mark_;
};

// Pops what was pushed since, at the end of the scope.
class PushScope {
 public:
  explicit PushScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~PushScope() { arena_.pop_to(mark_); }
  PushScope(const PushScope&) = delete;
  PushScope& operator=(const PushScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace llama_tp
