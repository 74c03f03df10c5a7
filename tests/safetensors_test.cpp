// The safetensors reader against a file by the reference library, against what is written here, and against damage.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <sstream>

#include "io/safetensors_writer.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/read_floats.h"

namespace llama_tp {
namespace {

float half_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

// Rounds to nearest even; beyond 65504 gives infinity.
uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u)                          // below the least normal half, 2^-14: a multiple of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(std::fabs(value), 24))));
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

// One element after another, by the conversions of single values.
void convert(const char* from, DType from_dtype, char* to, DType to_dtype, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    float value = 0;
    uint16_t half = 0;
    const char* at = from + i * size_of(from_dtype);
    char* target = to + i * size_of(to_dtype);
    if (from_dtype == to_dtype) {
      std::memcpy(target, at, static_cast<size_t>(size_of(to_dtype)));
      continue;
    }
    std::memcpy(from_dtype == DType::f32 ? static_cast<void*>(&value) : &half, at,
                static_cast<size_t>(size_of(from_dtype)));
    if (from_dtype != DType::f32) value = from_dtype == DType::bf16 ? to_float(bf16{half}) : half_to_float(half);
    if (to_dtype != DType::f32) half = to_dtype == DType::bf16 ? to_bf16(value).bits : float_to_half(value);
    std::memcpy(target, to_dtype == DType::f32 ? static_cast<const void*>(&value) : &half,
                static_cast<size_t>(size_of(to_dtype)));
  }
}

const char* const reference_path = "tests/goldens/safetensors_reference.safetensors";

// A file of these parts: the header's length, the header, bytes of data.
std::string file_with(const std::string& header, int64_t data_bytes, int64_t claimed_length = -1) {
  const auto length = static_cast<uint64_t>(claimed_length < 0 ? static_cast<int64_t>(header.size()) : claimed_length);
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  return text + header + std::string(static_cast<size_t>(data_bytes), '\1');
}

// The error for a header over so many bytes of data.
std::string refusal(const std::string& header, int64_t data_bytes, int64_t claimed_length = -1) {
  const ScratchFolder scratch;
  const std::string bytes = file_with(header, data_bytes, claimed_length);
  File::create(scratch / "bad.safetensors").write(bytes.data(), static_cast<int64_t>(bytes.size()), 0);
  const std::string error = error_of([&] { SafetensorsFile file(scratch / "bad.safetensors"); });
  EXPECT_TRUE(holds(error, "bad.safetensors: "));
  return error;
}

