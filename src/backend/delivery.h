// Values that come from a device to the host while it goes on: who waits for them does not wait for what was asked of the
// device later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace llama_tp {

class Delivery {
 public:
  virtual ~Delivery() = default;
  // Asks for a copy of a tensor, behind what was asked so far.
  virtual void ask(const Tensor& tensor) = 0;
  // Waits for the copy. It stays until the next one is asked for.
  virtual const void* wait() = 0;
  // Waits for a copy that was asked for and has not been waited for, if there is one on its way.
  virtual void finish() {}
};

// Where nothing goes on meanwhile: the tensor is copied when it is waited for, and may not change before.
class Download : public Delivery {
 public:
  Download(Backend& backend, int64_t bytes) : backend_(backend), copy_(static_cast<size_t>(bytes)) {}
  void ask(const Tensor& tensor) override { tensor_ = tensor; }
  const void* wait() override {
    backend_.download(tensor_, copy_.data());
    return copy_.data();
  }

 private:
  Backend& backend_;
  Tensor tensor_;
  std::vector<std::byte> copy_;  // of operator new, aligned for any number
};

}  // namespace llama_tp
