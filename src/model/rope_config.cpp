#include "model/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace llama_tp {

namespace {

struct KindName {
  const char* word;
  RopeKind kind;
};
constexpr std::array<KindName, 7> kinds{{{"default", RopeKind::standard},
                                         {"linear", RopeKind::linear},
                                         {"dynamic", RopeKind::dynamic},
                                         {"llama3", RopeKind::llama3},
                                         {"yarn", RopeKind::yarn},
                                         {"longrope", RopeKind::longrope},
                                         {"su", RopeKind::longrope}}};  // longrope's first name

// What each kind's values hold: all is read but what dynamic NTK calls the original, which is the model's own.
// (partial_rotary_factor is an option of the families.)
std::set<std::string> names_read(RopeKind kind) {
  std::set<std::string> names{"type", "rope_type", "rope_theta", "partial_rotary_factor"};
  if (kind != RopeKind::standard) names.insert("factor");
  if (kind != RopeKind::standard && kind != RopeKind::linear) names.insert("original_max_position_embeddings");
  if (kind == RopeKind::llama3) names.insert({"low_freq_factor", "high_freq_factor"});
  if (kind == RopeKind::yarn) names.insert({"beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim"});
  if (kind == RopeKind::longrope) names.insert({"short_factor", "long_factor"});
  if (kind == RopeKind::yarn || kind == RopeKind::longrope) names.insert("attention_factor");
  return names;
}

// Values of rope_scaling or rope_parameters.
class RopeValues {
 public:
  RopeValues(const ConfigReader& reader, const char* key)
      : reader_(reader), key_(key), values_(reader.has(key) ? reader[key] : OrderedJson::object()) {
    require(values_.is_object(), reader.source(), ": ", key, " is ", shown(values_), "; it must be an object");
    for (const auto& [name, value] : values_.items())
      require(!value.is_object(), reader.source(), ": ", key, ".", name,
              " is an object; rotary parameters that differ between layers are not implemented");
  }

  bool has(const char* name) const { return values_.contains(name) && !values_[name].is_null(); }
  bool has_nonzero(const char* name) const { return has(name) && values_[name] != 0; }
  std::string named(const char* name) const { return std::string(key_) + "." + name; }
  double number(const char* name, double otherwise) const {
    return has(name) ? reader_.number_of(named(name), values_[name]) : otherwise;
  }
  double needed(const char* name) const {
    need(name);
    return reader_.number_of(named(name), values_[name]);
  }
  bool flag(const char* name, bool otherwise) const {
    if (!has(name)) return otherwise;
    require(values_[name].is_boolean(), reader_.source(), ": ", named(name), " is ", shown(values_[name]),
            "; it must be true or false");
    return values_[name].get<bool>();
  }
  // A positive number for each pair of elements that rotates.
  std::vector<float> list(const char* name, int64_t count) const {
    need(name);
    require(values_[name].is_array() && static_cast<int64_t>(values_[name].size()) == count, reader_.source(), ": ",
            named(name), " must be an array of ", count, " numbers, one for each pair of elements that rotates");
    std::vector<float> numbers;
    for (const OrderedJson& value : values_[name])
      numbers.push_back(static_cast<float>(reader_.number_of(named(name), value)));
    return numbers;
  }
  // Of the context that the model was first trained for. As in transformers, what stands beside these values counts
  // before what stands among them.
  int64_t original_positions(int64_t otherwise) const {
    if (const std::optional<int64_t> beside = reader_.size_if("original_positions")) return *beside;
    const char* name = "original_max_position_embeddings";
    return has(name) ? reader_.size_of(named(name), values_[name]) : otherwise;
  }
  std::string word() const {
    if (!has(type_key())) return "default";
    const OrderedJson& value = values_[type_key()];
    require(value.is_string(), reader_.source(), ": ", named(type_key()), " is ", shown(value),
            "; it must be a string");
    return value.get<std::string>();
  }
  RopeKind kind() const {
    const std::string said = word();
    // Phi-3's first files say yarn where they mean longrope, and only that has lists.
    if (said == "yarn" && has("short_factor") && has("long_factor")) return RopeKind::longrope;
    const auto* const found =
        std::find_if(kinds.begin(), kinds.end(), [&](const KindName& known) { return known.word == said; });
    require(found != kinds.end(), reader_.source(), ": ", named(type_key()), " \"", said,
            "\" is not implemented; known: default, linear, dynamic, llama3, yarn, longrope");
    return found->kind;
  }
  std::vector<std::string> unread() const {
    const std::set<std::string> known = names_read(kind());
    std::vector<std::string> names;
    for (const auto& [name, value] : values_.items())
      if (!value.is_null() && !known.contains(name)) names.push_back(named(name.c_str()));
    return names;
  }

