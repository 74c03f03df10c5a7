#include "commands/commands.h"
#include "commands/mesh_options.h"
#include "generate/generation_run.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_context = int64_t{1} << 30;  // positions are 32-bit numbers

void declare(Options& options) {
  options.value("m,model", "model folder, or an output folder of train (its newest checkpoint)", "DIR");
  declare_family(options);
  options.value("p,prompt", "the text to continue; \"\" starts from BOS alone", "TEXT");
  options.value("f,file", "a file with the text to continue", "FILE");
  options.value("n,n-predict", "tokens to generate at most; -1: until the end of the text or of the context", "N",
                "-1");
  options.value("c,ctx-size", "the most tokens of prompt and continuation; 0: as many as are needed", "N", "0");
  options.value("s,seed", "of the random numbers (default: drawn, and said)", "N");
  options.value("temp", "temperature; 0: always the most likely token", "X", "0.8");
  options.value("top-k", "choose among the k most likely; 0: all", "N", "40");
  options.value("top-p", "choose among the most likely that together reach this probability", "X", "0.95");
  options.value("min-p", "leave out what is less likely than this share of the most likely", "X", "0.05");
  options.value("repeat-penalty", "make the last 64 tokens less likely; 1: no", "X", "1");
  options.flag("ignore-eos", "go on past the end of the text");
  options.flag("echo", "print the prompt, too");
  options.value("dtype", "float32 or bfloat16 (default: the checkpoint's)", "WORD");
  options.value("tensor-parallel", "ranks that share each layer, or auto", "auto|N", "auto");
  declare_timeout(options);
  options.value("backend", "auto or cpu", "WORD", "auto");
}

GenerationSettings settings_from(const Options& options) {
  GenerationSettings settings;
  settings.model = options.path("model");
  require(!settings.model.empty(), "-m is missing; give a model folder");
  require(options.given("prompt") != options.given("file"), "generate needs either -p TEXT or -f FILE",
          options.given("file") ? "; leave one out" : "");
  settings.family = options.word("family");
  settings.prompt = options.word("prompt");
  settings.prompt_file = options.word("file");
  settings.tokens = options.integer("n-predict", -1, largest_context);
  settings.context = options.integer("ctx-size", 0, largest_context);
  if (options.given("seed") && options.integer("seed", -1) >= 0)
    settings.seed = static_cast<uint64_t>(options.integer("seed"));
  settings.sampler.temperature = static_cast<float>(options.number("temp", 0, 1000));
  settings.sampler.top_k = options.integer("top-k", 0);
  settings.sampler.top_p = static_cast<float>(options.number("top-p", 0, 1));
  settings.sampler.min_p = static_cast<float>(options.number("min-p", 0, 1));
  settings.sampler.repeat_penalty = static_cast<float>(options.number("repeat-penalty", 1e-3, 1000));
  settings.ignore_eos = options.is_set("ignore-eos");
  settings.echo = options.is_set("echo");
  if (options.given("dtype")) settings.dtype = options.dtype("dtype", DType::f32);
  settings.tensor_parallel = options.integer_or_auto("tensor-parallel");
  settings.backend = options.word("backend");
  return settings;
}

}  // namespace

int generate_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] {
    Options options("generate", "Continues a text. The continuation goes to stdout as it comes, all else to stderr.",
                    "mpirun -np 2 ./llama_tp generate -m Llama-3.2-1B -p \"Once upon a time\" -n 100 --temp 0.7");
    declare(options);
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    set_timeout(options, launch);
    launch.begin(Activity::generating);
    return run_generation(settings_from(options), launch);
  });
}

}  // namespace llama_tp
