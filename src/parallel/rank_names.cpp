#include "parallel/rank_names.h"

#include <algorithm>

#include "base/error.h"

namespace llama_tp {

namespace {

// "a, b, …": the first few.
template <class Item>
std::string listed(const std::vector<Item>& items) {
  constexpr size_t named = 8;
  std::string list = text(items.front());
  for (size_t i = 1; i < std::min(items.size(), named); i++) list += text(", ", items[i]);
  return list + (items.size() > named ? ", …" : "");
}

}  // namespace

std::string name_ranks(const std::vector<int>& ranks, const std::vector<std::string>& hosts,
                       const std::string& of_all) {
  std::vector<std::string> theirs;
  for (const int rank : ranks)
    if (const std::string& host = hosts[static_cast<size_t>(rank)]; std::ranges::find(theirs, host) == theirs.end())
      theirs.push_back(host);
  return text(ranks.size() == 1 ? "rank " : "ranks ", listed(ranks), of_all, " on ", listed(theirs));
}

}  // namespace llama_tp
