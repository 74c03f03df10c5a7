#include "backend/tensor.h"

namespace llama_tp {

Shape::Shape(std::initializer_list<int64_t> extents) {
  require(extents.size() <= extents_.size(), "a shape has at most ", extents_.size(), " axes");
  for (const int64_t extent : extents) extents_[static_cast<size_t>(rank_++)] = extent;
}

int64_t Shape::elements() const {
  int64_t product = rank_ > 0 ? 1 : 0;
  for (int axis = 0; axis < rank_; axis++) product *= (*this)[axis];
  return product;
}

std::string text(const Shape& shape) {
  std::string out = "[";
  for (int axis = 0; axis < shape.rank(); axis++) out += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  return out + "]";
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  if (begin < 0 || count < 0 || begin + count > shape[0])  // not require: it would make the text each time
    fail("rows ", begin, " + ", count, " are outside of ", text(shape));
  Tensor part = *this;
  const int64_t row = shape[0] > 0 ? elements() / shape[0] : 0;
  if (data != nullptr) part.data = static_cast<char*>(data) + begin * row * size_of(dtype);
  part.shape.extents_[0] = count;
  return part;
}

Tensor Tensor::reshaped(const Shape& to) const {
  if (to.elements() != elements()) fail(text(shape), " cannot be seen as ", text(to));
  Tensor same = *this;
  same.shape = to;
  return same;
}

}  // namespace llama_tp
