// The pages' links: each leads to a file that is there, and where it names a line, that line has what the link says.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>

#include "base/error.h"
#include "io/files.h"

namespace llama_tp {
namespace {

struct Link {
  std::string page, words, path;  // path: from the repository's root
  size_t line = 0;                // 0: none
};

std::vector<std::string> pages() {
  std::vector<std::string> all{"README.md"};
  for (const auto& entry : std::filesystem::directory_iterator("docs"))
    if (entry.path().extension() == ".md") all.push_back(entry.path().string());
  return all;
}

// [words](path) and [words](path#L12), those that lead out of the repository left out.
std::vector<Link> links_of(const std::string& page, const std::string& text) {
  static const std::regex link(R"(\[([^\[\]]*)\]\(([^()# ]+)(#L([0-9]+))?\))");
  std::vector<Link> all;
  for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
    const std::string path = (*at)[2];
    if (path.find("://") != std::string::npos) continue;
    const auto from = std::filesystem::path(page).parent_path();
    all.push_back(
        {page, (*at)[1], (from / path).lexically_normal().string(), (*at)[4].matched ? std::stoul((*at)[4]) : 0});
  }
  return all;
}

// What a line must have where a link says this: "`TensorParallel::enter`": enter; "all-reduced": all_reduce.
std::string code_of(const std::string& words) {
  std::string code;
  for (const char letter : words)
    if (letter != '`') code += letter == '-' ? '_' : letter;
  if (const size_t scope = code.rfind("::"); scope != std::string::npos) code = code.substr(scope + 2);
  if (code.ends_with("reduced")) code.pop_back();
  return code;
}

std::string line_of(const std::string& path, size_t number) {
  std::istringstream lines(read_text(path));
  std::string line;
  for (size_t i = 0; i < number; i++)
    if (!std::getline(lines, line)) return "";
  return line;
}

// The line of the file that has it and lies nearest, to mend the link with; 0: none has it.
size_t nearest_line_of(const Link& link) {
  std::istringstream lines(read_text(link.path));
  size_t nearest = 0;
  std::string line;
  const auto away = [&](size_t number) { return number > link.line ? number - link.line : link.line - number; };
  for (size_t number = 1; std::getline(lines, line); number++)
    if (line.find(code_of(link.words)) != std::string::npos && (nearest == 0 || away(number) < away(nearest)))
      nearest = number;
  return nearest;
}

bool holds(const Link& link) {
  if (!std::filesystem::exists(link.path)) return false;
  return link.line == 0 || line_of(link.path, link.line).find(code_of(link.words)) != std::string::npos;
}

std::string what_is_wrong(const Link& link) {
  if (!std::filesystem::exists(link.path)) return ", which is not there";
  return text(":", link.line, ", which is: ", line_of(link.path, link.line), "; line ", nearest_line_of(link),
              " is the nearest that has it");
}

TEST(Docs, LinksLeadWhereTheySay) {
  size_t of_lines = 0;
  for (const std::string& page : pages())
    for (const Link& link : links_of(page, read_text(page))) {
      EXPECT_TRUE(holds(link)) << page << ": [" << link.words << "] leads to " << link.path << what_is_wrong(link);
      of_lines += link.line > 0 ? 1 : 0;
    }
  EXPECT_GT(of_lines, 20u);
}

TEST(Docs, TheCheckOfLinksFindsWhatIsWrong) {
  const auto only = [](const std::string& text) { return links_of("docs/page.md", text).at(0); };
  EXPECT_TRUE(holds(only("[first](../tests/docs_test.cpp)")));
  EXPECT_TRUE(holds(only("[`gtest::gtest`](../tests/docs_test.cpp#L2)")));
  EXPECT_FALSE(holds(only("[`gtest`](../tests/docs_test.cpp#L3)")));
  EXPECT_FALSE(holds(only("[`gtest`](../tests/docs_test.cpp#L100000)")));
  EXPECT_FALSE(holds(only("[gone](../tests/gone.cpp)")));
  EXPECT_EQ(nearest_line_of(only("[`gtest`](../tests/docs_test.cpp#L3)")), 2u);
}

}  // namespace
}  // namespace llama_tp
