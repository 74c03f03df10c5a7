// Matrix products by cuBLASLt, in its own, column-major words (product.h). Which algorithm computes a product is what
// its heuristic names first for the shape, asked once: the same in every run on one kind of device with one version of
// the library.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "backend/cuda/product.h"
#include "kernels/stream.h"

namespace llama_tp {

class CublasLt {
 public:
  // Errors: there is no libcublasLt.
  CublasLt();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  std::string version() const;
  // Bytes of scratch. The first call for a product prepares it. Errors: cuBLASLt has no algorithm for it.
  int64_t workspace(const Product& product);
  // Matrices begin on 16 bytes, or where their rows, one after another from such a place, can begin.
  void multiply(kernels::Stream stream, const Product& product, const void* a, const void* b, const void* bias, void* c,
                void* workspace);

 private:
  struct Library;
  struct Prepared;
  Prepared& prepared(const Product& product);

  std::unique_ptr<Library> library_;
  void* handle_ = nullptr;
  std::map<Product, std::unique_ptr<Prepared>> products_;
};

}  // namespace llama_tp
