#include "parallel/launch.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <new>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/fingerprint.h"
#include "parallel/cores.h"
#include "parallel/launcher_process.h"
#include "parallel/launcher_variables.h"
#include "parallel/rank_names.h"
#include "parallel/shared_output.h"

// What Open MPI's MPI_Abort calls when it has sent mpirun a text of seven lines, which would bury the error's one. More
// than that: mpirun 4.1 takes the text for damaged now and then, complains, and ends the job a second later. Null where
// another MPI is linked.
extern "C" int ompi_mpi_abort(MPI_Comm comm, int status) __attribute__((weak));

namespace llama_tp {

namespace {

[[noreturn]] void abort_job() {
  if (ompi_mpi_abort != nullptr) ompi_mpi_abort(MPI_COMM_WORLD, EXIT_FAILURE);
  MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
  std::_Exit(EXIT_FAILURE);
}

constexpr const char* again = "LLAMA_TP_STARTED_AGAIN";

// Replaces this program by itself: the same process, arguments and descriptors. Returns only when that fails.
void start_again() {
  std::vector<std::string> words = process_words(getpid());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::array<char, 4096> program{};
  if (words.empty() || readlink("/proc/self/exe", program.data(), program.size() - 1) <= 0) return;
  setenv(again, "1", 1);
  execv(program.data(), arguments.data());
}

// What this process's threads may run on. libgomp binds the first thread to one of its places as it is loaded
// (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY): Linux then says where that thread is, and the places where all are.
Processors own_processors() {
  Processors all;
  for (int place = 0; place < omp_get_num_places(); place++) {
    std::vector<int> processors(static_cast<size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, processors.data());
    all.insert(all.end(), processors.begin(), processors.end());
  }
  if (all.empty()) return allowed_processors(getpid());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// As many threads as a parallel region gets that asks for these, within OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS, and
// from now on whatever else the machine does. oneDNN divides a product among as many as were announced, and relies on it
// that they come.
int team_of(int threads) {
  omp_set_dynamic(0);
  return omp_get_max_active_levels() < 1 ? 1 : std::min(threads, omp_get_thread_limit());
}

// Open MPI binds one or two ranks to one core each, and more of them to a package each. This is the rank's share of what
// mpirun itself may use; or what it may run on now, where the user has said more.
Processors share_of_cores(int launcher, const Processors& now) {
  const char* local_rank = environment({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"});
  const char* local_size = environment({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"});
  const bool user_has_bound =
      environment({"OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_hwloc_base_cpu_list"}) != nullptr ||
      launcher_says_binding(launcher);
  if (launcher == 0 || local_rank == nullptr || local_size == nullptr || user_has_bound) return now;

  const Processors all = allowed_processors(launcher), cores = one_per_core(all);
  const int ranks = std::atoi(local_size);
  Processors share = static_cast<int>(cores.size()) < ranks ? all : share_of(cores, std::atoi(local_rank), ranks);
  std::sort(share.begin(), share.end());
  return share;
}

// A thread of libgomp that waits for the others, or for the next parallel region, spins for some 7 ms before it sleeps.
// Where another process has a core, two threads of a team share the one that is left, and each region would take until
// the turn of who spins there ends. So many spins take about 0.2 ms, longer than what lies between most regions. False
// where that is settled: by the user, by one processor, or since the program was started again.
bool shorten_spins(const Processors& own) {
  constexpr const char* spins = "10000";
  const bool is_settled = environment({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}) != nullptr;
  if (is_settled || own.size() == 1) return false;
  setenv("GOMP_SPINCOUNT", spins, 1);
  return true;
}

using HostName = std::array<char, 256>;

HostName host_name() {
  HostName name{};
  gethostname(name.data(), name.size() - 1);
  return name;
}

std::vector<std::string> hosts_of(MpiGroup& world) {
  std::vector<HostName> names(static_cast<size_t>(world.size()));
  const HostName own = host_name();
  world.all_gather(own.data(), names.data(), sizeof own);
  std::vector<std::string> hosts;
  for (const HostName& name : names) hosts.emplace_back(name.data());
  return hosts;
}

}  // namespace

Launch::Launch() : launcher_(find_launcher()), hosts_{host_name().data()} {
  const bool second_time = std::getenv(again) != nullptr;
  unsetenv(again);
  // Threads that start later inherit what this one may run on; but libgomp, loaded before, counted what was: with too few
  // it would let its threads sleep between parallel regions, which doubles the time of a short region. And the places to
  // which it binds threads would be those of other ranks.
  const Processors before = own_processors(), share = started_by_mpirun() ? share_of_cores(launcher_, before) : before;
  const bool is_bound = share != before && bind_process(share),
             count_again = is_bound && (before.size() < share.size() || omp_get_num_places() > 0),
             shorter_spins = shorten_spins(is_bound ? share : before);
  if ((count_again || shorter_spins) && !second_time) {
    if (!is_bound) bind_process(before);  // libgomp's place of this thread alone
    start_again();
  }
  try {
    if (started_by_mpirun()) {
      share_output_of(launcher_);
      start_mpi();
    } else {
      check_count(1);
      divide_cores(1, static_cast<int>(one_per_core(own_processors()).size()));
    }
  } catch (const std::exception& error) {
    end_at_start(error.what());
  }
}

void Launch::start_mpi() {
  // Containers often forbid one process to read another's memory, and Open MPI then complains at each message.
  setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
  // How Open MPI 5 finds a way over the network: by subnets, as Open MPI 4 does. By default it asks the kernel, which knows
  // no IPv6 route from an address to itself: each rank would complain of each other rank of its host.
  setenv("OMPI_MCA_reachable", "weighted", 0);
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  world_ = std::make_unique<MpiGroup>(MpiGroup::world());
  rank_ = world_->rank();
  size_ = world_->size();
  hosts_ = hosts_of(*world_);

  MpiGroup node = MpiGroup::node();
  local_rank_ = node.rank();
  local_size_ = node.size();
  check_count(size_);
  node_ranks_.resize(static_cast<size_t>(local_size_));
  node.all_gather(&rank_, node_ranks_.data(), sizeof rank_);
  node_of_.resize(static_cast<size_t>(size_));
  world_->all_gather(node_ranks_.data(), node_of_.data(), sizeof(int));

  // Ranks with the same processors share them.
  const Processors processors = own_processors();
  const uint64_t mine =
      fingerprint({reinterpret_cast<const char*>(processors.data()), processors.size() * sizeof processors[0]});
  std::vector<uint64_t> everyones(static_cast<size_t>(local_size_));
  node.all_gather(&mine, everyones.data(), sizeof mine);
  divide_cores(static_cast<int>(std::count(everyones.begin(), everyones.end(), mine)),
               static_cast<int>(one_per_core(processors).size()));

  board_ = std::make_unique<FailureBoard>(node);
  policy_.board = board_.get();
  whereabouts_ = std::make_unique<Whereabouts>(node, node_ranks_, hosts_);
  policy_.whereabouts = whereabouts_.get();
  job_ = std::make_unique<MeetingPoint>(whereabouts_.get(), GroupName::job, all_ranks());
  of_endings_ = std::make_unique<MpiGroup>(MpiGroup::world());
  for (MpiGroup* all : {world_.get(), of_endings_.get()}) all->set_policy(policy_);
  endings_.resize(static_cast<size_t>(size_));
}

void Launch::divide_cores(int sharing_ranks, int cores) {
  sharing_ranks_ = sharing_ranks;
  cores_ = cores;
  const bool is_told = environment({"OMP_NUM_THREADS"}) != nullptr;
  use_threads(is_told ? omp_get_max_threads()
                      : std::max(1, std::min(cores / sharing_ranks, processor_quota() / local_size_)));
}

void Launch::use_threads(int threads) {
  threads_ = team_of(threads);
  omp_set_num_threads(threads_);
  policy_.yield_at_once = threads_ * sharing_ranks_ > cores_ || threads_ > processor_quota() / local_size_;
  for (MpiGroup* all : {world_.get(), of_endings_.get()})
    if (all != nullptr) all->set_policy(policy_);
}

std::vector<int> Launch::all_ranks() const {
  std::vector<int> ranks(static_cast<size_t>(size_));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

int Launch::ranks_of_every_node() const {
  int common = 0;
  for (const int node : node_of_) common = std::gcd(common, static_cast<int>(std::ranges::count(node_of_, node)));
  return common;
}

Launch::~Launch() {
  if (!has_mpi() || std::uncaught_exceptions() > 0) return;
  of_endings_.reset();
  world_.reset();
  MPI_Finalize();
}

void Launch::set_timeout(double seconds, TimeLimited limited) {
  if (whereabouts_) whereabouts_->set_timeout(std::chrono::duration<double>(seconds), limited);
}

void Launch::begin(Activity activity, int64_t step) const {
  if (whereabouts_) whereabouts_->begin(activity, step);
}

void Launch::meet() const {
  if (!has_mpi()) return;
  const MeetingPoint::Visit visit(*job_, Meeting::barrier, 0);
  world_->barrier();
}

const char* Launch::starter() const {
  if (!has_mpi()) return "you started";
  return by_srun() ? "srun started" : "mpirun started";
}

bool Launch::by_srun() const { return has_mpi() && launcher_ == 0 && started_by_srun(); }

// What a launcher that is not to be seen gives its ranks may be a pty, wherever their output ends.
int Launch::columns(int descriptor) const {
  const bool own = !has_mpi() || (launcher_ == 0 && srun_gave_terminal());
  return own || launcher_ != 0 ? terminal_columns(own ? getpid() : launcher_, descriptor) : 0;
}

bool Launch::stdin_is_terminal() const { return columns(STDIN_FILENO) > 0; }
int Launch::stdout_columns() const { return columns(STDOUT_FILENO); }

// ---- the end

namespace {

// A rank's ending as a number: fine, stopped because of another, or failed with a message that has this hash.
constexpr uint64_t fine = 0, stopped = 1, first_hash = 2;

// How long a failed rank waits for the others to end too: those in a collective leave at once, those that compute do
// not look.
constexpr auto grace = std::chrono::milliseconds(300);
// From the last message to the end of the job: mpirun must have read it.
constexpr auto time_to_print = std::chrono::milliseconds(50);
// abort_job ends the others long before.
constexpr auto time_to_be_stopped = std::chrono::seconds(5);

void print_error(const std::string& message) {
  const std::string line = "llama_tp: " + one_line(message) + "\n";  // one write: lines of several ranks do not mix
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace

// Before there is all by which ranks end together. A node's first rank prints what all have; the others print only what
// it has not, since it then has not stopped them.
void Launch::end_at_start(const std::string& message) const {
  if (has_mpi() && local_rank_ > 0) std::this_thread::sleep_for(time_to_be_stopped);
  print_error(message);
  if (has_mpi()) {
    std::this_thread::sleep_for(time_to_print);
    abort_job();
  }
  std::_Exit(EXIT_FAILURE);
}

struct Launch::Outcome {
  uint64_t ending = fine;
  int status = 0;
  std::string message;
};

int Launch::guard(const std::function<int()>& body) {
  Outcome outcome;
  const auto fail_with = [&outcome](const std::string& message) {
    outcome = {.ending = std::max(first_hash, uint64_t{std::hash<std::string>{}(message)}),
               .status = EXIT_FAILURE,
               .message = message};
  };
  try {
    outcome.status = body();
  } catch (const Stopped&) {
    outcome.ending = stopped;
  } catch (const std::bad_alloc&) {
    fail_with("out of memory; use a smaller batch, a shorter context or ranks on more machines");
  } catch (const std::exception& error) {
    fail_with(error.what());
  }
  std::cout.flush();
  std::fflush(stdout);
  if (has_mpi())
    end_together(outcome);
  else if (outcome.ending >= first_hash)
    print_error(outcome.message);
  return outcome.status;
}

// Returns when all ranks are fine. Else the lowest rank of each message prints it, and the lowest of all ends the job.
void Launch::end_together(const Outcome& outcome) {
  const bool failed = outcome.ending >= first_hash;
  ending_ = outcome.ending;
  if (failed) board_->announce(ending_);
  const auto deadline = failed ? board_->first_failure() + grace : std::chrono::steady_clock::time_point::max();
  const bool late = std::chrono::steady_clock::now() > deadline;  // others are printing and ending already
  bool all_known = false;
  try {
    const MeetingPoint::Visit visit(*job_, Meeting::gather, 0);
    if (!MpiGroup::was_left())
      all_known = of_endings_->all_gather_until(deadline, &ending_, endings_.data(), sizeof ending_);
    else if (failed)
      std::this_thread::sleep_until(deadline);  // for others of this node to announce the same
  } catch (const Stopped&) {
    // Another rank of the node says who does not end.
  } catch (const Error& overdue) {
    print_error(who({rank_}) + overdue.what());
    std::this_thread::sleep_for(time_to_print);
    std::_Exit(
        EXIT_FAILURE);  // ends the job, too; on MPI_Abort at this point Open MPI 4.1's mpirun crashes now and then
  }
  const auto is_fine = [](uint64_t ending) { return ending == fine; };
  if (all_known && std::all_of(endings_.begin(), endings_.end(), is_fine)) return;

  if (failed && !late) {
    if (!all_known) look_at_board();
    const std::vector<int> ranks = failed_ranks(ending_);
    if (rank_ == ranks.front()) print_error(who(ranks) + outcome.message);
    if (rank_ == failed_ranks().front()) {
      std::this_thread::sleep_for(time_to_print);
      abort_job();
    }
  }
  std::this_thread::sleep_for(time_to_be_stopped);
  std::_Exit(EXIT_FAILURE);
}

// The gathering did not end: what is known is what the ranks of this node have announced.
void Launch::look_at_board() {
  std::fill(endings_.begin(), endings_.end(), fine);
  for (int local = 0; local < local_size_; local++)
    if (board_->failed(local))
      endings_[static_cast<size_t>(node_ranks_[static_cast<size_t>(local)])] = board_->message_hash(local);
}

std::string Launch::who(const std::vector<int>& ranks) const {
  return static_cast<int>(ranks.size()) == size_ ? "" : name_ranks(ranks, hosts_, text(" of ", size_)) + ": ";
}

std::vector<int> Launch::failed_ranks(std::optional<uint64_t> with_message) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < size_; rank++) {
    const uint64_t ending = endings_[static_cast<size_t>(rank)];
    if (ending >= first_hash && ending == with_message.value_or(ending)) ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace llama_tp
