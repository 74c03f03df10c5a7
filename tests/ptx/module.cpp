#include "ptx/module.h"

#include <cctype>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include "base/error.h"
#include "ptx/global_memory.h"

namespace llama_tp::ptx {

namespace {

struct Token {
  std::string_view text;
  int line;
};

// Words, which may have dots and percent signs within, and single other characters.
std::vector<Token> tokens_of(std::string_view text) {
  std::vector<Token> tokens;
  int line = 1;
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_$%.:", c); };
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\n') line++;
    if (std::isspace(static_cast<unsigned char>(text[i]))) {
      i++;
    } else if (text.substr(i, 2) == "//") {
      i = std::min(text.find('\n', i), text.size());
    } else if (text[i] == '"') {
      i = text.find('"', i + 1) + 1;
    } else {
      size_t end = i + 1;
      if (in_word(text[i]))
        while (end < text.size() && text[end] != '\0' && in_word(text[end])) end++;
      tokens.push_back({text.substr(i, end - i), line});
      i = end;
    }
  }
  return tokens;
}

uint32_t size_of_type(std::string_view type) {
  if (type == ".pred") return 0;
  unsigned bits = 0;
  std::from_chars(type.data() + 2, type.data() + type.size(), bits);
  require(bits % 8 == 0 && bits > 0, "ptx: an unknown type ", type);
  return bits / 8;
}

constexpr uint32_t aligned_up(uint32_t at, uint32_t alignment) { return (at + alignment - 1) / alignment * alignment; }

class Reader {
 public:
  explicit Reader(std::string_view text) : tokens_(tokens_of(text)) {}

  std::map<std::string, Kernel> read() {
    std::map<std::string, Kernel> kernels;
    while (at_ < tokens_.size()) {
      const std::string_view word = take();
      if (word == ".version" || word == ".target" || word == ".address_size") {
        take();
      } else if (word == ".extern" || word == ".visible") {
      } else if (word == ".shared" || word == ".global" || word == ".const") {
        read_variable(word);
      } else if (word == ".entry") {
        Kernel kernel = read_kernel();
        kernels.emplace(kernel.name, std::move(kernel));
      } else {
        refuse(word);
      }
    }
    return kernels;
  }

 private:
  struct Variable {
    Filling filling = Filling::constant;
    uint64_t value = 0;
  };

  std::string_view take() {
    require(at_ < tokens_.size(), "ptx: the text ends too early");
    return tokens_[at_++].text;
  }
  std::string_view peek() const { return at_ < tokens_.size() ? tokens_[at_].text : std::string_view{}; }
  bool take_if(std::string_view word) {
    if (peek() != word) return false;
    at_++;
    return true;
  }
  void expect(std::string_view word) {
    if (!take_if(word)) refuse(peek());
  }
  [[noreturn]] void refuse(std::string_view word) const {
    fail("ptx: line ", tokens_[std::min(at_, tokens_.size()) - 1].line, ": unexpected \"", word, "\"");
  }
  static uint64_t number(std::string_view word) {
    uint64_t value = 0;
    const bool hex = word.starts_with("0x");
    const auto [end, error] =
        std::from_chars(word.data() + (hex ? 2 : 0), word.data() + word.size(), value, hex ? 16 : 10);
    require(error == std::errc{}, "ptx: no number: ", word);
    return value;
  }

  // .align 4 .b8 name[24] = {1, 2, …};  behind its space.
  void read_variable(std::string_view space) {
    uint32_t alignment = 1;
    if (take_if(".align")) alignment = static_cast<uint32_t>(number(take()));
    const uint32_t element = size_of_type(take());
    const std::string name(take());
    uint32_t count = 1;
    if (take_if("[")) {
      count = peek() == "]" ? 0 : static_cast<uint32_t>(number(take()));
      expect("]");
    }
    alignment = std::max(alignment, element);
    if (space == ".shared") {
      // What a launch asks for lies behind all others, and all such variables are the same memory.
      uint32_t& end = count == 0 ? dynamic_shared_ : static_shared_;
      end = aligned_up(end, alignment);
      require(count > 0 || static_shared_ == 0, "ptx: a block with shared memory of both kinds");
      variables_[name] = {Filling::constant, first_shared_address + end};
      end += element * count;
    } else if (space == ".local") {
      kernel_->local_bytes = aligned_up(kernel_->local_bytes, alignment);
      variables_[name] = {Filling::local_memory, kernel_->local_bytes};
      kernel_->local_bytes += element * count;
    } else {
      variables_[name] = {Filling::constant, initialized(element, count)};
    }
    expect(";");
  }

