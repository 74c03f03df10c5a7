#include "parallel/host_group.h"

#include <algorithm>

#include "parallel/host_values.h"

namespace llama_tp {

namespace {

class LoneHostGroup : public HostGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void barrier() override {}
  std::string broadcast(const std::string& value, int) override { return value; }
  void broadcast(std::span<char>, int) override {}
  void all_gather(std::span<const char> own, std::span<char> all) override { std::ranges::copy(own, all.begin()); }
  std::vector<std::string> all_gather(const std::string& value) override { return {value}; }
  void gather(std::span<const char> piece, std::span<const int64_t>, std::span<const int64_t> places,
              std::span<char> whole, int) override {
    std::copy(piece.begin(), piece.end(), whole.begin() + places.front());
  }
};

}  // namespace

std::vector<double> HostGroup::all_gather(double value) { return gather_values(*this, value); }

std::unique_ptr<HostGroup> make_lone_host_group() { return std::make_unique<LoneHostGroup>(); }

}  // namespace llama_tp
