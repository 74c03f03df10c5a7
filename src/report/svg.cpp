#include "report/svg.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "report/format.h"

namespace llama_tp {

namespace {

// Sans-serif letters of common fonts are this wide at most, on average over a name or a number, of their height. (DejaVu
// Sans is the widest of them.)
constexpr double letter_width = 0.63, bold_letter_width = 0.7;

// "12.3", "12"
std::string number(double value) {
  std::string digits = fixed(value, 1);
  if (digits.ends_with(".0")) digits.resize(digits.size() - 2);
  return digits == "-0" ? "0" : digits;
}

std::string attribute(const char* name, const std::string& value) {
  return std::string(" ") + name + "=\"" + xml_text(value) + "\"";
}
std::string attribute(const char* name, double value) { return attribute(name, number(value)); }

std::string list(const Points& points) {
  std::string all;
  for (const auto& [x, y] : points) all += (all.empty() ? "" : " ") + number(x) + "," + number(y);
  return all;
}

}  // namespace

std::string xml_text(const std::string& text) {
  const Json valid = parse_json(json_text(Json(text)));  // which replaces what is not UTF-8
  std::string out;
  for (const char letter : valid.get_ref<const std::string&>()) {
    const bool control =
        static_cast<unsigned char>(letter) < 0x20 && letter != '\t' && letter != '\n' && letter != '\r';
    if (control)
      out += "\uFFFD";
    else if (letter == '&')
      out += "&amp;";
    else if (letter == '<')
      out += "&lt;";
    else if (letter == '>')
      out += "&gt;";
    else if (letter == '"')
      out += "&quot;";
    else
      out += letter;
  }
  return out;
}

double label_width(const std::string& text, bool bold) {
  // Bytes that continue a UTF-8 letter are no letters of their own.
  const auto letters = std::count_if(text.begin(), text.end(),
                                     [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; });
  return std::ceil(static_cast<double>(letters) * (bold ? bold_letter_width : letter_width) * letter_height);
}

void Svg::rectangle(double x, double y, double width, double height, const std::string& fill, const std::string& hint) {
  body_ += "<rect" + attribute("x", x) + attribute("y", y) + attribute("width", width) + attribute("height", height) +
           attribute("fill", fill) + (hint.empty() ? "/>\n" : "><title>" + xml_text(hint) + "</title></rect>\n");
}

void Svg::line(const Points& points, const std::string& color, double thickness, const std::string& dashes) {
  body_ += "<polyline" + attribute("points", list(points)) + attribute("fill", "none") + attribute("stroke", color) +
           attribute("stroke-width", thickness) + (dashes.empty() ? "" : attribute("stroke-dasharray", dashes)) +
           "/>\n";
}

void Svg::area(const Points& points, const std::string& fill) {
  body_ += "<polygon" + attribute("points", list(points)) + attribute("fill", fill) + "/>\n";
}

void Svg::circle(double x, double y, double radius, const std::string& fill) {
  body_ +=
      "<circle" + attribute("cx", x) + attribute("cy", y) + attribute("r", radius) + attribute("fill", fill) + "/>\n";
}

void Svg::label(double x, double y, const std::string& text, Anchor anchor, const std::string& color, bool bold) {
  const char* const word = anchor == Anchor::start ? "" : anchor == Anchor::middle ? "middle" : "end";
  body_ += "<text" + attribute("x", x) + attribute("y", y) + (*word == '\0' ? "" : attribute("text-anchor", word)) +
           attribute("fill", color) + (bold ? attribute("font-weight", "bold") : "") + ">" + xml_text(text) +
           "</text>\n";
}

std::string Svg::text(double height) const {
  const std::string box = "0 0 " + number(width_) + " " + number(height);
  return "<svg" + attribute("xmlns", "http://www.w3.org/2000/svg") + attribute("viewBox", box) +
         attribute("width", width_) + attribute("height", height) + attribute("role", "img") +
         attribute("font-family", "Helvetica, Arial, sans-serif") + attribute("font-size", letter_height) +
         ">\n<title>" + xml_text(title_) + "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" + body_ +
         "</svg>\n";
}

}  // namespace llama_tp
