#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cpu/bandwidth.h"
#include "backend/cpu/free_memory.h"
#include "backend/cpu/huge_pages.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"

namespace llama_tp {

CpuBackend::CpuBackend(int threads, bool bf16_products, std::string why, int sharers)
    : threads_(threads),
      bf16_products_(bf16_products),
      matrix_tiles_(OneDnn::bf16_instructions() == "AMX"),
      why_(std::move(why)),
      free_at_first_(free_host_memory() / sharers),
      taken_at_first_(taken_host_memory()),
      onednn_(std::make_unique<OneDnn>(threads)) {
  require(threads >= 1, "cpu: ", threads, " threads; a rank needs at least one");
}

CpuBackend::~CpuBackend() = default;

// Not what is free now, of which others that share it may have taken theirs already. What this process has taken since,
// as for data, is in no plan; memory that was reserved counts as far as it was touched.
int64_t CpuBackend::free_memory() const {
  const int64_t taken = std::max<int64_t>(0, taken_host_memory() - taken_at_first_);
  return std::max<int64_t>(0, free_at_first_ - taken);
}

void* CpuBackend::reserve(int64_t bytes) {
  void* const memory = take_pages(bytes);
  require(memory != nullptr, "cpu: the system gives no ", bytes,
          " bytes of memory; a smaller batch, a shorter context or ranks on more machines need less");
  return memory;
}

void CpuBackend::release(void* base, int64_t bytes) { give_pages_back(base, bytes); }

// Large tensors by several threads, in the parts in which matrix_vector.cpp reads them: on a machine with several
// memories a page belongs to the core that writes it first.
void CpuBackend::upload(const void* host, const Tensor& tensor) {
  if (tensor.bytes() == 0) return;
  const int64_t row = tensor.bytes() / tensor.shape[0];
  parallel_ranges(threads_for(tensor.elements(), threads_), tensor.shape[0], 1, [&](Range range, int) {
    std::memcpy(tensor.as<char>() + range.begin * row, static_cast<const char*>(host) + range.begin * row,
                static_cast<size_t>((range.end - range.begin) * row));
  });
}

void CpuBackend::download(const Tensor& tensor, void* host) {
  if (tensor.bytes() > 0) std::memcpy(host, tensor.data, static_cast<size_t>(tensor.bytes()));
}

std::string CpuBackend::description() const {
  const std::string products =
      bf16_products_ ? text("by ", OneDnn::bf16_instructions()) : "in f32, oneDNN has no instructions for them here";
  return text("cpu: ", threads_, threads_ == 1 ? " thread" : " threads", ", oneDNN ", OneDnn::version(),
              ", bf16 products: ", products, ", huge pages: ", huge_page_policy(), why_.empty() ? "" : "; ", why_);
}

// f32 logits pass from the product to their gradient while they lie in the caches; the two products of the gradient read
// and write the whole weight and its gradient for each chunk, so a chunk is many tokens.
LossTokens CpuBackend::loss_tokens(int64_t columns, DType gradients) const {
  constexpr int64_t piece_bytes = int64_t{32} << 20, chunk_bytes = int64_t{64} << 20;
  const auto tokens_in = [](int64_t bytes, int64_t row_bytes) {
    constexpr int64_t multiple = 64;  // for products of whole tiles
    return std::max(multiple, bytes / row_bytes / multiple * multiple);
  };
  return {tokens_in(piece_bytes, columns * size_of(DType::f32)), tokens_in(chunk_bytes, columns * size_of(gradients))};
}

double CpuBackend::read_bandwidth(double most_seconds) { return measure_read_bandwidth(threads_, most_seconds); }

std::unique_ptr<Backend> make_cpu_backend(const DevicePlace& place, const std::string& why) {
  return std::make_unique<CpuBackend>(place.threads, !OneDnn::bf16_instructions().empty(), why, place.local_size);
}

}  // namespace llama_tp
