// What a training run would need and send, before any memory is taken or any rank started: a step that computes
// nothing.
#include "backend/device.h"
#include "commands/commands.h"
#include "commands/plan_comparison.h"
#include "commands/plan_output.h"
#include "commands/plan_search.h"
#include "commands/run_options.h"
#include "parallel/launch.h"
#include "report/format.h"
#include "report/output.h"
#include "train/save_checkpoint.h"

namespace llama_tp {

namespace {

constexpr int64_t least_block = 2;  // tokens: one to see and one to predict

constexpr int64_t most_accumulation = int64_t{1} << 20;  // forwards of a step

void declare_plan_options(Options& options) {
  options.value("config", "config.json, or the name of a well-known model such as llama-3.1-8b", "FILE|NAME");
  declare_family(options);
  options.value("tensor-parallel", "ranks that share each layer", "N", "1");
  options.value("sequence-parallel", "between its products a rank holds its part of the tokens alone", "on|off", "on");
  options.value("fsdp", "ranks with data of their own that share the weights, gradients and optimizer (ZeRO-3)", "N",
                "1");
  options.value("data-parallel", "copies of the weights", "N", "1");
  declare_fsdp(options);
  options.value("block-size", "tokens of a sample", "N", "1024");
  options.value("per-device-train-batch-size", "samples per forward on each data-parallel or FSDP rank", "N", "8");
  options.value("dtype", "float32, or bfloat16 with f32 master weights", "WORD", "bfloat16");
  options.flag("gradient-checkpointing", "keep only each block's input and compute the rest again in backward");
  options.value("device",
                "h100, h200, a100 or a datasheet: an estimate of time and whether it fits (default of --search: h100)",
                "NAME|FILE");
  options.value("memory", "of a rank, 80GiB for instance (default: the device's, less what CUDA and NCCL take)",
                "BYTES");
  options.flag("max-sequence",
               "the longest --block-size that fits the memory, with --per-device-train-batch-size samples of it in a "
               "forward");
  options.flag("search",
               "every mesh of --world ranks that fits, with its fastest micro-batch and recompute setting, and others "
               "up to 20 lines, fastest first; --json: all that fit");
  options.list("compare", "schemes side by side, for instance: fsdp=8 tp=8,sp=off tp=8 tp=4,fsdp=2", "KEY=VALUE,… …");
  options.value("world", "ranks of --search and --compare (default of the latter: the first scheme's)", "N");
  options.value("global-batch-size",
                "samples of a step (default: one micro-batch a rank with data of its own; --search: one a rank; "
                "--compare: the fewest that all schemes can divide)",
                "N");
  options.value(
      "backend",
      "whose scratch memory is counted: this machine's cpu or cuda, or auto: any GPU's with --device or --search",
      "WORD", "auto");
  declare_products(options);
  declare_threads(options);
  options.flag("verbose", "memory and collectives by phase of the step, and how many calls");
  options.flag("json", "as JSON, in bytes, with all of that");
}

// Asked for the scratch memory of operations: that of the device that is planned for, which need not be here, or what a
// run on this machine takes.
std::unique_ptr<Backend> backend_from(const Options& options, bool for_device, int threads) {
  if (for_device && options.word("backend") == "auto" && !options.given("products")) return make_cuda_on_paper();
  return make_backend(options.word("backend"),
                      {.threads = threads_from(options, threads), .products = products_from(options)});
}

// --memory, all of which may be taken; else the device's, but for what is reserved; else none.
std::optional<MemoryLimit> memory_limit(const Options& options, const std::optional<DeviceSheet>& device) {
  if (options.given("memory")) return MemoryLimit{options.bytes("memory"), bytes_text(options.bytes("memory"))};
  if (!device.has_value()) return std::nullopt;
  return MemoryLimit{device->free_bytes(),
                     text(bytes_text(device->free_bytes()), " (", device->name, "'s ", bytes_text(device->memory_bytes),
                          " less ", bytes_text(device->reserved_bytes), " for CUDA's context and NCCL)")};
}

PlanQuestion plan_question(const Options& options, int threads) {
  PlanQuestion question;
  question.config = read_model_config(options.word("config"), read_family_file(options.word("family")));
  question.dtype = options.dtype("dtype");
  question.block_size = options.integer("block-size", least_block, most_forward_tokens);
  question.fsdp = fsdp_from(options);
  const bool is_search = options.is_set("search");
  if (options.given("device"))
    question.device = read_device_sheet(options.word("device"));
  else if (is_search)
    question.device = read_device_sheet("h100");
  require(!question.device || question.dtype == DType::bf16, is_search ? "--search" : "--device",
          ": datasheets give bfloat16's speed; leave --dtype float32 out");
  question.memory = memory_limit(options, question.device);
  question.backend = backend_from(options, question.device.has_value(), threads);
  return question;
}

class PlanRun {
 public:
  PlanRun(const Options& options, int threads) : step_{plan_question(options, threads)} {
    const int64_t data = options.integer("data-parallel", 1, most_ranks), fsdp = options.integer("fsdp", 1, most_ranks),
                  tensor = options.integer("tensor-parallel", 1, most_ranks);
    require(data * fsdp <= most_ranks && data * fsdp * tensor <= most_ranks, "--data-parallel ", data, " × --fsdp ",
            fsdp, " × --tensor-parallel ", tensor, " is more than ", most_ranks, " ranks");
    step_.mesh = {static_cast<int>(data), static_cast<int>(fsdp), static_cast<int>(tensor)};
    step_.options.fsdp = step_.fsdp;
    step_.options.batch = {options.integer("per-device-train-batch-size", 1, most_forward_tokens), 1,
                           step_.mesh.data_ranks(), step_.block_size,
                           options.is_on("sequence-parallel") ? step_.mesh.tensor : 1};
    step_.options.recompute = options.is_set("gradient-checkpointing");
    BatchShape& batch = step_.options.batch;
    if (options.given("global-batch-size"))
      batch.accumulation =
          accumulation_for(options.integer("global-batch-size", 1, batch.global_batch() * most_accumulation),
                           batch.micro_batch, batch.data_ranks);
    step_.longest = options.is_set("max-sequence");
    require(!step_.longest || step_.memory.has_value(),
            "--max-sequence needs the memory to fill: --memory 80GiB, or a --device");
    require(!step_.longest || !options.given("block-size"),
            "--max-sequence finds the --block-size; leave one of them out");
    const Parameters parameters(step_.config, 0, 1);
    step_.checkpoint_bytes = tensor_file_bytes(step_.dtype, step_.dtype, false, parameters);
    step_.model_bytes = tensor_file_bytes(step_.dtype, step_.dtype, true, parameters);
    check_forward_tokens(batch.micro_batch, step_.longest ? least_block : batch.block_size);
  }

