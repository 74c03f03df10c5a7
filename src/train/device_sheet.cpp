#include "train/device_sheet.h"

#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/json_part.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_sheet = int64_t{1} << 20;
constexpr const char* sheet_mend = "; data/devices/h100.json shows the keys";

constexpr std::pair<const char*, const char*> shipped[] = {
#include "devices.inc"
};

std::string sheet_text(const std::string& file_or_name) {
  std::string names;
  for (const auto& [name, content] : shipped) {
    if (file_or_name == name) return content;
    names += std::string(names.empty() ? "" : ", ") + name;
  }
  require(file_exists(file_or_name), "--device ", file_or_name,
          " is neither a file nor a datasheet of this program: ", names);
  return read_text(file_or_name, largest_sheet);
}

}  // namespace

DeviceSheet read_device_sheet(const std::string& file_or_name) {
  const Json json = parse_json_object(sheet_text(file_or_name), file_or_name, sheet_mend);
  const auto file = JsonPart::of_file(json, file_or_name, sheet_mend);
  const auto whole = [&](const char* key) { return static_cast<int64_t>(file.positive(key)); };
  DeviceSheet sheet{file.text("name"),
                    file.text("source"),
                    file.positive("bf16_flops"),
                    whole("memory_bytes"),
                    whole("reserved_bytes"),
                    file.positive("memory_bandwidth"),
                    file.positive("link_bandwidth"),
                    whole("devices_of_a_node"),
                    file.positive("network_bandwidth"),
                    file.positive("collective_latency"),
                    file.positive("link_latency"),
                    file.positive("network_latency")};
  require(sheet.free_bytes() > 0, file_or_name, ": reserved_bytes leave nothing of memory_bytes");
  return sheet;
}

}  // namespace llama_tp
