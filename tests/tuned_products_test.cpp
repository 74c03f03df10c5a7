// The file of tuned products: what is written is read again, and what is none is refused in one line with the mend.
#include "backend/cuda/tuned_products.h"

#include <gtest/gtest.h>

#include "backend/device.h"
#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

const TuningPlace h200{"NVIDIA H200", "9.0", "13.1.2"};

TunedProducts two_products() {
  TunedProducts tuned{"tuned.json", h200, {}};
  TunedProduct forward{{}, {31, 1.25e-3, 1.125e-3}}, gradient{{}, {1, 0.1, 0.1}};
  for (size_t i = 0; i < forward.algorithm.size(); i++)
    forward.algorithm[i] = static_cast<unsigned char>(37 * i + 200), gradient.algorithm[i] = 255;
  tuned.products[{DType::bf16, DType::bf16, true, false, 6144, 16384, 4096, false, true}] = forward;
  tuned.products[{DType::bf16, DType::f32, false, true, 4096, 6144, 16384, true, false}] = gradient;
  return tuned;
}

TEST(TunedProducts, WhatIsWrittenIsReadAgain) {
  const TunedProducts written = two_products();
  const TunedProducts read = parse_tuned_products({"tuned.json", text_of(written)});
  EXPECT_EQ(read.place, written.place);
  ASSERT_EQ(read.products.size(), written.products.size());
  for (const auto& [product, tuned] : written.products) {
    const TunedProduct& again = read.products.at(product);
    EXPECT_EQ(again.algorithm, tuned.algorithm);
    EXPECT_EQ(again.times.algorithms, tuned.times.algorithms);
    EXPECT_EQ(again.times.first_seconds, tuned.times.first_seconds);
    EXPECT_EQ(again.times.chosen_seconds, tuned.times.chosen_seconds);
  }
}

TEST(TunedProducts, WithoutAFileThereAreNone) { EXPECT_TRUE(parse_tuned_products({}).products.empty()); }

// The file with the first `was` changed.
std::string changed(const std::string& was, const std::string& is) {
  std::string file = text_of(two_products());
  const size_t at = file.find(was);
  EXPECT_NE(at, std::string::npos) << was;
  return file.replace(at, was.size(), is);
}

TEST(TunedProducts, WhatIsNoSuchFileIsRefusedWithTheMend) {
  struct Case {
    std::string text;
    const char* words;
  };
  const std::string digits(128, 'f');
  for (const auto& [file, words] :
       {Case{"", "tuned.json: is not JSON"}, Case{"{\"device\": ", "tuned.json: is not JSON"},
        Case{"[]", "tuned.json: holds JSON of type array; it must be an object"},
        Case{"{}", "tuned.json: \"device\" is missing"},
        Case{changed("cublas_lt", "cublas"), "tuned.json: has no use for \"cublas\""},
        Case{changed("\"NVIDIA H200\"", "7"), "tuned.json: device: is 7; it must be a string"},
        Case{changed("\"9.0\",", "\"9.0\", \"comment\": \"mine\","), "tuned.json: has no use for \"comment\""},
        Case{changed("\"bias\"", "\"biased\""), "tuned.json: products[0]: has no use for \"biased\""},
        Case{changed("\"bias\":false,", ""), "products[0]: \"bias\" is missing"},
        Case{changed("\"m\":4096", "\"m\":0"), "products[0].m: is 0; it must be an integer from 1 to 1099511627776"},
        Case{changed("\"m\":4096", "\"m\":4096.5"), "products[0].m: is 4096.5; it must be an integer"},
        Case{changed("bfloat16", "float16"), "products[0]: in is neither float32 nor bfloat16"},
        Case{changed(digits, digits + "f"), "products[0]: algorithm is not 64 bytes in hexadecimal digits"},
        Case{changed("ff\"", "fg\""), "products[0]: algorithm is not 64 bytes in hexadecimal digits"},
        Case{changed("0.1,", "-0.1,"), "products[0].first_seconds: is -0.1; it must be a positive number below 1e18"},
        Case{changed("\"m\":6144,\"n\":16384,\"k\":4096,\"accumulate\":false,\"bias\":true",
                     "\"m\":6144,\"n\":16384,\"k\":4096,\"accumulate\":false,\"bias\":1"),
             "products[1].bias: is 1; it must be true or false"}}) {
    const std::string said = error_of([&, &shown = file] { parse_tuned_products({"tuned.json", shown}); });
    EXPECT_TRUE(holds(said, words, "make a new one with bench --tune-products, or leave --products out")) << file;
  }
}

TEST(TunedProducts, AProductThatIsThereTwiceIsRefused) {
  std::string file = text_of(two_products());
  const size_t begin = file.find("    {"), end = file.find('\n', begin);
  file.insert(begin, file.substr(begin, end - begin) + "\n");
  EXPECT_TRUE(holds(error_of([&] {
                      parse_tuned_products({"tuned.json", file});
                    }),
                    "tuned.json: products[1]: is there a second time"));
}

TEST(TunedProducts, OtherDevicesAndVersionsAreRefusedWithTheMend) {
  const TunedProducts tuned = two_products();
  EXPECT_NO_THROW(check_place(tuned, h200));
  for (const TuningPlace& here :
       {TuningPlace{"NVIDIA H100 80GB HBM3", "9.0", "13.1.2"}, TuningPlace{"NVIDIA H200", "9.0", "13.1.3"},
        TuningPlace{"NVIDIA H200", "8.0", "13.1.2"}})
    EXPECT_TRUE(holds(error_of([&] { check_place(tuned, here); }),
                      "tuned.json: its products were tuned on NVIDIA H200 (9.0) with cuBLASLt 13.1.2, but here is ",
                      here.device, here.compute_capability, here.cublas_lt,
                      "tune them here into another file with bench --tune-products, or leave --products out"));
}

TEST(TunedProducts, TheCpuBackendHasNoneToChooseFor) {
  EXPECT_EQ(error_of([] {
              make_backend("cpu", {.products = {"tuned.json", text_of(two_products())}});
            }),
            "--products tuned.json: the CPU backend has no products to choose for; leave it out, or take --backend "
            "cuda");
}

// A file that is replaced is never half of either.
TEST(TunedProducts, AFileIsReplacedWholeOrNotAtAll) {
  const ScratchFolder folder;
  const std::string path = folder / "tuned.json";
  replace_text(path, "one");
  replace_text(path, "another");
  EXPECT_EQ(read_text(path), "another");
  std::filesystem::create_directory(folder / "tuned.json.partial");
  EXPECT_TRUE(holds(error_of([&] { replace_text(path, "a third"); }), "tuned.json.partial"));
  EXPECT_EQ(read_text(path), "another");
}

}  // namespace
}  // namespace llama_tp
