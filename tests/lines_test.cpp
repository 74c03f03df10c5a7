// Text files: their lines, and what is UTF-8.
#include "io/lines.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "io/files.h"
#include "io/tokenizer/utf8.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

// Of the first lines of a text, with their ends.
int64_t bytes_of_lines(const std::string& text, size_t lines) {
  size_t bytes = 0;
  for (; lines > 0; lines--) bytes = std::min(text.find('\n', bytes), text.size() - 1) + 1;
  return static_cast<int64_t>(bytes);
}

// Blocks of every small size cut lines at every place.
TEST(Lines, AreTheSameWhateverTheBlocks) {
  const ScratchFolder scratch;
  const std::string text = "one\n\r\n\nfour is longer than a block\r\nfive\n\nseven";
  for (const std::string ending : {"", "\n", "\n\n"}) {
    write_text(scratch / "lines", text + ending);
    std::vector<std::string> expected{"one", "", "", "four is longer than a block", "five", "", "seven"};
    if (ending == "\n\n") expected.push_back("");
    for (int64_t block = 1; block < 60; block++) {
      LineReader reader(scratch / "lines", block);
      std::vector<std::string> lines;
      for (std::vector<Line> batch = reader.next(); !batch.empty(); batch = reader.next()) {
        for (const Line& line : batch) {
          lines.emplace_back(line.text);
          EXPECT_EQ(line.number, static_cast<int64_t>(lines.size()));
        }
        EXPECT_EQ(reader.bytes_done(), bytes_of_lines(text + ending, lines.size())) << block;
      }
      EXPECT_EQ(lines, expected) << block;
      EXPECT_EQ(reader.bytes_done(), reader.file_bytes());
    }
  }
}

// At once, also where a pipe has no writer.
TEST(Lines, APipeOrADeviceIsRefused) {
  const ScratchFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, std::string("/dev/null")})
    EXPECT_EQ(error_of([&] { LineReader reader(path); }),
              path + ": is a pipe or a device, of which no place can be read again; write it into a file first");
}

// Every sequence of up to three bytes, and of four around the limits, against the definition: a code point that encodes
// to it.
TEST(Utf8, AcceptsWhatTheDefinitionEncodesAndNothingElse) {
  std::set<std::string> encodings;
  for (uint32_t point = 0; point < 0x110000; point++) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const auto low_bits = [&](int shift) { return static_cast<char>(0x80 | ((point >> shift) & 0x3f)); };
    std::string bytes;
    if (point < 0x80)
      bytes = {static_cast<char>(point)};
    else if (point < 0x800)
      bytes = {static_cast<char>(0xc0 | point >> 6), low_bits(0)};
    else if (point < 0x10000)
      bytes = {static_cast<char>(0xe0 | point >> 12), low_bits(6), low_bits(0)};
    else
      bytes = {static_cast<char>(0xf0 | point >> 18), low_bits(12), low_bits(6), low_bits(0)};
    ASSERT_EQ(utf8::first_invalid(bytes), bytes.size()) << point;
    ASSERT_EQ(utf8::first_invalid("twelve bytes" + bytes.substr(0, bytes.size() - 1)), 12u) << point;
    if (bytes.size() == 2 || bytes.size() == 3) encodings.insert(bytes);
  }
  for (int a = 0x80; a < 0x100; a++)
    for (int b = 0; b < 0x100; b++) {
      const std::string two{static_cast<char>(a), static_cast<char>(b)};
      ASSERT_EQ(utf8::first_invalid(two) == two.size(), encodings.contains(two)) << a << " " << b;
      const std::string three = two + "\x80", four = two + "\x80\x80";
      ASSERT_EQ(utf8::first_invalid(three) == three.size(), encodings.contains(three)) << a << " " << b;
      const bool is_character = (a == 0xf0 && b >= 0x90 && b <= 0xbf) ||
                                (a >= 0xf1 && a <= 0xf3 && b >= 0x80 && b <= 0xbf) ||
                                (a == 0xf4 && b >= 0x80 && b <= 0x8f);
      ASSERT_EQ(utf8::first_invalid(four) == four.size(), is_character) << a << " " << b;
    }
}

}  // namespace
}  // namespace llama_tp
