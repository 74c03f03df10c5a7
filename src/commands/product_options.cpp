#include "commands/product_options.h"

#include "base/error.h"
#include "io/files.h"

namespace llama_tp {

namespace {
constexpr int64_t largest_product_file = int64_t{1} << 24;  // some ten thousand products
}

void declare_products(Options& options) {
  options.value(
      "products",
      "with cuda: the algorithm of each matrix product that this file of bench --tune-products has; of others, "
      "cuBLASLt's first heuristic",
      "FILE");
}

ProductFile products_from(const Options& options) {
  if (!options.given("products")) return {};
  const std::string path = options.word("products");
  require(file_exists(path), "--products ", path, ": there is no such file; bench --tune-products makes one");
  return read_product_file(path);
}

void set_products(const Options& options, Launch& launch) { launch.set_products(products_from(options)); }

ProductFile read_product_file(const std::string& path) { return {path, read_text(path, largest_product_file)}; }

}  // namespace llama_tp
