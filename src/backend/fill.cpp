#include "backend/fill.h"

#include <algorithm>
#include <vector>

#include "base/random.h"

namespace llama_tp {

void fill(Backend& backend, const Tensor& tensor) {
  if (tensor.data == nullptr) return;
  constexpr int64_t piece = int64_t{1} << 20;  // repeated
  const int64_t elements = tensor.elements();
  const auto width = static_cast<size_t>(size_of(tensor.dtype));
  std::vector<char> host(static_cast<size_t>(std::min(piece, elements)) * width);
  const Tensor values{host.data(), tensor.dtype, {std::min(piece, elements)}};
  for (int64_t i = 0; i < values.elements(); i++) {
    const float value = random_uniform(1, 0, static_cast<uint64_t>(i)) - 0.5f;
    if (tensor.dtype == DType::bf16)
      values.as<bf16>()[i] = to_bf16(value);
    else
      values.as<float>()[i] = value;
  }
  const Tensor flat = tensor.reshaped({elements});
  for (int64_t begin = 0; begin < elements; begin += piece)
    backend.upload(host.data(), flat.rows(begin, std::min(piece, elements - begin)));
}

}  // namespace llama_tp
