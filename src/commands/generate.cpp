#include "commands/commands.h"
#include "commands/run_options.h"
#include "generate/chat_run.h"
#include "generate/generation_run.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_context = int64_t{1} << 30;  // positions are 32-bit numbers

void declare_sampling(Options& options) {
  options.value("s,seed", "of the random numbers (default: drawn, and said)", "N");
  options.value("temp", "temperature; 0: always the most likely token (default: generation_config.json's, else 0.8)",
                "X");
  options.value("top-k", "choose among the k most likely; 0: all (default: generation_config.json's, else 40)", "N");
  options.value("top-p",
                "choose among the most likely that together reach this probability (default: generation_config.json's, "
                "else 0.95)",
                "X");
  options.value(
      "min-p",
      "leave out what is less likely than this share of the most likely (default: generation_config.json's, else 0.05)",
      "X");
  options.value("repeat-penalty",
                "make the last 64 tokens less likely; 1: no (default: generation_config.json's, else 1)", "X");
}

void read_sampling(const Options& options, GenerationSettings& settings) {
  if (options.given("seed") && options.integer("seed", -1) >= 0)
    settings.seed = static_cast<uint64_t>(options.integer("seed"));
  if (options.given("temp")) settings.given.temperature = options.number("temp", 0, 1000);
  if (options.given("top-k")) settings.given.top_k = options.integer("top-k", 0);
  if (options.given("top-p")) settings.given.top_p = options.number("top-p", 0, 1);
  if (options.given("min-p")) settings.given.min_p = options.number("min-p", 0, 1);
  if (options.given("repeat-penalty")) settings.given.repeat_penalty = options.number("repeat-penalty", 1e-3, 1000);
}

void declare_generation_options(Options& options) {
  options.value("m,model", "model folder, or an output folder of train (its newest checkpoint)", "DIR");
  declare_family(options);
  options.value("p,prompt", "the text to continue; \"\" starts from BOS alone", "TEXT");
  options.value("f,file",
                "a file with the text to continue; a byte order mark before it and a newline at its end are left out",
                "FILE");
  options.value("prompts-file",
                "many prompts: a line is {\"prompt\": …} or {\"messages\": …}; a JSON line for each comes out", "FILE");
  options.value(
      "batch-size",
      "with --prompts-file: prompts that are continued at once; the next ones follow when all of them are done", "N",
      "64");
  options.flag("chat", "a conversation at the terminal, by the model's chat template");
  options.value("system", "with --chat: the system message", "TEXT");
  options.value("chat-template", "a known one (default: the one of the model's training, else its tokenizer's own)",
                "NAME");
  options.flag("special", "take the names of special tokens in prompts as these tokens");
  options.flag("logprobs", "a JSON line comes out, with ids and the logarithms of their probabilities");
  options.value("n,n-predict", "tokens to generate at most; -1: until the end of the text or of the context", "N",
                "-1");
  options.value("c,ctx-size",
                "the most tokens of prompt and continuation that the model reads; a text may be one longer, as its "
                "last token is written and not read; 0: as many as are needed (without -n 4096 that are read behind "
                "the prompt, in a chat 4096 in all), but no more than the model's positions",
                "N", "0");
  declare_sampling(options);
  options.flag("ignore-eos", "go on past the end of the text");
  options.flag("echo", "print the prompt, too");
  options.value("dtype", "float32 or bfloat16 (default: the checkpoint's)", "WORD");
  options.value("tensor-parallel", "ranks that share each layer, or auto", "auto|N", "auto");
  declare_launch(options);
  declare_backend(options);
}

// One source of prompts, and no option that is for another.
void check_sources(const Options& options) {
  int sources = 0;
  for (const char* source : {"prompt", "file", "prompts-file"}) sources += options.given(source) ? 1 : 0;
  sources += options.is_set("chat") ? 1 : 0;
  require(sources == 1, "generate needs one of -p TEXT, -f FILE, --prompts-file FILE and --chat",
          sources > 1 ? "; leave the others out" : "");
  const bool is_chat = options.is_set("chat"), has_messages = is_chat || options.given("prompts-file");
  if (!is_chat) options.refuse({"system"}, " is for --chat; put it into the prompt");
  if (is_chat) options.refuse({"logprobs"}, " is not for --chat; leave one of them out");
  if (has_messages || options.is_set("logprobs"))
    options.refuse({"echo"}, " is for -p and -f without --logprobs; leave it out");
  if (!has_messages) options.refuse({"chat-template"}, " is for --chat and --prompts-file; leave it out");
  if (!options.given("prompts-file")) options.refuse({"batch-size"}, " is for --prompts-file; leave it out");
}

GenerationSettings generation_settings(const Options& options) {
  GenerationSettings settings;
  settings.model = options.path("model");
  require(!settings.model.empty(), "-m is missing; give a model folder");
  settings.family = options.word("family");
  check_sources(options);
  settings.prompt = options.word("prompt");
  settings.prompt_file = options.word("file");
  settings.prompts_file = options.word("prompts-file");
  settings.batch_size = options.integer("batch-size", 1);
  settings.chat = options.is_set("chat");
  settings.system = options.word("system");
  settings.chat_template.name = options.word("chat-template");
  settings.special = options.is_set("special");
  settings.log_probabilities = options.is_set("logprobs");
  settings.tokens = options.integer("n-predict", -1, largest_context);
  settings.context = options.integer("ctx-size", 0, largest_context);
  read_sampling(options, settings);
  settings.ignore_eos = options.is_set("ignore-eos");
  settings.echo = options.is_set("echo");
  if (options.given("dtype")) settings.dtype = options.dtype("dtype");
  settings.tensor_parallel = options.integer_or_auto("tensor-parallel", most_ranks);
  settings.backend = options.word("backend");
  return settings;
}

}  // namespace

int generate_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] {
    Options options("generate",
                    "Continues a text, or many, or talks. What is generated goes to stdout, all else to stderr.",
                    "mpirun -np 2 ./llama_tp generate -m Llama-3.2-1B -p \"Once upon a time\" -n 100 --temp 0.7");
    declare_generation_options(options);
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    const GenerationSettings settings = generation_settings(options);
    set_launch(options, launch);
    launch.begin(Activity::generating);
    if (settings.chat) return run_chat(settings, launch);
    const bool as_json = !settings.prompts_file.empty() || settings.log_probabilities;
    return as_json ? run_prompts(settings, launch) : run_generation(settings, launch);
  });
}

}  // namespace llama_tp
