#include "commands/run_options.h"

#include "base/error.h"
#include "io/files.h"
#include "parallel/mpi_host_group.h"

namespace llama_tp {

namespace {

constexpr int usual_timeout = 600;                          // seconds
constexpr int64_t largest_product_file = int64_t{1} << 24;  // some ten thousand products

}  // namespace

void declare_mesh(Options& options) {
  options.value("tensor-parallel", "ranks that share each layer; auto: as many of a node as the sizes allow", "auto|N",
                "auto");
  options.value("fsdp",
                "ranks with data of their own that share the weights, gradients and optimizer (ZeRO-3); auto: what the "
                "others leave, which are then 1 unless given",
                "auto|N", "1");
  options.value("data-parallel", "copies of the weights; auto: what the others leave of the ranks", "auto|N", "auto");
}

MeshOptions mesh_from(const Options& options) {
  const auto size = [&](const char* name) {
    return options.given(name) ? std::optional(options.integer_or_auto(name, most_ranks)) : std::nullopt;
  };
  return {size("data-parallel"), size("fsdp"), size("tensor-parallel")};
}

void declare_fsdp(Options& options) {
  options.value("fsdp-prefetch", "gather a block and sum one's gradients while another computes; second buffers",
                "on|off", "on");
  options.value("fsdp-reshard-after-forward",
                "drop a block's gathered weights after forward and gather them again in backward", "on|off", "on");
}

FsdpOptions fsdp_from(const Options& options) {
  return {options.is_on("fsdp-prefetch"), options.is_on("fsdp-reshard-after-forward")};
}

void declare_threads(Options& options) {
  options.value("t,threads", "OpenMP threads of a rank (default: OMP_NUM_THREADS, else its share of the cores)", "N");
}

int threads_from(const Options& options, int otherwise) {
  constexpr int64_t most_threads = 1024;
  return options.given("threads") ? static_cast<int>(options.integer("threads", 1, most_threads)) : otherwise;
}

void declare_launch(Options& options) {
  declare_threads(options);
  options.value("timeout",
                text("end the run, naming the rank, when others have waited so many seconds for it, whatever it does, "
                     "reading data or writing a checkpoint, too; 0: never (default: ",
                     usual_timeout, ", and none while data, weights or checkpoints are read or written)"),
                "SECONDS");
}

void declare_products(Options& options) {
  options.value(
      "products",
      "with cuda: the algorithm of each matrix product that this file of bench --tune-products has; of others, "
      "cuBLASLt's first heuristic",
      "FILE");
}

ProductFile products_from(const Options& options) {
  if (!options.given("products")) return {};
  const std::string path = options.word("products");
  require(file_exists(path), "--products ", path, ": there is no such file; bench --tune-products makes one");
  return read_product_file(path);
}

ProductFile read_product_file(const std::string& path) { return {path, read_text(path, largest_product_file)}; }

void declare_backend(Options& options) {
  options.value("backend", "auto, cpu or cuda", "WORD", "auto");
  declare_products(options);
}

namespace {

// Hosts may have files of their own behind one path, and ranks with other options would not do the same.
void check_same_config_file(const Options& options, const Launch& launch) {
  if (launch.size() == 1) return;
  const std::string& ours = options.config_text();
  require(ours == make_host_group(launch)->broadcast(ours, 0), "--config-file ", options.word("config-file"),
          ": is not what rank 0 on ", launch.host_of(0), " has there; copy one to all hosts");
}

}  // namespace

void set_launch(const Options& options, Launch& launch) {
  if (options.given("threads")) launch.use_threads(threads_from(options, launch.threads()));
  if (options.given("timeout"))
    launch.set_timeout(static_cast<double>(options.integer("timeout", 0)), TimeLimited::everything);
  else
    launch.set_timeout(usual_timeout, TimeLimited::all_but_files);
  launch.set_products(products_from(options));
  check_same_config_file(options, launch);
}

}  // namespace llama_tp