  uint64_t initialized(uint32_t element, uint32_t count) {
    require(element == 1, "ptx: a variable that is not of bytes");
    auto* const bytes = new (std::align_val_t{16}) uint8_t[count]{};  // as long as the program
    add_memory(bytes, count);
    if (take_if("=")) {
      expect("{");
      for (uint32_t i = 0; i < count; i++) {
        bytes[i] = static_cast<uint8_t>(number(take()));
        if (i + 1 < count) expect(",");
      }
      expect("}");
    }
    return reinterpret_cast<uint64_t>(bytes);
  }

  Kernel read_kernel() {
    Kernel kernel;
    kernel_ = &kernel;
    const auto of_module = variables_;
    places_.clear(), scopes_.clear(), labels_.clear(), jumps_.clear();
    kernel.name = take();
    if (take_if("(")) read_parameters();
    while (peek() != "{") take();  // .maxntid and the like
    read_body();
    for (const auto& [instruction, label] : jumps_) {
      const auto found = labels_.find(label);
      require(found != labels_.end(), "ptx: no label ", label);
      kernel.code[instruction].target = found->second;
    }
    kernel.shared_bytes = static_shared_;
    variables_ = of_module;
    return kernel;
  }

  void read_parameters() {
    uint32_t end = 0;
    while (!take_if(")")) {
      expect(".param");
      uint32_t alignment = 1, count = 1;
      if (take_if(".align")) alignment = static_cast<uint32_t>(number(take()));
      const uint32_t element = size_of_type(take());
      const std::string name(take());
      if (take_if("[")) {
        count = static_cast<uint32_t>(number(take()));
        expect("]");
      }
      end = aligned_up(end, std::max(alignment, element));
      kernel_->parameters.push_back({end, element * count});
      variables_[name] = {Filling::constant, end};
      end += element * count;
      take_if(",");
    }
  }

  void read_body() {
    expect("{");
    scopes_.emplace_back();
    while (!scopes_.empty()) {
      const std::string_view word = take();
      if (word == "{") {
        scopes_.emplace_back();
      } else if (word == "}") {
        scopes_.pop_back();
      } else if (word == ".reg") {
        read_registers();
      } else if (word == ".local" || word == ".shared") {
        read_variable(word);
      } else if (word == ".pragma") {
        expect(";");
      } else if (word.ends_with(':')) {
        labels_[std::string(word.substr(0, word.size() - 1))] = kernel_->code.size();
      } else {
        read_instruction(word);
      }
    }
    // Whoever falls off the end ends.
    kernel_->code.emplace_back();
    kernel_->code.back().flow = Flow::end;
  }

  // .reg .b32 %r<484>;  or  .reg .pred p;
  void read_registers() {
    take();
    do {
      const std::string name(take());
      uint32_t count = 1;
      const bool many = take_if("<");
      if (many) {
        count = static_cast<uint32_t>(number(take()));
        expect(">");
      }
      scopes_.back()[name] = kernel_->places;
      kernel_->places += count;
    } while (take_if(","));
    expect(";");
  }

  // @%p1 opcode operands;
  void read_instruction(std::string_view word) {
    Instruction instruction;
    instruction.line = tokens_[at_ - 1].line;
    if (word == "@") {
      instruction.guard_negated = take_if("!");
      instruction.guard = static_cast<int>(place_of(take()));
      word = take();
    }
    const auto known = instructions().find(word);
    require(known != instructions().end(), "ptx: line ", instruction.line, ": an unknown instruction ", word);
    instruction.opcode = known->first;
    instruction.execute = known->second.execute;
    instruction.flow = known->second.flow;
    if (instruction.flow == Flow::branch) {
      jumps_.emplace_back(kernel_->code.size(), take());
      expect(";");
    } else {
      read_operands(instruction);
    }
    kernel_->code.push_back(std::move(instruction));
  }

