// std::source_location, which clang++ has only since its version 16.
#pragma once

namespace llama_tp::emulation {

class SourceLine {
 public:
  // As the default argument of a function, the line that calls it.
  static constexpr SourceLine current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }

  constexpr SourceLine() = default;

 private:
  constexpr SourceLine(const char* file, unsigned line) : file_(file), line_(line) {}
  const char* file_ = "";
  unsigned line_ = 0;
};

}  // namespace llama_tp::emulation
