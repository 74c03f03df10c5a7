#include "report/html_page.h"

#include <algorithm>

#include "report/svg.h"

namespace llama_tp {

namespace {

constexpr const char* style =
    "body { font: 15px/1.45 Helvetica, Arial, sans-serif; color: #222; background: white; max-width: 940px; "
    "margin: 24px auto; padding: 0 16px; }\n"
    "h1 { font-size: 22px; } h2 { font-size: 17px; margin: 28px 0 4px; }\n"
    "figure { margin: 0; break-inside: avoid; } figcaption { margin: 0 0 10px; }\n"
    "svg { max-width: 100%; height: auto; }\n"
    "pre { font-size: 11.5px; line-height: 1.35; overflow-x: auto; }\n"
    // A sheet, upright, is about 115 characters of 10 px wide; a letter's width is three fifths of its height.
    "@media print { body { margin: 0; max-width: none; } * { print-color-adjust: exact; }\n"
    "  pre { overflow: visible; font-size: min(8px, calc(1100px / var(--columns))); } }\n";

size_t longest_line(const std::string& text) {
  size_t longest = 1;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    longest = std::max(longest, end - begin);
    begin = end + 1;
  }
  return longest;
}

// Its longest line fits the width of a sheet of paper.
std::string preformatted(const std::string& table) {
  return "<pre style=\"--columns: " + std::to_string(longest_line(table)) + "\">" + xml_text(table) + "</pre>\n";
}

}  // namespace

std::string html_text(const Page& page) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>" +
                    xml_text(page.title) + "</title>\n<style>\n" + style + "</style>\n</head>\n<body>\n<h1>" +
                    xml_text(page.title) + "</h1>\n";
  for (const std::string& paragraph : page.introduction) out += "<p>" + xml_text(paragraph) + "</p>\n";
  for (const Figure& figure : page.figures)
    out += "<figure id=\"" + xml_text(figure.name) + "\">\n<h2>" + xml_text(figure.title) + "</h2>\n<figcaption>" +
           xml_text(figure.sentence) + "</figcaption>\n" + figure.svg + "</figure>\n";
  if (!page.table.empty()) out += "<h2>Numbers</h2>\n" + preformatted(page.table);
  return out + "</body>\n</html>\n";
}

}  // namespace llama_tp
