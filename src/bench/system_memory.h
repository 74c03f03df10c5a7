// What the system has given to this process, or the driver of all that its device has, since a moment: the account that
// is not ours.
#pragma once

#include <malloc.h>

#include "backend/backend.h"
#include "report/resident.h"

namespace llama_tp {

class SystemMemory {
 public:
  explicit SystemMemory(Backend& backend) : backend_(backend), before_(now()) {}
  // On a device others' memory counts, too, if they take any meanwhile.
  int64_t given() const { return now() - before_; }

 private:
  // On the CPU without code, which comes into memory as it is used, and without what the heap keeps of memory that was
  // freed. On a device only differences mean something.
  int64_t now() const {
    backend_.synchronize();
    if (backend_.device() != nullptr) return -backend_.free_memory();
    malloc_trim(0);
    return resident_memory().anonymous;
  }

  Backend& backend_;
  int64_t before_;
};

}  // namespace llama_tp
