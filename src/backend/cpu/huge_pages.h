// Memory straight from the system, in pages of 2 MiB where it allows: with small ones the processor's address
// translation, not the memory, limits how fast weights are read (by a third when generating).
#pragma once

#include <cstdint>

namespace llama_tp {

// Zeroed pages that count as used only once they are written. Null if the system refuses.
void* take_pages(int64_t bytes);
void give_pages_back(void* base, int64_t bytes);

// What /sys/kernel/mm/transparent_hugepage/enabled selects: "always" or "madvise" give huge pages, "never" does not;
// "unknown" where there is no such file.
const char* huge_page_policy();

}  // namespace llama_tp
