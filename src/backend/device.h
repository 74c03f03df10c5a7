// The one place that knows which backends there are.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace llama_tp {

// name: "auto" or "cpu". threads: of the CPU backend. Errors: another name, with those of this build.
std::unique_ptr<Backend> make_backend(const std::string& name, int threads);

}  // namespace llama_tp
