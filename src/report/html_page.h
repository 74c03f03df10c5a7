// A report as one page of HTML that needs nothing else: no network, no script, no font; it prints on paper as it looks.
#pragma once

#include <string>
#include <vector>

namespace llama_tp {

struct Figure {
  std::string name;  // a word, of which files may be named
  std::string title;
  std::string sentence;  // what to see
  std::string svg;
};

struct Page {
  std::string title;
  std::vector<std::string> introduction;  // paragraphs
  std::vector<Figure> figures;
  std::string table;  // as plain text in columns; "" for none
};

// Well-formed XML, too.
std::string html_text(const Page& page);

}  // namespace llama_tp
