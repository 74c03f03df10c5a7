// A library that is looked for when it is needed, so that the program starts where there is none.
#pragma once

#include <string>

namespace llama_tp {

class SharedLibrary {
 public:
  // The address of a function, as whatever function its use says.
  class Symbol {
   public:
    explicit Symbol(void* address) : address_(address) {}
    template <class Function>
    operator Function*() const {
      return reinterpret_cast<Function*>(address_);
    }

   private:
    void* address_;
  };

  // file: such as "libnccl.so.2", found as the dynamic linker finds libraries. It stays loaded. Errors: not found, with
  // what the linker says.
  explicit SharedLibrary(const std::string& file);
  // Errors: the library has no such function.
  Symbol symbol(const char* name) const;

 private:
  std::string file_;
  void* handle_;
};

}  // namespace llama_tp
