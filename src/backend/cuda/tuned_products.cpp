#include "backend/cuda/tuned_products.h"

#include <climits>

#include "base/error.h"
#include "base/json.h"
#include "base/json_part.h"

namespace llama_tp {

namespace {

constexpr const char* mend = "; make a new one with bench --tune-products, or leave --products out";
constexpr int64_t largest_extent = int64_t{1} << 40;

DType dtype_in(const JsonPart& entry, const char* key) {
  const std::optional<DType> dtype = dtype_with_torch_name(entry.text(key));
  require(dtype == DType::f32 || dtype == DType::bf16, entry.where(), ": ", key, " is neither float32 nor bfloat16",
          mend);
  return *dtype;
}

AlgorithmBytes bytes_in(const JsonPart& entry, const char* key) {
  const std::string digits = entry.text(key);
  AlgorithmBytes bytes{};
  require(digits.size() == 2 * bytes.size() && digits.find_first_not_of("0123456789abcdef") == std::string::npos,
          entry.where(), ": ", key, " is not ", bytes.size(), " bytes in hexadecimal digits", mend);
  for (size_t i = 0; i < bytes.size(); i++)
    bytes[i] = static_cast<unsigned char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  return bytes;
}

std::string hexadecimal(const AlgorithmBytes& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

Product product_of(const JsonPart& entry) {
  const auto extent = [&](const char* key) { return entry.integer(key, 1, largest_extent); };
  return {.in = dtype_in(entry, "in"),
          .out = dtype_in(entry, "out"),
          .transpose_a = entry.flag("transpose_a"),
          .transpose_b = entry.flag("transpose_b"),
          .m = extent("m"),
          .n = extent("n"),
          .k = extent("k"),
          .accumulate = entry.flag("accumulate"),
          .bias = entry.flag("bias")};
}

TunedProduct choice_of(const JsonPart& entry) {
  return {bytes_in(entry, "algorithm"),
          {static_cast<int>(entry.integer("algorithms", 1, INT_MAX)), entry.positive("first_seconds"),
           entry.positive("chosen_seconds")}};
}

OrderedJson json_of(const Product& product, const TunedProduct& tuned) {
  return {{"in", torch_name_of(product.in)},
          {"out", torch_name_of(product.out)},
          {"transpose_a", product.transpose_a},
          {"transpose_b", product.transpose_b},
          {"m", product.m},
          {"n", product.n},
          {"k", product.k},
          {"accumulate", product.accumulate},
          {"bias", product.bias},
          {"algorithm", hexadecimal(tuned.algorithm)},
          {"algorithms", tuned.times.algorithms},
          {"first_seconds", tuned.times.first_seconds},
          {"chosen_seconds", tuned.times.chosen_seconds}};
}

}  // namespace

TunedProducts parse_tuned_products(const ProductFile& file) {
  if (!file.given()) return {};
  const Json json = parse_json_object(file.text, file.path, mend);
  const auto top = JsonPart::of_file(json, file.path, mend);
  top.check_keys({"device", "compute_capability", "cublas_lt", "products"});
  TunedProducts tuned{file.path, {top.text("device"), top.text("compute_capability"), top.text("cublas_lt")}, {}};
  for (const JsonPart& entry : top.list("products")) {
    entry.check_keys({"in", "out", "transpose_a", "transpose_b", "m", "n", "k", "accumulate", "bias", "algorithm",
                      "algorithms", "first_seconds", "chosen_seconds"});
    const bool is_new = tuned.products.emplace(product_of(entry), choice_of(entry)).second;
    require(is_new, entry.where(), ": is there a second time", mend);
  }
  return tuned;
}

std::string text_of(const TunedProducts& tuned) {
  std::string lines;
  for (const auto& [product, choice] : tuned.products)
    lines += (lines.empty() ? "\n    " : ",\n    ") + json_text(json_of(product, choice));
  return text("{\n  \"device\": ", json_text(Json(tuned.place.device)),
              ",\n  \"compute_capability\": ", json_text(Json(tuned.place.compute_capability)),
              ",\n  \"cublas_lt\": ", json_text(Json(tuned.place.cublas_lt)), ",\n  \"products\": [", lines,
              "\n  ]\n}\n");
}

void check_place(const TunedProducts& tuned, const TuningPlace& here) {
  const auto words = [](const TuningPlace& place) {
    return text(place.device, " (", place.compute_capability, ") with cuBLASLt ", place.cublas_lt);
  };
  require(tuned.place == here, tuned.path, ": its products were tuned on ", words(tuned.place), ", but here is ",
          words(here), ", which has other algorithms; tune them here into another file with bench --tune-products, or ",
          "leave --products out");
}

}  // namespace llama_tp
