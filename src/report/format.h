// Numbers and tables as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llama_tp {

std::string with_commas(int64_t value);                       // "1,234,567"
std::string counted(int64_t count, const std::string& noun);  // "1 rank", "1,234 ranks"
std::string bytes_text(int64_t bytes);                        // "1.25 GiB"
std::string duration_text(double seconds);                    // "0:42", "1:02:03"
std::string fixed(double value, int digits);                  // "0.123"
std::string mebibytes(double bytes, int digits);              // "1.250"
std::string scientific(double value);                         // "4.8e-04"
std::string padded(const std::string& text, int width);       // to the right edge of `width` columns
std::string ranges_text(std::vector<int64_t> numbers);        // "0", "1-7", "0, 8": runs of successive ones

// That in which the numbers of one table or picture are written.
struct ByteUnit {
  const char* name;
  double bytes;
  std::string of(double amount, int digits) const { return fixed(amount / bytes, digits); }  // "1.25"
};
// In which the largest of them, `most` bytes, has one to four digits.
ByteUnit unit_for(double most);

// A table's cell behind what its line has already, ending at the right edge of its `width` columns. What fills them or
// is longer is still one space apart.
void append_cell(std::string& line, const std::string& cell, int width);

// A line of a table: the label fills its columns, each cell ends at the right edge of its own. What is longer pushes the
// rest to the right. No spaces behind the last one.
struct TableWidths {
  int label, cell;
  std::string line(const std::string& label_text, const std::vector<std::string>& cells) const;
};

}  // namespace llama_tp
