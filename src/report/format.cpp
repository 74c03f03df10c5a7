#include "report/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace llama_tp {

namespace {

template <class... Values>
std::string print(const char* format, Values... values) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, values...);
  return buffer.data();
}

}  // namespace

std::string with_commas(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); i++) {
    out.push_back(digits[i]);
    const size_t behind = digits.size() - 1 - i;
    if (behind > 0 && behind % 3 == 0 && digits[i] != '-') out.push_back(',');
  }
  return out;
}

std::string counted(int64_t count, const std::string& noun) {
  return with_commas(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string bytes_text(int64_t bytes) {
  static constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); unit++) value /= 1024;
  return unit == 0 ? print("%.0f B", value) : print("%.2f %s", value, units[unit]);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-:--";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  const auto hours = static_cast<long long>(whole / 3600), minutes = static_cast<long long>(whole / 60 % 60);
  const auto rest = static_cast<long long>(whole % 60);
  return hours > 0 ? print("%lld:%02lld:%02lld", hours, minutes, rest) : print("%lld:%02lld", minutes, rest);
}

std::string fixed(double value, int digits) { return print("%.*f", digits, value); }
std::string mebibytes(double bytes, int digits) { return fixed(bytes / (1 << 20), digits); }
std::string scientific(double value) { return print("%.1e", value); }

std::string ranges_text(std::vector<int64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  std::string out;
  for (size_t first = 0; first < numbers.size();) {
    size_t last = first;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) last++;
    out += (out.empty() ? "" : ", ") + std::to_string(numbers[first]);
    if (last > first) out += "-" + std::to_string(numbers[last]);
    first = last + 1;
  }
  return out;
}

std::string padded(const std::string& text, int width) {
  const auto have = static_cast<int>(text.size());
  return have >= width ? text : std::string(static_cast<size_t>(width - have), ' ') + text;
}

void append_cell(std::string& line, const std::string& cell, int width) {
  const std::string aligned = padded(cell, width);
  const bool would_run_together = !line.empty() && line.back() != ' ' && !aligned.starts_with(' ');
  line += would_run_together ? " " + aligned : aligned;
}

std::string TableWidths::line(const std::string& label_text, const std::vector<std::string>& cells) const {
  std::string all = label_text;
  all.resize(std::max(all.size(), static_cast<size_t>(label)), ' ');
  for (const std::string& one : cells) append_cell(all, one, cell);
  return all.substr(0, all.find_last_not_of(' ') + 1);
}

ByteUnit unit_for(double most) {
  constexpr double kib = 1024, mib = kib * kib, gib = mib * kib;
  if (most >= 4 * gib) return {"GiB", gib};
  if (most >= 4 * mib) return {"MiB", mib};
  return {"KiB", kib};
}

}  // namespace llama_tp
