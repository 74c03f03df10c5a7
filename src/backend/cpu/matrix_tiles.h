// The CPU's matrix tiles (Intel AMX): registers of 16 rows of 64 bytes, whose product of 16 rows, 16 columns and 32 bf16
// along the sum is one instruction. A thread sets them up before it multiplies and gives them back after; oneDNN, which
// uses them too, does the same in each of its products.
#pragma once

#include "backend/cpu/lanes.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define LLAMA_TP_MATRIX_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace llama_tp {

inline constexpr int tile_rows = 16, tile_bytes = 64;  // of a row

#if defined(LLAMA_TP_MATRIX_TILES)
// What the eight registers hold: all of it. (Intel's manual, LDTILECFG)
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
inline constexpr TileShapes tile_shapes{};

class MatrixTiles {
 public:
  // Linux gives a process these registers only when it asks for them; older kernels, and CPUs without them, refuse.
  static bool allowed() {
    constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool granted = syscall(SYS_arch_prctl, request, tile_data) == 0;
    return granted;
  }

  MatrixTiles() {
    if (allowed()) _tile_loadconfig(&tile_shapes);
  }
  ~MatrixTiles() {
    if (allowed()) _tile_release();
  }
  MatrixTiles(const MatrixTiles&) = delete;
  MatrixTiles& operator=(const MatrixTiles&) = delete;

  // c (+)= a·b for `count` tiles of c beside each other, over `depth` words. tile_of_a(d): where words [d, d + 16) of its
  // rows are, and the bytes from row to row. The instructions are opaque to the compiler: the barriers see to it that
  // memory is as written before them, and read anew after.
  template <int count, class TileOfA>
  static void multiply(int64_t depth, const TileOfA& tile_of_a, const void* b, int64_t b_bytes, bool from_zero,
                       float* c, int64_t c_stride) {
    const int64_t c_bytes = c_stride * int64_t{sizeof(float)};
    asm volatile("" ::: "memory");
    if (from_zero) {
      _tile_zero(0);
      if constexpr (count > 1) _tile_zero(1);
      if constexpr (count > 2) _tile_zero(2);
      if constexpr (count > 3) _tile_zero(3);
    } else {
      _tile_loadd(0, c, c_bytes);
      if constexpr (count > 1) _tile_loadd(1, c + lanes, c_bytes);
      if constexpr (count > 2) _tile_loadd(2, c + 2 * lanes, c_bytes);
      if constexpr (count > 3) _tile_loadd(3, c + 3 * lanes, c_bytes);
    }
    for (int64_t d = 0; d < depth; d += lanes) {
      const auto [a, a_bytes] = tile_of_a(d);
      const char* const row = static_cast<const char*>(b) + d * b_bytes;
      asm volatile("" ::: "memory");
      _tile_loadd(4, a, a_bytes);
      _tile_loadd(5, row, b_bytes);
      _tile_dpbf16ps(0, 4, 5);
      if constexpr (count > 1) {
        _tile_loadd(6, row + tile_bytes, b_bytes);
        _tile_dpbf16ps(1, 4, 6);
      }
      if constexpr (count > 2) {
        _tile_loadd(7, row + 2 * tile_bytes, b_bytes);
        _tile_dpbf16ps(2, 4, 7);
      }
      if constexpr (count > 3) {
        _tile_loadd(5, row + 3 * tile_bytes, b_bytes);
        _tile_dpbf16ps(3, 4, 5);
      }
      asm volatile("" ::: "memory");  // before tile_of_a writes the next where this one was
    }
    _tile_stored(0, c, c_bytes);
    if constexpr (count > 1) _tile_stored(1, c + lanes, c_bytes);
    if constexpr (count > 2) _tile_stored(2, c + 2 * lanes, c_bytes);
    if constexpr (count > 3) _tile_stored(3, c + 3 * lanes, c_bytes);
    asm volatile("" ::: "memory");
  }
};
#else
struct MatrixTiles {
  MatrixTiles() {}  // not trivial, so that none is thought unused
};
#endif

}  // namespace llama_tp
