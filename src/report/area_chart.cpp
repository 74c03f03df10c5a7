#include <algorithm>
#include <numeric>

#include "report/charts.h"

namespace llama_tp {

namespace {

constexpr double panel_height = 130, panel_gap = 66, strip_height = 8;

double sum(const AreaPoint& point) { return std::accumulate(point.values.begin(), point.values.end(), 0.0); }

// What a column of pixels shows of the moments in it: the one with the highest sum, so that no peak is lost; where
// nothing changes, what holds on from before.
std::vector<const AreaPoint*> columns(const AreaPanel& panel, const Axis& x, double right) {
  std::vector<const AreaPoint*> shown;
  size_t next = 0;
  const AreaPoint* holding = &panel.points.front();
  for (double pixel = axis_left; pixel < std::min(right, x.at(panel.end)); pixel++) {
    const AreaPoint* highest = holding;
    for (; next < panel.points.size() && x.at(panel.points[next].time) < pixel + 1; next++) {
      holding = &panel.points[next];
      if (sum(*holding) > sum(*highest)) highest = holding;
    }
    shown.push_back(highest);
  }
  return shown;
}

// The outline of one series over those below it: two points where it steps, none where it is flat.
void draw_series(Svg& svg, const std::vector<const AreaPoint*>& shown, size_t series, const std::string& color,
                 const Axis& y) {
  const auto edge = [&](size_t count) {
    Points points;
    for (size_t column = 0; column < shown.size(); column++) {
      const auto& values = shown[column]->values;
      const double height = y.at(std::accumulate(values.begin(), values.begin() + static_cast<int64_t>(count), 0.0));
      const double pixel = axis_left + static_cast<double>(column);
      if (points.empty() || points.back().second != height) {
        if (!points.empty()) points.emplace_back(pixel, points.back().second);
        points.emplace_back(pixel, height);
      }
    }
    points.emplace_back(axis_left + static_cast<double>(shown.size()), points.back().second);
    return points;
  };
  Points outline = edge(series + 1);
  const Points below = edge(series);
  outline.insert(outline.end(), below.rbegin(), below.rend());
  svg.area(outline, color);
}

}  // namespace

std::string draw(const AreaChart& chart) {
  double most = 0, longest = 0;
  for (const AreaPanel& panel : chart.panels) {
    longest = std::max(longest, panel.end);
    for (const AreaPoint& point : panel.points) most = std::max(most, sum(point));
  }
  const double right = chart_width - 24;
  Svg svg(chart_width, chart.title);
  double top = draw_legend(svg, chart.series, axis_left, 4, chart_width - 4);
  top = draw_legend(svg, chart.kinds, axis_left, top, chart_width - 4) + 34;
  const Axis x(longest, axis_left, right, 10, Limit::exact);
  for (const AreaPanel& panel : chart.panels) {
    const Axis y(most, top + panel_height, top, 4);
    svg.label(axis_left, top - strip_height - 8, panel.name, Anchor::start, ink, true);
    draw_y_axis(svg, y, axis_left, right, chart.unit);
    draw_x_axis(svg, x, top, top + panel_height, chart.time_unit);
    const std::vector<const AreaPoint*> shown = columns(panel, x, right);
    for (size_t series = 0; series < chart.series.size(); series++)
      if (std::any_of(shown.begin(), shown.end(), [&](const AreaPoint* point) { return point->values[series] > 0; }))
        draw_series(svg, shown, series, chart.series[series].color, y);
    for (const Span& span : panel.spans)
      svg.rectangle(x.at(span.begin), top - strip_height, x.at(span.end) - x.at(span.begin), strip_height,
                    chart.kinds[span.kind].color, span.hint);
    top += panel_height + panel_gap;
  }
  return svg.text(top - panel_gap + 40);
}

}  // namespace llama_tp
