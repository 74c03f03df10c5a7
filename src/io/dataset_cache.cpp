#include "io/dataset_cache.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/fingerprint.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace llama_tp {

namespace {

constexpr int64_t block_bytes = int64_t{16} << 20;
constexpr int cache_version = 6;

// Of a file's contents, a block at a time.
std::string fingerprint_of_file(const std::string& path) {
  const File file = File::open(path);
  std::string block;
  uint64_t hash = 0;
  for (int64_t offset = 0; offset < file.size(); offset += block_bytes) {
    block.resize(static_cast<size_t>(std::min(block_bytes, file.size() - offset)));
    file.read(block.data(), static_cast<int64_t>(block.size()), offset);
    hash = data_fingerprint(block, hash);
  }
  return text(file.size(), " ", hash);
}

std::string key_of(const std::string& path, const DatasetOptions& options, const std::string& tokenizer) {
  const std::string all =
      text(cache_version, " ", path.ends_with(".txt"), " ", fingerprint_of_file(path), " ", options.block_size, " ",
           options.vocabulary, " ", options.eos.value_or(-1), " ", options.truncation, options.packing, " ", tokenizer);
  char name[33];
  std::snprintf(name, sizeof name, "%016llx%016llx", static_cast<unsigned long long>(fingerprint(all)),
                static_cast<unsigned long long>(fingerprint(all + "again")));
  return name;
}

// visit(name, type, array): the data's, and its numbers as one more.
template <class Data, class Numbers, class Visit>
void each_stored(Data& data, Numbers& numbers, const Visit& visit) {
  const auto with_type = [&](const char* name, auto& values) {
    visit(name, sizeof values[0] == sizeof(int32_t) ? DType::i32 : DType::i64, values);
  };
  each_array(data, with_type);
  with_type("numbers", numbers);
}

// Of the arrays and the numbers; kept behind the latter: damage is found by it.
int64_t check_sum(const Dataset& data, std::span<const int64_t> numbers) {
  return static_cast<int64_t>(data_fingerprint(numbers, fingerprint_of(data)));
}

void write(const Dataset& data, const std::string& folder, const std::string& name) {
  std::filesystem::create_directories(folder);
  SharedList<int64_t> numbers = data.numbers();
  numbers.own().push_back(check_sum(data, numbers));
  std::vector<PlannedTensor> planned;
  each_stored(data, numbers, [&](const char* array, DType dtype, const auto& values) {
    planned.push_back({array, dtype, {static_cast<int64_t>(values.size())}});
  });
  const FilePlan plan = plan_file(name, planned);
  SafetensorsWriter writer(folder, plan);
  each_stored(data, numbers, [&](const char* array, DType dtype, const auto& values) {
    writer.write(array, 0, values.data(), static_cast<int64_t>(values.size()) * size_of(dtype));
  });
  writer.finish();
}

Dataset read_arrays(const std::string& path) {
  Dataset data;
  SharedList<int64_t> numbers;
  const SafetensorsFile file(path);
  each_stored(data, numbers, [&](const char* array, DType dtype, auto& values) {
    const StoredTensor* const stored = file.find(array);
    require(stored != nullptr && stored->dtype() == dtype && stored->shape.size() == 1, path, ": has no ", array);
    values.own().resize(static_cast<size_t>(stored->shape[0]));
    file.read(*stored, whole(*stored), dtype, values.own().data());
  });
  require(numbers.size() == data.numbers().size() + 1, path, ": has no numbers");
  const int64_t sum = numbers.own().back();
  numbers.own().pop_back();
  require(check_sum(data, numbers) == sum, path, ": is damaged");
  data.set_numbers(numbers);
  return data;
}

}  // namespace

Dataset DatasetCache::read(const std::string& path, const DatasetOptions& options, const std::string& tokenizer) {
  name_.clear();
  is_hit_ = false;
  trouble_.clear();
  if (!file_exists(path)) return read_dataset(path, options);  // a pipe, or nothing at all
  name_ = dataset_prefix + key_of(path, options, tokenizer) + ".safetensors";
  const std::string kept = folder_ + "/" + name_;
  try {
    if (file_exists(kept)) {
      Dataset data = read_arrays(kept);
      is_hit_ = true;
      return data;
    }
  } catch (const Error& error) {
    trouble_ = text(error.what(), "; tokenized again");
  }
  return read_dataset(path, options);
}

std::string DatasetCache::keep(const Dataset& data) const {
  if (name_.empty() || is_hit_) return "";
  try {
    write(data, folder_, name_);
    return trouble_;
  } catch (const std::exception& error) {
    std::error_code ignored;
    std::filesystem::remove(folder_ + "/" + name_ + ".partial", ignored);
    return text("tokenized data is not kept: ", error.what());
  }
}

}  // namespace llama_tp
