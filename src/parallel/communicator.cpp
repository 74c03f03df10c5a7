#include "parallel/communicator.h"

#include "base/error.h"

namespace llama_tp {

namespace {

// Conditions are tested before a message is built: texts of shapes live on the heap, and a step allocates nothing.
void check_summable(const char* collective, const Tensor& x) {
  if (x.dtype != DType::f32 && x.dtype != DType::bf16 && x.dtype != DType::f64)
    fail(collective, ": sums F32, BF16 and F64, not ", name_of(x.dtype));
}

void check_parts(const char* collective, const Tensor& part, const Tensor& whole, int size) {
  if (part.dtype != whole.dtype || part.elements() * size != whole.elements())
    fail(collective, ": the whole ", name_of(whole.dtype), " ", text(whole.shape), " is not ", size, " parts of ",
         name_of(part.dtype), " ", text(part.shape));
}

}  // namespace

std::string_view name_of(Collective collective) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Collective::count_)> names{
      "all_reduce", "all_gather", "reduce_scatter", "broadcast"};
  static_assert(!names.back().empty(), "a name for each");
  return names[static_cast<size_t>(collective)];
}

// Counts a collective, and times the scope for the log.
class Communicator::Counted {
 public:
  Counted(Communicator& group, Collective collective, int64_t bytes)
      : log_(group.size_ > 1 ? group.log_ : nullptr), exchange_{collective, bytes, {}, {}} {
    if (group.size_ == 1) return;
    const Phase phase = group.ledger_ != nullptr ? group.ledger_->phase() : Phase::load;
    Traffic& traffic = group.traffic_[static_cast<size_t>(phase)][static_cast<size_t>(collective)];
    traffic.calls++;
    traffic.bytes += bytes;
    if (log_ != nullptr) exchange_.begin = std::chrono::steady_clock::now();
  }
  ~Counted() {
    if (log_ == nullptr) return;
    exchange_.end = std::chrono::steady_clock::now();
    log_->push_back(exchange_);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::vector<Exchange>* log_;
  Exchange exchange_;
};

Traffic Communicator::traffic(Collective collective) const {
  Traffic all;
  for (const Traffics& of_phase : traffic_) {
    all.calls += of_phase[static_cast<size_t>(collective)].calls;
    all.bytes += of_phase[static_cast<size_t>(collective)].bytes;
  }
  return all;
}

Pending Communicator::all_reduce(const Tensor& x) {
  check_summable("all_reduce", x);
  if (size_ == 1) return {};
  const Counted counted(*this, Collective::all_reduce, x.bytes());
  return run_all_reduce(x);
}

// A group of one still has a part to copy, and only the implementation knows where the memory lies.
Pending Communicator::all_gather(const Tensor& part, const Tensor& whole) {
  check_parts("all_gather", part, whole, size_);
  const Counted counted(*this, Collective::all_gather, whole.bytes());
  return run_all_gather(part, whole);
}

Pending Communicator::reduce_scatter(const Tensor& whole, const Tensor& part) {
  check_summable("reduce_scatter", whole);
  check_parts("reduce_scatter", part, whole, size_);
  const Counted counted(*this, Collective::reduce_scatter, whole.bytes());
  return run_reduce_scatter(whole, part);
}

Pending Communicator::broadcast(const Tensor& x, int root) {
  if (root < 0 || root >= size_) fail("broadcast: root ", root, " is not one of ", size_, " ranks");
  if (size_ == 1) return {};
  const Counted counted(*this, Collective::broadcast, x.bytes());
  return run_broadcast(x, root);
}

}  // namespace llama_tp
