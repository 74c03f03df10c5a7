#include "backend/recorder.h"

namespace llama_tp {

Recorder* recorder_of(Backend& backend) { return dynamic_cast<Recorder*>(&backend); }

}  // namespace llama_tp