TEST(Safetensors, AFileOfTheReferenceLibraryIsListedAsItIs) {
  const SafetensorsFile file(reference_path);
  EXPECT_EQ(file.tensors().size(), 9u);
  EXPECT_EQ(file.metadata().at("by"), "safetensors");
  EXPECT_EQ(file.find("matrix.f16")->dtype(), DType::f16);
  EXPECT_EQ(file.find("cube.f32")->shape, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(file.find("cube.f32")->columns(), 12);
  EXPECT_EQ(file.find("scalar")->shape, std::vector<int64_t>{});
  EXPECT_EQ(file.find("empty")->bytes, 0);
  EXPECT_NE(file.find("naïve \"name\""), nullptr);
  EXPECT_EQ(file.find("matrix"), nullptr);
}

TEST(Safetensors, EverySliceOfEveryFloatingTypeHoldsTheReferencesValues) {
  const SafetensorsFile file(reference_path);
  for (const char* name : {"matrix.f32", "matrix.bf16", "matrix.f16"})
    for (const Region region : {Region{0, 5, 0, 7}, Region{1, 4, 0, 7}, Region{0, 5, 2, 5}, Region{4, 5, 6, 7}}) {
      const std::vector<float> values = read_floats(file, name, region);
      for (int64_t row = 0; row < region.rows(); row++)
        for (int64_t column = 0; column < region.columns(); column++)
          EXPECT_EQ(values[static_cast<size_t>(row * region.columns() + column)],
                    static_cast<float>((region.row_begin + row) * 7 + region.column_begin + column) * 0.375f - 4)
              << name;
    }
  EXPECT_EQ(read_floats(file, "scalar", {0, 1, 0, 1}), std::vector<float>{0.15625f});
  EXPECT_EQ(read_floats(file, "cube.f32", {1, 2, 3, 5}), (std::vector<float>{15 / 8.0f, 16 / 8.0f}));
  EXPECT_TRUE(read_floats(file, "empty", {0, 0, 0, 3}).empty());
  int64_t integers[2];
  file.read(*file.find("vector.i64"), {1, 3, 0, 1}, DType::i64, integers);
  EXPECT_EQ(integers[0], -1);
  EXPECT_EQ(integers[1], 0);
}

TEST(Safetensors, WhatCannotBeReadIsRefusedByName) {
  const SafetensorsFile file(reference_path);
  float value;
  EXPECT_TRUE(holds(error_of([&] {
                      file.read(*file.find("mask"), {0, 1, 0, 1}, DType::f32, &value);
                    }),
                    "mask", "BOOL"));
  EXPECT_TRUE(holds(error_of([&] {
                      file.read(*file.find("vector.i64"), {0, 1, 0, 1}, DType::f32, &value);
                    }),
                    "vector.i64", "I64", "F32"));
  for (const Region region :
       {Region{0, 6, 0, 7}, Region{-1, 1, 0, 7}, Region{3, 2, 0, 7}, Region{0, 1, 0, 8}, Region{0, 1, 5, 4}})
    EXPECT_TRUE(holds(error_of([&] { file.read(*file.find("matrix.f32"), region, DType::f32, &value); }), "matrix.f32",
                      "[5, 7]"));
  EXPECT_TRUE(holds(error_of([] { SafetensorsFile missing("/nonexistent/model.safetensors"); }), "no such file"));
  EXPECT_TRUE(holds(error_of([] { SafetensorsFile folder("tests"); }), "folder"));
}

// Shapes on both sides of each choice that the reader makes: one long row, rows with large gaps, rows with small gaps,
// staging crossed in the middle of a row; types that convert and that do not.
TEST(Safetensors, SlicesOfLargeTensorsEqualTheSameSlicesOfTheWhole) {
  struct Case {
    int64_t rows, columns;
    Region region;
  };
  const ScratchFolder scratch;
  const Case cases[] = {{300, 4099, {7, 293, 0, 4099}},    {300, 4099, {0, 300, 5, 4000}},
                        {9, 200001, {3, 8, 1000, 180000}}, {2000, 513, {1, 1999, 100, 201}},
                        {5000, 64, {0, 5000, 0, 32}},      {500, 9000, {11, 480, 8000, 8003}},
                        {1000000, 1, {17, 999983, 0, 1}}};
  for (const DType from : {DType::f32, DType::bf16, DType::f16})
    for (const Case& c : cases) {
      const FilePlan plan = plan_file("big.safetensors", {{"odd", DType::u8, {3}}, {"x", from, {c.rows, c.columns}}});
      std::vector<float> values(static_cast<size_t>(c.rows * c.columns));
      for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i % 2039) - 1000;
      std::vector<char> stored(values.size() * static_cast<size_t>(size_of(from)));
      convert(reinterpret_cast<const char*>(values.data()), DType::f32, stored.data(), from,
              static_cast<int64_t>(values.size()));
      SafetensorsWriter writer(scratch.path(), plan);
      writer.write("odd", 0, "abc", 3);
      writer.write("x", 0, stored.data(), static_cast<int64_t>(stored.size()));
      writer.finish();

      const SafetensorsFile file(scratch / "big.safetensors");
      for (const DType to : {DType::f32, DType::bf16, DType::f16}) {
        std::vector<char> read(static_cast<size_t>(c.region.rows() * c.region.columns() * size_of(to)));
        std::vector<char> expected(static_cast<size_t>(c.region.columns() * size_of(to)));
        file.read(*file.find("x"), c.region, to, read.data());
        for (int64_t row = 0; row < c.region.rows(); row++) {
          const int64_t first = (c.region.row_begin + row) * c.columns + c.region.column_begin;
          convert(stored.data() + first * size_of(from), from, expected.data(), to, c.region.columns());
          const char* at = read.data() + static_cast<size_t>(row) * expected.size();
          ASSERT_EQ(std::memcmp(at, expected.data(), expected.size()), 0)
              << c.rows << " " << c.columns << " row " << row;
        }
      }
    }
}

