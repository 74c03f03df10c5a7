// Lists of numbers between ranks, by a HostGroup's texts. A list may be empty.
#pragma once

#include <cstring>
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
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Rank 0's list on every rank. Collective, as the next.
template <class Value>
std::vector<Value> broadcast_values(HostGroup& group, const std::vector<Value>& values) {
  return values_of<Value>(group.broadcast(group.rank() == 0 ? bytes_of(std::span<const Value>(values)) : "", 0));
}

// Every rank's list, in rank order, on every rank.
template <class Value>
std::vector<std::vector<Value>> gather_values(HostGroup& group, std::span<const Value> own) {
  std::vector<std::vector<Value>> all;
  for (const std::string& bytes : group.all_gather(bytes_of(own))) all.push_back(values_of<Value>(bytes));
  return all;
}

}  // namespace llama_tp
