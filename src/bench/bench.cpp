#include "bench/bench.h"

#include <algorithm>
#include <cstdio>

#include "backend/device.h"
#include "backend/fill.h"
#include "bench/timing.h"
#include "model/rehearsal.h"
#include "model/same_model.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_host_group.h"

namespace llama_tp {

Bench::Bench(const BenchSettings& settings_, const Launch& launch_)
    : settings(settings_),
      launch(launch_),
      config(read_model_config(settings.config, read_family_file(settings.family))),
      backend(make_backend(settings.backend, launch.place())),
      world(make_host_group(launch)) {
  check_same_config(launch, *world, config);
}

void Bench::say(const std::string& line) const {
  if (launch.rank() > 0) return;
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

double Bench::sum_over_ranks(double value) const {
  double sum = 0;
  for (const double each : world->all_gather(value)) sum += each;
  return sum;
}

double Bench::most_of_ranks(double value) const {
  const std::vector<double> all = world->all_gather(value);
  return *std::max_element(all.begin(), all.end());
}

MachineRates Bench::measure_machine() const {
  constexpr double seconds = 1;
  return {sum_over_ranks(backend->read_bandwidth(seconds)), sum_over_ranks(product_rate())};
}

double Bench::product_rate() const {
  constexpr int64_t times = 8;
  // On a GPU large enough for a call's own time to be nothing beside the product's.
  const bool device = backend->device() != nullptr;
  const int64_t rows = device ? 8192 : 1024, width = device ? 8192 : 2048;
  LoneGroups lone;
  Runtime own(*backend, lone, settings.dtype);
  const auto work = [&](Runtime& on) {
    const Tensor x = on.state.push(Category::transient, {rows, width}, on.dtype),
                 w = on.state.push(Category::transient, {width, width}, on.dtype),
                 y = on.state.push(Category::transient, {rows, width}, on.dtype);
    for (const Tensor* tensor : {&x, &w}) fill(on.backend, *tensor);
    world->barrier();
    const auto product = [&] {
      on.backend.linear_forward(x, w, {}, y);
      on.backend.synchronize();
    };
    return sorted_seconds(times, product).front();
  };
  own.reserve(rehearse(*backend, own, work));
  return 2.0 * static_cast<double>(rows) * static_cast<double>(width * width) / work(own);
}

std::unique_ptr<Mesh> Bench::mesh() const {
  std::unique_ptr<Mesh> made = make_mesh(launch, config, settings.mesh, *backend);
  const std::string repeated = repeated_work(config, made->shape().tensor, launch.size());
  if (!repeated.empty()) say(repeated);
  return made;
}

MeshShape Bench::shape() const {
  if (!settings.lone_rank)
    return resolve_mesh(config, settings.mesh, launch.size(), launch.ranks_of_every_node(), launch.starter());
  const int ranks = settings.lone_rank->world;
  return resolve_mesh(config, settings.mesh, ranks, ranks, "--rehearse names");
}

std::unique_ptr<Mesh> Bench::mesh_of(const MeshShape& shape) const {
  const auto same_keys = static_cast<int>(kv_replicas(config, shape.tensor));
  if (settings.lone_rank) return std::make_unique<Mesh>(shape, settings.lone_rank->rank, same_keys, *backend);
  return std::make_unique<Mesh>(launch, shape, same_keys, *backend);
}

}  // namespace llama_tp
