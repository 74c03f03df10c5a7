// The file of `bench --tune-products`: for each product the algorithm that was fastest on one kind of device with one
// version of cuBLASLt. An algorithm is 64 bytes that only that version understands.
#pragma once

#include <array>
#include <map>
#include <string>

#include "backend/cuda/product.h"
#include "backend/product_tuner.h"

namespace llama_tp {

using AlgorithmBytes = std::array<unsigned char, 64>;

struct TunedProduct {
  AlgorithmBytes algorithm{};
  ProductTimes times;
};

// Where products were tuned: other devices have other algorithms, other versions read other bytes.
struct TuningPlace {
  std::string device, compute_capability, cublas_lt;
  bool operator==(const TuningPlace&) const = default;
};

struct TunedProducts {
  std::string path;  // of the file; "": none
  TuningPlace place;
  std::map<Product, TunedProduct> products;
};

// None where there is no file. Errors: not such a file; keys missing or not known; a product that is there twice.
TunedProducts parse_tuned_products(const ProductFile& file);
// A line a product.
std::string text_of(const TunedProducts& tuned);
// Errors: tuned elsewhere.
void check_place(const TunedProducts& tuned, const TuningPlace& here);

}  // namespace llama_tp
