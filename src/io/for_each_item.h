// Reads that are divided over the threads.
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>
#include <memory>

namespace llama_tp {

// Below this, starting threads costs more than they save.
inline constexpr int64_t worth_threads_bytes = int64_t{1} << 20;

// Calls work(item, staging) for items [0, count), in parallel when `bytes`, of all together, are many; rethrows the
// first exception.
template <class Work>
void for_each_item(int64_t count, int64_t bytes, int64_t staging, const Work& work) {
  std::exception_ptr error;
#pragma omp parallel if (bytes > worth_threads_bytes)
  try {
    const auto buffer = std::make_unique_for_overwrite<char[]>(static_cast<size_t>(staging));
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    for (int64_t item = count * thread / threads; item < count * (thread + 1) / threads; item++)
      work(item, buffer.get());
  } catch (...) {
#pragma omp critical(for_each_item_error)
    error = std::current_exception();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace llama_tp
