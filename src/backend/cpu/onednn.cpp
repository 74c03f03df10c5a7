#include "backend/cpu/onednn.h"

#include <algorithm>
#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "backend/cpu/parallel.h"
#include "base/error.h"

namespace llama_tp {

namespace {

using Memory = dnnl::memory;

Memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
}

// rows x columns as the product sees them, whichever way they are stored.
Memory::desc matrix(int64_t rows, int64_t columns, DType dtype, bool transposed) {
  return {{rows, columns}, type_of(dtype), transposed ? Memory::dims{1, rows} : Memory::dims{columns, 1}};
}

using Tag = Memory::format_tag;

Memory::desc operand_b(const OneDnnProduct& product) {
  if (!product.b_packed) return matrix(product.k, product.n, product.input, product.b_transposed);
  return {
      {product.k, product.n}, type_of(product.input), product.input == DType::bf16 ? Tag::BA16a64b2a : Tag::BA16a64b};
}

// What is done with a sum before it is stored.
dnnl::post_ops behind_sums(const OneDnnProduct& product) {
  dnnl::post_ops after;
  if (product.accumulate) after.append_sum(1.0f);
#if DNNL_VERSION_MAJOR < 3
  // A factor of 1: version 2 stores f32 from matrix tiles straight to memory where nothing is left to do, which takes a
  // third longer than through its buffer.
  if (!product.accumulate && product.input == DType::bf16 && product.output == DType::f32)
    after.append_eltwise(1.0f, dnnl::algorithm::eltwise_linear, 1.0f, 0.0f);
#endif
  return after;
}

dnnl::matmul::primitive_desc describe(const OneDnnProduct& product, const Memory::desc& b, const dnnl::engine& engine) {
  const auto a = matrix(product.m, product.k, product.input, product.a_transposed);
  const auto c = matrix(product.m, product.n, product.output, false);
  const auto bias = product.bias ? matrix(1, product.n, product.input, false) : Memory::desc();
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attributes.set_post_ops(behind_sums(product));
#if DNNL_VERSION_MAJOR >= 3
  return {engine, a, b, bias, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, bias, c), attributes, engine};
#endif
}

// oneDNN reports a failure by an exception of its own.
[[noreturn]] void refuse(const OneDnnProduct& p, const dnnl::error& error) {
  fail("oneDNN ", OneDnn::version(), ": no product [", p.m, ", ", p.k, "] x [", p.k, ", ", p.n, "] in ",
       name_of(p.input), " (", error.what(), "); another --dtype or another version of oneDNN may help");
}

// Whether this CPU has these instructions and oneDNN may use them: each set holds the bits of lesser ones.
bool uses([[maybe_unused]] dnnl::cpu_isa wanted) {
#if defined(__x86_64__)
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
#else
  return false;
#endif
}

// oneDNN divides the work among so many threads, when it makes a primitive and when it runs one. Other parallel regions
// get the backend's own number back.
class Threads {
 public:
  Threads(int of_product, int all) : all_(all) { omp_set_num_threads(of_product); }
  ~Threads() { omp_set_num_threads(all_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  const int all_;
};

}  // namespace

// A primitive with memory objects that only get new pointers, so that running it makes none.
struct OneDnn::Cache {
  struct Entry {
    Entry(const OneDnnProduct& product, const dnnl::engine& engine)
        : description(describe(product, operand_b(product), engine)),
          primitive(description),
          a(description.src_desc(), engine, nullptr),
          b(description.weights_desc(), engine, nullptr),
          c(description.dst_desc(), engine, nullptr),
          scratch(description.scratchpad_desc(), engine, nullptr),
          scratch_bytes(static_cast<int64_t>(description.scratchpad_desc().get_size())) {
      if (product.bias) bias = Memory(description.bias_desc(), engine, nullptr);
      arguments = {{{DNNL_ARG_SRC, a.get()},
                    {DNNL_ARG_WEIGHTS, b.get()},
                    {DNNL_ARG_DST, c.get()},
                    {DNNL_ARG_SCRATCHPAD, scratch.get()},
                    {DNNL_ARG_BIAS, product.bias ? bias.get() : nullptr}}};
    }
    dnnl::matmul::primitive_desc description;
    dnnl::matmul primitive;
    Memory a, b, c, scratch, bias;
    int64_t scratch_bytes;                     // kept: asking the description allocates
    int64_t last_use = 0;                      // counted in looks
    std::array<dnnl_exec_arg_t, 5> arguments;  // the bias last: it may be left out
  };