  const PlannedStep& run() {
    if (step_.longest)
      find_longest();
    else
      rehearse(step_.options.batch.block_size);
    return step_;
  }

 private:
  void rehearse(int64_t block) {
    step_.options.batch.block_size = block;
    step_.ranks = plan_ranks(step_.config, step_.options, step_.mesh, step_.dtype, *step_.backend);
  }

  bool fits(int64_t block) {
    rehearse(block);
    return step_.peak_bytes() <= step_.memory->bytes;
  }

  void find_longest() {
    const LongestBlock longest = longest_block(most_forward_tokens / step_.options.batch.micro_batch,
                                               [&](int64_t block) { return fits(block); });
    const BatchShape& batch = step_.options.batch;
    require(longest.tokens > 0, "not even ", batch.micro_batch, " × ", batch.block_size, " tokens fit ",
            step_.memory->words, ": they need ", bytes_text(step_.peak_bytes()), "; take ",
            batch.micro_batch > 1 ? "--per-device-train-batch-size 1, " : "",
            step_.options.recompute ? "" : "--gradient-checkpointing, ",
            "more --tensor-parallel or --fsdp ranks, or more memory");
    step_.longer_was_not_tried = longest.longer_was_not_tried;
    rehearse(longest.tokens);
  }

  PlannedStep step_;
};

void run_search(const Options& options, int threads) {
  require(options.given("world"), "--search needs the number of ranks to place: --world 8");
  for (const char* fixed :
       {"tensor-parallel", "fsdp", "data-parallel", "per-device-train-batch-size", "gradient-checkpointing"})
    require(!options.given(fixed), "--search tries every --", fixed, "; leave it out");
  require(!options.given("sequence-parallel"), "--search divides the tokens wherever tensor ranks can; leave ",
          "--sequence-parallel out, or name schemes with sp=off to --compare");
  require(!options.given("max-sequence"), "--search is for one --block-size, --max-sequence for one mesh",
          "; leave one of them out");
  SearchSpace space{plan_question(options, threads), options.integer("world", 1, most_ranks)};
  space.global_batch = options.given("global-batch-size")
                           ? options.integer("global-batch-size", 1, space.ranks * most_accumulation)
                           : space.ranks;
  space.most_samples = std::min(most_samples_a_rank, most_forward_tokens / space.block_size);
  const SearchResult result = search(space);
  require(result.tried > 0, "--search: no mesh of ", space.ranks, " ranks can divide --global-batch-size ",
          space.global_batch, "; give a multiple of the ranks");
  options.is_set("json") ? print_search_json(space, result) : print_search(space, result);
}

void run_plan_comparison(const Options& options, int threads) {
  options.refuse({"tensor-parallel", "fsdp", "data-parallel", "per-device-train-batch-size", "max-sequence"},
                 " does not go with --compare, whose words are the meshes; leave one of them out");
  const std::vector<std::string> words = options.words("compare");
  require(!words.empty(), "--compare is empty; give schemes like tp=8 fsdp=8");
  SchemesToPlan asked{plan_question(options, threads), {}};
  SchemeSetting setting{asked.config,
                        ranks_of_scheme(words.front()),
                        words.front() + " has",
                        options.is_on("sequence-parallel"),
                        options.is_set("gradient-checkpointing"),
                        asked.fsdp};
  if (options.given("world")) {
    setting.ranks = options.integer("world", 1, most_ranks);
    setting.ranks_by = "--world is";
  }
  asked.schemes = parse_schemes(words, setting);
  if (options.given("global-batch-size"))
    asked.global_batch = options.integer("global-batch-size", 1, setting.ranks * most_accumulation);
  const PlannedComparison planned = compare_plans(asked);
  options.is_set("json") ? print_comparison_json(asked, planned) : print_comparison(asked, planned);
}

// speaks: of ranks that mpirun started, one plans.
int plan(const Arguments& arguments, bool speaks, int threads) {
  Options options("plan", "Memory, communication and FLOPs of a training step on any mesh, found without running it.",
                  "./llama_tp plan --config llama-3.1-8b --tensor-parallel 8 --block-size 16384 "
                  "--per-device-train-batch-size 1 --device h100");
  declare_plan_options(options);
  if (!options.parse(arguments, speaks) || !speaks) return 0;
  require(options.given("config"), "--config is missing; give a config.json or a name such as llama-3.1-8b");
  require(!options.is_set("search") || !options.given("compare"),
          "--search tries every mesh, --compare those that it names; leave one of them out");
  if (options.is_set("search") || options.given("compare")) {
    options.refuse({"verbose"}, " is for the plan of one mesh; leave it out");
    options.is_set("search") ? run_search(options, threads) : run_plan_comparison(options, threads);
    flush_stdout();
    return 0;
  }
  options.refuse({"world"}, " belongs to --search and --compare; a mesh is --tensor-parallel, --fsdp, --data-parallel");
  PlanRun run(options, threads);
  if (options.is_set("json"))
    print_plan_json(run.run());
  else
    print_plan(run.run(), options.is_set("verbose"));
  flush_stdout();
  return 0;
}

}  // namespace

int plan_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] { return plan(arguments, launch.rank() == 0, launch.threads()); });
}

}  // namespace llama_tp
