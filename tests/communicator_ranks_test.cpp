// Each rank can compute what every other one contributes, so it checks its result against a plain sum of its own.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "backend/device.h"
#include "counted_allocations.h"
#include "parallel/communicator.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"
#include "parallel/shared_window.h"
#include "support/error_of.h"
#include "support/ranks.h"

namespace llama_tp {
namespace {

// Values of one type in host memory, as a tensor.
class Values {
 public:
  Values(DType dtype, int64_t elements) : tensor_{nullptr, dtype, {elements}} {
    bytes_.resize(static_cast<size_t>(elements * size_of(dtype)));
    tensor_.data = bytes_.data();
  }
  const Tensor& tensor() const { return tensor_; }
  bool operator==(const Values& other) const { return bytes_ == other.bytes_; }

  double get(int64_t i) const {
    if (tensor_.dtype == DType::f64) return tensor_.as<double>()[i];
    return tensor_.dtype == DType::f32 ? tensor_.as<float>()[i] : to_float(tensor_.as<bf16>()[i]);
  }
  void set(int64_t i, double value) {
    const auto single = static_cast<float>(value);
    if (tensor_.dtype == DType::f64) tensor_.as<double>()[i] = value;
    if (tensor_.dtype == DType::f32) tensor_.as<float>()[i] = single;
    if (tensor_.dtype == DType::bf16) tensor_.as<bf16>()[i] = to_bf16(single);
  }

 private:
  std::vector<char> bytes_;
  Tensor tensor_;
};

// What rank `rank` contributes: values whose sum depends on the order of summing.
Values contribution(DType dtype, int64_t elements, int rank, int salt = 0) {
  Values values(dtype, elements);
  const auto seed = static_cast<uint32_t>(1 + rank + 1000 * salt);
  for (int64_t i = 0; i < elements; i++) {
    const uint32_t mixed = (static_cast<uint32_t>(i) * 2654435761u + seed) * 2246822519u;
    const double exponent = static_cast<double>(1 << (mixed % 13));
    values.set(i, (static_cast<double>(mixed >> 4) - 134217728.0) * 1e-8 * exponent);
  }
  return values;
}

// Σ over ranks, in their order, in f32 or f64, rounded once: one element after another.
Values plain_sum(DType dtype, int64_t elements, int size, int salt = 0) {
  std::vector<Values> inputs;
  for (int rank = 0; rank < size; rank++) inputs.push_back(contribution(dtype, elements, rank, salt));
  Values sum(dtype, elements);
  for (int64_t i = 0; i < elements; i++) {
    double total = inputs[0].get(i);
    for (size_t rank = 1; rank < inputs.size(); rank++) {
      total += inputs[rank].get(i);
      if (dtype != DType::f64) total = static_cast<float>(total);
    }
    sum.set(i, total);
  }
  return sum;
}

// Around the sizes where the algorithm changes: one turn, several chunks, several lanes; and what does not divide.
constexpr std::array<int64_t, 7> sizes{1, 7, 1000, 8192, 8193, 65536, 200001};

// Through the window of one node, and as if every rank, or every two ranks, had a node of its own.
class Collectives : public testing::TestWithParam<int> {
 protected:
  std::unique_ptr<Communicator> world() {
    return make_communicator(ranks(), ranks().all_ranks(), GroupName::other, GetParam());
  }
};

INSTANTIATE_TEST_SUITE_P(RanksANode, Collectives, testing::Values(0, 1, 2));

TEST_P(Collectives, AllReduceIsThePlainSumInRankOrderBitForBit) {
  const auto comm = world();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const int64_t elements : sizes) {
      const Values x = contribution(dtype, elements, comm->rank());
      comm->all_reduce(x.tensor()).wait();
      EXPECT_TRUE(x == plain_sum(dtype, elements, comm->size())) << name_of(dtype) << " " << elements;
    }
}

TEST_P(Collectives, ReduceScatterGivesEachRankItsPieceOfThePlainSum) {
  const auto comm = world();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const int64_t piece : sizes) {
      const int64_t elements = piece * comm->size();
      const Values whole = contribution(dtype, elements, comm->rank());
      Values part(dtype, piece), expected(dtype, piece);
      const Values sum = plain_sum(dtype, elements, comm->size());
      for (int64_t i = 0; i < piece; i++) expected.set(i, sum.get(comm->rank() * piece + i));
      comm->reduce_scatter(whole.tensor(), part.tensor()).wait();
      EXPECT_TRUE(part == expected) << name_of(dtype) << " " << piece;
    }
}

