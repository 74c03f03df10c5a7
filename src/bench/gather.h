// Plain values of all ranks, on every rank and in rank order.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "parallel/host_group.h"

namespace llama_tp {

template <class T>
std::vector<std::vector<T>> gather_lists(HostGroup& ranks, const std::vector<T>& own) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<std::vector<T>> all;
  for (const std::string& bytes :
       ranks.all_gather(std::string(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(T)))) {
    all.emplace_back(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(static_cast<void*>(all.back().data()), bytes.data(), bytes.size());
  }
  return all;
}

template <class T>
std::vector<T> gather(HostGroup& ranks, const T& own) {
  std::vector<T> all;
  for (const std::vector<T>& one : gather_lists(ranks, std::vector<T>{own})) all.push_back(one.front());
  return all;
}

}  // namespace llama_tp
