#include "io/safetensors_header.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "base/json.h"

namespace llama_tp {

namespace {

constexpr std::string_view metadata_key = "__metadata__";

// What helps against a header or ranges that contradict themselves.
constexpr std::string_view copy_again = "; the file is damaged or cut: copy it again";

// Types that the format has and DType has not; their size is still needed to check the ranges.
constexpr std::pair<std::string_view, int64_t> unread_types[] = {
    {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"U32", 4}, {"U64", 8}, {"C64", 8}};

int64_t element_bytes(const std::string& dtype_name) {
  for (const auto& [name, bytes] : unread_types)
    if (name == dtype_name) return bytes;
  return size_of(dtype_named(dtype_name));
}

int64_t element_bytes_of(const StoredTensor& tensor, const std::string& path) {
  try {
    return element_bytes(tensor.dtype_name);
  } catch (const Error& error) {
    fail(path, ": tensor ", tensor.name, ": ", error.what());
  }
}

struct Range {
  int64_t begin = -1, end = -1;
};

// Takes nlohmann's events and accepts the format's one structure only, so that memory stays in proportion to the
// tensors: { "__metadata__": { string: string, … }, name: { "dtype": string, "shape": [ … ], "data_offsets": [ begin,
// end ] }, … }
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& path) : path_(path) {}

  SafetensorsHeader header;
  std::vector<Range> ranges;  // of each tensor, from the end of the header

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(double, const std::string& digits) override { return unexpected("the number " + digits); }
  bool number_integer(int64_t value) override { return unexpected("the negative number " + std::to_string(value)); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(uint64_t value) override {
    if (at_ == At::shape || at_ == At::offsets) {
      if (value > INT64_MAX) refuse(field_, " holds ", value, ", more than 2^63 - 1");
      numbers_.push_back(static_cast<int64_t>(value));
      return true;
    }
    return unexpected("a number");
  }

  bool string(std::string& value) override {
    if (at_ == At::metadata)
      header.metadata.emplace(field_, std::move(value));
    else if (at_ == At::tensor && field_ == "dtype")
      header.tensors.back().dtype_name = std::move(value);
    else
      return unexpected("a string");
    return true;
  }

  bool key(std::string& value) override {
    if (at_ == At::top) {
      name_ = std::move(value);
      if (!names_.insert(name_).second) fail(where(), "stands twice; save the file again");
    } else {
      field_ = std::move(value);
      if (at_ == At::metadata) return true;
      if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") refuse("unknown field ", field_);
      if (!fields_.insert(field_).second) refuse("field ", field_, " stands twice");
    }
    return true;
  }

  bool start_object(size_t) override {
    if (at_ == At::outside) {
      at_ = At::top;
    } else if (at_ == At::top && name_ == metadata_key) {
      at_ = At::metadata;
    } else if (at_ == At::top) {
      at_ = At::tensor;
      header.tensors.push_back({name_, "", {}, 0, 0});
      ranges.emplace_back();
      fields_.clear();
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (at_ == At::tensor && fields_.size() != 3) refuse("lacks dtype, shape or data_offsets");
    at_ = at_ == At::top ? At::outside : At::top;
    return true;
  }

  bool start_array(size_t) override {
    if (at_ != At::tensor || field_ == "dtype") return unexpected("an array");
    at_ = field_ == "shape" ? At::shape : At::offsets;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    if (at_ == At::shape) {
      header.tensors.back().shape = std::move(numbers_);
    } else {
      if (numbers_.size() != 2) refuse("data_offsets holds ", numbers_.size(), " numbers instead of 2");
      ranges.back() = {numbers_[0], numbers_[1]};
    }
    at_ = At::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(path_, ": its header is not JSON at byte ", position + safetensors_length_bytes - 1,
         "; the file is damaged or not a safetensors file: copy it again");
  }

 private:
  enum class At { outside, top, metadata, tensor, shape, offsets };

  std::string where() const { return text(path_, name_ == metadata_key ? ": " : ": tensor ", name_, ": "); }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(where(), parts..., copy_again);
  }

  bool unexpected(const std::string& what) {
    if (at_ == At::outside) fail(path_, ": its header holds ", what, " instead of an object; not a safetensors file");
    if (at_ == At::top) refuse("holds ", what, " instead of an object");
    refuse(field_, " holds ", what, ", which has no place there");
  }

  const std::string& path_;
  At at_ = At::outside;
  std::string name_, field_;
  std::set<std::string> names_, fields_;
  std::vector<int64_t> numbers_;
};

// Product of the shape and the element size. Errors: beyond 2^63 - 1, also where a zero would hide it.
int64_t bytes_needed(const StoredTensor& tensor, int64_t element) {
  int64_t bytes = element;
  bool empty = false;
  for (const int64_t size : tensor.shape) {
    empty = empty || size == 0;
    require(!__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes), "shape ", shape_text(tensor.shape),
            " overflows");
  }
  return empty ? 0 : bytes;
}