  Entry& find(const OneDnnProduct& product) {
    auto known = entries.find(product);
    if (known == entries.end()) {
      if (entries.size() >= most_entries) forget_oldest();
      try {
        known = entries.try_emplace(product, product, engine).first;
      } catch (const dnnl::error& error) {
        refuse(product, error);
      }
    }
    known->second.last_use = ++looks;
    return known->second;
  }

  void forget_oldest() {
    entries.erase(std::min_element(entries.begin(), entries.end(), [](const auto& one, const auto& other) {
      return one.second.last_use < other.second.last_use;
    }));
  }

  // More than a step has. Prompts come in as many sizes as lengths, whose products take 0.3 MB each; to make one anew takes
  // about a millisecond.
  static constexpr size_t most_entries = 256;

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<OneDnnProduct, Entry> entries;
  int64_t looks = 0;
  std::map<OneDnnProduct, bool> prefers_packed;  // of those with b packed that were asked for
};

// oneDNN makes what configures matrix tiles when it first runs a product, which would be inside a step: run one.
OneDnn::OneDnn(int threads) : threads_(threads), cache_(std::make_unique<Cache>()) {
  dnnl::set_primitive_cache_capacity(0);  // it would hold on to what the Cache forgets
  if (bf16_instructions() != "AMX") return;
  constexpr int64_t size = 64;
  const OneDnnProduct product{size, size, size, DType::bf16, DType::bf16};
  std::vector<bf16> a(size * size), b(size * size), c(size * size);
  std::vector<char> scratch(static_cast<size_t>(workspace(product)));
  run(product, a.data(), b.data(), nullptr, c.data(), scratch.data());
}
OneDnn::~OneDnn() = default;

// A product's operands are read like those of a copy, and matrix units do some sixteen of its sums in an element's time.
int OneDnn::threads_of(const OneDnnProduct& product) const {
  const auto [m, n, k] = std::array{product.m, product.n, product.k};
  return threads_for(m * k + k * n + m * n + m * n * k / 16, threads_);
}

bool OneDnn::prefers_packed(const OneDnnProduct& product) {
  OneDnnProduct packed = product;
  packed.b_packed = true;
  const auto known = cache_->prefers_packed.find(packed);
  if (known != cache_->prefers_packed.end()) return known->second;
  const Threads threads(threads_of(packed), threads_);
  try {
    const Memory::desc any({product.k, product.n}, type_of(product.input), Tag::any);
    const auto chosen = describe(product, any, cache_->engine).weights_desc();
    return cache_->prefers_packed[packed] = chosen == operand_b(packed);
  } catch (const dnnl::error& error) {
    refuse(product, error);
  }
}

int64_t OneDnn::workspace(const OneDnnProduct& product) {
  const Threads threads(threads_of(product), threads_);
  return cache_->find(product).scratch_bytes;
}

void OneDnn::run(const OneDnnProduct& product, const void* a, const void* b, const void* bias, void* c,
                 void* workspace) {
  const Threads threads(threads_of(product), threads_);
  Cache::Entry& entry = cache_->find(product);
  entry.a.set_data_handle(const_cast<void*>(a));
  entry.b.set_data_handle(const_cast<void*>(b));
  entry.c.set_data_handle(c);
  entry.scratch.set_data_handle(workspace);
  if (product.bias) entry.bias.set_data_handle(const_cast<void*>(bias));
  // The C function: its C++ wrapper copies the arguments twice more.
  const dnnl_status_t status =
      dnnl_primitive_execute(entry.primitive.get(), cache_->stream.get(), product.bias ? 5 : 4, entry.arguments.data());
  if (status != dnnl_success) refuse(product, dnnl::error(status, "it could not be run"));
}

bool OneDnn::keeps_to_workspace() { return uses(dnnl::cpu_isa::avx512_core); }

std::string_view OneDnn::bf16_instructions() {
  if (uses(dnnl::cpu_isa::avx512_core_amx)) return "AMX";
  if (uses(dnnl::cpu_isa::avx512_core_bf16)) return "AVX512-BF16";
  return "";
}

std::string OneDnn::version() {
  const dnnl_version_t* version = dnnl_version();
  return text(version->major, ".", version->minor, ".", version->patch);
}

}  // namespace llama_tp
