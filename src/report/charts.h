// The chart types, each a function from data to a whole SVG. Values are in the unit that is named; times begin at 0.
#pragma once

#include "report/chart_parts.h"

namespace llama_tp {

// ---- one horizontal bar a row, of segments in the order of the series, its sum behind it
struct Bar {
  std::string group;  // a heading stands above the first row of a group
  std::string name;
  std::vector<double> segments;  // one a series
};
struct BarChart {
  std::string title, unit;
  std::vector<Series> series;
  std::vector<Bar> bars;
};
std::string draw(const BarChart& chart);

// ---- values over x as lines with a point at each value, named where they end
struct LineChart {
  std::string title, x_name, unit;
  std::vector<double> x;  // whole numbers, ascending
  std::vector<std::string> names;
  std::vector<std::vector<double>> lines;  // [name][x], of each name one x or more
};
std::string draw(const LineChart& chart);

// ---- what happens at the same time, lane under lane
struct Span {
  double begin, end;
  size_t kind;  // of the chart's
  std::string hint;
};
struct Lane {
  std::string name;
  std::vector<std::vector<Span>> rows;  // spans of a row do not overlap
};
struct SpanChart {
  std::string title, unit;
  std::vector<Series> kinds;
  std::vector<Lane> lanes;
};
std::string draw(const SpanChart& chart);

// ---- sums over time as stacked areas, a panel for each thing compared, all to one scale; spans tell what was going on
struct AreaPoint {
  double time;
  std::vector<double> values;  // one a series, from this time on
};
struct AreaPanel {
  std::string name;
  std::vector<AreaPoint> points;  // ascending
  double end;
  std::vector<Span> spans;
};
struct AreaChart {
  std::string title, unit, time_unit;
  std::vector<Series> series, kinds;
  std::vector<AreaPanel> panels;
};
std::string draw(const AreaChart& chart);

}  // namespace llama_tp
