#include "train/memory_report.h"

#include "backend/device.h"
#include "io/files.h"
#include "report/format.h"

namespace llama_tp {

std::vector<std::string> report_memory(const std::string& output_folder, const MemoryPlan& planned,
                                       const Runtime& runtime, const std::vector<GroupTraffic>& of_a_step,
                                       const Mesh& mesh) {
  const bool on_device = runtime.backend.device() != nullptr;
  const int64_t in_use = runtime.backend.memory_in_use(), arenas = planned.total(), of_host = on_device ? 0 : arenas;
  const ResidentMemory resident = resident_memory();
  HostGroup& world = mesh.world();
  const std::vector<std::string> entries = world.all_gather(memory_entry(planned, runtime.ledger)),
                                 traffic = world.all_gather(traffic_entry(of_a_step)),
                                 residents = world.all_gather(resident_entry(resident, of_host));
  std::vector<std::string> devices;
  if (on_device) devices = world.all_gather(device_entry(in_use, arenas));
  if (world.rank() != 0) return {};
  write_text(output_folder + "/memory.json", memory_text(entries, traffic, residents, devices));
  std::vector<std::string> said;
  if (on_device)
    said.push_back(text("device      ", bytes_text(in_use), " in use on rank 0's, as its driver counts: ",
                        bytes_text(arenas), " as planned, ", bytes_text(in_use - arenas),
                        " CUDA's context, kernels, buffers of cuBLASLt and NCCL, and other programs"));
  if (resident.total > 0)
    said.push_back(text("resident    ", bytes_text(resident.total),
                        " on rank 0: ", on_device ? "" : bytes_text(arenas) + " as planned, ",
                        bytes_text(resident.total - of_host), " libraries, MPI, data and code"));
  return said;
}

}  // namespace llama_tp
