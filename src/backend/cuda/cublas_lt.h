// Matrix products by cuBLASLt, in its own, column-major words (product.h). Which algorithm computes a product is what a
// file of tuned products says, else what the library's heuristic names first for the shape, asked once: the same in
// every run on one kind of device with one version of the library.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/product.h"
#include "backend/cuda/tuned_products.h"
#include "kernels/stream.h"

namespace llama_tp {

struct CublasLtLibrary;

struct ProductAlgorithm {
  AlgorithmBytes bytes{};
  size_t workspace = 0;
};

// Where a product's matrices are, bias and scratch among them. They begin on 16 bytes, or where their rows, one after
// another from such a place, can begin.
struct ProductOperands {
  const void *a, *b, *bias;
  void *c, *workspace;
};

class CublasLt {
 public:
  // Errors: there is no libcublasLt.
  CublasLt();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  std::string version() const;
  // Of products that are asked for later. Precondition: they were tuned on such a device with this version.
  void use(TunedProducts tuned) { tuned_ = std::move(tuned); }

  // Bytes of scratch. The first call for a product prepares it. Errors: cuBLASLt has no algorithm for it; it does not
  // take that of the file.
  int64_t workspace(const Product& product);
  void multiply(kernels::Stream stream, const Product& product, const ProductOperands& operands);

  // ---- for tuning

  // What was asked for up to now, and how much of it the file has.
  std::vector<Product> products() const;
  int64_t count_of_file() const;
  // Up to `most` that compute the product in f32; first what an untuned run takes, then what the library thinks slower.
  std::vector<ProductAlgorithm> algorithms(const Product& product, int most);
  // False where the library does not start it: that it named an algorithm is no promise that this runs.
  bool multiply_by(kernels::Stream stream, const Product& product, const ProductAlgorithm& algorithm,
                   const ProductOperands& operands);
  // Whether a run would take the algorithm from a file.
  bool takes(const Product& product, const AlgorithmBytes& algorithm);

 private:
  struct Prepared;
  Prepared& prepared(const Product& product);

  std::unique_ptr<CublasLtLibrary> library_;
  void* handle_ = nullptr;
  TunedProducts tuned_;
  std::map<Product, std::unique_ptr<Prepared>> products_;
};

}  // namespace llama_tp
