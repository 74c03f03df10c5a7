#include "accesses/symbols.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "base/error.h"

namespace llama_tp::accesses {

namespace {

std::string output_of(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  require(pipe != nullptr, "accesses: ", command, " does not start");
  std::string output;
  char part[4096];
  while (const size_t n = fread(&part[0], 1, sizeof part, pipe)) output.append(&part[0], n);
  require(pclose(pipe) == 0, "accesses: addr2line failed; it comes with binutils");
  return output;
}

// "void a::(anonymous namespace)::kernel<8, a::bf16>(int)" becomes "kernel<8, bf16>".
std::string bare_name(std::string name) {
  for (const char* scope : {"llama_tp::", "kernels::", "(anonymous namespace)::", "void "})
    for (size_t at; (at = name.find(scope)) != std::string::npos;) name.erase(at, std::string(scope).size());
  return name.substr(0, name.find('('));
}

std::string bare_line(const std::string& line) {
  const std::string file = line.substr(line.rfind('/') + 1);
  return file.substr(0, file.find(' '));
}

}  // namespace

std::map<const void*, Symbol> symbols_of(const std::vector<const void*>& addresses) {
  std::map<const void*, Symbol> symbols;
  if (addresses.empty()) return symbols;
  std::ostringstream command;
  command << "addr2line -afiC -e /proc/" << getpid() << "/exe";
  for (const void* address : addresses) command << ' ' << address;
  std::istringstream output(output_of(command.str()));
  Symbol* symbol = nullptr;
  for (std::string line; std::getline(output, line);) {
    if (line.starts_with("0x")) {
      symbol = &symbols[reinterpret_cast<const void*>(std::strtoull(line.c_str(), nullptr, 16))];
      continue;
    }
    symbol->function = bare_name(line);
    std::getline(output, line);
    symbol->lines.push_back(bare_line(line));
  }
  return symbols;
}

}  // namespace llama_tp::accesses
