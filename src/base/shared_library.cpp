#include "base/shared_library.h"

#include <dlfcn.h>

#include "base/error.h"

namespace llama_tp {

SharedLibrary::SharedLibrary(const std::string& file) : file_(file), handle_(dlopen(file.c_str(), RTLD_NOW)) {
  if (handle_ == nullptr)
    fail(file, " cannot be loaded: ", dlerror(), "; install it, or name its folder in LD_LIBRARY_PATH");
}

SharedLibrary::Symbol SharedLibrary::symbol(const char* name) const {
  void* const address = dlsym(handle_, name);
  require(address != nullptr, file_, " has no ", name, "; install a later version");
  return Symbol(address);
}

}  // namespace llama_tp
