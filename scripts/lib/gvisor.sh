# shellcheck shell=bash
# Lets Open MPI start ranks under gVisor, in whose containers some clouds lend GPUs; does nothing elsewhere. Sourced, by a
# shell before mpirun, too:  source scripts/lib/gvisor.sh

under_gvisor() { # the file that tells the kernel's version: gVisor's words are the same in all of its versions
  grep -qs '#1 SMP Sun Jan 10 15:06:54 PST 2016' "$1"
}

prepare_gvisor() { # the same file
  local root library cores
  under_gvisor "$1" || return 0
  root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
  library=$root/lib/gvisor_addresses.so # a bundle's
  if [ ! -e "$library" ]; then
    library=$root/build/gvisor_addresses.so
    mkdir -p "$root/build"
    [ "$library" -nt "$root/scripts/lib/gvisor_addresses.cpp" ] ||
      "${CXX:-g++}" -O2 -shared -fPIC -fno-exceptions -Wl,--as-needed -o "$library" "$root/scripts/lib/gvisor_addresses.cpp" -ldl || return
  fi
  if [[ ${LD_PRELOAD-} != *"$library"* ]]; then export LD_PRELOAD=$library${LD_PRELOAD:+:$LD_PRELOAD}; fi
  # Before 2024-08 there was nothing to tell hwloc, and with it mpirun, of processors: here so many cores.
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  if [ ! -e /sys/devices/system/cpu/cpu0/topology ]; then export HWLOC_SYNTHETIC="node:1 core:$cores pu:1"; fi
}

prepare_gvisor /proc/version
