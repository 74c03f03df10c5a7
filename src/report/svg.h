// A picture as SVG (W3C's Scalable Vector Graphics 1.1), written element by element. Coordinates are pixels from the
// upper left corner; the height may be known at the end.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace llama_tp {

using Points = std::vector<std::pair<double, double>>;

enum class Anchor : unsigned char { start, middle, end };

inline const std::string ink = "#222222", faint_ink = "#666666", grid_ink = "#dddddd";

class Svg {
 public:
  // title: what screen readers say.
  Svg(double width, const std::string& title) : width_(width), title_(title) {}

  // hint: shown while a pointer rests on it.
  void rectangle(double x, double y, double width, double height, const std::string& fill,
                 const std::string& hint = "");
  // dashes: SVG's stroke-dasharray.
  void line(const Points& points, const std::string& color, double thickness = 1, const std::string& dashes = "");
  void area(const Points& points, const std::string& fill);
  void circle(double x, double y, double radius, const std::string& fill);
  // y: of the letters' base line.
  void label(double x, double y, const std::string& text, Anchor anchor = Anchor::start, const std::string& color = ink,
             bool bold = false);

  std::string text(double height) const;

 private:
  double width_;
  std::string title_, body_;
};

// Pixels that a label takes, rounded up.
constexpr double letter_height = 12;
double label_width(const std::string& text, bool bold = false);

// & < > " as entities; U+FFFD for control characters that XML cannot hold and for what is not UTF-8, as a path need not be.
std::string xml_text(const std::string& text);

}  // namespace llama_tp
