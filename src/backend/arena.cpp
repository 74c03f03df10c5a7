#include "backend/arena.h"

#include <algorithm>

#include "backend/backend.h"

namespace llama_tp {

namespace {
// Room for the bookkeeping of any model's step, so that no step allocates (a block saves about twelve tensors).
constexpr size_t item_capacity = 16384;
}  // namespace

Arena::~Arena() {
  if (backend_ != nullptr) backend_->release(base_, capacity_);
}

void Arena::reserve(Backend& backend, int64_t bytes) {
  require(backend_ == nullptr && used() == 0, name_, ": an arena is reserved once, before its first use");
  base_ = static_cast<char*>(backend.reserve(bytes));
  backend_ = &backend;
  capacity_ = bytes;
  bottom_items_.reserve(item_capacity);
  top_items_.reserve(item_capacity);
}

Arena::Item Arena::account(Category category, const Shape& shape, DType dtype) {
  const int64_t bytes = shape.elements() * size_of(dtype);
  const Item item{category, bytes, (alignment - bytes % alignment) % alignment};
  if (!rehearses() && used() + bytes + item.padding > capacity_)
    fail("the ", name_, " arena of ", capacity_, " bytes has no room for ", name_of(category), " ", text(shape), " ",
         name_of(dtype), " (", bytes, " bytes, ", used(),
         " in use): the rehearsal did not see this tensor; please report it");
  ledger_.add(category, bytes);
  ledger_.add(Category::alignment, item.padding);
  return item;
}

void Arena::release(const Item& item) {
  ledger_.subtract(item.category, item.bytes);
  ledger_.subtract(Category::alignment, item.padding);
}

Tensor Arena::push(Category category, const Shape& shape, DType dtype) {
  const Item item = account(category, shape, dtype);
  Tensor tensor{base_ == nullptr ? nullptr : base_ + bottom_, dtype, shape};
  bottom_items_.push_back(item);
  bottom_ += item.bytes + item.padding;
  high_water_ = std::max(high_water_, used());
  return tensor;
}

void Arena::pop_to(size_t mark) {
  while (bottom_items_.size() > mark) {
    bottom_ -= bottom_items_.back().bytes + bottom_items_.back().padding;
    release(bottom_items_.back());
    bottom_items_.pop_back();
  }
}

Tensor Frame::take(Category category, const Shape& shape, DType dtype) {
  const Arena::Item item = arena_.account(category, shape, dtype);
  arena_.top_items_.push_back(item);
  arena_.top_ += item.bytes + item.padding;
  arena_.high_water_ = std::max(arena_.high_water_, arena_.used());
  char* base = arena_.base_;
  return {base == nullptr ? nullptr : base + arena_.capacity_ - arena_.top_, dtype, shape};
}

Frame::~Frame() {
  while (arena_.top_items_.size() > mark_) {
    arena_.top_ -= arena_.top_items_.back().bytes + arena_.top_items_.back().padding;
    arena_.release(arena_.top_items_.back());
    arena_.top_items_.pop_back();
  }
}

}  // namespace llama_tp