 private:
  const char* type_key() const { return has("rope_type") ? "rope_type" : "type"; }
  void need(const char* name) const {
    require(has(name), reader_.source(), ": ", named(name), " is missing; rope_type ", word(), " needs it");
  }

  const ConfigReader& reader_;
  const char* key_;
  OrderedJson values_;
};

void read_llama3(const ConfigReader& reader, const RopeValues& values, RopeConfig& rope) {
  rope.low_frequency_factor = values.needed("low_freq_factor");
  rope.high_frequency_factor = values.needed("high_freq_factor");
  require(rope.high_frequency_factor > rope.low_frequency_factor, reader.source(), ": ",
          values.named("high_freq_factor"), " (", rope.high_frequency_factor, ") must be above low_freq_factor (",
          rope.low_frequency_factor, ")");
}

// 1 + 0.1 m ln s (Peng et al. 2023)
double yarn_magnitude(double stretch, double weight) { return stretch <= 1 ? 1 : 0.1 * weight * std::log(stretch) + 1; }

void read_yarn(const RopeValues& values, RopeConfig& rope) {
  // transformers takes a zero as not given, of a beta as of an mscale.
  rope.fast_rotations = values.has_nonzero("beta_fast") ? values.needed("beta_fast") : 32;
  rope.slow_rotations = values.has_nonzero("beta_slow") ? values.needed("beta_slow") : 1;
  rope.whole_bounds = values.flag("truncate", true);
  const bool both = values.has_nonzero("mscale") && values.has_nonzero("mscale_all_dim");
  const double magnitude = both ? yarn_magnitude(rope.factor, values.needed("mscale")) /
                                      yarn_magnitude(rope.factor, values.needed("mscale_all_dim"))
                                : yarn_magnitude(rope.factor, 1);
  rope.magnitude = values.number("attention_factor", magnitude);
}

void read_longrope(const RopeValues& values, int64_t rotary_dim, RopeConfig& rope) {
  rope.short_factors = values.list("short_factor", rotary_dim / 2);
  rope.long_factors = values.list("long_factor", rotary_dim / 2);
  const double original = static_cast<double>(rope.original_max_positions);
  const double magnitude = rope.factor <= 1 ? 1 : std::sqrt(1 + std::log(rope.factor) / std::log(original));
  rope.magnitude = values.number("attention_factor", magnitude);
}

}  // namespace

RopeConfig read_rope(const ConfigReader& reader, int64_t rotary_dim, int64_t max_positions) {
  const RopeValues values(reader, reader.rope_key());
  RopeConfig rope;
  rope.theta = reader.positive("rope_theta");
  rope.kind = values.kind();
  rope.unread = values.unread();
  if (rope.kind == RopeKind::standard) return rope;
  rope.original_max_positions =
      rope.kind == RopeKind::dynamic ? max_positions : values.original_positions(max_positions);
  const double stretch = static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  const bool told = rope.kind != RopeKind::longrope && rope.kind != RopeKind::yarn;
  rope.factor = told ? values.needed("factor") : values.number("factor", stretch);
  // A ratio may be less: of a context that was made shorter than the original.
  require(rope.factor >= 1 || !values.has("factor"), reader.source(), ": ", values.named("factor"), " is ", rope.factor,
          "; it must be 1 or more");
  if (rope.kind == RopeKind::llama3) read_llama3(reader, values, rope);
  if (rope.kind == RopeKind::yarn) read_yarn(values, rope);
  if (rope.kind == RopeKind::longrope) read_longrope(values, rotary_dim, rope);
  return rope;
}

}  // namespace llama_tp
