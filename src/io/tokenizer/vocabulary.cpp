#include "io/tokenizer/vocabulary.h"

#include <bit>

#include "base/error.h"
#include "io/tokenizer/hash.h"

namespace llama_tp {

namespace {

constexpr size_t least_slots = 16;

uint32_t hash32(std::string_view name) { return static_cast<uint32_t>(hash_of(name) >> 32); }

}  // namespace

Vocabulary::Added Vocabulary::add(std::string_view name, int32_t id) {
  if (contains(id)) return Added::id_taken;
  if (slots_.size() < 2 * (used_ + 1)) grow();
  const uint32_t hash = hash32(name);
  Slot& slot = slots_[slot_of(name, hash)];
  if (slot.id != no_token) return Added::name_taken;
  require(characters_.size() + name.size() < absent, "vocabulary: all names together pass 4 GiB; the file is damaged");
  if (id >= size()) names_.resize(static_cast<size_t>(id) + 1);
  names_[static_cast<size_t>(id)] = {static_cast<uint32_t>(characters_.size()), static_cast<uint32_t>(name.size())};
  characters_.append(name);
  slot = {hash, id};
  ++used_;
  return Added::yes;
}

int32_t Vocabulary::find(std::string_view name) const {
  if (slots_.empty()) return no_token;
  return slots_[slot_of(name, hash32(name))].id;
}

bool Vocabulary::contains(int32_t id) const {
  return 0 <= id && id < size() && names_[static_cast<size_t>(id)].length != absent;
}

std::string_view Vocabulary::name(int32_t id) const {
  const Name& where = names_[static_cast<size_t>(id)];
  return std::string_view(characters_).substr(where.offset, where.length);
}

size_t Vocabulary::slot_of(std::string_view wanted, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].id != no_token && (slots_[i].hash != hash || name(slots_[i].id) != wanted)) i = (i + 1) & mask;
  return i;
}

void Vocabulary::grow() {
  std::vector<Slot> old(std::max(least_slots, 2 * slots_.size()));
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == no_token) continue;
    size_t i = slot.hash & mask;
    while (slots_[i].id != no_token) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

MergeTable::MergeTable(size_t merges) : slots_(std::bit_ceil(std::max(least_slots, 2 * merges))) {}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t i = mix(pair ^ hash_seed, hash_step) & mask;
  while (slots_[i].pair != empty && slots_[i].pair != pair) i = (i + 1) & mask;
  return i;
}

}  // namespace llama_tp
