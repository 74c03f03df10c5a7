// What the tests of operations share: tensors with their own memory, random contents, the backend under test, and a
// comparison whose tolerance is counted in roundings. Each test is linked three times: with the CPU backend; as
// emulated_*_test with the CUDA kernels run on the CPU (emulation/machine.h); and all together as on_device, with the
// kernels on a GPU.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "support/backend_under_test.h"

namespace llama_tp {

// A tensor that owns its memory; elements are read and written as double, whatever their type.
class Owned {
 public:
  Owned(const Shape& shape, DType dtype)
      : Owned(shape, dtype, memory_under_test(static_cast<size_t>(shape.elements() * size_of(dtype)))) {}
  Owned(const Shape& shape, DType dtype, const std::function<double(int64_t)>& value) : Owned(shape, dtype) {
    for (int64_t i = 0; i < size(); i++) set(i, value(i));
  }
  Owned(const Owned& other) : Owned(other.tensor_.shape, other.tensor_.dtype) {
    std::memcpy(memory_.get(), other.memory_.get(), static_cast<size_t>(tensor_.bytes()));
  }
  Owned& operator=(const Owned&) = delete;

  operator const Tensor&() const { return tensor_; }
  int64_t size() const { return tensor_.elements(); }
  bool same_bytes(const Owned& other) const {
    return tensor_.bytes() == other.tensor_.bytes() &&
           std::memcmp(memory_.get(), other.memory_.get(), static_cast<size_t>(tensor_.bytes())) == 0;
  }

  double operator[](int64_t i) const {
    switch (tensor_.dtype) {
      case DType::f64:
        return tensor_.as<double>()[i];
      case DType::i32:
        return tensor_.as<int32_t>()[i];
      case DType::i16:
        return tensor_.as<int16_t>()[i];
      case DType::bf16:
        return static_cast<double>(to_float(tensor_.as<bf16>()[i]));
      default:
        return static_cast<double>(tensor_.as<float>()[i]);
    }
  }
  void set(int64_t i, double value) {
    switch (tensor_.dtype) {
      case DType::f64:
        tensor_.as<double>()[i] = value;
        break;
      case DType::i32:
        tensor_.as<int32_t>()[i] = static_cast<int32_t>(value);
        break;
      case DType::i16:
        tensor_.as<int16_t>()[i] = static_cast<int16_t>(value);
        break;
      case DType::bf16:
        tensor_.as<bf16>()[i] = to_bf16(static_cast<float>(value));
        break;
      default:
        tensor_.as<float>()[i] = static_cast<float>(value);
    }
  }

 private:
  Owned(const Shape& shape, DType dtype, MemoryUnderTest memory)
      : memory_(std::move(memory)), tensor_{memory_.get(), dtype, shape} {}

  MemoryUnderTest memory_;
  Tensor tensor_;
};

class Random {
 public:
  explicit Random(unsigned seed) : bits_(seed) {}
  double normal() { return std::normal_distribution<double>()(bits_); }
  int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(bits_); }
  Owned normals(const Shape& shape, DType dtype, double scale = 1) {
    return {shape, dtype, [&](int64_t) { return scale * normal(); }};
  }

 private:
  std::mt19937 bits_;
};

// The backend under test with scratch memory of its own; threads are those of the CPU. Tests see their tensors only when
// an operation on them has ended.
class Device {
  class Called {
   public:
    explicit Called(Backend& backend) : backend_(backend) {}
    ~Called() noexcept(false) { backend_.synchronize(); }
    Backend* operator->() const { return &backend_; }

   private:
    Backend& backend_;
  };

 public:
  explicit Device(int threads = 2) : Device(backend_under_test(threads)) {}
  explicit Device(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {
    scratch_.reserve(*backend_, 33 << 20);  // what cuBLASLt is given at most, and more
  }
  Called operator->() { return Called(*backend_); }

 private:
  Ledger ledger_;
  std::unique_ptr<Backend> backend_;
  Arena scratch_{"scratch", ledger_};
  Workspace workspace_{*backend_, scratch_};
};

// Half a unit in the last place of 1, relative: the most that one rounding loses.
inline double rounding(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-24; }

// One rounding to the tensor's type, and `roundings` of f32 on terms of size `terms` before that.
inline void expect_close(const Owned& got, int64_t i, double expected, double roundings, double terms) {
  const DType dtype = static_cast<const Tensor&>(got).dtype;
  const double tolerance = rounding(dtype) * std::fabs(expected) + (1 + rounding(dtype)) * roundings * 0x1p-24 * terms;
  // Below the least normal f32 a rounding is absolute.
  ASSERT_NEAR(got[i], expected, tolerance + 0x1p-126) << "element " << i;
}

constexpr std::array<DType, 2> activation_types{DType::f32, DType::bf16};

}  // namespace llama_tp
