#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "backend/cuda/calls.h"
#include "backend/cuda/cuda_delivery.h"
#include "backend/cuda/tune_product.h"
#include "backend/cuda/watched_wait.h"
#include "base/environment.h"
#include "base/fingerprint.h"
#include "kernels/kernels.h"

namespace llama_tp {

namespace {

std::string gibibytes(size_t bytes) {
  const size_t tenths = ((bytes >> 20) * 10 + 512) / 1024;
  return text(tenths / 10, ".", tenths % 10, " GiB");
}

std::string version_text(int version) { return text(version / 1000, ".", version % 1000 / 10); }  // 13000: 13.0

// 0 where there is no driver.
int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

// The kernels copy to shared memory and reduce a warp by instructions of Ampere.
constexpr int oldest_major = 8;

bool can_run_the_kernels(const cudaDeviceProp& properties) { return properties.major >= oldest_major; }

std::string why_it_cannot(const cudaDeviceProp& properties) {
  return text(properties.name, " is an sm_", properties.major, properties.minor, "; the kernels need sm_", oldest_major,
              "0 (Ampere) or later");
}

// Why none of these devices can run the kernels; "" where one may, be it that it does not say what it is.
std::string why_all_are_too_old(int devices) {
  std::string why_first;
  for (int device = 0; device < devices; device++) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess || can_run_the_kernels(properties)) return "";
    if (device == 0) why_first = why_it_cannot(properties);
  }
  return why_first;
}

// Frees what is only needed inside a function.
struct Temporary {
  explicit Temporary(size_t bytes) : status(cudaMalloc(&memory, bytes)) {}
  ~Temporary() { cudaFree(memory); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  void* memory = nullptr;
  cudaError_t status;
};

}  // namespace

std::string why_no_cuda_device() {
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (driver_version() == 0) return "no NVIDIA driver is loaded";
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return text("the NVIDIA driver shows no device (",
                visible != nullptr ? text("CUDA_VISIBLE_DEVICES is '", visible, "'") : "nvidia-smi tells why", ")");
  return status == cudaSuccess ? why_all_are_too_old(count) : "";
}

CudaBackend::CudaBackend(const DevicePlace& place) {
  choose_device(place);
  compute_.emplace(CudaStream::Priority::usual);
  stream_ = handle_.compute = *compute_;
  handle_.tokens_ahead = environment_switch("LLAMA_TP_TOKENS_AHEAD", true);
  handle_.graphs = environment_switch("LLAMA_TP_CUDA_GRAPH", true);
  try_a_kernel();
  uploads_.emplace(handle_);
  products_ = std::make_unique<CublasLt>();
  description_ += text(", driver ", version_text(driver_version()), ", cuBLASLt ", products_->version());
  tuning_place_.cublas_lt = products_->version();
  take_products(place.products);
}

void CudaBackend::take_products(const ProductFile& file) {
  if (!file.given()) return;
  check(file);
  tuned_file_ = file.path;
  handle_.products = text(fingerprint(file.text));
  products_->use(parse_tuned_products(file));
}

// A driver runs programs of its own major version of CUDA and of older ones.
void CudaBackend::choose_device(const DevicePlace& place) {
  const std::string why_none = why_no_cuda_device();
  require(why_none.empty(), "--backend cuda: ", why_none, "; --backend cpu needs no GPU");
  const int driver = driver_version();
  require(driver / 1000 >= CUDART_VERSION / 1000, "--backend cuda: the NVIDIA driver of ", place.host, " knows CUDA ",
          version_text(driver), ", but this program is made with ", version_text(CUDART_VERSION),
          "; update the driver, build with an older toolkit, or take --backend cpu");
  check_cuda(cudaGetDeviceCount(&handle_.devices), "cudaGetDeviceCount");
  device_ = place.local_rank % handle_.devices;
  check_cuda(cudaSetDevice(device_), text("cudaSetDevice(", device_, ")"));
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
  require(can_run_the_kernels(properties), "--backend cuda: device ", device_, " of ", place.host, ", ",
          why_it_cannot(properties), "; hide it with CUDA_VISIBLE_DEVICES, or take --backend cpu");
  handle_.name = text("cuda device ", device_, " (", properties.name, ")");
  handle_.identity = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes);
  architecture_ = text(properties.major, properties.minor);
  tuning_place_ = {properties.name, text(properties.major, ".", properties.minor), ""};
  description_ = text("cuda: ", properties.name, ", ", gibibytes(properties.totalGlobalMem), ", sm_", architecture_,
                      ", device ", device_, " of ", handle_.devices);
}

void CudaBackend::try_a_kernel() const {
  constexpr size_t bytes = 256;
  const Temporary place(bytes);
  check_cuda(place.status, text("the first ", bytes, " bytes of ", handle_.name));
  try {
    kernels::zero(stream_, place.memory, bytes);
    check_cuda(cudaStreamSynchronize(stream_), "zero");
  } catch (const Error& error) {
    fail("--backend cuda: ", handle_.name, ", an sm_", architecture_,
         ", does not run this program's kernels, which are made for ", LLAMA_TP_CUDA_ARCH, " (", error.what(),
         "); build with make CUDA_ARCH=", architecture_ == "90" ? "90a" : architecture_);
  }
}

