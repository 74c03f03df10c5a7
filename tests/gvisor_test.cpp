// scripts/lib/gvisor.sh: what Open MPI needs under gVisor, and nothing elsewhere. Its version is a file here, and its ioctl
// a library that leaves an address without its family, as gVisor's does.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "fake_program.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/roles.h"

namespace llama_tp {
namespace {

// The family of lo's address, where another call has left something in its place.
int family_of_loopback(const std::string&, Launch&) {
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  const int any = socket(AF_INET, SOCK_DGRAM, 0);
  ioctl(any, SIOCGIFINDEX, &request);
  ioctl(any, SIOCGIFADDR, &request);
  std::printf("family %d\n", request.ifr_addr.sa_family);
  close(any);
  return 0;
}

class GVisor : public testing::Test {
 protected:
  GVisor() {
    write_file(folder_ / "version", "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n");
    write_file(folder_ / "ioctl.cpp", "extern \"C\" int ioctl(int, unsigned long, ...) noexcept { return 0; }");
  }
  // With the variables that gvisor.sh sets there.
  CommandResult run(const std::string& line) const {
    return run_command("source scripts/lib/gvisor.sh && prepare_gvisor " + (folder_ / "version") + " && " + line);
  }

  ScratchFolder folder_;
};

TEST_F(GVisor, NothingIsSetElsewhere) {
  if (run_command("source scripts/lib/gvisor.sh && under_gvisor /proc/version").status == 0)
    GTEST_SKIP() << "this is gVisor";
  EXPECT_EQ(run_command("unset LD_PRELOAD HWLOC_SYNTHETIC; source scripts/lib/gvisor.sh; "
                        "echo \"[${LD_PRELOAD-}${HWLOC_SYNTHETIC-}]\"")
                .out,
            "[]\n");
}

TEST_F(GVisor, AnAddressHasItsFamily) {
  const std::string fake = folder_ / "ioctl.so";
  ASSERT_EQ(run_command("g++ -shared -fPIC -o " + fake + " " + (folder_ / "ioctl.cpp")).status, 0);
  EXPECT_EQ(run_command("LD_PRELOAD=" + fake + " " + as("family")).out, "family 0\n");
  EXPECT_EQ(run("LD_PRELOAD=$LD_PRELOAD:" + fake + " " + as("family")).out, text("family ", AF_INET, "\n"));
}

TEST_F(GVisor, TwiceSetIsSetOnce) {
  const CommandResult result = run("prepare_gvisor " + (folder_ / "version") + "; echo $LD_PRELOAD");
  EXPECT_EQ(result.count("gvisor_addresses.so"), 1) << result.said();
}

TEST_F(GVisor, RanksStart) {
  const CommandResult result = run(mpirun(2) + as("family"));
  EXPECT_EQ(result.count(text("family ", AF_INET, "\n")), 2) << result.said();
}

}  // namespace
}  // namespace llama_tp

int main(int argc, char** argv) { return llama_tp::play_or_judge(argc, argv, llama_tp::family_of_loopback); }
