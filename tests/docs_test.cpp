// The pages' links: each leads to a file that is there, and where it names a line, that line has what the link says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
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

// What a line must have where a link says this: "all-reduce": all_reduce; "`TensorParallel::enter`" all of it, but in a
// header enter alone.
std::string code_of(const Link& link) {
  std::string code;
  for (const char letter : link.words)
    if (letter != '`') code += letter == '-' ? '_' : letter;
  if (const size_t scope = code.rfind("::"); scope != std::string::npos && link.path.ends_with(".h"))
    code = code.substr(scope + 2);
  return code;
}

// Whether the line has it outside of a comment, and not as a part of a longer name: enter is not in begin_enter.
bool has(const std::string& line, const std::string& code) {
  const std::string text = line.substr(0, line.find("//"));
  const auto in_name = [&](size_t at) { return at < text.size() && (text[at] == '_' || std::isalnum(text[at]) != 0); };
  for (size_t at = text.find(code); at != std::string::npos; at = text.find(code, at + 1))
    if (!(at > 0 && in_name(at - 1)) && !in_name(at + code.size())) return true;
  return false;
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
    if (has(line, code_of(link)) && (nearest == 0 || away(number) < away(nearest))) nearest = number;
  return nearest;
}

bool holds(const Link& link) {
  if (!std::filesystem::exists(link.path)) return false;
  return link.line == 0 || has(line_of(link.path, link.line), code_of(link));
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
  EXPECT_TRUE(holds(only("[`gtest`](../tests/docs_test.cpp#L2)")));
  EXPECT_FALSE(holds(only("[`gtest`](../tests/docs_test.cpp#L3)")));
  EXPECT_FALSE(holds(only("[`gtes`](../tests/docs_test.cpp#L2)"))) << "a part of a name";
  EXPECT_FALSE(holds(only("[links](../tests/docs_test.cpp#L1)"))) << "a comment";
  EXPECT_FALSE(holds(only("[`Docs::gtest`](../tests/docs_test.cpp#L2)")));
  EXPECT_FALSE(holds(only("[`gtest`](../tests/docs_test.cpp#L100000)")));
  EXPECT_FALSE(holds(only("[gone](../tests/gone.cpp)")));
  EXPECT_EQ(nearest_line_of(only("[`gtest`](../tests/docs_test.cpp#L3)")), 2u);
  Link member = only("[`Backend::token_parts`](../src/backend/backend.h#L1)");
  EXPECT_FALSE(holds(member));
  member.line = nearest_line_of(member);
  EXPECT_TRUE(holds(member)) << "in a header, the name behind the class's";
}

}  // namespace
}  // namespace llama_tp