TEST_P(Collectives, AllGatherPutsThePartsInRankOrder) {
  const auto comm = world();
  for (const int64_t elements : sizes) {
    const Values part = contribution(DType::bf16, elements, comm->rank());
    const Values whole(DType::bf16, elements * comm->size());
    comm->all_gather(part.tensor(), whole.tensor()).wait();
    for (int rank = 0; rank < comm->size(); rank++) {
      const Values theirs = contribution(DType::bf16, elements, rank);
      EXPECT_EQ(0, std::memcmp(whole.tensor().rows(rank * elements, elements).data, theirs.tensor().data,
                               static_cast<size_t>(theirs.tensor().bytes())))
          << elements << " of rank " << rank;
    }
  }
}

TEST_P(Collectives, APartMayLieInItsPlaceOfTheWhole) {
  const auto comm = world();
  const int64_t elements = 50001;
  const Values whole(DType::f32, elements * comm->size());
  const Tensor part = whole.tensor().rows(comm->rank() * elements, elements);
  std::memcpy(part.data, contribution(DType::f32, elements, comm->rank()).tensor().data,
              static_cast<size_t>(part.bytes()));
  comm->all_gather(part, whole.tensor()).wait();
  for (int rank = 0; rank < comm->size(); rank++)
    EXPECT_EQ(whole.get(rank * elements + 4711), contribution(DType::f32, elements, rank).get(4711));
  const float before = part.as<float>()[1234];
  comm->reduce_scatter(whole.tensor(), part).wait();
  float sum = before;
  for (int rank = 1; rank < comm->size(); rank++) sum += before;
  EXPECT_EQ(part.as<float>()[1234], sum);
}

TEST_P(Collectives, BroadcastCopiesTheRootsValues) {
  const auto comm = world();
  for (const int64_t elements : sizes)
    for (int root = 0; root < comm->size(); root++) {
      const Values x = contribution(DType::f32, elements, comm->rank(), 1);
      comm->broadcast(x.tensor(), root).wait();
      EXPECT_TRUE(x == contribution(DType::f32, elements, root, 1)) << elements << " of rank " << root;
    }
}

// Buffers and flags are used again and again: a race between turns would show as another rank's older or newer values.
TEST_P(Collectives, AnyRowOfCollectivesIsRightWhoeverIsLate) {
  const auto comm = world();
  std::minstd_rand shared(7), own(static_cast<uint32_t>(100 + comm->rank()));
  for (int round = 0; round < 150; round++) {
    const auto kind = shared() % 4;
    const auto elements = static_cast<int64_t>(shared() % (round % 10 == 0 ? 100000 : 5000) + 1);
    if (own() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(own() % 300));
    const Values x = contribution(DType::f32, elements, comm->rank(), round);
    if (kind == 0) {
      comm->all_reduce(x.tensor()).wait();
      EXPECT_TRUE(x == plain_sum(DType::f32, elements, comm->size(), round)) << "round " << round;
    } else if (kind == 1) {
      const int root = round % comm->size();
      comm->broadcast(x.tensor(), root).wait();
      EXPECT_TRUE(x == contribution(DType::f32, elements, root, round)) << "round " << round;
    } else {
      const Values whole(DType::f32, elements * comm->size());
      comm->all_gather(x.tensor(), whole.tensor()).wait();
      const int other = (comm->rank() + 1) % comm->size();
      EXPECT_EQ(whole.get(other * elements + elements - 1),
                contribution(DType::f32, elements, other, round).get(elements - 1))
          << "round " << round;
      if (kind == 3) comm->reduce_scatter(whole.tensor(), x.tensor()).wait();
    }
  }
}

