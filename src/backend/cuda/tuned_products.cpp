#include "backend/cuda/tuned_products.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

namespace {

constexpr const char* mend = "; make a new one with bench --tune-products, or leave --products out";
constexpr int64_t largest_extent = int64_t{1} << 40;

// An object of the file, read key by key; where: what an error calls it.
class Entry {
 public:
  Entry(const Json& json, std::string where, std::initializer_list<const char*> keys)
      : json_(json), where_(std::move(where)) {
    require(json.is_object(), where_, ": is no JSON object", mend);
    for (const auto& [key, value] : json.items())
      require(std::any_of(keys.begin(), keys.end(), [&, &wanted = key](const char* known) { return known == wanted; }),
              where_, ": \"", key, "\" is no key of tuned products", mend);
  }

  const std::string& where() const { return where_; }

  const Json& value(const char* key, bool fits, const char* what) const {
    require(fits, where_, ": ", key, " is missing or no ", what, mend);
    return json_[key];
  }
  std::string word(const char* key) const {
    return value(key, has(key) && json_[key].is_string(), "text").get<std::string>();
  }
  bool truth(const char* key) const {
    return value(key, has(key) && json_[key].is_boolean(), "true or false").get<bool>();
  }
  int64_t count(const char* key) const {
    const bool whole = has(key) && json_[key].is_number_integer() && json_[key].get<double>() >= 1 &&
                       json_[key].get<double>() <= static_cast<double>(largest_extent);
    return value(key, whole, "positive whole number").get<int64_t>();
  }
  double seconds(const char* key) const {
    const bool positive = has(key) && json_[key].is_number() && json_[key].get<double>() > 0;
    return value(key, positive, "positive number").get<double>();
  }
  DType dtype(const char* key) const {
    const std::optional<DType> dtype = dtype_with_torch_name(word(key));
    require(dtype == DType::f32 || dtype == DType::bf16, where_, ": ", key, " is neither float32 nor bfloat16", mend);
    return *dtype;
  }
  AlgorithmBytes bytes(const char* key) const {
    const std::string digits = word(key);
    AlgorithmBytes bytes{};
    require(digits.size() == 2 * bytes.size() && digits.find_first_not_of("0123456789abcdef") == std::string::npos,
            where_, ": ", key, " is not ", bytes.size(), " bytes in hexadecimal digits", mend);
    for (size_t i = 0; i < bytes.size(); i++)
      bytes[i] = static_cast<unsigned char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
    return bytes;
  }

  const Json& json() const { return json_; }
  bool has(const char* key) const { return json_.contains(key); }

 private:
  const Json& json_;
  std::string where_;
};

std::string hexadecimal(const AlgorithmBytes& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

Product product_of(const Entry& entry) {
  return {.in = entry.dtype("in"),
          .out = entry.dtype("out"),
          .transpose_a = entry.truth("transpose_a"),
          .transpose_b = entry.truth("transpose_b"),
          .m = entry.count("m"),
          .n = entry.count("n"),
          .k = entry.count("k"),
          .accumulate = entry.truth("accumulate"),
          .bias = entry.truth("bias")};
}

TunedProduct choice_of(const Entry& entry) {
  return {
      entry.bytes("algorithm"),
      {static_cast<int>(entry.count("algorithms")), entry.seconds("first_seconds"), entry.seconds("chosen_seconds")}};
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
  const Json json = parse_json_or_discard(file.text);
  const Entry top(json, file.path, {"device", "compute_capability", "cublas_lt", "products"});
  TunedProducts tuned{file.path, {top.word("device"), top.word("compute_capability"), top.word("cublas_lt")}, {}};
  const Json& products = top.value("products", top.has("products") && json["products"].is_array(), "list");
  for (size_t i = 0; i < products.size(); i++) {
    const Entry entry(products[i], text(file.path, ": product ", i + 1),
                      {"in", "out", "transpose_a", "transpose_b", "m", "n", "k", "accumulate", "bias", "algorithm",
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
