// The two tables of a BPE model, compact because a vocabulary of 128,256 tokens and 280,147 merges must load at once:
// token names lie in one string, and both tables hash with open addressing, so that loading makes no small allocations.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

inline constexpr int32_t no_token = -1;

// Token names by id and ids by name. Ids may leave holes.
class Vocabulary {
 public:
  // More than any known vocabulary has; an id past it is a damaged file, not a reason to reserve memory.
  static constexpr int32_t highest_id = (1 << 24) - 1;

  enum class Added { yes, name_taken, id_taken };
  // 0 <= id <= highest_id.
  Added add(std::string_view name, int32_t id);

  // The id, or no_token.
  int32_t find(std::string_view name) const;

  // False for holes and ids past the end.
  bool contains(int32_t id) const;

  // Of an id that is contained; valid until the next add().
  std::string_view name(int32_t id) const;

  // How many tokens it has; less than size() where ids leave holes.
  int32_t count() const { return static_cast<int32_t>(used_); }

  // The highest id + 1.
  int32_t size() const { return static_cast<int32_t>(names_.size()); }

 private:
  struct Name {
    uint32_t offset = 0;
    uint32_t length = absent;
  };
  struct Slot {
    uint32_t hash;
    int32_t id = no_token;
  };
  static constexpr uint32_t absent = UINT32_MAX;

  // The slot with this name, or the empty one where it belongs.
  size_t slot_of(std::string_view name, uint32_t hash) const;
  void grow();

  std::string characters_;
  std::vector<Name> names_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t used_ = 0;
};

// Which two neighbours merge, in which order, into what.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;  // the lowest merges first
    int32_t result;
  };
  static constexpr uint32_t no_rank = UINT32_MAX;

  MergeTable() : MergeTable(0) {}
  explicit MergeTable(size_t merges);  // room for so many

  // A pair that is there already gets the new rank and result.
  void set(int32_t left, int32_t right, Merge merge);

  // rank == no_rank where the two do not merge.
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = empty;
    Merge merge{no_rank, no_token};
  };
  static constexpr uint64_t empty = UINT64_MAX;  // no pair: ids are not negative
  static uint64_t pair_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
};

}  // namespace llama_tp