TEST(Safetensors, AFileCutWhileItIsReadIsAnError) {
  const ScratchFolder scratch;
  std::filesystem::copy_file(reference_path, scratch / "cut.safetensors");
  const SafetensorsFile file(scratch / "cut.safetensors");
  std::filesystem::resize_file(scratch / "cut.safetensors", 800);
  float values[35];
  EXPECT_TRUE(holds(error_of([&] {
                      for (const StoredTensor& tensor : file.tensors())
                        if (tensor.is_floating()) file.read(tensor, whole(tensor), DType::f32, values);
                    }),
                    "cut.safetensors: ends at byte"));
}

TEST(SafetensorsHeader, LengthsThatLieAreRefused) {
  EXPECT_TRUE(holds(refusal("{}", 0, 3), "claims a header of 3 bytes"));
  EXPECT_TRUE(holds(refusal("{}", 0, 100'000'001), "at most 100000000"));
  EXPECT_TRUE(holds(refusal("{}", 0, INT64_MAX), "at most 100000000"));
  EXPECT_TRUE(holds(refusal("{}", 10, 0), "does not begin with {"));
  EXPECT_TRUE(holds(refusal("{}", 1), "end at byte 10 of 11"));
  EXPECT_TRUE(holds(refusal("", 0), "too few"));
}

TEST(SafetensorsHeader, WhatIsNotTheFormatsObjectIsRefused) {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  EXPECT_TRUE(holds(refusal("{\"a\":{" + good, 8), "not JSON at byte"));
  EXPECT_TRUE(holds(refusal("{\"a\xff\":{" + good + "}}", 8), "not JSON at byte"));
  EXPECT_TRUE(holds(refusal("{\"a\":{" + good + "}}" + std::string(1, '\0') + "7", 8), "not JSON at byte 62"));
  EXPECT_TRUE(holds(refusal("[1]", 0), "does not begin with {"));
  EXPECT_TRUE(holds(refusal("{\"a\":7}", 0), "tensor a: holds a number"));
  EXPECT_TRUE(holds(refusal("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8), "tensor a: stands twice"));
  EXPECT_TRUE(holds(refusal("{\"a\":{" + good + ",\"dtype\":\"F32\"}}", 8), "dtype stands twice"));
  EXPECT_TRUE(holds(refusal("{\"a\":{" + good + ",\"extra\":1}}", 8), "unknown field extra"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", 8), "lacks"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "shape", "-2"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8), "shape", "2.0"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8), "shape", "array"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8), "shape", "number"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})", 8), "dtype", "number"));
  EXPECT_TRUE(holds(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})", 8), "3 numbers"));
  EXPECT_TRUE(holds(refusal(R"({"__metadata__":{"format":1}})", 0), "__metadata__", "format"));
  EXPECT_TRUE(holds(refusal(std::string(3000000, '['), 0), "does not begin with {"));
  EXPECT_TRUE(holds(refusal("{\"a\":" + std::string(3000000, '['), 0), "tensor a: holds an array"));
}

TEST(SafetensorsHeader, TypesShapesAndRangesThatDoNotFitAreRefused) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT_TRUE(holds(refusal(one("F31", "[2]", "[0,8]"), 8), "tensor a", "F31"));
  EXPECT_TRUE(holds(refusal(one("F32", "[3]", "[0,8]"), 8), "takes 12 bytes, its range has 8"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[0,8]"), 7), "ends at 8 of 7"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[8,0]"), 8), "before its begin"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[1,9]"), 9), "belong to no tensor"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[0,9223372036854775807]"), 8), "of 8 bytes"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[0,18446744073709551616]"), 8), "18446744073709551616"));
  EXPECT_TRUE(holds(refusal(one("F32", "[2]", "[9223372036854775808,9223372036854775816]"), 8), "more than 2^63"));
  // One mend each: a type that is not read is no damage.
  EXPECT_FALSE(holds(refusal(one("F31", "[2]", "[0,8]"), 8), "copy it again"));
  EXPECT_TRUE(
      holds(refusal(one("F32", "[2]", "[0]"), 8), "1 numbers instead of 2; the file is damaged", "copy it again"));
  EXPECT_TRUE(holds(refusal(one("F32", "null", "[0,8]"), 8), "shape holds null", "copy it again"));
  EXPECT_TRUE(holds(refusal(R"({"__metadata__":5})", 0), ": __metadata__: holds a number", "copy it again"));
  // 2^62 elements of 4 bytes are 0 modulo 2^64.
  EXPECT_TRUE(holds(refusal(one("F32", "[4611686018427387904]", "[0,0]"), 0), "overflows"));
  EXPECT_TRUE(holds(refusal(one("F32", "[0,4611686018427387904,8]", "[0,0]"), 0), "overflows"));
}

