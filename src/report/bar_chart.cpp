#include <algorithm>
#include <numeric>

#include "report/charts.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr double bar_height = 22, row_height = 30, heading_height = 26;

double sum(const Bar& bar) { return std::accumulate(bar.segments.begin(), bar.segments.end(), 0.0); }

// White letters on dark colors.
bool is_dark(const std::string& color) {
  const auto channel = [&](size_t at) { return std::stoi(color.substr(at, 2), nullptr, 16); };
  return 299 * channel(1) + 587 * channel(3) + 114 * channel(5) < 140'000;
}

void draw_bar(Svg& svg, const BarChart& chart, const Bar& bar, const Axis& axis, double y, int digits) {
  double done = 0;
  for (size_t i = 0; i < bar.segments.size(); i++) {
    const double begin = axis.at(done), end = axis.at(done + bar.segments[i]);
    done += bar.segments[i];
    if (bar.segments[i] <= 0) continue;
    const std::string value = fixed(bar.segments[i], digits);
    svg.rectangle(begin, y, end - begin, bar_height, chart.series[i].color,
                  chart.series[i].name + ": " + value + " " + chart.unit);
    if (label_width(value) + 6 < end - begin)
      svg.label((begin + end) / 2, y + 15, value, Anchor::middle, is_dark(chart.series[i].color) ? "#ffffff" : ink);
  }
  svg.label(axis.at(done) + 6, y + 15, fixed(done, digits), Anchor::start, ink, true);
}

}  // namespace

std::string draw(const BarChart& chart) {
  double most = 0, left = 0;
  for (const Bar& bar : chart.bars) {
    most = std::max(most, sum(bar));
    left = std::max(left, label_width(bar.name) + 16);
  }
  const int digits = most < 10 ? 2 : most < 100 ? 1 : 0;
  const double right = chart_width - label_width(fixed(most, digits), true) - 24;
  Svg svg(chart_width, chart.title);
  const double top = draw_legend(svg, chart.series, left, 4, chart_width - 4) + 8;
  double bottom = top;
  for (size_t i = 0; i < chart.bars.size(); i++)
    bottom += row_height + (i == 0 || chart.bars[i].group != chart.bars[i - 1].group ? heading_height : 0);
  const Axis axis(most, left, right, 6);
  draw_x_axis(svg, axis, top, bottom, chart.unit);
  double y = top;
  for (size_t i = 0; i < chart.bars.size(); i++) {
    const Bar& bar = chart.bars[i];
    if (i == 0 || bar.group != chart.bars[i - 1].group) {
      svg.rectangle(0, y, label_width(bar.group, true) + 14, heading_height, "#ffffff");
      svg.label(4, y + 18, bar.group, Anchor::start, ink, true);
      y += heading_height;
    }
    svg.label(left - 8, y + 15, bar.name, Anchor::end);
    draw_bar(svg, chart, bar, axis, y, digits);
    y += row_height;
  }
  return svg.text(bottom + 38);
}

}  // namespace llama_tp
