// A group's collectives on the emulated device, as late as Pending allows: one begins and ends in wait(). Until then what
// it will write is NaN; a change of what it reads, or of what it will write, is an error. So is a collective that nobody
// waits for. It also counts what the backend multiplied between a call and its wait.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "emulation/device_memory.h"
#include "parallel/communicator.h"

namespace llama_tp {

class LateCommunicator : public Communicator {
 public:
  LateCommunicator(Communicator& group, const std::unique_ptr<Backend>& backend)
      : Communicator(group.rank(), group.size()), group_(group), backend_(backend) {}
  ~LateCommunicator() override {
    for (const Late& one : late_) EXPECT_FALSE(one.collective) << "nobody waited for " << name_of(one.kind);
  }

  // Collectives of this kind during which products ran.
  int64_t beside_products(Collective kind) const { return beside_products_[static_cast<size_t>(kind)]; }

 protected:
  Pending run_all_reduce(const Tensor& x) override {
    return begin(Collective::all_reduce, x, x, [this, x] { return group_.all_reduce(x); });
  }
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override {
    return begin(Collective::all_gather, part, whole, [this, part, whole] { return group_.all_gather(part, whole); });
  }
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override {
    return begin(Collective::reduce_scatter, whole, part,
                 [this, part, whole] { return group_.reduce_scatter(whole, part); });
  }
  Pending run_broadcast(const Tensor& x, int root) override {
    return begin(Collective::broadcast, x, x, [this, x, root] { return group_.broadcast(x, root); });
  }

 private:
  struct Late : Pending::Work {
    LateCommunicator* owner = nullptr;
    Collective kind{};
    Tensor from, to;
    std::vector<char> read;
    std::function<Pending()> collective;
    int64_t products = 0;
    void wait() override { owner->end(*this); }
  };

  static char* bytes_of(const Tensor& tensor) { return static_cast<char*>(tensor.data); }

  Pending begin(Collective kind, const Tensor& from, const Tensor& to, std::function<Pending()> collective) {
    // A group of one copies on the host: the model must not ask it to.
    if (size() == 1) return collective();
    const auto free = std::find_if(late_.begin(), late_.end(), [](const Late& one) { return !one.collective; });
    require(free != late_.end(), "more collectives under way than expected");
    const emulation::DeviceAccess access;
    free->owner = this, free->kind = kind, free->from = from, free->to = to;
    free->read.assign(bytes_of(from), bytes_of(from) + from.bytes());
    free->collective = std::move(collective);
    free->products = products();
    std::memset(to.data, 0xff, static_cast<size_t>(to.bytes()));
    return Pending(*free);
  }

  void end(Late& one) {
    if (!one.collective) return;
    const emulation::DeviceAccess access;
    EXPECT_TRUE(std::all_of(bytes_of(one.to), bytes_of(one.to) + one.to.bytes(), [](char c) { return c == '\xff'; }))
        << "what " << name_of(one.kind) << " will write was written meanwhile";
    EXPECT_TRUE(one.from.data == one.to.data || std::equal(one.read.begin(), one.read.end(), bytes_of(one.from)))
        << "what " << name_of(one.kind) << " reads was changed meanwhile";
    std::copy(one.read.begin(), one.read.end(), bytes_of(one.from));
    std::exchange(one.collective, nullptr)().wait();
    if (products() > one.products) beside_products_[static_cast<size_t>(one.kind)]++;
  }

  int64_t products() const {
    int64_t calls = 0;
    for (const Operation operation :
         {Operation::linear_forward, Operation::linear_backward_input, Operation::linear_backward_weight})
      calls += backend_->work(operation).calls;
    return calls;
  }

  Communicator& group_;
  const std::unique_ptr<Backend>& backend_;  // of a model that makes it later
  std::array<Late, 8> late_;
  std::array<int64_t, static_cast<size_t>(Collective::count_)> beside_products_{};
};

}  // namespace llama_tp
