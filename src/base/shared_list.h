// A list that is built in one place and read in many: a vector of its own, until it gives that up for memory that others
// read as well.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace llama_tp {

template <class Value>
class SharedList {
 public:
  SharedList() = default;
  SharedList(std::vector<Value> values) : own_(std::move(values)) {}
  SharedList(std::initializer_list<Value> values) : own_(values) {}

  // To build the list; empty of one that is shared.
  std::vector<Value>& own() { return own_; }
  // From now on these values, which live as long as a copy of memory; the vector is given back.
  void share(std::shared_ptr<const void> memory, std::span<const Value> values) {
    own_ = std::vector<Value>();
    memory_ = std::move(memory);
    shared_ = values;
  }

  const Value* data() const { return values().data(); }
  size_t size() const { return values().size(); }
  bool empty() const { return values().empty(); }
  const Value& operator[](size_t i) const { return values()[i]; }
  auto begin() const { return values().begin(); }
  auto end() const { return values().end(); }
  friend bool operator==(const SharedList& a, const SharedList& b) { return std::ranges::equal(a, b); }

 private:
  std::span<const Value> values() const { return memory_ != nullptr ? shared_ : std::span<const Value>(own_); }

  std::vector<Value> own_;
  std::shared_ptr<const void> memory_;  // nullptr: the list is own_
  std::span<const Value> shared_;
};

}  // namespace llama_tp
