// Charts: lengths are in proportion, labels keep off each other and inside of the picture, all is well-formed.
#include "report/charts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "bench/pictures.h"
#include "io/tokenizer/utf8.h"
#include "report/html_page.h"
#include "support/xml.h"

namespace llama_tp {
namespace {

std::vector<XmlElement> of_name(const std::vector<XmlElement>& all, const std::string& name) {
  std::vector<XmlElement> found;
  std::copy_if(all.begin(), all.end(), std::back_inserter(found),
               [&](const XmlElement& element) { return element.name == name; });
  return found;
}

double number(const XmlElement& element, const std::string& name) { return std::stod(element.attributes.at(name)); }

struct Box {
  double left, right, top, bottom;
};

Box box_of(const XmlElement& label) {
  const double x = number(label, "x"), y = number(label, "y"),
               width = label_width(label.text, label.attributes.contains("font-weight"));
  const auto anchor = label.attributes.find("text-anchor");
  const double left = anchor == label.attributes.end() ? x : anchor->second == "end" ? x - width : x - width / 2;
  return {left, left + width, y - letter_height + 2, y + 2};
}

void expect_labels_apart(const std::string& svg) {
  const std::vector<XmlElement> elements = parse_xml(svg), labels = of_name(elements, "text");
  const double width = number(elements.front(), "width"), height = number(elements.front(), "height");
  for (size_t i = 0; i < labels.size(); i++) {
    const Box a = box_of(labels[i]);
    EXPECT_TRUE(a.left >= 0 && a.right <= width && a.top >= 0 && a.bottom <= height) << labels[i].text;
    for (size_t k = 0; k < i; k++) {
      const Box b = box_of(labels[k]);
      EXPECT_FALSE(a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
          << labels[i].text << " lies on " << labels[k].text;
    }
  }
}

BarChart bars() {
  return {"bars",
          "MiB",
          {{"one <&>", "#1f4e79"}, {"two", "#bcd6ee"}},
          {{"first", "a \"name\"", {10, 30}}, {"second", "a much longer name than the others have", {0, 20}}}};
}

TEST(Charts, BarsAreAsLongAsTheirNumbers) {
  std::vector<double> widths;
  for (const XmlElement& rectangle : of_name(parse_xml(draw(bars())), "rect"))
    if (rectangle.attributes.at("height") == "22") widths.push_back(number(rectangle, "width"));
  ASSERT_EQ(widths.size(), 3u);             // none for the 0
  constexpr double rounding = 0.05 + 1e-9;  // coordinates have one decimal
  EXPECT_NEAR(widths[1], 3 * widths[0], 4 * rounding);
  EXPECT_NEAR(widths[2], 2 * widths[0], 3 * rounding);
  EXPECT_LE(4 * widths[0], chart_width);
}

TEST(Charts, LinesPassThroughTheirValues) {
  const std::vector<XmlElement> all = parse_xml(draw(LineChart{"lines", "x", "y", {1, 2, 4}, {"a"}, {{10, 20, 40}}}));
  const std::vector<XmlElement> points = of_name(all, "circle");
  ASSERT_EQ(points.size(), 3u);
  const double x = number(points[1], "cx") - number(points[0], "cx"),
               y = number(points[0], "cy") - number(points[1], "cy");
  EXPECT_NEAR(number(points[2], "cx") - number(points[1], "cx"), 2 * x, 0.3);
  EXPECT_NEAR(number(points[1], "cy") - number(points[2], "cy"), 2 * y, 0.3);
  EXPECT_GT(x, 0);
  EXPECT_GT(y, 0);
}

// Steps and tokens are counted.
TEST(Charts, NoTickOfACountLiesBetweenWholeNumbers) {
  for (const double last : {1, 3, 4, 7, 9, 256}) {
    const std::string svg = draw(LineChart{"lines", "step", "y", {1, last}, {"a"}, {{10, 10}}});
    for (const XmlElement& label : of_name(parse_xml(svg), "text"))
      EXPECT_EQ(label.text.find('.'), std::string::npos) << label.text << " of " << last;
  }
}

TEST(Charts, LabelsKeepOffEachOther) {
  expect_labels_apart(draw(bars()));
  // Lines that end in one point, and some that end at the edges.
  expect_labels_apart(draw(LineChart{"lines",
                                     "tokens",
                                     "MiB",
                                     {128, 512, 32768},
                                     {"tp=4", "fsdp=4", "tp=2,fsdp=2", "tp=4,sp=off", "low", "low too"},
                                     {{1, 2, 3000}, {1, 2, 3000}, {1, 2, 3001}, {1, 2, 2999}, {1, 1, 0}, {0, 0, 0}}}));
  std::vector<Series> kinds;
  for (int i = 0; i < 14; i++) kinds.push_back({"kind number " + std::to_string(i), "#123456"});
  expect_labels_apart(
      draw(SpanChart{"spans", "ms", kinds, {{"rank 0", {{{0, 0.001, 3, ""}}, {}}}, {"rank 1", {{}, {}}}}}));
  AreaChart areas{"areas", "MiB", "ms", kinds, kinds, {}};
  for (const char* name : {"tp=4", "fsdp=4"})
    areas.panels.push_back({name, {{0, std::vector<double>(14, 1)}, {5, std::vector<double>(14, 100)}}, 1234.5, {}});
  expect_labels_apart(draw(areas));
}

// Widths in pixels by the fonts' own tables (hmtx of DejaVu Sans 2.37): what browsers take where there is no Helvetica.
TEST(Charts, NamesOfSchemesHaveTheRoomThatAWideFontTakes) {
  struct Width {
    const char* name;
    double plain, bold;
  };
  for (const auto& [name, plain, bold] :
       {Width{"tp=4", 30.0, 32.7}, Width{"tp=2,fsdp=2", 77.2, 85.2}, Width{"dp=2,tp=2,sp=off", 110.3, 121.9},
        Width{"fsdp=8,recompute=on", 137.5, 152.3}, Width{"1234.56", 49.6, 54.7}}) {
    EXPECT_GE(label_width(name), plain) << name;
    EXPECT_GE(label_width(name, true), bold) << name;
    EXPECT_LE(label_width(name, true), 1.2 * bold) << name;
  }
}

TEST(Charts, NoTwoLinesLookAlike) {
  LineChart chart{"lines", "x", "y", {1, 2}, {}, {}};
  for (int i = 0; i < 12; i++) {
    chart.names.push_back("line " + std::to_string(i));
    chart.lines.push_back({1.0 * i, 2.0 * i});
  }
  std::set<std::pair<std::string, std::string>> looks;
  for (const XmlElement& line : of_name(parse_xml(draw(chart)), "polyline")) {
    const auto& is = line.attributes;
    if (is.at("stroke-width") == "2")
      looks.emplace(is.at("stroke"), is.contains("stroke-dasharray") ? is.at("stroke-dasharray") : "");
  }
  EXPECT_EQ(looks.size(), 12u);
}

TEST(Charts, LabelsMoveNoFurtherThanTheyMust) {
  using Places = std::vector<double>;
  EXPECT_EQ(apart({10, 30}, 5, 0, 100), (Places{10, 30}));
  EXPECT_EQ(apart({10, 10}, 5, 0, 100), (Places{10, 15}));
  EXPECT_EQ(apart({99, 98}, 5, 0, 100), (Places{100, 95}));
}

TEST(Charts, AreasShowAPeakThatIsShorterThanAPixel) {
  AreaPanel panel{"a", {{0, {10}}, {500, {80}}, {500.0001, {10}}}, 1000, {}};
  const std::vector<XmlElement> all = parse_xml(draw(AreaChart{"areas", "MiB", "ms", {{"s", "#000000"}}, {}, {panel}}));
  const std::string points = of_name(all, "polygon").front().attributes.at("points");
  double top = INFINITY, bottom = 0;
  for (size_t comma = points.find(','); comma != std::string::npos; comma = points.find(',', comma + 1)) {
    top = std::min(top, std::stod(points.substr(comma + 1)));
    bottom = std::max(bottom, std::stod(points.substr(comma + 1)));
  }
  EXPECT_NEAR(bottom - top, 130, 0.2);  // the whole height of a panel: 80 is the highest tick, too
}

TEST(Charts, EachCategoryOfMemoryIsInOneLayer) {
  std::vector<int> layers(category_count);
  for (const MemoryLayer& layer : memory_layers())
    for (const Category category : layer.categories) layers[static_cast<size_t>(category)]++;
  for (size_t i = 0; i < layers.size(); i++) EXPECT_EQ(layers[i], 1) << name_of(static_cast<Category>(i));
}

TEST(Charts, AxesEndWithARoundNumberOrWithTheData) {
  const Axis round(0.93, 0, 100, 5), exact(0.93, 0, 100, 5, Limit::exact);
  EXPECT_EQ(round.text(round.ticks().back()), "1.0");
  EXPECT_EQ(exact.text(exact.ticks().back()), "0.8");
  EXPECT_NEAR(round.at(1), 100, 1e-9);
  EXPECT_NEAR(exact.at(0.93), 100, 1e-9);
  EXPECT_EQ(Axis(0, 0, 100, 5).ticks().front(), 0);  // nothing but zeros has an axis, too
}

TEST(Charts, APageIsWellFormedAndNeedsNoNetwork) {
  const std::string page =
      html_text({"a <title> & more", {"1 < 2"}, {{"bars", "Bars", "\"see\" & read", draw(bars())}}, "a  b\n<c>"});
  const std::vector<XmlElement> elements = parse_xml(page);
  EXPECT_EQ(of_name(elements, "svg").size(), 1u);
  EXPECT_EQ(of_name(elements, "figcaption").front().text, "\"see\" & read");
  for (const XmlElement& element : elements)
    for (const auto& [name, value] : element.attributes)
      EXPECT_TRUE(name == "xmlns" || value.find("http") == std::string::npos) << name << " " << value;
  EXPECT_TRUE(of_name(elements, "script").empty() && of_name(elements, "link").empty() &&
              of_name(elements, "img").empty());
}

// A path may be any bytes.
TEST(Charts, APageIsWellFormedWhateverItIsTold) {
  const std::string path = "a\x01\x1f\xff\xc3/\tb\n\u00e4";
  const std::string page = html_text({path, {path}, {{"bars", path, path, draw(bars())}}, path});
  EXPECT_EQ(of_name(parse_xml(page), "title").front().text, "a\uFFFD\uFFFD\uFFFD\uFFFD/\tb\n\u00e4");
  EXPECT_EQ(utf8::first_invalid(page), page.size());
}

TEST(Charts, TheCheckOfXmlFindsWhatIsWrong) {
  for (const char* wrong : {"<a>\x01</a>", "<a b=\"\x1f\"/>", "<a><b></a></b>", "<a x=1/>", "<a x=\"1\" x=\"2\"/>",
                            "<a>&</a>", "<a/><b/>", "<a>", "<a b=\"<\"/>"})
    EXPECT_THROW(parse_xml(wrong), std::runtime_error) << wrong;
}

}  // namespace
}  // namespace llama_tp
