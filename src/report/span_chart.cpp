#include <algorithm>

#include "report/charts.h"

namespace llama_tp {

namespace {

constexpr double span_height = 15, lane_gap = 10, least_width = 0.6;

}  // namespace

std::string draw(const SpanChart& chart) {
  double most = 0, left = 0;
  for (const Lane& lane : chart.lanes) {
    left = std::max(left, label_width(lane.name) + 16);
    for (const std::vector<Span>& row : lane.rows)
      if (!row.empty()) most = std::max(most, row.back().end);
  }
  Svg svg(chart_width, chart.title);
  const double top = draw_legend(svg, chart.kinds, left, 4, chart_width - 4) + 8;
  double bottom = top;
  for (const Lane& lane : chart.lanes) bottom += span_height * static_cast<double>(lane.rows.size()) + lane_gap;
  const Axis axis(most, left, chart_width - 24, 10, Limit::exact);
  draw_x_axis(svg, axis, top, bottom, chart.unit);
  double y = top + lane_gap / 2;
  for (const Lane& lane : chart.lanes) {
    svg.label(left - 8, y + span_height * static_cast<double>(lane.rows.size()) / 2 + 4, lane.name, Anchor::end);
    for (const std::vector<Span>& row : lane.rows) {
      for (const Span& span : row)
        svg.rectangle(axis.at(span.begin), y, std::max(least_width, axis.at(span.end) - axis.at(span.begin)),
                      span_height - 1, chart.kinds[span.kind].color, span.hint);
      y += span_height;
    }
    y += lane_gap;
  }
  return svg.text(bottom + 38);
}

}  // namespace llama_tp
