// Tiles in shared memory as Hopper's copies write them and its products read them, and their descriptors.
#pragma once

#include "kernels/ptx_hopper.h"

namespace llama_tp::kernels {

// Rows of bf16 in parts of 64 columns, so that a part's row is 128 bytes. In each the sixteen-byte piece p of row r
// lies at place p ^ (r % 8): eight rows at one column then lie in eight different groups of banks.
template <int rows_, int columns_>
struct SwizzledTile {
  static constexpr int rows = rows_, columns = columns_, columns_a_part = 64, parts = columns / columns_a_part;
  static constexpr int part_bytes = rows * 128, bytes = parts * part_bytes;
  static_assert(columns % columns_a_part == 0 && rows % 8 == 0);
  alignas(1024) bf16 part[parts][rows][columns_a_part];
};

// Starts the copies of a tile whose first row is this one of this head, from a column on.
template <class AnyTile>
__device__ __forceinline__ void copy_rows(AnyTile& tile, const TensorMap& map, int first_row, int head,
                                          MemoryBarrier& barrier, int first_column = 0) {
  for (int part = 0; part < AnyTile::parts; part++)
    copy_tile(tile.part[part], map, first_column + part * AnyTile::columns_a_part, first_row, head, barrier);
}

// What a product is told of a factor (PTX ISA: matrix descriptor): where it begins and how far apart its neighbouring
// blocks of eight rows of 128 bytes are, in units of 16 bytes; in the top bits, the swizzle. A distance that there is
// not, or that the swizzle determines, is not looked at; it is what CUTLASS says then.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, int leading_bytes, int stride_bytes) {
  const auto units = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3ffff) >> 4); };
  return units(address) | units(static_cast<uint32_t>(leading_bytes)) << 16 |
         units(static_cast<uint32_t>(stride_bytes)) << 32 | uint64_t{1} << 62;
}

// The same some bytes behind, within a tile: one addition for each product.
__device__ __forceinline__ uint64_t behind(uint64_t descriptor, int bytes) {
  const auto low = static_cast<uint32_t>(descriptor) + static_cast<uint32_t>(bytes >> 4);
  return descriptor >> 32 << 32 | low;
}

constexpr int eight_rows_bytes = 8 * 128;

// Columns k … + 15 of all rows, a factor that is summed over columns.
template <class AnyTile>
__device__ __forceinline__ uint64_t describe_columns(const AnyTile& tile, int k) {
  return behind(descriptor(shared_address(tile.part[0]), 16, eight_rows_bytes),
                k / 64 * AnyTile::part_bytes + k % 64 * static_cast<int>(sizeof(bf16)));
}

// Rows k … + 15 of all columns, a factor that is summed over rows.
template <class AnyTile>
__device__ __forceinline__ uint64_t describe_rows(const AnyTile& tile, int k) {
  return behind(
      descriptor(shared_address(tile.part[0]), AnyTile::parts > 1 ? AnyTile::part_bytes : 0, eight_rows_bytes),
      k * 128);
}

}  // namespace llama_tp::kernels
