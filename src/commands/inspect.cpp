// The parameter table: what the checkpoint calls each tensor, how the plan splits it, and the slice of one rank.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/json.h"
#include "base/parse_count.h"
#include "commands/commands.h"
#include "commands/inspect_data.h"
#include "commands/options.h"
#include "io/checkpoint_files.h"
#include "io/files.h"
#include "model/checkpoint.h"
#include "model/infer_family.h"
#include "model/parameters.h"
#include "parallel/launch.h"
#include "report/format.h"
#include "report/output.h"

namespace llama_tp {

namespace {

std::string slice_text(const Parameter& row) {
  const int64_t first = row.begin + (row.axis == 0 ? row.file_row : 0);
  const std::string range = std::to_string(first) + ":" + std::to_string(first + row.count);
  if (row.axis < 0 && row.shape == row.file_shape) return "whole";
  if (row.axis < 0) return text("[", row.file_row, ":", row.file_row + row.shape[0], ", :]");
  if (row.axis == 1) return text("[:, ", range, "]");
  return row.shape.rank() > 1 ? text("[", range, ", :]") : text("[", range, "]");
}

int64_t local_elements(const Parameter& row) {
  return row.axis < 0 ? row.shape.elements() : row.shape.elements() / row.shape[row.axis] * row.count;
}

// What is printed of a parameter, with that of all layers in which it is the same.
struct Line {
  std::string before, behind;   // the name, around the number of the layer
  std::vector<int64_t> layers;  // none: outside of the blocks
  std::string shape, style, slice;

