#include "accesses/record.h"

#include <algorithm>

#include "accesses/requests.h"
#include "emulation/accesses.h"
#include "emulation/device_memory.h"
#include "emulation/machine.h"

namespace llama_tp {
namespace accesses {

namespace {

// The requests of one warp at one place, in the order of each lane.
struct Requests {
  std::array<size_t, 32> made_by_lane{};
  std::vector<Request> made;
};

std::map<std::pair<unsigned, Site>, Requests> of_block;  // by warp and place
const void* kernel = nullptr;                            // that runs
std::map<Site, Tally> all;
std::vector<LaunchOfKernel> all_launches;

void add(const Request& request, bool shared, Tally& tally) {
  const Cost cost = shared ? wavefronts_of(request) : sectors_of(request);
  const int64_t bytes = bytes_of(request);
  tally.requests++;
  tally.needed += cost.needed;
  tally.least += cost.least;
  tally.bytes += bytes;
  if (std::any_of(request.begin(), request.end(), [](const LaneAccess& lane) { return lane.bytes >= 16; }))
    tally.in_pieces_of_16 += bytes;
}

}  // namespace

const std::map<Site, Tally>& sites() { return all; }
const std::vector<LaunchOfKernel>& launches() { return all_launches; }
void clear() {
  all.clear();
  all_launches.clear();
}

}  // namespace accesses

namespace emulation {

using namespace accesses;

void begin_grid_of_accesses(const Launch& launch) {
  kernel = launch.kernel;
  const LaunchOfKernel one{launch.kernel, launch.threads, launch.shared_bytes};
  if (std::find(all_launches.begin(), all_launches.end(), one) == all_launches.end()) all_launches.push_back(one);
}

void end_block_of_accesses() {
  for (const auto& [place, requests] : of_block) {
    const Site& site = place.second;
    for (const Request& request : requests.made) add(request, site.shared, all[site]);
  }
  of_block.clear();
}

void end_grid_of_accesses() {
  of_block.clear();
  kernel = nullptr;
}

void note_access(const void* at, size_t bytes, bool writes, const void* code) {
  if (kernel == nullptr) return;
  const bool shared = is_shared(at);
  if (!shared && !is_device_memory(at)) return;  // the stack, which stands for registers, or the emulation's own
  const unsigned thread = this_thread().index.x, lane = thread % 32;
  Requests& requests = of_block[{thread / 32, {kernel, code, shared, writes}}];
  const size_t number = requests.made_by_lane[lane]++;
  if (number == requests.made.size()) requests.made.emplace_back();
  requests.made[number][lane] = {reinterpret_cast<uintptr_t>(at), bytes};
}

}  // namespace emulation
}  // namespace llama_tp
