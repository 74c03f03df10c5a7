#include <algorithm>
#include <filesystem>

#include "base/parts.h"
#include "bench/measurements.h"
#include "bench/timing.h"
#include "io/for_each_item.h"
#include "model/checkpoint.h"
#include "model/rehearsal.h"
#include "model/same_model.h"
#include "model/write_parameters.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr int64_t readings = 5;

// The weights of this rank as eval and generate hold them, in memory that nobody has touched yet.
struct Held {
  Held(const Bench& bench, const Mesh& mesh)
      : runtime(*bench.backend, mesh.groups(), bench.settings.dtype),
        parameters(bench.config, mesh.tensor_rank(), mesh.shape().tensor) {
    runtime.reserve(rehearse(*bench.backend, runtime, [&](Runtime& on) {
      Parameters(bench.config, on.groups.tensor.rank(), on.groups.tensor.size()).allocate(on, Holds::weights);
    }));
    parameters.allocate(runtime, Holds::weights);
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const Unit& unit : parameters.units()) sum += unit.value.bytes();
    return sum;
  }
  // The units lie one after another.
  char* memory() const { return parameters.units().front().value.as<char>(); }

  Runtime runtime;
  Parameters parameters;
};

// Where the folder is empty: random weights.
void write_random_model(const Bench& bench, const Mesh& mesh, const std::string& folder) {
  Held model(bench, mesh);
  initialize_weights(bench.config, 1, model.parameters, *bench.backend);
  if (mesh.copy_index() == 0)
    write_model(model.parameters, &Unit::value, bench.settings.dtype, folder, *bench.backend, mesh.copy_host(), {0});
}

// As many bytes of the files as a rank's weights have, behind those of the ranks before it, in blocks by all threads:
// what the system's reading can do.
void read_plainly(const std::vector<File>& files, int64_t bytes, int64_t skipped, char* to) {
  constexpr int64_t block = int64_t{1} << 20;
  int64_t done = 0;
  for (const File& file : files) {
    const int64_t size = file.size(), begin = std::min(skipped, size), count = std::min(size - begin, bytes - done);
    skipped -= begin;
    for_each_item(ceil_div(count, block), count, 0, [&](int64_t item, char*) {
      const int64_t at = item * block;
      file.read(to + done + at, std::min(block, count - at), begin + at);
    });
    done += count;
  }
}

// Before one of them writes into it.
bool is_empty_for_all(const Bench& bench, const std::string& folder) {
  const double is_empty = std::filesystem::is_empty(folder) ? 1 : 0;
  const std::vector<double> all = bench.world->all_gather(is_empty);
  require(is_empty == all.front(), "--loading ", folder, ": is ", is_empty != 0 ? "empty" : "not empty",
          ", unlike that of rank 0 on ", bench.launch.host_of(0), "; copy one to all hosts");
  return is_empty != 0;
}

}  // namespace

void check_loading(const Bench& bench, const std::string& folder) {
  require(bench.backend->is_host(), "--loading reads into the memory of the CPU; add --backend cpu");
  if (!std::filesystem::is_empty(folder)) ModelFiles{folder};
}

void bench_loading(const Bench& bench, const std::string& folder) {
  bench.launch.begin(Activity::loading_weights);
  const std::unique_ptr<Mesh> mesh = bench.mesh();
  if (is_empty_for_all(bench, folder)) write_random_model(bench, *mesh, folder);
  bench.world->barrier();
  const ModelFiles model(folder);
  check_same_weights(bench.launch, *bench.world, model);
  std::vector<File> files;
  for (const std::string& path : model.paths()) files.push_back(File::open(path));

  // Seconds of the slowest rank, into memory that is new and into the same again. Both ways take turns.
  struct Seconds {
    std::vector<double> fresh, again;
  };
  Seconds loading, plain;
  const auto measure = [&](Seconds& seconds, const auto& read) {
    Held held(bench, *mesh);
    for (auto* each : {&seconds.fresh, &seconds.again}) {
      bench.world->barrier();
      each->push_back(bench.most_of_ranks(seconds_of([&] { read(held); })));
    }
  };
  const int64_t bytes = Held(bench, *mesh).bytes(), skipped = bench.launch.rank() % mesh->copy_host().size() * bytes;
  for (int64_t time = 0; time < readings + 1; time++) {
    measure(loading, [&](Held& held) { load_weights(model, bench.config, held.parameters, *bench.backend); });
    measure(plain, [&](Held& held) { read_plainly(files, bytes, skipped, held.memory()); });
    if (time == 0) loading = plain = {};  // the files may have come from the disk
  }
  const auto rate = [&](std::vector<double> seconds) {
    std::nth_element(seconds.begin(), seconds.begin() + readings / 2, seconds.end());
    return static_cast<double>(bytes) / seconds[readings / 2];
  };
  const auto said = [&](const std::vector<double>& ours, const std::vector<double>& reads) {
    return text(fixed(rate(ours) / 1e9, 2), " GB/s = ", fixed(100 * rate(ours) / rate(reads), 0), "% of plain reads' ",
                fixed(rate(reads) / 1e9, 2));
  };
  bench.say(text("loading     ", bytes_text(bytes), " a rank: into new memory ", said(loading.fresh, plain.fresh),
                 ", into the same again ", said(loading.again, plain.again)));
}

}  // namespace llama_tp
