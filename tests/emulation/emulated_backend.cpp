#include "emulation/emulated_backend.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/delivery.h"
#include "emulation/device_memory.h"
#include "support/backend_under_test.h"

namespace llama_tp {

namespace {
constexpr int64_t scratch_bytes = int64_t{64} << 20;

// What is there when it is asked for, as all is done by then.
class DeliveryAtOnce : public Delivery {
 public:
  DeliveryAtOnce(Backend& backend, int64_t bytes) : backend_(backend), copy_(static_cast<size_t>(bytes)) {}
  void ask(const Tensor& tensor) override { backend_.download(tensor, copy_.data()); }
  const void* wait() override { return copy_.data(); }

 private:
  Backend& backend_;
  std::vector<std::byte> copy_;
};
}  // namespace

std::unique_ptr<Backend> backend_under_test(int) { return std::make_unique<EmulatedBackend>(); }
std::vector<int> thread_counts_under_test() { return {1, 1}; }

EmulatedBackend::EmulatedBackend() : cpu_(make_cpu_backend({})) { scratch_.reserve(*cpu_, scratch_bytes); }

void* EmulatedBackend::reserve(int64_t bytes) { return emulation::reserve_device_memory(bytes); }
void EmulatedBackend::release(void* base, int64_t bytes) { emulation::release_device_memory(base, bytes); }
void EmulatedBackend::upload(const void* host, const Tensor& tensor) {
  const emulation::DeviceAccess access;
  cpu_->upload(host, tensor);
}
void EmulatedBackend::download(const Tensor& tensor, void* host) {
  const emulation::DeviceAccess access;
  cpu_->download(tensor, host);
}

std::unique_ptr<Delivery> EmulatedBackend::make_delivery(int64_t bytes) {
  return std::make_unique<DeliveryAtOnce>(*this, bytes);
}

// The CPU backend takes scratch memory from its own arena, when its operations are called from outside.
int64_t EmulatedBackend::linear_forward_workspace(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  return 0;
}
int64_t EmulatedBackend::linear_backward_input_workspace(const Tensor&, const Tensor&, const Tensor&) { return 0; }
int64_t EmulatedBackend::linear_backward_weight_workspace(const Tensor&, const Tensor&, const Tensor&) { return 0; }

void EmulatedBackend::multiply(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void*) {
  const emulation::DeviceAccess access;
  cpu_->linear_forward(x, w, bias, y);
}
void EmulatedBackend::run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void*) {
  const emulation::DeviceAccess access;
  cpu_->linear_backward_input(dy, w, dx);
}
void EmulatedBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void*) {
  const emulation::DeviceAccess access;
  cpu_->linear_backward_weight(dy, x, dw);
}

}  // namespace llama_tp
