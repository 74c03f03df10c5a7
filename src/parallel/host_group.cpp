#include "parallel/host_group.h"

#include <algorithm>

namespace llama_tp {

namespace {

class LoneHostGroup : public HostGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void barrier() override {}
  std::string broadcast(const std::string& value, int) override { return value; }
  void broadcast(std::span<char>, int) override {}
  std::vector<double> all_gather(double value) override { return {value}; }
  std::vector<std::string> all_gather(const std::string& value) override { return {value}; }
  void gather(std::span<const char> piece, std::span<const int64_t>, std::span<const int64_t> places,
              std::span<char> whole, int) override {
    std::copy(piece.begin(), piece.end(), whole.begin() + places.front());
  }
};

}  // namespace

std::unique_ptr<HostGroup> make_lone_host_group() { return std::make_unique<LoneHostGroup>(); }

}  // namespace llama_tp
