#include "accesses/report.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "accesses/record.h"
#include "accesses/requests.h"
#include "accesses/symbols.h"

namespace llama_tp::accesses {

namespace {

void operator+=(Tally& sum, const Tally& one) {
  sum.requests += one.requests, sum.needed += one.needed, sum.least += one.least;
  sum.bytes += one.bytes, sum.in_pieces_of_16 += one.in_pieces_of_16;
}

double ratio(int64_t a, int64_t b) { return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b); }

// The place of a call, whose return address belongs to what comes next.
const void* place_of(const Site& site) { return static_cast<const char*>(site.code) - 1; }

// Where the access is in terms of the kernels: past the wrappers of instructions, and who calls that, if it is elsewhere.
std::string line_of(const Symbol& symbol) {
  const auto is_wrapper = [](const std::string& line) {
    return line.starts_with("ptx") || line.starts_with("vector.h") || line.starts_with("instructions");
  };
  const auto inner = std::find_if_not(symbol.lines.begin(), symbol.lines.end(), is_wrapper);
  const std::string& line = inner == symbol.lines.end() ? symbol.lines.back() : *inner;
  const std::string& outer = symbol.lines.back();
  const bool elsewhere = outer.substr(0, outer.find(':')) != line.substr(0, line.find(':'));
  return elsewhere ? line + " of " + outer : line;
}

std::map<const void*, Symbol> all_symbols() {
  std::vector<const void*> addresses;
  for (const auto& [site, tally] : sites()) addresses.insert(addresses.end(), {site.kernel, place_of(site)});
  for (const LaunchOfKernel& launch : launches()) addresses.push_back(launch.kernel);
  return symbols_of(addresses);
}

void print_kernel(const std::string& name, const Tally& global, const Tally& shared) {
  std::printf("%-52s %9.1f %6.0f%% %9.0f%% %10.2f %6.2f", name.c_str(), ratio(global.bytes, 1024),
              100 * ratio(global.bytes, global.needed * sector_bytes),
              100 * ratio(global.in_pieces_of_16, global.bytes), ratio(global.needed, global.requests),
              ratio(global.least, global.requests));
  if (shared.requests > 0)
    std::printf(" %10lld %9.2f %6.2f", static_cast<long long>(shared.requests), ratio(shared.needed, shared.requests),
                ratio(shared.least, shared.requests));
  std::printf("\n");
}

struct Line {
  std::string kernel, where, what;
  auto operator<=>(const Line&) const = default;
};

void print_lines(const std::map<Line, Tally>& lines) {
  std::printf("\n%-52s %-46s %-14s %9s %9s %6s\n", "kernel", "line", "", "requests", "needed", "least");
  for (const auto& [line, tally] : lines)
    if (tally.needed > tally.least)
      std::printf("%-52s %-46s %-14s %9lld %9.2f %6.2f\n", line.kernel.c_str(), line.where.c_str(), line.what.c_str(),
                  static_cast<long long>(tally.requests), ratio(tally.needed, tally.requests),
                  ratio(tally.least, tally.requests));
}

}  // namespace

void print_report() {
  const auto symbols = all_symbols();
  std::map<std::string, std::pair<Tally, Tally>> kernels;  // global and shared
  std::map<Line, Tally> lines;
  for (const auto& [site, tally] : sites()) {
    const std::string& name = symbols.at(site.kernel).function;
    auto& [global, shared] = kernels[name];
    (site.shared ? shared : global) += tally;
    lines[{name, line_of(symbols.at(place_of(site))),
           std::string(site.shared ? "shared" : "global") + (site.writes ? " write" : " read")}] += tally;
  }
  std::printf("%-52s %36s %18s\n", "", "global memory, 32-byte sectors", "shared memory, wavefronts");
  std::printf("%-52s %9s %7s %10s %10s %6s %10s %9s %6s\n", "kernel", "KiB", "used", "16 bytes", "a request", "least",
              "requests", "each", "least");
  for (const auto& [name, tallies] : kernels) print_kernel(name, tallies.first, tallies.second);
  print_lines(lines);
}

void print_launches() {
  const auto symbols = all_symbols();
  for (const LaunchOfKernel& launch : launches())
    std::printf("%s\t%u\t%zu\n", symbols.at(launch.kernel).function.c_str(), launch.threads, launch.shared_bytes);
}

}  // namespace llama_tp::accesses
