// What the Makefile makes of a machine's GPUs, CUDA toolkit and compiler, and scripts/dependencies of its packages, all of
// which are only played here.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "fake_program.h"
#include "scratch_folder.h"
#include "support/command.h"

namespace llama_tp {
namespace {

class Makefile : public testing::Test {
 protected:
  Makefile() {
    add_program(toolkit_ + "/bin/nvcc", R"(case $1 in
      --version) echo 'Cuda compilation tools, release 12.4, V12.4.131' ;;
      --list-gpu-arch) printf 'compute_%s\n' 50 75 80 86 89 90 ;;
      esac)");
    for (const char* file : {"include/cublasLt.h", "include/nccl.h", "lib64/libcudart_static.a"})
      add_program(toolkit_ + "/" + file, "");
  }

  // As make expands it, on a machine where nvidia-smi lists GPUs of these compute capabilities.
  std::string expanded(const std::string& text, const std::string& gpus = "", const std::string& variables = "") const {
    add_program(folder_ / "tools/nvidia-smi", "printf '%s\\n' " + gpus);
    return made(variables + " " + quoted("--eval=expanded: ; @echo " + text) + " expanded");
  }
  // What make says.
  std::string made(const std::string& what) const {
    const CommandResult result =
        run_command("env -i PATH=" + (folder_ / "tools") + ":$PATH make -s BUILD=" + (folder_ / "build") +
                    " NVCC=" + toolkit_ + "/bin/nvcc " + what);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }

  ScratchFolder folder_;
  std::string toolkit_ = folder_ / "toolkit";
};

TEST_F(Makefile, KernelsAreForTheGpusThatCanRunThemAndTheToolkitKnowsElseFor80) {
  struct Case {
    const char *gpus, *made;
  };
  for (const auto& [gpus, made] : {
           Case{"", "sm_80, PTX of 80\n"},
           Case{"8.6", "sm_86, PTX of 86\n"},
           Case{"9.0", "sm_90a, PTX of 90\n"},
           Case{"8.9 8.0 8.0", "sm_80 sm_89, PTX of 89\n"},
           Case{"8.0 8.0 7.5", "sm_80, PTX of 80\n"},  // older ones cannot run the kernels
           Case{"7.5", "sm_80, PTX of 80\n"},
           Case{"12.0", "sm_80, PTX of 80\n"},  // nvcc 12.4 does not know it: its driver compiles the PTX
           Case{"12.0 9.0 8.0", "sm_80 sm_90a, PTX of 90\n"},
           Case{"'[N/A]'", "sm_80, PTX of 80\n"},
       })
    EXPECT_EQ(expanded("$(CUDA_NAMES), PTX of $(OF_PTX)", gpus), made) << gpus;
}

// The last is compiled as PTX, too, which is for later GPUs alone.
TEST_F(Makefile, TheNewestGpuComesLast) {
  add_program(toolkit_ + "/bin/nvcc", R"(case $1 in
    --version) echo 'Cuda compilation tools, release 13.0, V13.0.88' ;;
    --list-gpu-arch) printf 'compute_%s\n' 80 120 100 ;;
    esac)");
  EXPECT_EQ(expanded("$(CUDA_NAMES), PTX of $(OF_PTX)", "12.0 10.0 8.0"), "sm_80 sm_100 sm_120, PTX of 120\n");
}

TEST_F(Makefile, LibrariesAreLookedForInThisToolkitAndWhereOtherMachinesHaveTheirs) {
  const std::string shown = "$(filter -Wl%,$(LDLIBS))", of_others = "/usr/local/cuda/lib64";
  EXPECT_EQ(expanded(shown, "", "MPI_LIBS="), "-Wl,-rpath," + toolkit_ + "/lib64:" + of_others + "\n");
  EXPECT_EQ(expanded(shown, "", "MPI_LIBS= CUDA_LIB=" + of_others), "-Wl,-rpath," + of_others + "\n");
  const std::string of_debian = toolkit_ + "/lib/aarch64-linux-gnu";
  std::filesystem::remove_all(toolkit_ + "/lib64");
  add_program(of_debian + "/libcudart_static.a", "");
  EXPECT_EQ(expanded(shown, "", "MPI_LIBS="), "-Wl,-rpath," + of_debian + ":" + of_others + "\n");
}

TEST_F(Makefile, ABundleIsForProcessorsLikeThisOne) {
  for (const auto& [machine, arch] : {std::array{"x86_64", "x86-64-v3\n"}, std::array{"aarch64", "armv8.2-a\n"}}) {
    add_program(folder_ / "tools/uname", "echo " + std::string(machine));
    EXPECT_EQ(expanded("$(BUNDLE_ARCH)"), arch);
  }
}

TEST_F(Makefile, TakesTheMpiWhoseMpiccStandsFirstInPath) {
  add_program(folder_ / "tools/mpicc",
              R"([ "$1" = -show ] && echo gcc -O2 -Wl,-z,now -I/mpich/include -L/mpich/lib -lmpich)");
  EXPECT_EQ(expanded("$(MPI_CFLAGS) $(MPI_LIBS)"), "-I/mpich/include -Wl,-z,now -L/mpich/lib -lmpich\n");
  add_program(folder_ / "tools/mpicc", "exit 127");
  add_program(folder_ / "tools/pkg-config", R"([ "$2" = ompi-c ] && echo "options$1")");
  EXPECT_EQ(expanded("$(MPI_CFLAGS) $(MPI_LIBS)"), "options--cflags options--libs\n");
}

