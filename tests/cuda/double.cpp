#include "cuda/double.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>

#include "emulation/device_memory.h"
#include "emulation/machine.h"

namespace llama_tp {

CudaDouble& cuda_double() {
  static CudaDouble one;
  return one;
}

namespace {

// Page-locked memory of the host.
std::map<const char*, size_t>& locked() {
  static std::map<const char*, size_t> sizes;
  return sizes;
}

bool is_locked(const void* memory, size_t bytes) {
  const char* const at = static_cast<const char*>(memory);
  auto behind = locked().upper_bound(at);
  if (behind == locked().begin()) return false;
  const auto& [begin, size] = *std::prev(behind);
  return at + bytes <= begin + size;
}

std::map<void*, size_t>& taken() {
  static std::map<void*, size_t> sizes;
  return sizes;
}

int& device() {
  static thread_local int chosen = 0;
  return chosen;
}

// A moment of a stream.
struct Event {
  double time = 0;  // of the device's clock
  bool timed = false;
  int64_t number = 0;  // among those recorded; 0: it was not
  const void* stream = nullptr;
  bool captured = false;  // into a graph
};
Event* of(cudaEvent_t event) { return reinterpret_cast<Event*>(event); }

// Events that were recorded, and those of them that the host knows of to be behind the device.
int64_t recorded = 0, reached = 0;

cudaError_t state_of_streams() {
  if (cuda_double().breaks) return cudaErrorIllegalAddress;
  if (!cuda_double().runs_kernels) return cudaErrorNoKernelImageForDevice;
  return cuda_double().never_ends ? cudaErrorNotReady : cudaSuccess;
}

}  // namespace

}  // namespace llama_tp

// ---- the runtime

using llama_tp::cuda_double;
namespace emulation = llama_tp::emulation;

extern "C" {

const char* cudaGetErrorString(cudaError_t) { return "what CUDA says"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = cuda_double().driver;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = cuda_double().devices;
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device >= cuda_double().devices) return cudaErrorInvalidDevice;
  llama_tp::device() = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = llama_tp::device();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {};
  std::strcpy(properties->name, "Double");
  properties->totalGlobalMem = (size_t{79} << 30) + (size_t{102} << 20);
  const std::vector<int>& majors = cuda_double().majors;
  properties->major = majors[std::min(static_cast<size_t>(device), majors.size() - 1)];
  properties->minor = 5;
  properties->uuid.bytes[0] = static_cast<char>('a' + cuda_double().hidden + device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
// A stream is an address of its own.
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = reinterpret_cast<cudaStream_t>(new char);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<char*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  cuda_double().waits++;
  const cudaError_t state = llama_tp::state_of_streams();
  if (state == cudaSuccess) llama_tp::reached = llama_tp::recorded;
  return state;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return cudaStreamQuery(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  cuda_double().stream_calls.push_back({llama_tp::StreamCall::What::wait, event, stream});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = reinterpret_cast<cudaEvent_t>(new llama_tp::Event{.timed = (flags & cudaEventDisableTiming) == 0});
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete llama_tp::of(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  cuda_double().stream_calls.push_back({llama_tp::StreamCall::What::record, event, stream});
  llama_tp::of(event)->time = cuda_double().clock;
  llama_tp::of(event)->number = ++llama_tp::recorded;
  llama_tp::of(event)->stream = stream;
  llama_tp::of(event)->captured = emulation::recording() != nullptr;
  return cudaSuccess;
}
// The host waits where it does not know yet.
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (emulation::recording() != nullptr) return cudaErrorStreamCaptureUnsupported;
  if (llama_tp::of(event)->captured) return cudaErrorCapturedEvent;
  const int64_t number = llama_tp::of(event)->number;
  if (number <= llama_tp::reached) return cuda_double().breaks ? cudaErrorIllegalAddress : cudaSuccess;
  cuda_double().waits++;
  const cudaError_t state = llama_tp::state_of_streams();
  if (state == cudaErrorNotReady && llama_tp::of(event)->stream == cuda_double().comes_to_its_end) return cudaSuccess;
  if (state == cudaSuccess) llama_tp::reached = number;
  return state;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const llama_tp::Event &from = *llama_tp::of(begin), &to = *llama_tp::of(end);
  if (!from.timed || !to.timed) return cudaErrorInvalidResourceHandle;
  *milliseconds = static_cast<float>(1e3 * (to.time - from.time));
  return cudaSuccess;
}

// A graph is the list of what was launched while it was recorded.
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  emulation::recording() = new emulation::Recording;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = emulation::recording() != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(std::exchange(emulation::recording(), nullptr));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* started, cudaGraph_t graph, unsigned long long) {
  *started =
      reinterpret_cast<cudaGraphExec_t>(new emulation::Recording(*reinterpret_cast<emulation::Recording*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (const auto& grid : *reinterpret_cast<emulation::Recording*>(graph)) grid();
  cuda_double().graphs_started++;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<emulation::Recording*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<emulation::Recording*>(graph);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* all) {
  *free = *all = cuda_double().free_bytes;
  *all += cuda_double().context_bytes;
  for (const auto& [memory, bytes] : llama_tp::taken()) *all += bytes;
  return cudaSuccess;
}
// Not zeros: 0xff in every byte.
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  cuda_double().reservations++;
  if (bytes > cuda_double().free_bytes) return cudaErrorMemoryAllocation;
  *memory = emulation::reserve_device_memory(static_cast<int64_t>(bytes));
  llama_tp::taken()[*memory] = bytes;
  const emulation::DeviceAccess access;
  std::memset(*memory, 0xff, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  emulation::release_device_memory(memory, static_cast<int64_t>(llama_tp::taken().at(memory)));
  llama_tp::taken().erase(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::malloc(bytes);
  llama_tp::locked()[static_cast<char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  llama_tp::locked().erase(static_cast<char*>(memory));
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  const emulation::DeviceAccess access;
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  if (emulation::recording() != nullptr) return cudaErrorStreamCaptureUnsupported;
  // CUDA takes pageable memory, too, and may wait, or read it later.
  if (kind == cudaMemcpyHostToDevice && !llama_tp::is_locked(from, bytes)) return cudaErrorInvalidValue;
  if (kind == cudaMemcpyDeviceToDevice) cuda_double().clock += 1e-3;
  const emulation::DeviceAccess access;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

}  // extern "C"