TEST(SharedWindow, LanesGiveTheSameBitsWhateverThreadsServeThem) {
  if (ranks().size() == 1) return;
  MpiGroup group(ranks().all_ranks(), ranks().wait_policy());
  SharedWindow window(group, 5, ranks().wait_policy());
  omp_set_num_threads(group.rank() % 2 == 0 ? 5 : 2);
  for (const int64_t elements : sizes)
    for (int round = 0; round < 5; round++) {
      const Values x = contribution(DType::bf16, elements, group.rank(), round);
      window.all_reduce(x.tensor().data, DType::bf16, elements);
      EXPECT_TRUE(x == plain_sum(DType::bf16, elements, group.size(), round)) << elements;
      const Values whole(DType::bf16, elements * group.size()), part(DType::bf16, elements);
      window.all_gather(x.tensor().data, whole.tensor().data, x.tensor().bytes());
      for (int rank = 0; rank < group.size(); rank++)
        EXPECT_EQ(whole.get(rank * elements + elements / 2), x.get(elements / 2));
      window.reduce_scatter(whole.tensor().data, part.tensor().data, DType::bf16, elements);
      EXPECT_FLOAT_EQ(static_cast<float>(part.get(elements - 1)),
                      to_float(to_bf16(static_cast<float>(group.size() * x.get(elements - 1)))));
    }
  omp_set_num_threads(ranks().threads());
}

TEST(Communicator, GroupsOfAMeshWorkBesideEachOther) {
  // tp = pairs of neighbours, dp = ranks with the same place in their pair; ranks of a group in any order.
  if (ranks().size() != 4) return;
  const int pair = ranks().rank() / 2, place = ranks().rank() % 2;
  const auto tp = make_communicator(ranks(), {2 * pair + 1, 2 * pair});
  const auto dp = make_communicator(ranks(), {place, place + 2});
  EXPECT_EQ(tp->rank(), 1 - place);
  EXPECT_EQ(dp->rank(), pair);
  for (int round = 0; round < 50; round++) {
    Values x(DType::f32, 3000);
    for (int64_t i = 0; i < 3000; i++) x.set(i, 1 << ranks().rank());
    tp->all_reduce(x.tensor()).wait();
    EXPECT_EQ(x.get(2999), pair == 0 ? 3 : 12);
    dp->all_reduce(x.tensor()).wait();
    EXPECT_EQ(x.get(2999), 15);
  }
}

TEST(Communicator, NaNAndInfinityOfOneRankReachAll) {
  const auto comm = make_communicator(ranks(), ranks().all_ranks());
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Values x(dtype, 1000);
    if (comm->rank() == comm->size() - 1) {
      x.set(3, std::numeric_limits<double>::quiet_NaN());
      x.set(999, std::numeric_limits<double>::infinity());
    }
    comm->all_reduce(x.tensor()).wait();
    EXPECT_TRUE(std::isnan(x.get(3)));
    EXPECT_TRUE(std::isinf(x.get(999)));
    EXPECT_EQ(x.get(4), 0);
  }
}

void send_one_of_each(Communicator& comm, const Tensor& part, const Tensor& whole) {
  comm.all_reduce(whole).wait();
  comm.all_reduce(part).wait();
  comm.all_gather(part, whole).wait();
  comm.reduce_scatter(whole, part).wait();
  comm.broadcast(part, 0).wait();
}

