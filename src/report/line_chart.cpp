#include <algorithm>
#include <array>

#include "report/charts.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr double plot_height = 300, plot_top = 34;

// Told apart by dashes on paper without colors. (Okabe & Ito 2008)
constexpr std::array<const char*, 6> colors{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#333333"};
constexpr std::array<const char*, 6> dash_patterns{"", "7 3", "2 3", "10 3 2 3", "4 2", "12 4"};

const char* color_of(size_t line) { return colors[line % colors.size()]; }
// The next line of the same color has other dashes.
const char* dashes_of(size_t line) { return dash_patterns[(line + line / colors.size()) % dash_patterns.size()]; }

}  // namespace

std::string draw(const LineChart& chart) {
  double most = 0, name_width = 0;
  for (const std::vector<double>& line : chart.lines)
    most = std::max(most, *std::max_element(line.begin(), line.end()));
  for (const std::string& name : chart.names) name_width = std::max(name_width, label_width(name, true));
  const double right = chart_width - name_width - 34;
  Svg svg(chart_width, chart.title);
  const double last = chart.x.back();
  const int x_ticks = static_cast<int>(std::clamp(last, 1.0, 8.0));  // none between whole numbers
  const Axis y(most, plot_top + plot_height, plot_top, 6), x(last, axis_left, right, x_ticks, Limit::exact);
  draw_y_axis(svg, y, axis_left, right, chart.unit);
  draw_x_axis(svg, x, plot_top, plot_top + plot_height, chart.x_name);
  std::vector<double> ends;
  for (size_t i = 0; i < chart.lines.size(); i++) {
    Points points;
    for (size_t k = 0; k < chart.lines[i].size(); k++) {
      points.emplace_back(x.at(chart.x[k]), y.at(chart.lines[i][k]));
      if (chart.x.size() <= 32) svg.circle(points.back().first, points.back().second, 3, color_of(i));
    }
    svg.line(points, color_of(i), 2, dashes_of(i));
    ends.push_back(points.back().second);
  }
  const std::vector<double> places = apart(ends, letter_height + 3, plot_top, plot_top + plot_height);
  for (size_t i = 0; i < ends.size(); i++) {
    const double end = x.at(chart.x[chart.lines[i].size() - 1]);
    svg.line({{end + 4, ends[i]}, {right + 18, places[i]}}, color_of(i));
    svg.label(right + 22, places[i] + 4, chart.names[i], Anchor::start, color_of(i), true);
  }
  return svg.text(plot_top + plot_height + 38);
}

}  // namespace llama_tp