TEST(SafetensorsHeader, TensorsThatOverlapOrLeaveGapsAreRefused) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  EXPECT_TRUE(holds(refusal(two("[0,4]", "[3,7]"), 7), "tensor b", "inside of a's"));
  EXPECT_TRUE(holds(refusal(two("[0,4]", "[0,4]"), 4), "inside of a's"));
  EXPECT_TRUE(holds(refusal(two("[5,9]", "[0,4]"), 9), "tensor a", "belong to no tensor"));
  EXPECT_TRUE(holds(refusal(two("[0,4]", "[4,8]"), 12), "end at byte"));
}

// A changed byte, a missing, doubled or foreign piece, a shorter file, or another length of the header.
void change(std::string& bytes, std::mt19937& random) {
  static const std::vector<std::string> words = [] {
    std::istringstream list(R"({ } [ ] " , : - 0 1 9 0.5 1e400 null true 9223372036854775807 18446744073709551615 \u0000
                               \ud800 F32 dtype shape data_offsets [] {} [[[[[[)");
    std::vector<std::string> all{"\xff"};
    for (std::string word; list >> word;) all.push_back(word);
    return all;
  }();
  const auto below = [&](size_t count) { return static_cast<size_t>(random() % count); };
  const size_t at = below(bytes.size()), length = std::min(1 + below(8), bytes.size() - at);
  const std::string& word = words[below(words.size())];
  switch (below(7)) {
    case 0:
      bytes[at] = static_cast<char>(random());
      break;
    case 1:
      bytes.erase(at, length);
      break;
    case 2:
      bytes.insert(at, word);
      break;
    case 3:
      bytes.replace(at, word.size(), word);
      break;
    case 4:
      bytes.resize(at + 1);
      break;
    case 5:
      bytes[below(8)] = static_cast<char>(random());
      break;
    default:
      bytes.insert(at, bytes.substr(below(bytes.size()), length));
      break;
  }
}

// Whatever bytes change, a file opens and can be read whole, or an Error says why not.
TEST(SafetensorsHeader, MutatedFilesOpenOrThrowAndNothingElse) {
  const std::string valid = read_text(reference_path);
  const ScratchFolder scratch;
  const std::string path = scratch / "mutated.safetensors";
  std::mt19937 random(7);
  int opened = 0, refused = 0;
  for (int round = 0; round < 6000; round++) {
    std::string bytes = valid;
    for (size_t changes = 1 + random() % 3; changes > 0 && bytes.size() > 8; changes--) change(bytes, random);
    std::filesystem::remove(path);  // some file systems flush a file that replaces its contents
    File::create(path).write(bytes.data(), static_cast<int64_t>(bytes.size()), 0);
    try {
      const SafetensorsFile file(path);
      for (const StoredTensor& tensor : file.tensors()) {
        ASSERT_LE(tensor.bytes, static_cast<int64_t>(bytes.size()));
        std::vector<float> values(static_cast<size_t>(tensor.rows() * tensor.columns()));
        if (tensor.is_floating()) file.read(tensor, whole(tensor), DType::f32, values.data());
      }
      opened++;
    } catch (const Error& error) {
      EXPECT_TRUE(holds(error.what(), "mutated.safetensors: "));
      refused++;
    }
  }
  EXPECT_GT(opened, 100);  // mutations of the data alone
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace llama_tp