void CudaBackend::repeat(const std::vector<int64_t>& key, const std::function<void()>& work) {
  if (!handle_.graphs) return work();
  graph_.repeat(stream_, key, work);
}

// ---- memory and the host

void* CudaBackend::reserve(int64_t bytes) {
  void* memory = nullptr;
  check_cuda(
      cudaMalloc(&memory, static_cast<size_t>(bytes)),
      text(bytes, " bytes of ", handle_.name, " (a smaller batch, --gradient-checkpointing or more ranks need less)"));
  check_cuda(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream_), "cudaMemset");
  return memory;
}

// While an error unwinds, the device may wait for ever in a collective that another rank never joins, and cudaFree
// would wait with it: the memory is left to the end of the process.
void CudaBackend::release(void* base, int64_t) {
  if (std::uncaught_exceptions() == 0) cudaFree(base);
}

void CudaBackend::upload(const void* host, const Tensor& tensor) { uploads_->copy(host, tensor); }

void CudaBackend::download(const Tensor& tensor, void* host) {
  synchronize();  // the copy itself would wait without looking
  if (tensor.bytes() == 0) return;
  check_cuda(cudaMemcpyAsync(host, tensor.data, static_cast<size_t>(tensor.bytes()), cudaMemcpyDeviceToHost, stream_),
             "download");
  check_cuda(cudaStreamSynchronize(stream_), "download");
}

std::unique_ptr<Delivery> CudaBackend::make_delivery(int64_t bytes) {
  return std::make_unique<CudaDelivery>(handle_, bytes);
}

void CudaBackend::synchronize() {
  wait_until(handle_.watchers, "what was asked of it", [&] { return cudaStreamQuery(stream_); });
}

int64_t CudaBackend::free_memory() const {
  size_t free = 0, all = 0;
  check_cuda(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

int64_t CudaBackend::memory_in_use() const {
  size_t free = 0, all = 0;
  check_cuda(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return static_cast<int64_t>(all - free);
}

// By copies, which read as much as they write. The best of a few passes, which take some milliseconds together.
double CudaBackend::read_bandwidth(double) {
  constexpr size_t bytes = size_t{256} << 20;
  constexpr int passes = 5;
  const Temporary from(bytes), to(bytes);
  if (from.status != cudaSuccess || to.status != cudaSuccess) {
    cudaGetLastError();  // it would be seen again at the next call
    return 0;
  }
  CudaStopwatch watch(stream_);
  double best = 0;
  for (int pass = 0; pass < passes; pass++) {
    watch.start();
    check_cuda(cudaMemcpyAsync(to.memory, from.memory, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
    best = std::max(best, 2.0 * static_cast<double>(bytes) / watch.seconds());
  }
  return best;
}

// ---- matrix products

int64_t CudaBackend::linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  if (y.elements() == 0 || x.shape[0] <= kernels::few_tokens) return 0;
  return products_->workspace(forward_product(x, w, bias, y));
}

int64_t CudaBackend::linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  return dx.elements() == 0 || dy.elements() == 0 ? 0 : products_->workspace(backward_input_product(dy, w));
}

int64_t CudaBackend::linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  return dw.elements() == 0 || dy.elements() == 0 ? 0 : products_->workspace(backward_weight_product(dy, x));
}

void CudaBackend::multiply(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace) {
  products_->multiply(stream_, forward_product(x, w, bias, y), {w.data, x.data, bias.data, y.data, workspace});
}

void CudaBackend::run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) {
  if (dx.elements() == 0) return;
  if (dy.elements() == 0) return run_zero(dx);
  products_->multiply(stream_, backward_input_product(dy, w), {w.data, dy.data, nullptr, dx.data, workspace});
}

void CudaBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) {
  if (dw.elements() == 0 || dy.elements() == 0) return;
  products_->multiply(stream_, backward_weight_product(dy, x), {x.data, dy.data, nullptr, dw.data, workspace});
}

// ---- tuned products

void CudaBackend::check(const ProductFile& before) const {
  if (before.given()) check_place(parse_tuned_products(before), tuning_place_);
}

std::string CudaBackend::tune(const ProductFile& before, const std::function<void(const TimedProduct&)>& found) {
  check(before);
  TunedProducts all = parse_tuned_products(before);
  all.place = tuning_place_;
  for (const Product& product : products_->products()) {
    const TunedProduct tuned = tune_product(*this, *products_, stream_, product);
    // The first is what runs without a file take, whether or not the check of a file's would let it pass.
    all.products.erase(product);
    if (products_->takes(product, tuned.algorithm)) all.products[product] = tuned;
    found({kind_of(product), product.m, product.n, product.k, tuned.times});
  }
  return text_of(all);
}

std::string CudaBackend::description() const {
  return description_ + (tuned_file_.empty() ? "" : ", products: " + usage());
}

std::string CudaBackend::usage() const {
  if (tuned_file_.empty()) return "";
  const auto all = static_cast<int64_t>(products_->products().size()), of_file = products_->count_of_file();
  if (all == 0) return "by " + tuned_file_;
  return text(of_file, " of ", all, " by ", tuned_file_,
              of_file < all ? text(", ", all - of_file, " by cuBLASLt's first heuristic") : "");
}

}  // namespace llama_tp
