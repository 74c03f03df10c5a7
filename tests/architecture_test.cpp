// docs/architecture.md's arrows, read from the #include lines of src and kernels: commands → bench → train, generate →
// model → parallel → backend → kernels; io, report and base are leaves; each library is known in one place.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>

#include "io/files.h"
#include "model/families.h"

namespace llama_tp {
namespace {

struct Source {
  std::string path, text;  // path relative to src, or kernels/…
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    std::vector<Source> read;
    for (const std::string root : {"src", "kernels"})
      for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
        const std::string ending = entry.path().extension().string();
        if (ending != ".h" && ending != ".cpp" && ending != ".cu") continue;
        const std::string path = std::filesystem::relative(entry.path(), root == "src" ? root : ".").string();
        read.push_back({path, read_text(entry.path().string())});
      }
    return read;
  }();
  return all;
}

// What stands behind #include, quoted or in angle brackets, with the mark in front: "model/config.h, <mpi.h.
std::vector<std::string> includes(const Source& source) {
  static const std::regex line("(^|\n)#include ([\"<][^\">]+)[\">]");
  std::vector<std::string> all;
  for (std::sregex_iterator at(source.text.begin(), source.text.end(), line), end; at != end; ++at)
    all.push_back((*at)[2]);
  return all;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

TEST(Architecture, TheArrowsRunOneWay) {
  const std::set<std::string> leaves{"io", "report", "base"};
  // The folders that each may include, besides itself and the leaves.
  const std::map<std::string, std::set<std::string>> arrows{
      {"main.cpp", {"commands", "parallel"}},  // it starts the ranks
      {"commands", {"bench", "train", "generate", "model", "parallel", "backend"}},
      {"bench", {"train", "generate", "model", "parallel", "backend"}},
      {"train", {"model", "parallel", "backend"}},
      {"generate", {"model", "parallel", "backend"}},
      {"model", {"parallel", "backend"}},
      {"parallel", {"backend"}},
      {"backend", {"kernels"}},
      {"kernels", {}},
      {"io", {}},
      {"report", {}},
      {"base", {}}};
  size_t seen = 0;
  for (const Source& source : sources()) {
    const std::string from = folder_of(source.path);
    ASSERT_EQ(arrows.count(from), 1u) << source.path << ": a folder without a place in the architecture";
    for (const std::string& name : includes(source)) {
      if (name.front() != '"' || name.ends_with(".inc")) continue;  // the latter: data, made by make
      if (name.starts_with("\"emulation/")) continue;               // see below
      const std::string to = folder_of(name.substr(1));
      seen++;
      // Leaves know only the base, which knows nothing; parallel and backend need no leaf but it.
      const bool below_leaves = leaves.count(from) > 0 || from == "kernels" || from == "backend" || from == "parallel";
      const bool leaf = from != "base" && (below_leaves ? to == "base" : leaves.count(to) > 0);
      EXPECT_TRUE(to == from || leaf || arrows.at(from).count(to) > 0) << source.path << " includes " << name;
    }
  }
  EXPECT_GT(seen, 200u);
}

TEST(Architecture, EveryLibraryIsKnownInOnePlace) {
  struct Place {
    const char *library, *files;
  };
  for (const auto& [library, files] :
       {Place{"<mpi.h", "parallel/[a-z_]+\\.cpp"}, Place{"<oneapi/dnnl", "backend/cpu/[a-z_]+\\.cpp"},
        Place{"<cxxopts", "commands/[a-z_]+\\.cpp"}, Place{"<pcre2", "io/tokenizer/[a-z_]+\\.cpp"},
        Place{"<utf8proc", "io/tokenizer/[a-z_]+\\.cpp"}, Place{"<sentencepiece", "io/tokenizer/[a-z_]+\\.cpp"},
        Place{"<nlohmann/json.hpp", ".*\\.cpp|base/json\\.h"},
        Place{"<cuda", "kernels/(check|cuda|tensor_map)\\.h|backend/cuda/calls\\.h"},
        Place{"<cublasLt", "backend/cuda/cublas_lt(\\.cpp|_library\\.h)"},
        Place{"<nccl", "parallel/nccl_communicator\\.cpp"}, Place{"<dlfcn", "base/shared_library\\.cpp"},
        Place{"\"backend/cuda/",
              "backend/cuda/[a-z_]+\\.(h|cpp)|backend/device\\.cpp|parallel/nccl_communicator\\.cpp"},
        Place{"\"emulation/", "kernels/(cuda|ptx|ptx_hopper|tensor_map)\\.h"},
        Place{"\"base/json.h", ".*\\.cpp|model/config_reader\\.h"}}) {  // slow to compile
    size_t users = 0;
    for (const Source& source : sources())
      for (const std::string& name : includes(source)) {
        if (!name.starts_with(library)) continue;
        users++;
        EXPECT_TRUE(std::regex_match(source.path, std::regex(files))) << source.path << " includes " << name;
      }
    EXPECT_GT(users, 0u) << library;
  }
}

// Two types of one name in one namespace are taken for each other by the linker, where templates of them are compiled.
TEST(Architecture, ATypeHasItsNameAlone) {
  static const std::regex line("(^|\n)(namespace|struct|class|enum class) ([A-Za-z_:]+)[^\n;]*\\{");
  std::map<std::string, std::string> places;  // of each type
  for (const Source& source : sources()) {
    if (!source.path.ends_with(".h")) continue;
    std::string space;
    for (std::sregex_iterator at(source.text.begin(), source.text.end(), line), end; at != end; ++at) {
      if ((*at)[2] == "namespace") {
        space = (*at)[3];
        continue;
      }
      const auto [known, is_new] = places.emplace(space + "::" + (*at)[3].str(), source.path);
      EXPECT_TRUE(is_new || known->second == source.path)
          << known->first << " is in " << known->second << " and in " << source.path;
    }
  }
  EXPECT_GT(places.size(), 100u);
}

// A family is data: no code asks for one by its name.
TEST(Architecture, NoCodeNamesAFamily) {
  size_t names = 0;
  for (const FamilyPointer& family : families())
    for (const std::string& type : family->model_types) {
      names++;
      for (const Source& source : sources())
        EXPECT_EQ(source.text.find("\"" + type + "\""), std::string::npos)
            << source.path << " names " << type << "; make it an option of src/model/families";
    }
  EXPECT_GT(names, 0u);
}

}  // namespace
}  // namespace llama_tp
