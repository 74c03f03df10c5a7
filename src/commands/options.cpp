#include "commands/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cxxopts.hpp>
#include <set>
#include <sstream>

namespace llama_tp {

struct Options::Parser {
  std::string command;
  cxxopts::Options options;
  cxxopts::ParseResult result;
  std::set<std::string> with_value;           // "-m", "--model", …
  std::set<std::string> with_optional_value;  // "--resume-from-checkpoint"
  std::set<std::string> with_list;            // "--compare"
};

namespace {

// "--max_steps=5" → "--max-steps=5"
std::string with_hyphens(std::string argument) {
  const auto end = argument.begin() + static_cast<int64_t>(std::min(argument.find('='), argument.size()));
  std::replace(argument.begin(), end, '_', '-');
  return argument;
}

// As a person writes it: 0.9999999, 1e-09.
std::string shortest(double value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), value).ptr;
  return {digits.begin(), end};
}

// The number that a text begins with, and how many letters it has: 0 where there is none.
std::pair<double, size_t> leading_number(const std::string& written) {
  size_t used = 0;
  try {
    const double value = std::stod(written, &used);
    return {value, used};
  } catch (const std::exception&) {
    return {0, 0};
  }
}

}  // namespace

Options::Options(const std::string& command, const std::string& what_it_does, const std::string& example)
    : parser_(new Parser{command,
                         cxxopts::Options("llama_tp " + command, what_it_does + "\n\n  $ " + example + "\n"),
                         {},
                         {},
                         {},
                         {}}) {
  parser_->options.custom_help("[options]");
  parser_->options.set_width(120);
  flag("h,help", "this text");
}

Options::~Options() = default;

void declare_family(Options& options) {
  options.value("family", "a family file, where no family lists config.json's model_type", "FILE");
}

void Options::flag(const std::string& names, const std::string& help) { parser_->options.add_options()(names, help); }

void Options::value(const std::string& names, const std::string& help, const std::string& value_name,
                    const std::string& otherwise) {
  const auto value = cxxopts::value<std::string>();
  parser_->options.add_options()(names, help, otherwise.empty() ? value : value->default_value(otherwise), value_name);
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');)
    parser_->with_value.insert((name.size() == 1 ? "-" : "--") + name);
}

void Options::optional_value(const std::string& name, const std::string& help, const std::string& value_name,
                             const std::string& implied) {
  const auto value = cxxopts::value<std::string>()->implicit_value(implied);
  parser_->options.add_options()(name, help, value, value_name);
  parser_->with_optional_value.insert("--" + name);
}

void Options::list(const std::string& name, const std::string& help, const std::string& value_name) {
  parser_->options.add_options()(name, help, cxxopts::value<std::string>(), value_name);
  parser_->with_list.insert("--" + name);
}

bool Options::parse(const std::vector<std::string>& arguments, bool speaks) {
  std::vector<std::string> spelled{"llama_tp " + parser_->command};
  bool is_value = false;  // of the option before: text, whatever it looks like
  for (const std::string& argument : arguments) {
    // cxxopts takes an optional value only from behind "=".
    if (!argument.starts_with("-") && parser_->with_optional_value.contains(spelled.back())) {
      spelled.back() += "=" + argument;
      continue;
    }
    // A list is one value to cxxopts: its words behind "=", with spaces between them.
    const std::string& last = spelled.back();
    const size_t sign = last.find('=');
    if (!argument.starts_with("-") && parser_->with_list.contains(last.substr(0, sign))) {
      spelled.back() += (sign == std::string::npos ? "=" : " ") + argument;
      continue;
    }
    spelled.push_back(!is_value && argument.starts_with("--") ? with_hyphens(argument) : argument);
    is_value = !is_value && parser_->with_value.contains(spelled.back());
  }
  std::vector<const char*> pointers;
  for (const std::string& argument : spelled) pointers.push_back(argument.c_str());
  try {
    parser_->result = parser_->options.parse(static_cast<int>(pointers.size()), pointers.data());
  } catch (const cxxopts::exceptions::exception& error) {
    fail(parser_->command, ": ", error.what(), "; llama_tp ", parser_->command, " --help shows the options");
  }
  if (parser_->result.count("help") > 0) {
    if (speaks) std::printf("%s", parser_->options.help().c_str());
    return false;
  }
  const std::vector<std::string> rest = parser_->result.unmatched();
  require(rest.empty(), parser_->command, ": \"", rest.empty() ? "" : rest.front(), "\" is no option; llama_tp ",
          parser_->command, " --help shows the options");
  return true;
}

bool Options::given(const std::string& name) const { return parser_->result.count(name) > 0; }
bool Options::is_set(const std::string& flag_name) const {
  return given(flag_name) && parser_->result[flag_name].as<bool>();
}

bool Options::is_on(const std::string& name) const {
  const std::string written = word(name);
  require(written == "on" || written == "off", "--", name, " ", written, " is not known; it can be on or off");
  return written == "on";
}

std::string Options::word(const std::string& name) const {
  return given(name) || parser_->result[name].has_default() ? parser_->result[name].as<std::string>() : "";
}

std::vector<std::string> Options::words(const std::string& name) const {
  std::istringstream stream(word(name));
  std::vector<std::string> all;
  for (std::string one; stream >> one;) all.push_back(one);
  return all;
}

std::string Options::path(const std::string& name) const {
  std::string written = word(name);
  while (written.size() > 1 && written.ends_with('/')) written.pop_back();
  return written;
}

int64_t Options::integer(const std::string& name, int64_t least, int64_t most) const {
  const std::string written = word(name);
  int64_t value = 0;
  size_t used = 0;
  try {
    value = std::stoll(written, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  require(used == written.size() && used > 0, "--", name, " \"", written, "\" is not a whole number");
  require(value >= least, "--", name, " ", written, " must be ", least, " or more");
  require(value <= most, "--", name, " ", written, " must be ", most, " or less");
  return value;
}

int64_t Options::bytes(const std::string& name) const {
  constexpr std::pair<std::string_view, double> units[] = {
      {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"KB", 1e3},
      {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"B", 1},        {"", 1}};
  const std::string written = word(name);
  const auto [value, used] = leading_number(written);
  for (const auto& [unit, bytes] : units)
    if (used > 0 && written.substr(used) == unit && value * bytes >= 1 && value * bytes < 1e18)
      return static_cast<int64_t>(value * bytes);
  fail("--", name, " ", written, " is no amount of memory; give it like 80GiB or 80GB");
}

double Options::number(const std::string& name, double least, double most) const {
  const std::string written = word(name);
  const auto [value, used] = leading_number(written);
  require(used == written.size() && used > 0 && std::isfinite(value), "--", name, " \"", written, "\" is not a number");
  require(value >= least && value <= most, "--", name, " ", written, " must lie between ", shortest(least), " and ",
          shortest(most));
  return value;
}

DType Options::dtype(const std::string& name, DType otherwise) const {
  const std::string written = word(name);
  if (written.empty()) return otherwise;
  const std::optional<DType> dtype = dtype_with_torch_name(written);
  require(dtype == DType::f32 || dtype == DType::bf16, "--", name, " ", written,
          " is not known; it can be float32 or bfloat16");
  return *dtype;
}

int64_t Options::integer_or_auto(const std::string& name) const { return word(name) == "auto" ? 0 : integer(name, 1); }

}  // namespace llama_tp