  bool like(const Line& other) const {
    return before == other.before && behind == other.behind && layers.empty() == other.layers.empty() &&
           shape == other.shape && style == other.style && slice == other.slice;
  }
  // model.layers.{0-31}.mlp.down_proj.weight
  std::string name() const {
    if (layers.empty()) return before;
    const std::string numbers = ranges_text(layers);
    return before + (layers.size() > 1 ? "{" + numbers + "}" : numbers) + behind;
  }
};

// The number of a layer stands alone between two dots.
Line line_of(const Parameter& row) {
  const std::string replicas = row.replicas > 1 ? "  (the same on " + std::to_string(row.replicas) + " ranks)" : "";
  Line line{row.name, "", {}, text(row.shape), row.style, slice_text(row) + replicas};
  for (size_t dot = row.name.find('.'); dot != std::string::npos; dot = row.name.find('.', dot + 1)) {
    const size_t next = row.name.find('.', dot + 1);
    if (next == std::string::npos) break;
    const std::optional<int64_t> layer = parse_count(row.name.substr(dot + 1, next - dot - 1), 0, INT64_MAX);
    if (!layer.has_value()) continue;
    line.before = row.name.substr(0, dot + 1);
    line.behind = row.name.substr(next);
    line.layers.push_back(*layer);
    break;
  }
  return line;
}

std::vector<Line> lines_of(const Parameters& parameters) {
  std::vector<Line> lines;
  for (const Parameter& row : parameters.rows()) {
    const Line line = line_of(row);
    const auto known = std::find_if(lines.begin(), lines.end(), [&](const Line& one) { return one.like(line); });
    if (known == lines.end())
      lines.push_back(line);
    else
      known->layers.insert(known->layers.end(), line.layers.begin(), line.layers.end());
  }
  return lines;
}

void print_table(const ModelConfig& config, const Parameters& parameters, int64_t rank, int64_t size) {
  const std::vector<Line> lines = lines_of(parameters);
  size_t width = 4, shape_width = 5;
  for (const Line& line : lines) {
    width = std::max(width, line.name().size());
    shape_width = std::max(shape_width, line.shape.size());
  }
  const int name_columns = static_cast<int>(width), shape_columns = static_cast<int>(shape_width);
  std::printf("%-*s  %-*s  %-22s  slice of rank %lld of %lld\n", name_columns, "name", shape_columns, "shape", "style",
              static_cast<long long>(rank), static_cast<long long>(size));
  for (const Line& line : lines)
    std::printf("%-*s  %-*s  %-22s  %s\n", name_columns, line.name().c_str(), shape_columns, line.shape.c_str(),
                line.style.c_str(), line.slice.c_str());
  int64_t whole = 0, local = 0;
  for (const Parameter& row : parameters.rows()) {
    whole += row.shape.elements();
    local += local_elements(row);
  }
  std::printf("%s family, %s parameters, %s of them on this rank%s\n", config.family->name.c_str(),
              with_commas(whole).c_str(), with_commas(local).c_str(), config.tied ? "; the head is the embedding" : "");
}

OrderedJson extents(const Shape& shape) {
  OrderedJson out = OrderedJson::array();
  for (int axis = 0; axis < shape.rank(); axis++) out.push_back(shape[axis]);
  return out;
}

void print_json(const ModelConfig& config, int64_t size) {
  OrderedJson rows = OrderedJson::array();
  for (int64_t rank = 0; rank < size; rank++) {
    const Parameters parameters(config, rank, size);
    for (size_t i = 0; i < parameters.rows().size(); i++) {
      const Parameter& row = parameters.rows()[i];
      if (rank == 0)
        rows.push_back({{"name", row.name},
                        {"shape", extents(row.shape)},
                        {"first_row", row.file_row},
                        {"style", row.style},
                        {"axis", row.axis < 0 ? OrderedJson() : OrderedJson(row.axis)},
                        {"replicas", row.replicas},
                        {"slices", OrderedJson::array()}});
      rows[i]["slices"].push_back({row.begin, row.begin + row.count});
    }
  }
  const OrderedJson table{{"family", config.family->name}, {"tensor_parallel", size}, {"parameters", rows}};
  std::printf("%s\n", json_text(table, 1).c_str());
}

// Writes what the tensors tell, and says what they do not show.
FamilyPointer infer(const Options& options, const std::string& folder, const std::string& config_file, bool speaks) {
  require(!folder.empty() && !options.given("family"), "--infer needs -m DIR, and no --family");
  const InferredFamily found = infer_family(ModelFiles(folder), config_file);
  const std::string file = options.word("infer");
  FamilyPointer family = parse_family(found.text, file);
  if (!speaks) return family;
  require(!file_exists(file), file, ": exists already; remove it first, or name another file");
  write_text(file, found.text);
  std::fprintf(stderr, "%s: written; --family %s makes the other commands take it\n", file.c_str(), file.c_str());
  std::fprintf(stderr, "%s: assumed, as no tensor shows it: %s\n", file.c_str(), found.assumed.c_str());
  return family;
}

void check_table_options(const Options& options) {
  options.refuse(
      {"tokenizer", "samples", "block-size", "chat-template", "assistant-only-loss", "truncation", "packing"},
      " is for --data; give its file, too, or leave it out");
  if (options.is_set("json"))
    options.refuse({"rank"}, " does not go with --json, which has all ranks; leave one of them out");
}

// speaks: of ranks that mpirun started, all look and one prints.
int inspect(const Arguments& arguments, bool speaks, bool on_terminal) {
  Options options(
      "inspect",
      "Shows the parameter table: names, shapes, styles of the plan and a rank's slices, equal layers in one line. No "
      "weights are read. Or, with --data, what of a data file is learned.",
      "./llama_tp inspect -m Llama-3.1-8B --tensor-parallel 8");
  options.value("m,model", "model folder, or an output folder of train", "DIR");
  options.value("config", "a config.json instead, or a well-known model's name", "FILE|NAME");
  declare_family(options);
  options.value("infer", "find the family of a model that none lists, from its tensors, and write it", "FILE");
  options.value("tensor-parallel", "ranks that share each layer", "N", "1");
  options.value("rank", "whose slices to show", "N", "0");
  options.flag("json", "all ranks' slices as JSON");
  declare_inspect_data(options);
  if (!options.parse(arguments, speaks)) return 0;
  if (options.given("data")) {
    // https://no-color.org
    const char* const no_colour = std::getenv("NO_COLOR");
    if (speaks) inspect_data(options, on_terminal && (no_colour == nullptr || *no_colour == '\0'));
    return 0;
  }
  check_table_options(options);
  require(options.given("model") != options.given("config"), "inspect needs either -m DIR or --config FILE|NAME");
  const std::string folder = options.given("model") ? resolve_model_folder(options.path("model")) : "";
  const std::string file = options.given("config") ? options.word("config") : folder + "/config.json";
  const FamilyPointer family =
      options.given("infer") ? infer(options, folder, file, speaks) : read_family_file(options.word("family"));
  const ModelConfig config = read_model_config(file, family);
  const int64_t size = options.integer("tensor-parallel", 1), rank = options.integer("rank", 0);
  require(rank < size, "--rank ", rank, " is not one of the ", size, " ranks of --tensor-parallel");
  const Parameters parameters(config, rank, size);
  if (!folder.empty() && holds_safetensors(folder)) check_tensor_headers(ModelFiles(folder), config, parameters);
  if (!speaks) return 0;
  for (const std::string& line : left_out_of(config)) std::fprintf(stderr, "%s\n", line.c_str());
  if (options.is_set("json"))
    print_json(config, size);
  else
    print_table(config, parameters, rank, size);
  flush_stdout();
  return 0;
}

}  // namespace

int inspect_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] { return inspect(arguments, launch.rank() == 0, launch.stdout_is_terminal()); });
}

}  // namespace llama_tp