  void read_operands(Instruction& instruction) {
    bool in_address = false;
    while (true) {
      const std::string_view word = take();
      if (word == ";") break;
      if (word == "{") {
        if (instruction.first_in_braces < 0 && !in_address)
          instruction.first_in_braces = static_cast<int>(instruction.operands.size());
      } else if (word == "[") {
        in_address = true;
      } else if (word == "]") {
        in_address = false;
      } else if (word == "+") {
        const bool negative = take_if("-");
        const auto offset = static_cast<int64_t>(number(take()));
        instruction.offsets.back() = negative ? -offset : offset;
      } else if (word != "," && word != "}" && word != "|") {
        instruction.operands.push_back(word == "-" ? place_of_constant(-number(take())) : place_of(word));
        instruction.offsets.push_back(0);
      }
    }
  }

  uint32_t place_of(std::string_view word) {
    if (word == "_") return place_of_constant(0);  // a result that is not wanted
    if (const auto in_scope = find_register(word)) return *in_scope;
    if (const auto known = places_.find(word); known != places_.end()) return known->second;
    uint32_t place = 0;
    if (std::isdigit(static_cast<unsigned char>(word[0])))
      place = place_of_constant(bits_of(word));
    else
      place = filled_place(filling_of(word));
    places_.emplace(word, place);
    return place;
  }

  std::optional<uint32_t> find_register(std::string_view word) const {
    const size_t digits = word.find_last_not_of("0123456789") + 1;
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(word); found != scope->end()) return found->second;
      if (digits == word.size()) continue;
      if (const auto found = scope->find(word.substr(0, digits)); found != scope->end())
        return found->second + static_cast<uint32_t>(number(word.substr(digits)));
    }
    return {};
  }

  Variable filling_of(std::string_view word) const {
    static const std::map<std::string_view, Filling> special{
        {"%tid.x", Filling::thread_x},    {"%ctaid.x", Filling::block_x},  {"%ctaid.y", Filling::block_y},
        {"%ctaid.z", Filling::block_z},   {"%ntid.x", Filling::threads_x}, {"%nctaid.x", Filling::blocks_x},
        {"%nctaid.y", Filling::blocks_y}, {"%nctaid.z", Filling::blocks_z}};
    if (const auto found = special.find(word); found != special.end()) return {found->second, 0};
    if (const auto found = variables_.find(word); found != variables_.end()) return found->second;
    fail("ptx: line ", tokens_[at_ - 1].line, ": an unknown name ", word);
  }

  uint32_t place_of_constant(uint64_t value) { return filled_place({Filling::constant, value}); }
  uint32_t filled_place(const Variable& with) {
    kernel_->filled.push_back({kernel_->places, with.filling, with.value});
    return kernel_->places++;
  }

  // 0f3F800000 and 0d3FF0000000000000 are the bits of a float or double.
  static uint64_t bits_of(std::string_view word) {
    if (!word.starts_with("0f") && !word.starts_with("0d")) return number(word);
    uint64_t bits = 0;
    std::from_chars(word.data() + 2, word.data() + word.size(), bits, 16);
    return bits;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::map<std::string, Variable, std::less<>> variables_;
  uint32_t static_shared_ = 0, dynamic_shared_ = 0;
  // Of the kernel that is being read.
  Kernel* kernel_ = nullptr;
  std::vector<std::map<std::string, uint32_t, std::less<>>>
      scopes_;                                           // registers by name, or by what is before a number
  std::map<std::string, uint32_t, std::less<>> places_;  // of all else
  std::map<std::string, size_t, std::less<>> labels_;
  std::vector<std::pair<size_t, std::string>> jumps_;
};

}  // namespace

std::map<std::string, Kernel> read_module(const std::string& text) { return Reader(text).read(); }

}  // namespace llama_tp::ptx
