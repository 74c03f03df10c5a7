// Plain values between ranks, and lists of them, by a HostGroup. A list may be empty.
#pragma once

#include <cstring>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel/host_group.h"

namespace llama_tp {

template <class Value>
std::string bytes_of(std::span<const Value> values) {
  static_assert(std::is_trivially_copyable_v<Value>);
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

template <class Value>
std::vector<Value> values_of(const std::string& bytes) {
  std::vector<Value> values(bytes.size() / sizeof(Value));
  if (!values.empty()) std::memcpy(static_cast<void*>(values.data()), bytes.data(), bytes.size());
  return values;
}

// Rank 0's list in place of the others', without a copy of it anywhere. Collective, as the others.
template <class Value>
void broadcast_values(HostGroup& group, std::vector<Value>& values) {
  static_assert(std::is_trivially_copyable_v<Value>);
  size_t count = values.size();
  group.broadcast(std::span(reinterpret_cast<char*>(&count), sizeof count), 0);
  values.resize(count);
  group.broadcast(std::span(reinterpret_cast<char*>(values.data()), count * sizeof(Value)), 0);
}

// Every rank's list, in rank order, on every rank.
template <std::ranges::contiguous_range List, class Value = std::ranges::range_value_t<List>>
std::vector<std::vector<Value>> gather_lists(HostGroup& group, const List& own) {
  std::vector<std::vector<Value>> all;
  for (const std::string& bytes : group.all_gather(bytes_of(std::span<const Value>(own))))
    all.push_back(values_of<Value>(bytes));
  return all;
}

// Every rank's value, likewise.
template <class Value>
std::vector<Value> gather_values(HostGroup& group, const Value& own) {
  static_assert(std::is_trivially_copyable_v<Value>);
  std::vector<Value> all(static_cast<size_t>(group.size()));
  group.all_gather(std::span(reinterpret_cast<const char*>(&own), sizeof own),
                   std::span(reinterpret_cast<char*>(all.data()), all.size() * sizeof own));
  return all;
}

}  // namespace llama_tp
