// Speed and memory of this machine on a model of random weights: measurements one by one, or schemes side by side.

#include "bench/comparison_json.h"
#include "bench/comparison_report.h"
#include "bench/comparison_table.h"
#include "bench/lone_rank.h"
#include "bench/measurements.h"
#include "bench/tuning.h"
#include "bench/verdict.h"
#include "commands/commands.h"
#include "commands/run_options.h"
#include "io/files.h"
#include "report/format.h"
#include "report/output.h"
#include "train/batches.h"

namespace llama_tp {

namespace {

constexpr int64_t most_sequences = int64_t{1} << 12;  // of generation

void declare_bench_options(Options& options) {
  options.value("config", "config.json of the model, or the name of a well-known one", "FILE|NAME");
  declare_family(options);
  options.flag("train", "training steps (default: this and --generate)");
  options.flag("generate", "a prompt, and tokens behind it");
  options.flag("kernels", "a step's larger operations one by one, beside what the machine can do at best");
  options.flag("collectives", "collectives among the tensor-parallel ranks, by size");
  options.value("loading", "reads a checkpoint of this model; an empty folder gets random weights first", "FOLDER");
  options.list("compare", "train with each of these meshes, for instance: tp=4 fsdp=4 tp=2,fsdp=2 tp=4,sp=off",
               "KEY=VALUE,… …");
  options.value(
      "rehearse",
      "train as one rank of a larger mesh, alone: takes that rank's memory and computes for real; collectives "
      "send nothing, losses mean nothing (plan computes nothing)",
      "rank=R,world=N");
  options.value("global-batch-size", "--compare: sequences of a step (default: the fewest that all can divide)", "N");
  options.value("sweep", "--compare: growth of memory and time, for instance: block-size=512,1024", "KEY=N,…");
  options.value("tune-products",
                "with cuda: then times the algorithms of each matrix product of what was measured, and keeps the "
                "fastest for --products; a file that is there keeps its other products",
                "FILE");
  options.flag("json", "--compare, --rehearse: as JSON, in bytes and seconds");
  options.value("report", "--compare: a page with pictures", "FILE.html");
  options.value("report-svg", "--compare: the page's pictures, a file each", "FOLDER");
  options.value("trace", "--compare: the timed step in Chrome's trace format, for ui.perfetto.dev", "FILE.json");
  declare_mesh(options);
  declare_fsdp(options);
  declare_launch(options);
  options.value("sequence-parallel", "between the products tensor ranks divide the tokens, too", "on|off", "on");
  options.value("dtype", "float32 or bfloat16", "WORD", "bfloat16");
  declare_backend(options);
  options.value("block-size", "tokens of a training sample", "N", "512");
  options.value("per-device-train-batch-size", "samples per forward on each data-parallel or FSDP rank", "N", "2");
  options.value("gradient-accumulation-steps", "forwards of a step", "N", "1");
  options.flag("gradient-checkpointing", "compute each block's forward, all but its last product, again in backward");
  options.value("steps", "training steps, after one that is not counted", "N", "5");
  options.value("prompt-tokens", "tokens of the prompt", "N", "512");
  options.value("n-predict", "tokens to generate", "N", "16");
  options.value("sequences", "prompts that are read and continued at once", "N", "1");
}

BenchSettings bench_settings(const Options& options) {
  require(options.given("config"), "--config is missing; data/configs has some");
  BenchSettings settings;
  settings.config = options.word("config");
  settings.family = options.word("family");
  settings.backend = options.word("backend");
  settings.dtype = options.dtype("dtype");
  settings.mesh = mesh_from(options);
  if (options.given("rehearse")) settings.lone_rank = parse_lone_rank(options.word("rehearse"));
  settings.sequence_parallel = options.is_on("sequence-parallel");
  settings.recompute = options.is_set("gradient-checkpointing");
  settings.fsdp = fsdp_from(options);
  settings.block_size = options.integer("block-size", 2, most_forward_tokens);
  settings.micro_batch = options.integer("per-device-train-batch-size", 1, most_forward_tokens);
  if (!options.given("compare")) check_forward_tokens(settings.micro_batch, settings.block_size);
  settings.accumulation = options.integer("gradient-accumulation-steps", 1, 1 << 20);
  settings.steps = options.integer("steps", 1, 1 << 20);
  settings.prompt_tokens = options.integer("prompt-tokens", 1, most_forward_tokens);
  settings.new_tokens = options.integer("n-predict", 1, most_forward_tokens);
  settings.sequences = options.integer("sequences", 1, most_sequences);
  require(settings.prompt_tokens <= most_forward_tokens / settings.sequences, "--sequences ", settings.sequences,
          " × --prompt-tokens ", settings.prompt_tokens, " is more than ", most_forward_tokens, " tokens of a forward");
  return settings;
}

constexpr const char* may_not_write = ": this user may not write there; name another place";

// may: whether this user may write a file of this name in the way that it is written.
void check_path(const Options& options, const char* name, bool (*may)(const std::string&)) {
  if (!options.given(name)) return;
  require(!options.word(name).empty(), "--", name, " is empty; give a path");
  const std::string folder = folder_of_file(options.word(name));
  require(folder_exists(folder), "--", name, " ", options.word(name), ": there is no folder ", folder,
          "; make it first");
  require(!folder_exists(options.word(name)), "--", name, " ", options.word(name), " is a folder; give a file");
  require(may(options.word(name)), "--", name, " ", options.word(name), may_not_write);
}

void check_tuning_options(const Options& options, const Launch& launch) {
  if (!options.given("tune-products")) return;
  check_path(options, "tune-products", may_replace);
  options.refuse({"products", "compare", "json"}, " does not go with --tune-products; leave one of them out");
  require(launch.size() == 1, "--tune-products times the products of one process, but ", launch.starter(), " ",
          launch.size(), "; start it as one, with --rehearse rank=R,world=N for those of a rank");
}

void check_lone_rank(const Options& options, const Launch& launch) {
  if (!options.given("compare") && !options.given("rehearse"))
    options.refuse({"json"}, " belongs to --compare and --rehearse; give one of them, too");
  if (!options.given("rehearse")) return;
  options.refuse({"train", "generate", "kernels", "collectives", "loading", "compare"},
                 " does not go with --rehearse; leave one of them out");
  require(launch.size() == 1, "--rehearse is one process in the place of a mesh's rank, but ", launch.starter(), " ",
          launch.size(), "; start it as one");
}

// Options that only mean something beside --compare, and those that --compare's words replace.
void check_comparison(const Options& options) {
  if (!options.given("compare"))
    options.refuse({"global-batch-size", "sweep", "report", "report-svg", "trace"},
                   " belongs to --compare; give the meshes, too");
  for (const char* name : {"report", "trace"}) check_path(options, name, may_write);
  require(!options.given("report-svg") || !options.word("report-svg").empty(), "--report-svg is empty; give a path");
  require(!options.given("report-svg") || folder_exists(options.path("report-svg")), "--report-svg ",
          options.path("report-svg"), " is no folder; make it first");
  require(!options.given("report-svg") || may_make_files_in(options.path("report-svg")), "--report-svg ",
          options.path("report-svg"), may_not_write);
  require(!options.given("loading") || folder_exists(options.path("loading")), "--loading ", options.path("loading"),
          " is no folder; make it first");
  if (!options.given("compare")) return;
  require(!options.words("compare").empty(), "--compare is empty; give meshes like tp=4 fsdp=4");
  options.refuse({"train", "generate", "kernels", "collectives", "loading", "tensor-parallel", "fsdp", "data-parallel",
                  "per-device-train-batch-size", "gradient-accumulation-steps"},
                 " does not go with --compare, whose words are the meshes; leave one of them out");
}

std::vector<std::string> introduction(const Bench& bench) {
  return {text(bench.config.source, ": ", with_commas(parameter_count(bench.config)), " parameters, ",
               torch_name_of(bench.settings.dtype), ", ", counted(bench.launch.size(), "rank")),
          bench.backend->description()};
}

void write_reports(const Options& options, const ComparisonRun& run, const Page& page) {
  if (options.given("report")) write_text(options.word("report"), html_text(page));
  if (options.given("report-svg"))
    for (const Figure& figure : page.figures)
      write_text(options.path("report-svg") + "/" + figure.name + ".svg", figure.svg);
  if (options.given("trace")) write_text(options.word("trace"), comparison_trace(run));
}

// How they were computed, where a file says so.
void say_products(const Bench& bench) {
  const ProductTuner* const tuner = bench.backend->product_tuner();
  if (tuner != nullptr && !tuner->usage().empty()) bench.say("products    " + tuner->usage());
}

void run_comparison(const Bench& bench, const Options& options) {
  ComparisonSettings settings{options.words("compare"), 0, {}};
  if (options.given("global-batch-size")) settings.global_batch = options.integer("global-batch-size", 1, 1 << 20);
  if (options.given("sweep")) settings.block_sizes = parse_sweep(options.word("sweep"));
  const ComparisonRun run = compare(bench, settings);
  if (bench.launch.rank() > 0) return;
  const std::string said = verdict(run), growth = growth_table(run);
  const std::string unfit = unfit_lines(run);
  const std::string table = comparison_table(run.equal) + "\n" + comparison_table(run.smallest) +
                            (growth.empty() ? "" : "\n" + growth) + (unfit.empty() ? "" : "\n" + unfit);
  std::vector<std::string> lines = introduction(bench);
  if (options.is_set("json"))
    bench.say(comparison_json(run, said));
  else
    for (const std::string& line : {lines[0], lines[1], table, said}) bench.say(line);
  if (!options.is_set("json")) say_products(bench);
  lines.push_back(said);
  write_reports(options, run, comparison_page(run, lines, table));
}

void measure(const Bench& bench, const Options& options, const MachineRates& machine) {
  if (bench.settings.lone_rank) return bench_lone_rank(bench, machine);
  const bool kernels = options.is_set("kernels"), collectives = options.is_set("collectives"),
             train = options.is_set("train"), generate = options.is_set("generate"), loading = options.given("loading");
  const bool usual = !kernels && !collectives && !train && !generate && !loading;
  if (train || usual) bench_training(bench, machine);
  if (generate || usual) bench_generation(bench, machine);
  if (kernels) bench_kernels(bench, machine);
  if (collectives) bench_collectives(bench);
  if (loading) bench_loading(bench, options.path("loading"));
}

void run_measurements(const Bench& bench, const Options& options) {
  const std::string tuned = options.word("tune-products");
  const ProductFile before = file_exists(tuned) ? read_product_file(tuned) : ProductFile{};
  // What cannot be is refused before anything is measured.
  bench.shape();
  if (!tuned.empty()) check_tuning(bench, before);
  if (options.given("loading")) check_loading(bench, options.path("loading"));
  for (const std::string& line : introduction(bench)) bench.say(line);
  const MachineRates machine = bench.measure_machine();
  bench.say(text("machine     reads ", fixed(machine.read_bytes / 1e9, 1), " GB/s; matrix products ",
                 fixed(machine.product_flops / 1e9, 0), " GFLOP/s"));
  measure(bench, options, machine);
  say_products(bench);
  if (!tuned.empty()) bench_tuning(bench, tuned, before);
}

}  // namespace

int bench_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] {
    Options options("bench", "Speed and memory on random weights, each beside the limit that binds it.",
                    "mpirun -np 2 ./llama_tp bench --config data/configs/bench-134m.json --block-size 512");
    declare_bench_options(options);
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    check_lone_rank(options, launch);
    check_tuning_options(options, launch);
    check_comparison(options);
    set_launch(options, launch);
    launch.begin(Activity::measuring);
    const Bench bench(bench_settings(options), launch);
    if (options.given("compare"))
      run_comparison(bench, options);
    else if (bench.settings.lone_rank && options.is_set("json"))
      bench.say(lone_rank_json(run_usual_scheme(bench), *bench.settings.lone_rank));
    else
      run_measurements(bench, options);
    flush_stdout();
    return 0;
  });
}

}  // namespace llama_tp
