// Batches of texts, one after the other in the same sequences: their memory, and whose random numbers they have.
#include <gtest/gtest.h>

#include <numeric>

#include "generate/generator.h"
#include "model/checkpoint.h"
#include "support/golden_model.h"

namespace llama_tp {
namespace {

constexpr int64_t context = 64;
using Batches = std::vector<std::vector<int64_t>>;  // lengths of the prompts

struct GeneratingModel : GoldenModel {
  explicit GeneratingModel(const std::string& name) : GoldenModel(name, DType::f32) {}
  MemoryPlan plan_of(const Batches& batches) { return plan_generation(config, context, batches, *backend, *runtime); }
  std::unique_ptr<Generator> generator(const Batches& batches) {
    reserve(plan_of(batches));
    auto made = std::make_unique<Generator>(config, context, *runtime, std::ssize(batches.front()),
                                            Sampling{{.temperature = 3}, 5, false});
    load_weights(ModelFiles(folder), config, made->parameters(), *backend);
    return made;
  }
};

// Texts of a batch: a token of all that are left, then of the first until it fills the context and ends.
void continue_until_full(Generator& generator, const std::vector<int64_t>& lengths) {
  const std::vector<int32_t> ones(context, 1);
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < std::ssize(lengths); s++) {
    generator.begin(s, 0);
    feeds.push_back({s, std::span(ones).first(static_cast<size_t>(lengths[static_cast<size_t>(s)]))});
  }
  generator.feed(feeds);
  for (Feed& each : feeds) each.tokens = std::span(ones).first(1);
  for (; !feeds.empty(); feeds.erase(feeds.begin())) {
    generator.feed(feeds);
    while (generator.length(feeds.front().sequence) < context) generator.feed({&feeds.front(), 1});
  }
}

TEST(PlanOfBatches, IsWhatTheyTakeAtMost) {
  const Batches batches{{3, 5, 2}, {9, 60, 17}, {4}};
  for (const std::string& name :
       divided({"gqa", "gqa_3", "gqa_8", "qwen3", "phi3", "granite", "rope_dynamic", "smollm3"})) {
    SCOPED_TRACE(name);
    GeneratingModel model(name);
    const MemoryPlan of_first = model.plan_of({batches[0]}), of_second = model.plan_of({batches[1]}),
                     of_last = model.plan_of({batches[2]}), of_all = model.plan_of(batches);
    EXPECT_LT(of_first.step, of_all.step);  // so that a plan of the first would not do
    EXPECT_EQ(of_all.step, of_second.step);
    EXPECT_EQ(of_all.cache, 3 * of_last.cache);
    EXPECT_EQ(of_all.state, of_last.state);

    const auto generator = model.generator(batches);
    for (const std::vector<int64_t>& lengths : batches) continue_until_full(*generator, lengths);
    EXPECT_EQ(model.runtime->cache.high_water(), of_all.cache);
    EXPECT_EQ(model.runtime->step.high_water(), of_all.step);
  }
}

// A forward has at most 512 tokens: of more sequences a token each goes through in several, however many are left.
TEST(PlanOfBatches, HasRoomForMoreSequencesThanOneForwardTakes) {
  GeneratingModel model(divided({"gqa", "gqa_3", "gqa_8"}).at(0));
  const std::vector<int64_t> lengths(Generator::prompt_piece + 90, 8);  // a forward of prompts gives few choices
  const auto generator = model.generator({lengths});
  const int32_t one = 1;
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < std::ssize(lengths); s++) feeds.push_back({s, {&one, 1}});
  for (const size_t left : {lengths.size(), size_t{513}, size_t{512}, size_t{511}, size_t{1}}) {
    feeds.resize(left);
    for (const Feed& each : feeds) generator->assume_length(each.sequence, context - 1);
    EXPECT_NO_THROW(generator->feed(feeds)) << left;
  }
}

// Key by key and layer by layer; of the weights all but an embedding that is not the head.
double read_one_by_one(Generator& generator, const ModelConfig& config, int64_t past, int64_t forwards) {
  double bytes = 0;
  for (const Weight& weight : generator.parameters().weights())
    if (weight.name != "embedding" || config.tied)
      bytes += static_cast<double>(forwards) * static_cast<double>(weight.value.bytes());
  for (int64_t token = past; token < past + forwards; token++)
    for (int64_t layer = 0; layer < config.layers; layer++)
      for (int64_t key = 0; key <= token; key++) {
        const int64_t window = config.windows[static_cast<size_t>(layer)];
        if (window == 0 || token - key < window)
          bytes += static_cast<double>(generator.sequences() * generator.parameters().layout(layer).kv_heads *
                                       config.head_dim * 2 * size_of(DType::f32));
      }
  return bytes;
}

TEST(BytesRead, AreTheWeightsAndTheKeysThatEachTokenSees) {
  for (const std::string& name : divided({"gqa", "gqa_3", "gqa_8", "mistral", "qwen2_tied"})) {  // windows of 7 and 3
    GeneratingModel model(name);
    const auto generator = model.generator({{5, 9}});
    for (const int64_t past : {0, 2, 6, 40})
      for (const int64_t forwards : {1, 4, 20})
        EXPECT_EQ(generator->bytes_read(past, forwards), read_one_by_one(*generator, model.config, past, forwards))
            << name << ", " << forwards << " behind " << past;
  }
}

// The texts behind equal prompts, of which sequence s has the random numbers of streams[s].
std::vector<std::vector<int32_t>> texts_of(Generator& generator, const std::vector<uint64_t>& streams) {
  const std::vector<int32_t> prompt{3, 1, 4};
  std::vector<std::vector<int32_t>> texts(streams.size(), prompt);
  std::vector<Feed> feeds;
  for (size_t s = 0; s < streams.size(); s++) {
    generator.begin(static_cast<int64_t>(s), streams[s]);
    feeds.push_back({static_cast<int64_t>(s), prompt});
  }
  for (int token = 0; token < 12; token++) {
    generator.feed(feeds);
    for (Feed& each : feeds) {
      std::vector<int32_t>& text = texts[static_cast<size_t>(each.sequence)];
      text.push_back(generator.choice(each.sequence).id);
      each.tokens = std::span(text).last(1);
    }
  }
  return texts;
}

TEST(Streams, AreWhatATextDependsOnWhateverItsSequence) {
  GeneratingModel model(divided({"gqa", "gqa_3", "gqa_8"}).at(0));
  const auto generator = model.generator({std::vector<int64_t>(6, 3)});
  std::vector<uint64_t> streams(6);
  std::iota(streams.begin(), streams.end(), 0);
  const auto texts = texts_of(*generator, streams);
  for (size_t s = 1; s < texts.size(); s++) EXPECT_NE(texts[s], texts[0]);
  EXPECT_EQ(texts_of(*generator, {4, 0}), (std::vector{texts[4], texts[0]}));
  EXPECT_EQ(texts_of(*generator, {2, 2, 5}), (std::vector{texts[2], texts[2], texts[5]}));
}

}  // namespace
}  // namespace llama_tp
