#include "train/device_sheet.h"

#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_sheet = int64_t{1} << 20;

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

double positive(const Json& json, const std::string& source, const char* key) {
  const bool is_number = json.contains(key) && json[key].is_number();
  require(is_number && json[key].get<double>() > 0 && json[key].get<double>() < 1e18, source, ": ", key,
          " is missing or no positive number; data/devices/h100.json shows the keys");
  return json[key].get<double>();
}

std::string word(const Json& json, const std::string& source, const char* key) {
  require(json.contains(key) && json[key].is_string(), source, ": ", key,
          " is missing or no text; data/devices/h100.json shows the keys");
  return json[key].get<std::string>();
}

}  // namespace

DeviceSheet read_device_sheet(const std::string& file_or_name) {
  const Json json = parse_json_or_discard(sheet_text(file_or_name));
  require(json.is_object(), file_or_name, ": not a JSON object; data/devices/h100.json shows the keys");
  DeviceSheet sheet{word(json, file_or_name, "name"),
                    word(json, file_or_name, "source"),
                    positive(json, file_or_name, "bf16_flops"),
                    static_cast<int64_t>(positive(json, file_or_name, "memory_bytes")),
                    static_cast<int64_t>(positive(json, file_or_name, "reserved_bytes")),
                    positive(json, file_or_name, "memory_bandwidth"),
                    positive(json, file_or_name, "link_bandwidth"),
                    static_cast<int64_t>(positive(json, file_or_name, "devices_of_a_node")),
                    positive(json, file_or_name, "network_bandwidth"),
                    positive(json, file_or_name, "collective_latency"),
                    positive(json, file_or_name, "link_latency"),
                    positive(json, file_or_name, "network_latency")};
  require(sheet.free_bytes() > 0, file_or_name, ": reserved_bytes leave nothing of memory_bytes");
  return sheet;
}

}  // namespace llama_tp
