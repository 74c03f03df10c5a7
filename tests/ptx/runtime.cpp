// CUDA's runtime in its own place: the program registers its kernels as with a GPU, and launches interpret their PTX.
// All is done when a call returns.
#include "ptx/runtime.h"

#include <cuda.h>
#include <cuda_runtime.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "backend/cuda/cublas_lt_library.h"
#include "base/error.h"
#include "ptx/global_memory.h"
#include "ptx/machine.h"
#include "ptx/tensor_map.h"

namespace llama_tp {

// Products of cuBLASLt are no PTX of ours: none is asked for.
CublasLtLibrary open_cublas_lt() {
  CublasLtLibrary none{};
  none.create = [](cublasLtHandle_t*) { return CUBLAS_STATUS_SUCCESS; };
  none.destroy = [](cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; };
  none.version = [] { return size_t{0}; };
  return none;
}

namespace ptx {

namespace {

struct Registered {
  Kernel kernel;
  int most_shared = 48 << 10;  // that a launch may ask for
  bool started = false;
};

std::map<const void*, Registered>& registered() {
  static std::map<const void*, Registered> kernels;
  return kernels;
}

// What nvcc hands over as a program begins (fatbinary_section.h): a header of 16 bytes, whose last eight are the size of
// what follows. The text of PTX, not compressed, is in it as it is.
struct FatBinary {
  int magic, version;
  const char* data;
  void* rest;
};

std::string text_of(const FatBinary& binary) {
  uint64_t size = 0;
  std::memcpy(&size, binary.data + 8, sizeof size);
  const std::string_view all(binary.data + 16, size);
  const size_t begin = all.find(".version");
  require(begin != std::string_view::npos, "ptx: a module without its text; it is built with nvcc --no-compress");
  return std::string(all.substr(begin, all.find('\0', begin) - begin));
}

std::map<std::string, Kernel>& module_of(void** handle) {
  return *reinterpret_cast<std::map<std::string, Kernel>*>(handle);
}

// The arguments as the kernel has laid them out.
std::vector<char> laid_out(const Kernel& kernel, void** arguments) {
  std::vector<char> parameters;
  for (size_t n = 0; n < kernel.parameters.size(); n++) {
    const auto [at, bytes] = kernel.parameters[n];
    parameters.resize(at + bytes);
    std::memcpy(parameters.data() + at, arguments[n], bytes);
  }
  return parameters;
}

// Errors: what CUDA refuses of a launch.
void launch(const cudaLaunchConfig_t& config, Registered& of, void** arguments) {
  const auto threads = config.blockDim.x, most_threads = 1024u;
  require(threads > 0 && threads <= most_threads && config.blockDim.y == 1 && config.blockDim.z == 1,
          "ptx: blocks of threads that no kernel has");
  require(config.gridDim.y <= 65535 && config.gridDim.z <= 65535, "ptx: a grid of too many blocks");
  require(static_cast<int>(config.dynamicSmemBytes) <= of.most_shared, "ptx: ", of.kernel.name, " has ",
          config.dynamicSmemBytes, " bytes of shared memory without having asked for more than ", of.most_shared);
  of.started = true;
  // As on a device, parameters begin on as many bytes as a CUtensorMap wants.
  const std::vector<char> parameters = laid_out(of.kernel, arguments);
  std::unique_ptr<char[], void (*)(void*)> aligned(
      static_cast<char*>(std::aligned_alloc(128, (parameters.size() + 128) / 128 * 128)), std::free);
  std::memcpy(aligned.get(), parameters.data(), parameters.size());
  run({.kernel = &of.kernel,
       .blocks = {config.gridDim.x, config.gridDim.y, config.gridDim.z},
       .threads = threads,
       .shared_bytes = static_cast<uint32_t>(config.dynamicSmemBytes),
       .early = config.numAttrs > 0,  // no other attribute is used
       .parameters = {aligned.get(), parameters.size()}});
}

cudaError_t reserve(void** memory, size_t bytes) {
  constexpr size_t alignment = 256;
  *memory = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  add_memory(*memory, bytes);
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  remove_memory(memory);
  std::free(memory);
  return cudaSuccess;
}

// cuTensorMapEncodeTiled, of the one kind that the kernels use. Refuses what the driver does.
CUresult encode(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* from, const cuuint64_t* sizes,
                const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* every,
                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                CUtensorMapFloatOOBfill outside) {
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || rank != 3 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      swizzle != CU_TENSOR_MAP_SWIZZLE_128B || outside != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
    return CUDA_ERROR_NOT_SUPPORTED;
  TensorMap told{};
  told.from = reinterpret_cast<uint64_t>(from);
  if (told.from % 16 != 0 || reinterpret_cast<uint64_t>(map) % 64 != 0) return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; i++) {
    constexpr uint64_t most_elements = uint64_t{1} << 32;
    if (every[i] != 1 || box[i] == 0 || box[i] > 256 || sizes[i] == 0 || sizes[i] > most_elements)
      return CUDA_ERROR_INVALID_VALUE;
    told.sizes[i] = sizes[i], told.box[i] = box[i];
  }
  if (box[0] * 2 > 128) return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i + 1 < rank; i++) {
    if (strides[i] % 16 != 0 || strides[i] >= uint64_t{1} << 40) return CUDA_ERROR_INVALID_VALUE;
    told.strides[i] = strides[i];
  }
  std::memcpy(map, &told, sizeof told);
  return CUDA_SUCCESS;
}

cudaError_t find_entry_point(const std::string& name, void** function, cudaDriverEntryPointQueryResult* found) {
  *found = name == "cuTensorMapEncodeTiled" ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  *function = reinterpret_cast<void*>(&encode);
  return cudaSuccess;
}

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> words(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                     std::free);
  return status == 0 ? words.get() : name;
}

}  // namespace

