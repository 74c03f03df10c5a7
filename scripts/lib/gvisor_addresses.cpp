// Preloaded into mpirun and its ranks under gVisor (gvisor.sh). Open MPI and PMIx ask for the address of each network
// interface, and take it only where its family is IPv4's. gVisor writes the address and leaves the family as it found it
// (SIOCGIFADDR in pkg/sentry/socket/netstack/netstack.go), so that they find no interface to meet at.
#include <dlfcn.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdarg>

extern "C" int ioctl(int file, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  using Function = int (*)(int, unsigned long, ...);
  static std::atomic<Function> libcs;  // not set where it is declared: that would need the run-time library of C++
  if (libcs == nullptr) libcs = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "ioctl"));
  const int result = libcs.load()(file, request, argument);
  if (result == 0 && request == SIOCGIFADDR)  // netdevice(7): of IPv4 addresses alone
    static_cast<ifreq*>(argument)->ifr_addr.sa_family = AF_INET;
  return result;
}
