#include "parallel/mpi_group.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <utility>

#include "base/error.h"
#include "parallel/failure_board.h"

namespace llama_tp {

struct MpiGroup::Handle {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
};

namespace {

// MPI counts in int; a message of this size also keeps its transport's own buffers small.
constexpr int64_t largest_message = int64_t{64} << 20;
constexpr int piece_tag = 1;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> message{};
  int length = 0;
  MPI_Error_string(code, message.data(), &length);
  fail(call, " failed: ", message.data());
}

int as_count(int64_t bytes) {
  require(bytes >= 0 && bytes <= std::numeric_limits<int>::max(), "a message of ", bytes, " bytes is too long for MPI");
  return static_cast<int>(bytes);
}

}  // namespace

MpiGroup::MpiGroup(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {
  check(MPI_Comm_set_errhandler(handle_->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  MPI_Comm_rank(handle_->comm, &rank_);
  MPI_Comm_size(handle_->comm, &size_);
}

MpiGroup::MpiGroup(const std::vector<int>& world_ranks, const WaitPolicy& policy)
    : MpiGroup([&world_ranks] {
        auto handle = std::make_unique<Handle>();
        MPI_Group world = MPI_GROUP_NULL, listed = MPI_GROUP_NULL;
        MPI_Comm_group(MPI_COMM_WORLD, &world);
        check(MPI_Group_incl(world, static_cast<int>(world_ranks.size()), world_ranks.data(), &listed),
              "MPI_Group_incl");
        check(MPI_Comm_create_group(MPI_COMM_WORLD, listed, 0, &handle->comm), "MPI_Comm_create_group");
        MPI_Group_free(&listed);
        MPI_Group_free(&world);
        return handle;
      }()) {
  policy_ = policy;
}

MpiGroup MpiGroup::world() {
  auto handle = std::make_unique<Handle>();
  check(MPI_Comm_dup(MPI_COMM_WORLD, &handle->comm), "MPI_Comm_dup");
  return MpiGroup(std::move(handle));
}

MpiGroup MpiGroup::node() {
  auto handle = std::make_unique<Handle>();
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &handle->comm),
        "MPI_Comm_split_type");
  return MpiGroup(std::move(handle));
}

MpiGroup::MpiGroup(MpiGroup&&) noexcept = default;

MpiGroup::~MpiGroup() {
  if (handle_ == nullptr) return;
  const bool failed = policy_.board != nullptr && policy_.board->someone_failed();
  if (!failed && std::uncaught_exceptions() == 0 && handle_->request == MPI_REQUEST_NULL) MPI_Comm_free(&handle_->comm);
}

namespace {
bool left = false;
}

bool MpiGroup::was_left() { return left; }

void MpiGroup::complete(Buffers buffers) {
  Patience patience(policy_);
  for (int done = 0;;) {
    check(MPI_Test(&handle_->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) return;
    try {
      patience.pause();
    } catch (...) {
      left = left || buffers == Buffers::some;
      throw;
    }
  }
}

void MpiGroup::barrier() {
  check(MPI_Ibarrier(handle_->comm, &handle_->request), "MPI_Ibarrier");
  complete(Buffers::none);
}

void MpiGroup::broadcast(void* data, int64_t bytes, int root) {
  for (int64_t done = 0; done < bytes; done += largest_message) {
    const int count = as_count(std::min(largest_message, bytes - done));
    check(MPI_Ibcast(static_cast<char*>(data) + done, count, MPI_BYTE, root, handle_->comm, &handle_->request),
          "MPI_Ibcast");
    complete();
  }
}

void MpiGroup::all_gather(const void* part, void* whole, int64_t bytes) {
  const int count = as_count(bytes);
  check(MPI_Iallgather(part, count, MPI_BYTE, whole, count, MPI_BYTE, handle_->comm, &handle_->request),
        "MPI_Iallgather");
  complete();
}

void MpiGroup::all_to_all(const void* sent, void* received, int64_t bytes) {
  const int count = as_count(bytes);
  check(MPI_Ialltoall(sent, count, MPI_BYTE, received, count, MPI_BYTE, handle_->comm, &handle_->request),
        "MPI_Ialltoall");
  complete();
}

void MpiGroup::gather(const void* piece, std::span<const int64_t> sizes, std::span<const int64_t> places, void* whole,
                      int root) {
  // Root takes one rank after another, so that a large gather never lies in MPI's own memory.
  for (int from = 0; from < size_; from++) {
    const int64_t bytes = sizes[static_cast<size_t>(from)];
    const auto to = static_cast<char*>(whole) + (rank_ == root ? places[static_cast<size_t>(from)] : 0);
    if (from == root) {
      if (rank_ == root) std::copy_n(static_cast<const char*>(piece), bytes, to);
      continue;
    }
    if (rank_ != root && rank_ != from) continue;
    for (int64_t done = 0; done < bytes; done += largest_message) {
      const int count = as_count(std::min(largest_message, bytes - done));
      if (rank_ == root)
        check(MPI_Irecv(to + done, count, MPI_BYTE, from, piece_tag, handle_->comm, &handle_->request), "MPI_Irecv");
      else
        check(MPI_Isend(static_cast<const char*>(piece) + done, count, MPI_BYTE, root, piece_tag, handle_->comm,
                        &handle_->request),
              "MPI_Isend");
      complete();
    }
  }
}

bool MpiGroup::all_gather_until(std::chrono::steady_clock::time_point deadline, const void* part, void* whole,
                                int64_t bytes) {
  const int count = as_count(bytes);
  check(MPI_Iallgather(part, count, MPI_BYTE, whole, count, MPI_BYTE, handle_->comm, &handle_->request),
        "MPI_Iallgather");
  WaitPolicy blind = policy_;  // to failures, which are what is gathered
  blind.board = nullptr;
  Patience patience(blind);
  for (int done = 0;;) {
    check(MPI_Test(&handle_->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    patience.pause();
  }
}

}  // namespace llama_tp
