// What the charts have in common: axes with round numbers, legends that wrap, labels that keep off each other.
#pragma once

#include <string>
#include <vector>

#include "report/svg.h"

namespace llama_tp {

constexpr double chart_width = 900, axis_left = 70;
constexpr double line_height = 18;

struct Series {
  std::string name, color;
};

enum class Limit : unsigned char { round, exact };  // an axis ends with a round number, or with the data

// A linear axis from 0.
class Axis {
 public:
  // most: of the data. begin, end: pixels of 0 and of the limit. ticks: about so many.
  Axis(double most, double begin, double end, int ticks, Limit limit = Limit::round);
  double at(double value) const { return begin_ + (end_ - begin_) * value / limit_; }
  double end() const { return end_; }
  // The round numbers, 0 first, and as people read them.
  const std::vector<double>& ticks() const { return ticks_; }
  std::string text(double tick) const;

 private:
  double begin_, end_, limit_ = 1;
  std::vector<double> ticks_;
  int digits_ = 0;
};

// Grid lines from top to bottom with their numbers below; the unit under the end.
void draw_x_axis(Svg& svg, const Axis& axis, double top, double bottom, const std::string& unit);
// Grid lines from left to right with their numbers at the left, the unit above.
void draw_y_axis(Svg& svg, const Axis& axis, double left, double right, const std::string& unit);

// Colored squares with names, as many rows as they need; returns the y below them.
double draw_legend(Svg& svg, const std::vector<Series>& entries, double left, double top, double right);

// Moves y's apart to at least `distance`, as little as that takes, in their order; none beyond [least, most] where
// there is room.
std::vector<double> apart(const std::vector<double>& wanted, double distance, double least, double most);

}  // namespace llama_tp