TEST(Communicator, ARehearsalCountsWhatARealRunSends) {
  const auto real = make_communicator(ranks(), ranks().all_ranks());
  MetaCommunicator meta(real->rank(), real->size());
  const Values part(DType::bf16, 100), whole(DType::bf16, 100 * real->size());
  send_one_of_each(*real, part.tensor(), whole.tensor());
  send_one_of_each(meta, {nullptr, DType::bf16, part.tensor().shape}, {nullptr, DType::bf16, whole.tensor().shape});
  const bool alone = real->size() == 1;
  for (const Communicator* comm : {real.get(), static_cast<Communicator*>(&meta)}) {
    EXPECT_EQ(comm->traffic(Collective::all_reduce).calls, alone ? 0 : 2);
    EXPECT_EQ(comm->traffic(Collective::all_reduce).bytes, alone ? 0 : 200 * (comm->size() + 1));
    EXPECT_EQ(comm->traffic(Collective::all_gather).bytes, alone ? 0 : 200 * comm->size());
    EXPECT_EQ(comm->traffic(Collective::reduce_scatter).bytes, alone ? 0 : 200 * comm->size());
    EXPECT_EQ(comm->traffic(Collective::broadcast).bytes, alone ? 0 : 200);
  }
}

// Whatever a collective would write is written, with this rank's own numbers.
TEST(Communicator, InPlaceOfOtherRanksStandsThisOnesPart) {
  const auto backend = make_backend("cpu", ranks().place());
  StandInCommunicator comm(2, 3, *backend);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Values part(dtype, 101), whole(dtype, 303);
    for (int64_t i = 0; i < 303; i++) whole.set(i, 1000);
    for (int64_t i = 0; i < 101; i++) part.set(i, static_cast<double>(i + 1));
    comm.all_gather(part.tensor(), whole.tensor()).wait();
    for (int64_t i = 0; i < 303; i++) ASSERT_EQ(whole.get(i), i % 101 + 1);
    whole.set(202, 7);
    comm.reduce_scatter(whole.tensor(), part.tensor()).wait();
    for (int64_t i = 0; i < 101; i++) ASSERT_EQ(part.get(i), i == 0 ? 7 : i + 1);
    comm.all_gather(whole.tensor().rows(202, 101), whole.tensor()).wait();  // in place
    for (const int64_t first : {0, 101, 202}) EXPECT_EQ(whole.get(first), 7);
  }
  EXPECT_EQ(comm.traffic(Collective::all_gather).calls, 4);
}

TEST(Communicator, RefusesWhatCannotBeSummedOrDoesNotFit) {
  MetaCommunicator comm(0, 4);
  EXPECT_THROW(comm.all_reduce({nullptr, DType::i32, {4}}).wait(), Error);
  EXPECT_THROW(comm.all_gather({nullptr, DType::f32, {4}}, {nullptr, DType::f32, {15}}).wait(), Error);
  EXPECT_THROW(comm.all_gather({nullptr, DType::f32, {4}}, {nullptr, DType::bf16, {16}}).wait(), Error);
  EXPECT_THROW(comm.reduce_scatter({nullptr, DType::f32, {15}}, {nullptr, DType::f32, {4}}).wait(), Error);
  EXPECT_THROW(comm.broadcast({nullptr, DType::f32, {4}}, 4).wait(), Error);
  EXPECT_THROW(MetaCommunicator(4, 4), Error);
  EXPECT_THROW(make_communicator(ranks(), {ranks().rank(), ranks().size()}), Error);
}

#if defined(COUNTS_ALLOCATIONS)
TEST(Communicator, AStepAllocatesNothing) {
  const auto comm = make_communicator(ranks(), ranks().all_ranks());
  const Values part(DType::bf16, 300000), whole(DType::bf16, 300000 * comm->size());
  send_one_of_each(*comm, part.tensor(), whole.tensor());
  const Allocations made = allocations_of([&] {
    for (int round = 0; round < 3; round++) send_one_of_each(*comm, part.tensor(), whole.tensor());
  });
  EXPECT_EQ(made.count, 0u);
}
#endif

}  // namespace
}  // namespace llama_tp
