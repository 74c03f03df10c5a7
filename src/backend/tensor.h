// A tensor is a view: pointer, element type and shape. It owns nothing; memory belongs to an arena (backend/arena.h).
// In a rehearsal (backend/meta.h) the pointer is null and everything else is the same.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"

namespace llama_tp {

// Row-major extents, the last one contiguous; up to four.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis)]; }
  int64_t elements() const;
  bool operator==(const Shape&) const = default;

 private:
  friend struct Tensor;
  std::array<int64_t, 4> extents_{};
  int rank_ = 0;
};

// "[2, 16]"
std::string text(const Shape& shape);

// const is the view, not its elements, as of a std::span: operations write through a const Tensor&, and the comment of
// each says through which.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;  // rank 0: no tensor (an absent bias, say)

  bool exists() const { return shape.rank() > 0; }
  int64_t elements() const { return shape.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype); }

  // The part [begin, begin + count) of the first axis.
  Tensor rows(int64_t begin, int64_t count) const;
  // The same elements in another shape. Errors: another number of elements.
  Tensor reshaped(const Shape& to) const;

  // The elements; the caller names the type that dtype says.
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace llama_tp
