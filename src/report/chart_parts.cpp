#include "report/chart_parts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "report/format.h"

namespace llama_tp {

namespace {

constexpr double rounding = 1e-9;  // of quotients that are whole numbers

}  // namespace

Axis::Axis(double most, double begin, double end, int ticks, Limit limit) : begin_(begin), end_(end) {
  most = most > 0 ? most : 1;
  const double wanted = most / ticks, power = std::pow(10, std::floor(std::log10(wanted)));
  double step = 10 * power;
  for (const double round : {5.0, 2.0, 1.0})
    if (round * power >= wanted * (1 - rounding)) step = round * power;
  digits_ = std::max(0, static_cast<int>(-std::floor(std::log10(step) + rounding)));
  const double steps = limit == Limit::round ? std::ceil(most / step - rounding) : std::floor(most / step + rounding);
  for (int i = 0; i <= static_cast<int>(steps); i++) ticks_.push_back(i * step);
  limit_ = limit == Limit::round ? ticks_.back() : most;
}

std::string Axis::text(double tick) const { return fixed(tick, digits_); }

void draw_x_axis(Svg& svg, const Axis& axis, double top, double bottom, const std::string& unit) {
  for (const double tick : axis.ticks()) {
    svg.line({{axis.at(tick), top}, {axis.at(tick), bottom}}, grid_ink);
    svg.label(axis.at(tick), bottom + 15, axis.text(tick), Anchor::middle, faint_ink);
  }
  svg.label(axis.end(), bottom + 31, unit, Anchor::end, faint_ink);
}

void draw_y_axis(Svg& svg, const Axis& axis, double left, double right, const std::string& unit) {
  for (const double tick : axis.ticks()) {
    svg.line({{left, axis.at(tick)}, {right, axis.at(tick)}}, grid_ink);
    svg.label(left - 6, axis.at(tick) + 4, axis.text(tick), Anchor::end, faint_ink);
  }
  svg.label(left - 6, axis.at(axis.ticks().back()) - 12, unit, Anchor::end, faint_ink);
}

double draw_legend(Svg& svg, const std::vector<Series>& entries, double left, double top, double right) {
  double x = left, y = top;
  for (const Series& entry : entries) {
    const double width = 18 + label_width(entry.name) + 16;
    if (x > left && x + width > right) {
      x = left;
      y += line_height;
    }
    svg.rectangle(x, y + 3, 12, 12, entry.color);
    svg.label(x + 18, y + 13, entry.name);
    x += width;
  }
  return y + line_height;
}

std::vector<double> apart(const std::vector<double>& wanted, double distance, double least, double most) {
  std::vector<size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> placed = wanted;
  double free_from = least;
  for (const size_t i : order) {
    placed[i] = std::max(wanted[i], free_from);
    free_from = placed[i] + distance;
  }
  double free_to = most;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    placed[*i] = std::min(placed[*i], free_to);
    free_to = placed[*i] - distance;
  }
  return placed;
}

}  // namespace llama_tp
