#include <cstdio>

#include "commands/commands.h"
#include "commands/data_options.h"
#include "commands/run_options.h"
#include "train/end_request.h"
#include "train/training_run.h"

namespace llama_tp {

namespace {

constexpr int64_t most_samples = int64_t{1} << 20;  // of a forward, and forwards of a step
// A weight that has never had a gradient, of a padded row of the vocabulary for instance, has moments of 0, and epsilon is
// its whole denominator: an f32 far above the least normal one (1.2e-38), which no device takes for 0.
constexpr double least_adam_epsilon = 1e-30;

void declare_optimizer(Options& options) {
  options.value("learning-rate", "AdamW's rate at its highest", "X", "5e-5");
  options.value("lr-scheduler-type", "constant (with the warmup), linear or cosine", "WORD", "linear");
  options.value("warmup-steps", "steps in which the rate rises from 0", "N", "0");
  options.value("weight-decay", "AdamW's decay; not on biases and norms", "X", "0");
  options.value("adam-beta1", "", "X", "0.9");
  options.value("adam-beta2", "", "X", "0.999");
  options.value("adam-epsilon", "added to the root of the second moment, 1e-30 or more", "X", "1e-8");
  options.value("max-grad-norm", "clip gradients to this global norm; 0: never", "X", "1");
}

void read_optimizer(const Options& options, TrainingSettings& settings) {
  settings.schedule = {schedule_named(options.word("lr-scheduler-type")), options.number("learning-rate", 0, 10),
                       options.integer("warmup-steps", 0), 1};
  settings.weight_decay = options.number("weight-decay", 0, 10);
  settings.adam_beta1 = options.number("adam-beta1", 0, 0.9999999);
  settings.adam_beta2 = options.number("adam-beta2", 0, 0.9999999);
  settings.adam_epsilon = options.number("adam-epsilon", least_adam_epsilon, 1);
  settings.max_grad_norm = options.number("max-grad-norm", 0, 1e9);
}

// What a run says and saves on its way.
void declare_progress(Options& options) {
  options.value("logging-steps", "print a progress line every N steps", "N", "500");
  options.value("eval-steps", "evaluate every N steps; 0: at the end only", "N", "0");
  options.value("save-steps", "save a checkpoint every N steps, and at the end; 0: at the end only", "N", "500");
  options.value("save-total-limit", "keep the N newest checkpoints (default: all)", "N");
  options.flag("save-only-model",
               "checkpoints of the model alone, in bfloat16 a sixth as large, from which no run can be resumed");
  options.optional_value(
      "resume-from-checkpoint",
      "go on where a checkpoint of this --output-dir (or a folder DIR) stood, on any number of ranks; "
      "latest: from the newest, or from the start where there is none yet",
      "latest|DIR", "latest");
}

void read_progress(const Options& options, TrainingSettings& settings) {
  settings.logging_steps = options.integer("logging-steps", 1);
  settings.evaluation_steps = options.integer("eval-steps", 0);
  settings.save_steps = options.integer("save-steps", 0);
  settings.save_total_limit = options.given("save-total-limit") ? options.integer("save-total-limit", 1) : 0;
  settings.save_only_model = options.is_set("save-only-model");
  settings.resume = options.path("resume-from-checkpoint");
}

void declare_training_options(Options& options) {
  options.value("model", "folder to start from: config.json, *.safetensors, tokenizer; or an output folder of train",
                "DIR");
  options.value("config", "config.json, or a well-known model's name, to start from random weights instead",
                "FILE|NAME");
  declare_family(options);
  options.value("tokenizer", "folder or file of the tokenizer (default: the model's)", "PATH");
  options.value("train-file", ".txt, or .jsonl with text, messages, prompt and completion, or input_ids (and labels)",
                "FILE");
  options.value("validation-file", "the same, for eval_loss", "FILE");
  options.value("output-dir", "where checkpoints, metrics.jsonl and memory.json go", "DIR");
  declare_mesh(options);
  options.value("sequence-parallel",
                "on: tensor ranks split the tokens between matrix products, too; less memory, more traffic", "on|off",
                "on");
  declare_fsdp(options);
  options.value("block-size", "the most tokens of a sample; text is packed into samples of this size", "N", "1024");
  declare_reading(options);
  options.value("per-device-train-batch-size", "samples per forward on each data-parallel or FSDP rank", "N", "8");
  options.value("gradient-accumulation-steps", "forwards of a step", "N", "1");
  options.value("global-batch-size", "samples of a step; derives the accumulation", "N");
  options.value("max-steps", "stop after N steps; -1: epochs decide", "N", "-1");
  options.value("num-train-epochs", "times through the data", "X", "3");
  declare_optimizer(options);
  options.value("dtype", "float32, or bfloat16 with f32 master weights", "WORD", "bfloat16");
  options.value("save-dtype", "of the saved weights: float32, bfloat16 or float16 (default: the run's)", "WORD");
  options.flag("gradient-checkpointing", "keep only each block's input and compute the rest again in backward");
  options.value("seed", "of random weights and of the data's order", "N", "42");
  declare_progress(options);
  options.value("dump-gradients", "write the gradients of the first step, before clipping", "FILE");
  options.value("check-every",
                "every N steps compare the ranks' batches, and to the bit what several ranks hold of weights and "
                "optimizer; 0: only the batches of the first two steps",
                "N", "0");
  declare_launch(options);
  declare_backend(options);
}

TrainingSettings training_settings(const Options& options) {
  TrainingSettings settings;
  settings.model = options.path("model");
  settings.config = options.word("config");
  settings.family = options.word("family");
  settings.tokenizer = options.path("tokenizer");
  settings.train_file = options.word("train-file");
  settings.validation_file = options.word("validation-file");
  settings.output_dir = options.path("output-dir");
  settings.dump_gradients = options.word("dump-gradients");
  require(!settings.train_file.empty(), "--train-file is missing; give a .txt or .jsonl file");
  require(!settings.output_dir.empty(), "--output-dir is missing; give a folder for checkpoints and metrics");
  settings.mesh = mesh_from(options);
  settings.fsdp = fsdp_from(options);
  settings.sequence_parallel = options.is_on("sequence-parallel");
  settings.block_size = options.integer("block-size", 2);
  settings.truncation = options.is_on("truncation");
  settings.packing = options.is_on("packing");
  settings.data = data_options(options);
  settings.micro_batch = options.integer("per-device-train-batch-size", 1, most_samples);
  settings.accumulation = options.given("gradient-accumulation-steps")
                              ? options.integer("gradient-accumulation-steps", 1, most_samples)
                              : 0;
  settings.global_batch =
      options.given("global-batch-size") ? options.integer("global-batch-size", 1, most_samples) : 0;
  settings.max_steps = options.integer("max-steps", -1);
  require(settings.max_steps != 0, "--max-steps 0 leaves nothing to train; give 1 or more, or -1: epochs decide");
  settings.epochs = options.number("num-train-epochs", 1e-9, 1e9);
  read_optimizer(options, settings);
  settings.dtype = options.dtype("dtype");
  if (options.given("save-dtype")) settings.save_dtype = options.stored_dtype("save-dtype");
  settings.recompute = options.is_set("gradient-checkpointing");
  settings.seed = static_cast<uint64_t>(options.integer("seed", 0));
  read_progress(options, settings);
  settings.check_every = options.integer("check-every", 0);
  settings.backend = options.word("backend");
  return settings;
}

}  // namespace

int train_command(const Arguments& arguments) {
  hold_end_requests();
  Launch launch;
  return launch.guard([&] {
    Options options(
        "train", "Trains a Llama, or goes on training one, with tensor parallelism.",
        "mpirun -np 2 ./llama_tp train --model Llama-3.2-1B --train-file notes.txt --output-dir out --max-steps 100");
    declare_training_options(options);
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    set_launch(options, launch);
    return run_training(training_settings(options), launch);
  });
}

}  // namespace llama_tp