int& compute_capability() {
  static int capability = 90;
  return capability;
}

std::vector<std::string> never_started(const std::string& part) {
  std::vector<std::string> names;
  for (const auto& [function, of] : registered())
    if (!of.started && of.kernel.name.find(part) != std::string::npos) names.push_back(demangled(of.kernel.name));
  std::ranges::sort(names);
  return names;
}

}  // namespace ptx
}  // namespace llama_tp

using namespace llama_tp::ptx;

extern "C" {

// ---- how nvcc's objects register their kernels (crt/host_runtime.h)

void** __cudaRegisterFatBinary(void* binary) {
  const auto text = text_of(*static_cast<const FatBinary*>(binary));
  return reinterpret_cast<void**>(new std::map<std::string, Kernel>(read_module(text)));
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void** handle) { delete &module_of(handle); }
void __cudaRegisterFunction(void** handle, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  registered()[function] = {.kernel = module_of(handle).at(name)};
}
char __cudaInitModule(void**) { return 1; }
unsigned __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaErrorNotSupported; }
// CUDA 12.0 does not know CUkernel as cudaKernel_t yet.
cudaError_t __cudaGetKernel(CUkernel*, const void*) { return cudaErrorNotSupported; }
cudaError_t __cudaLaunchKernel(CUkernel, dim3, dim3, void**, size_t, cudaStream_t) { return cudaErrorNotSupported; }

// What the objects of toolkits before 13 call in its place.
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaErrorNotSupported; }

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  launch(*config, registered().at(function), arguments);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int bytes) {
  constexpr int most = 227 << 10;
  if (bytes > most) return cudaErrorInvalidValue;
  registered().at(function).most_shared = bytes;
  return cudaSuccess;
}

// ---- the device

const char* cudaGetErrorString(cudaError_t) { return "this program has no CUDA"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? compute_capability() / 10 : compute_capability() % 10;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->name[0] = 'P';
  properties->totalGlobalMem = size_t{1} << 34;
  properties->major = 9;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* found) {
  return find_entry_point(name, function, found);
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  return find_entry_point(name, function, found);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t*, unsigned, int) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t*) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaErrorNotSupported; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaErrorNotSupported; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) { return cudaErrorNotSupported; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t* free, size_t* all) {
  *free = *all = size_t{1} << 34;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) { return reserve(memory, bytes); }
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return reserve(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return release(memory); }
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

}  // extern "C"