void check_range(const StoredTensor& tensor, int64_t element, Range range, int64_t data_bytes) {
  require(range.begin <= range.end, "its range ends at ", range.end, ", before its begin at ", range.begin);
  require(range.end <= data_bytes, "its range ends at ", range.end, " of ", data_bytes, " bytes of data");
  const int64_t needed = bytes_needed(tensor, element);
  require(needed == range.end - range.begin, tensor.dtype_name, " ", shape_text(tensor.shape), " takes ", needed,
          " bytes, its range has ", range.end - range.begin);
}

}  // namespace

DType StoredTensor::dtype() const {
  try {
    return dtype_named(dtype_name);
  } catch (const Error& error) {
    fail("tensor ", name, ": ", error.what());
  }
}

int64_t StoredTensor::columns() const {
  return shape.empty() ? 1 : std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); i++) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, int64_t file_bytes) {
  require(!text.empty() && text.front() == '{', path, ": its header does not begin with {; not a safetensors file");
  HeaderReader reader(path);
  parse_json_events(text, reader);

  const int64_t data_begin = safetensors_length_bytes + static_cast<int64_t>(text.size());
  const int64_t data_bytes = file_bytes - data_begin;
  std::vector<StoredTensor>& tensors = reader.header.tensors;
  const std::vector<Range>& ranges = reader.ranges;
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tie(ranges[a].begin, ranges[a].end) < std::tie(ranges[b].begin, ranges[b].end);
  });

  SafetensorsHeader sorted{{}, std::move(reader.header.metadata)};
  int64_t covered = 0;
  for (const size_t i : order) {
    const int64_t element = element_bytes_of(tensors[i], path);
    try {
      check_range(tensors[i], element, ranges[i], data_bytes);
      require(ranges[i].begin >= covered, "its range begins at ", ranges[i].begin, ", inside of ",
              sorted.tensors.empty() ? "" : sorted.tensors.back().name, "'s, which ends at ", covered);
      require(ranges[i].begin == covered, "bytes ", covered, " to ", ranges[i].begin, " before it belong to no tensor");
    } catch (const Error& error) {
      fail(path, ": tensor ", tensors[i].name, ": ", error.what(), copy_again);
    }
    covered = ranges[i].end;
    tensors[i].offset = data_begin + ranges[i].begin;
    tensors[i].bytes = ranges[i].end - ranges[i].begin;
    sorted.tensors.push_back(std::move(tensors[i]));
  }
  require(covered == data_bytes, path, ": its tensors end at byte ", data_begin + covered, " of ", file_bytes,
          "; the file is damaged: copy it again");
  return sorted;
}

std::string make_safetensors_header(const std::string& file, std::vector<StoredTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  OrderedJson header = OrderedJson::object();
  std::set<std::string_view> names;
  if (!metadata.empty()) header[std::string(metadata_key)] = metadata;
  int64_t covered = 0;
  for (StoredTensor& tensor : tensors) {
    require(names.insert(tensor.name).second, file, ": tensor ", tensor.name, " would be written twice");
    tensor.offset = covered;
    tensor.bytes = bytes_needed(tensor, element_bytes(tensor.dtype_name));
    covered += tensor.bytes;
    // Appended without ordered_json's search, which would be quadratic in the number of tensors.
    header.get_ref<OrderedJson::object_t&>().push_back(
        {tensor.name,
         {{"dtype", tensor.dtype_name}, {"shape", tensor.shape}, {"data_offsets", {tensor.offset, covered}}}});
  }
  std::string text = json_text(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  const auto bytes = static_cast<int64_t>(text.size());
  require(bytes <= safetensors_largest_header, file, ": its header, of ", tensors.size(), " tensors, would take ",
          bytes, " bytes; at most ", safetensors_largest_header,
          " are allowed: write fewer of them into one file (of --dump-logits, each sample is two: take fewer)");
  for (StoredTensor& tensor : tensors) tensor.offset += safetensors_length_bytes + bytes;

  std::string length(safetensors_length_bytes, '\0');
  for (size_t i = 0; i < length.size(); i++) length[i] = static_cast<char>(text.size() >> 8 * i & 0xff);
  return length + text;
}

}  // namespace llama_tp