// Open MPI has both in one line, MPICH in two.
TEST_F(Makefile, NamesTheLauncherAndItsVersion) {
  const auto found = [&](const std::string& said) {
    add_program(folder_ / "tools/mpirun", "printf '" + said + "'");
    return made("found");
  };
  const std::string of_open_mpi = found("mpirun (Open MPI) 4.1.4\\n\\nReport bugs to http://www.open-mpi.org/\\n"),
                    of_mpich = found("HYDRA build details:\\n    Version:        4.0.2\\n    CC:     gcc\\n");
  EXPECT_NE(of_open_mpi.find("\nMPI       mpirun (Open MPI) 4.1.4\n"), std::string::npos) << of_open_mpi;
  EXPECT_NE(of_mpich.find("\nMPI       HYDRA build details: Version: 4.0.2\n"), std::string::npos) << of_mpich;
}

TEST_F(Makefile, ACompilerThatIsTooOldIsRefusedBeforeItCompiles) {
  const std::string old = folder_ / "tools/old";
  add_program(old,
              R"(if [ "$1" = --version ]; then echo 'g++ 11.4.0'; else exec g++ -U__GNUC__ -D__GNUC__=11 "$@"; fi)");
  // An object of each rule that compiles.
  for (const char* object :
       {"src/main.o", "src/io/folder.o", "tests/plan_test.o", "cuda/kernels/norm.o", "ptx/kernels/norm.o",
        "emulated/kernels/norm.o", "emulated/tests/emulation/fiber.o", "raced/kernels/norm.o",
        "raced/tests/racecheck.o", "accessed/tests/emulation/fiber.o", "tests/cuda/libnccl.so.2"}) {
    const CommandResult result = run_command("env -i PATH=\"$PATH\" make -s NVCC= BUILD=" + (folder_ / "build") +
                                             " CXX=" + old + " " + (folder_ / "build/") + object);
    EXPECT_EQ(result.status, 2) << object;
    EXPECT_EQ(result.out, "make: g++ 11.4.0 is too old; CXX= names another: g++ 12, clang 14 or later\n") << object;
  }
}

// scripts/dependencies on a Debian where nothing is installed but SentencePiece, and the packages have these versions.
class Dependencies : public testing::Test {
 protected:
  void SetUp() override {
    if (run_command("command -v dpkg").status != 0) GTEST_SKIP() << "no dpkg, which compares versions";
  }
  CommandResult result_with(const std::string& of_cxxopts, const std::string& of_sentencepiece,
                            const std::string& unknown = "libonednn-dev") const {
    add_program(folder_ / "dpkg-query", "[ ${!#} = libsentencepiece-dev ] && echo installed " + of_sentencepiece);
    add_program(folder_ / "apt-cache", "case ${!#} in libcxxopts-dev) echo 'Version: " + of_cxxopts + "' ;; " +
                                           unknown + ") exit 100 ;; *) echo 'Version: 99:1' ;; esac");
    add_program(folder_ / "apt-get", "");
    add_program(folder_ / "sudo", R"(exec "$@")");
    return run_command("PATH=" + folder_.path() + ":$PATH scripts/dependencies");
  }
  ScratchFolder folder_;
};

TEST_F(Dependencies, AreThePackagesThatAreMissingOrTooOld) {
  const std::string begin =
      "scripts/dependencies: apt-get update\n"
      "scripts/dependencies: apt-get install g++ make pkg-config openmpi-bin libopenmpi-dev libdnnl-dev libcxxopts-dev "
      "nlohmann-json3-dev libpcre2-dev libutf8proc-dev ";
  const std::string end = "libgtest-dev\nscripts/dependencies: done\n";
  EXPECT_EQ(result_with("3.1.1-1", "0.1.97-3+b1").out, begin + end);
  EXPECT_EQ(result_with("3.1.1-1", "0.1.96-1build1").out, begin + "libsentencepiece-dev " + end);
}

TEST_F(Dependencies, OfASystemThatHasOnlyOlderOnesAreRefusedBeforeAnythingIsInstalled) {
  const CommandResult result = result_with("3.0.0-1", "0.1.97");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "scripts/dependencies: apt-get update\n");
  EXPECT_EQ(
      result.err,
      "scripts/dependencies: this system's packages are too old: libcxxopts-dev 3.0.0-1 (needed: 3.1); Debian 12 and "
      "Ubuntu 24.04 have newer ones, in a container as well\n");
}

// Of oneDNN, which has had two names.
TEST_F(Dependencies, ThatAptDoesNotKnowAreLookedForByTheirOtherNameAndElseNamed) {
  const std::string known = "3.1.1-1", installed = "0.1.97", first = "libdnnl-dev", both = "libdnnl-dev|libonednn-dev";
  const CommandResult second = result_with(known, installed, first), none = result_with(known, installed, both);
  EXPECT_EQ(second.status, 0) << second.err;
  EXPECT_NE(second.out.find(" libopenmpi-dev libonednn-dev libcxxopts-dev "), std::string::npos) << second.out;
  EXPECT_EQ(none.status, 1);
  EXPECT_EQ(none.err,
            "scripts/dependencies: no package libdnnl-dev or libonednn-dev in this system's package lists; is there a "
            "network, and is 'universe' (Ubuntu) switched on?\n");
}

}  // namespace
}  // namespace llama_tp
