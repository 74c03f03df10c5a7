// What ranks tell each other from host memory, outside of the mathematics: small values, and the pieces of a parameter
// on their way to a file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace llama_tp {

class HostGroup {
 public:
  virtual ~HostGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void barrier() = 0;
  // Rank root's text on every rank.
  virtual std::string broadcast(const std::string& value, int root) = 0;
  // Rank root's bytes in place of the others', of which there are as many: any number.
  virtual void broadcast(std::span<char> bytes, int root) = 0;
  // Every rank's bytes, as many of each, in rank order, on every rank.
  virtual void all_gather(std::span<const char> own, std::span<char> all) = 0;
  // Every rank's text, likewise: texts differ in length, and so each is a broadcast.
  virtual std::vector<std::string> all_gather(const std::string& value) = 0;
  std::vector<double> all_gather(double value);
  // Every rank's piece into `whole` on root (elsewhere it is not looked at): rank r's has sizes[r] bytes and goes to
  // places[r]. All ranks give the same sizes and places.
  virtual void gather(std::span<const char> piece, std::span<const int64_t> sizes, std::span<const int64_t> places,
                      std::span<char> whole, int root) = 0;
};

// A group of one.
std::unique_ptr<HostGroup> make_lone_host_group();

}  // namespace llama_tp
