// Data files against plain loops over what they hold, and every kind of bad line against its message.
#include "io/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/fingerprint.h"
#include "io/dataset_cache.h"
#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

constexpr int32_t eos = 256;

// A byte is its own id.
std::vector<int32_t> bytes_as_ids(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

DatasetOptions options_with(int64_t block_size) { return {block_size, 257, eos, bytes_as_ids}; }

Dataset read(const std::string& name, const std::string& contents, const DatasetOptions& options) {
  const ScratchFolder scratch;
  const File file = File::create(scratch / name);
  file.write(contents.data(), static_cast<int64_t>(contents.size()), 0);
  return read_dataset(scratch / name, options);
}

std::string refusal(const std::string& name, const std::string& contents) {
  const std::string error = error_of([&] { read(name, contents, options_with(8)); });
  EXPECT_TRUE(holds(error, name + ": "));
  return error;
}

std::vector<int32_t> to_vector(std::span<const int32_t> ids) { return {ids.begin(), ids.end()}; }

std::string json_list(const std::vector<int32_t>& ids) {
  std::string list;
  for (const int32_t id : ids) list += (list.empty() ? "[" : ", ") + std::to_string(id);
  return list + "]";
}

// {"text": …} a line, for text without anything to escape.
std::string text_lines(const std::vector<std::string>& documents) {
  std::string lines;
  for (const std::string& document : documents) lines += "{\"text\": \"" + document + "\", \"source\": 3}\n";
  return lines;
}

TEST(Dataset, DocumentsAreJoinedWithEosAndPackedAndEveryTokenIsUsed) {
  const Dataset data = read("d.jsonl", text_lines({"abcde", "", "fg", "hijklmn"}), options_with(4));
  std::vector<int32_t> all;
  for (int64_t i = 0; i < data.samples(); i++) {
    const std::vector<int32_t> tokens = to_vector(data.sample(i).tokens);
    EXPECT_EQ(tokens.size(), i + 1 < data.samples() ? 4u : 1u);
    EXPECT_EQ(to_vector(data.sample(i).labels), tokens);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  std::vector<int32_t> expected;
  for (const char* document : {"abcde", "fg", "hijklmn"}) {
    for (const int32_t id : bytes_as_ids(document)) expected.push_back(id);
    expected.push_back(eos);
  }
  EXPECT_EQ(all, expected);
  EXPECT_TRUE(data.packed);
  EXPECT_EQ(data.documents, 3);
  EXPECT_EQ(data.longest_sample(), 4);
}

// A checkpoint knows its data again by it, in later versions, too.
TEST(Dataset, ItsFingerprintIsThatOfTokensLabelsStartsAndBlocksInTurn) {
  Dataset data;
  data.tokens.own() = {1, 2, 3, 4};
  data.labels.own() = {1, ignored_label, 3, 4};
  data.starts.own() = {0, 2, 4};
  data.blocks.own() = {0, 2};
  const uint64_t tokens = data_fingerprint(std::span(data.tokens)),
                 labels = data_fingerprint(std::span(data.labels), tokens),
                 starts = data_fingerprint(std::span(data.starts), labels);
  EXPECT_EQ(fingerprint_of(data), data_fingerprint(std::span(data.blocks), starts));
}

TEST(Dataset, ATextFileIsOneDocument) {
  const std::string text = "Ein Satz.\n\nNoch einer: ü.\n";
  const Dataset data = read("d.txt", text, options_with(1000));
  std::vector<int32_t> expected = bytes_as_ids(text);
  expected.push_back(eos);
  ASSERT_EQ(data.samples(), 1);
  EXPECT_EQ(to_vector(data.sample(0).tokens), expected);

  DatasetOptions without_eos = options_with(INT64_MAX);
  without_eos.eos.reset();
  EXPECT_EQ(to_vector(read("d.txt", text, without_eos).sample(0).tokens), bytes_as_ids(text));
}

TEST(Dataset, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF", text = "Ein Satz.";
  std::vector<int32_t> expected = bytes_as_ids(text);
  expected.push_back(eos);
  for (const auto& [name, contents] :
       {std::pair("d.txt", text), std::pair("d.jsonl", R"({"text": ")" + text + "\"}\n")})
    EXPECT_EQ(to_vector(read(name, mark + contents, options_with(1000)).sample(0).tokens), expected) << name;
  // Elsewhere it is the character U+FEFF.
  EXPECT_EQ(read("d.txt", mark + mark + text, options_with(1000)).longest_sample(), std::ssize(expected) + 3);
  EXPECT_TRUE(holds(refusal("d.txt", mark), "d.txt: "));
  EXPECT_TRUE(holds(refusal("d.txt", mark + "\xFF"), "line 1: byte 4 is not UTF-8"));  // of the file
}

TEST(Dataset, ManyDocumentsKeepTheirOrderThoughThreadsTokenizeThem) {
  std::vector<std::string> documents;
  std::vector<int32_t> expected;
  for (size_t i = 0; i < 3000; i++) {
    documents.push_back(std::to_string(i) + std::string(i * 7 % 191, 'x'));
    for (const int32_t id : bytes_as_ids(documents.back())) expected.push_back(id);
    expected.push_back(eos);
  }
  EXPECT_EQ(read("d.jsonl", text_lines(documents), options_with(64)).tokens, expected);
}

TEST(Dataset, LinesOfIdsAreSamplesOfTheirOwnCutAtTheBlockSize) {
  const Dataset data = read("d.jsonl",
                            "{\"input_ids\": [1, 2, 3]}\n\n"
                            "{\"input_ids\": [4, 5, 6, 7, 8, 9], \"labels\": [-100, -100, 6, 7, 8, 9]}\r\n"
                            "{\"input_ids\": [10, 256], \"attention_mask\": [1, 1]}",
                            options_with(4));
  ASSERT_EQ(data.samples(), 3);
  EXPECT_EQ(to_vector(data.sample(0).tokens), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(to_vector(data.sample(0).labels), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(to_vector(data.sample(1).tokens), (std::vector<int32_t>{4, 5, 6, 7}));
  EXPECT_EQ(to_vector(data.sample(1).labels), (std::vector<int32_t>{-100, -100, 6, 7}));
  EXPECT_EQ(to_vector(data.sample(2).labels), (std::vector<int32_t>{10, 256}));
  EXPECT_EQ(data.cut_samples, 1);
  EXPECT_EQ(data.cut_tokens, 2);
  EXPECT_FALSE(data.packed);
}

// transformers: shift_labels = labels[1:], the last position has none; -100 is ignored.
TEST(Dataset, TargetsAreTheLabelsOfTheNextPosition) {
  const std::vector<int32_t> tokens{4, 5, 6, 7}, labels{4, -100, 6, 7};
  std::vector<int32_t> targets(4);
  shifted_targets({tokens, labels}, targets);
  EXPECT_EQ(targets, (std::vector<int32_t>{-100, 6, 7, -100}));
  EXPECT_EQ(count_targets(Sample{tokens, labels}), 2);
  EXPECT_EQ(count_targets(Sample{tokens, tokens}), 3);
  EXPECT_EQ(count_targets(Sample{std::span(tokens).first(1), std::span(tokens).first(1)}), 0);
  EXPECT_TRUE(holds(error_of([&] { shifted_targets({tokens, labels}, std::span(targets).first(3)); }), "4", "3"));
}

TEST(Dataset, BadLinesAreNamedByTheirNumber) {
  const std::string good = "{\"text\": \"abc\"}\n", ids = "{\"input_ids\": [1, 2]}\n";
  EXPECT_TRUE(holds(refusal("d.jsonl", good + good + "{\"text\": \"ab"), "line 3: is not JSON from byte 13"));
  EXPECT_TRUE(holds(refusal("d.jsonl", good + "{\"text\": \"ab\"} x\n"), "line 2: is not JSON"));
  EXPECT_TRUE(holds(refusal("d.jsonl", good + "{\"text\": \"\\ud800\"}\n"), "line 2: is not JSON"));
  EXPECT_TRUE(holds(refusal("d.jsonl", good + "{\"text\": \"ab\"}" + std::string(1, '\0') + " {\"text\": 7}"),
                    "line 2: is not JSON: byte 15 is NUL"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "\n\n[1]\n"), "line 3: holds [1]"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"content\": \"a\"}\n"), "line 1: has no text, messages, prompt"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"text\": \"a\", \"input_ids\": [1]}"), "line 1: has both"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"text\": 7}\n"), "line 1: text is 7"));
  EXPECT_TRUE(holds(refusal("d.jsonl", good + ids), "line 2: has input_ids where"));
  EXPECT_TRUE(holds(refusal("d.jsonl", ids + good), "line 2: has text where"));
  EXPECT_TRUE(holds(refusal("d.jsonl", ids + "{\"input_ids\": 3}"), "line 2: input_ids is 3"));
  EXPECT_TRUE(holds(refusal("d.jsonl", ids + "{\"input_ids\": []}"), "line 2: input_ids is empty"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [1, 2.0]}"), "line 1: input_ids[1] is 2.0", "integer"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [1, null]}"), "line 1: input_ids[1] is null"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [1, 257]}"), "input_ids[1] is 257", "ids 0 to 256"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [-1, 2]}"), "input_ids[0] is -1"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [1, -100]}"), "input_ids[1] is -100"));
  const std::string labels = "{\"input_ids\": [1, 2], \"labels\": ";
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "[1]}"), "line 1: has 1 labels for 2 input_ids"));
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "[]}"), "line 1: has 0 labels for 2 input_ids"));
  const std::string three = "{\"input_ids\": [1, 2, 3], \"attention_mask\": ";
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[1, 1]}"), "attention_mask is [1,1]", "each of the 3 input_ids"));
  EXPECT_TRUE(
      holds(refusal("d.jsonl", three + "[1, 1, 0]}"), "line 1: attention_mask has a 0", "input_ids[2]", "-100"));
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[1, 1, 0], \"labels\": [1, 2, 3]}"), "input_ids[2]"));
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[0, 1, 1], \"labels\": [-100, 2, 3]}"), "input_ids[1]"));
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[true, true, false]}"), "attention_mask has a 0", "input_ids[2]"));
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[1, 0.5, 1]}"), "attention_mask[1] is 0.5", "1 (seen)"));
  EXPECT_TRUE(holds(refusal("d.jsonl", three + "[1, 1, \"0\"]}"), "attention_mask[2] is \"0\"", "1 (seen)"));
  EXPECT_EQ(read("d.jsonl", three + "[1, 1, 0], \"labels\": [1, 2, -100]}", options_with(8)).samples(), 1);
  EXPECT_EQ(read("d.jsonl", three + "[true, 1.0, 1]}", options_with(8)).samples(), 1);
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "null}"), "line 1: labels is null"));
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "[1, -99]}"), "labels[1] is -99", "-100"));
  // 2^64 - 100 is -100 to whoever looks at the low bits alone.
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "[1, 18446744073709551516]}"), "labels[1] is 18446744073709551516"));
  EXPECT_TRUE(holds(refusal("d.jsonl", labels + "[1, \"" + std::string(1000, 'y') + "\"]}"), "yyy …"));
}

// Brackets in strings are text. A string ends behind an even number of backslashes.
TEST(Dataset, ALineNestedTooDeeplyIsRefused) {
  const auto line = [](size_t depth) {
    return R"({"text": "abc", "a": "[[\\\"[[\\", "more": )" + std::string(depth - 1, '[') +
           std::string(depth - 1, ']') + "}\n";
  };
  EXPECT_EQ(read("d.jsonl", line(512) + line(512), options_with(8)).documents, 2);
  for (const size_t depth : {size_t{513}, size_t{80000}})
    EXPECT_TRUE(holds(refusal("d.jsonl", line(2) + line(depth)),
                      "line 2: has more than 512 containers in each other from byte " +
                          std::to_string(line(2).find("more") + 7 + 512)));
  const std::string brackets(1000, '[');
  EXPECT_EQ(read("d.jsonl", text_lines({brackets}), options_with(2000)).tokens.size(), 1001u);
}

TEST(Dataset, ALineWithANumberThatIsTooLargeIsRefusedForThat) {
  const auto line = [](const std::string& number) { return R"({"text": "abc", "a": )" + number + "}\n"; };
  const std::string most(308, '9');
  EXPECT_EQ(read("d.jsonl", line(most) + line("1e-999"), options_with(8)).documents, 2);
  const std::string refused = refusal("d.jsonl", line(most) + line("-1e309"));
  EXPECT_TRUE(holds(refused, "line 2: has a number that is too large, -1e309; write it as a text in quotes"));
  EXPECT_FALSE(holds(refused, "damaged"));
  EXPECT_TRUE(holds(refusal("d.jsonl", line(most + "99")), "too large, " + most.substr(0, 40) + " …; "));
}

// As many tokens as letters, the last message's learned.
LabeledTokens messages_as_ids(const std::vector<Message>& messages) {
  LabeledTokens all;
  for (const Message& message : messages)
    for (const int32_t id : bytes_as_ids(message.content)) {
      all.tokens.push_back(id);
      all.labels.push_back(&message == &messages.back() ? id : ignored_label);
    }
  return all;
}
LabeledTokens completion_as_ids(std::string_view prompt, std::string_view completion) {
  return messages_as_ids({{"user", std::string(prompt)}, {"assistant", std::string(completion)}});
}

DatasetOptions with_texts(int64_t block_size) {
  DatasetOptions options = options_with(block_size);
  options.tokenize_messages = messages_as_ids;
  options.tokenize_completion = completion_as_ids;
  return options;
}

std::string chat_line(const std::string& asked, const std::string& answered) {
  return R"({"messages": [{"role": "user", "content": ")" + asked + R"("}, {"role": "assistant", "content": ")" +
         answered + "\"}]}\n";
}

TEST(Dataset, OfConversationsAndCompletionsTheAnswersAreLearnedAndWhatIsTooLongIsCut) {
  for (const std::string& lines :
       {chat_line("ab", "c") + chat_line("d", "efghi"),
        std::string("{\"prompt\": \"ab\", \"completion\": \"c\"}\n{\"prompt\": \"d\", \"completion\": \"efghi\"}")}) {
    const Dataset data = read("d.jsonl", lines, with_texts(4));
    ASSERT_EQ(data.samples(), 2);
    EXPECT_EQ(to_vector(data.sample(0).tokens), bytes_as_ids("abc"));
    EXPECT_EQ(to_vector(data.sample(0).labels), (std::vector<int32_t>{-100, -100, 'c'}));
    EXPECT_EQ(to_vector(data.sample(1).tokens), bytes_as_ids("defg"));
    EXPECT_EQ(to_vector(data.sample(1).labels), (std::vector<int32_t>{-100, 'e', 'f', 'g'}));
    EXPECT_EQ(data.cut_samples, 1);
    EXPECT_EQ(data.cut_tokens, 2);
  }
}

TEST(Dataset, BadConversationsAndCompletionsAreNamedByTheirNumber) {
  const auto refused = [](const std::string& line, const DatasetOptions& options) {
    const std::string error = error_of([&] { read("d.jsonl", chat_line("ab", "cd") + line, options); });
    EXPECT_TRUE(holds(error, "d.jsonl: line 2: "));
    return error;
  };
  const DatasetOptions options = with_texts(8);
  EXPECT_TRUE(holds(refused("{\"messages\": {}}", options), "messages is {}", "an array of objects"));
  EXPECT_TRUE(holds(refused("{\"messages\": [{\"role\": \"user\"}]}", options), "messages[0]: has no content"));
  EXPECT_TRUE(holds(refused("{\"messages\": [{\"role\": 1, \"content\": \"\"}]}", options), "messages[0]: role is 1"));
  EXPECT_TRUE(holds(refused("{\"messages\": [\"a\"]}", options), "messages[0]: an object"));
  const auto with = [](const std::string& tools, const std::string& calls) {
    return R"({"source": "a book", "tools": )" + tools +
           R"(, "messages": [{"role": "user", "name": "Ann", "content": "a"}, )" +
           R"({"role": "assistant", "content": "b", "tool_calls": )" + calls + "}]}\n";
  };
  EXPECT_TRUE(holds(refused(with("[{}]", "null"), options), "line 2: has tools, which no chat template here writes"));
  EXPECT_TRUE(holds(refused(with("null", "[{}]"), options), "line 2: messages[1]: has tool_calls, which no chat"));
  EXPECT_EQ(read("d.jsonl", with("[]", "null") + with("null", "[]"), options).samples(), 2);
  EXPECT_TRUE(holds(refused("{\"prompt\": \"a\"}", options), "has no completion"));
  EXPECT_TRUE(holds(refused("{\"prompt\": [], \"completion\": \"b\"}", options), "prompt is []"));
  EXPECT_TRUE(holds(refused("{\"prompt\": \"a\", \"completion\": \"\"}", options), "completion is empty"));
  EXPECT_TRUE(holds(refused("{\"prompt\": \"a\", \"messages\": []}", options), "has both messages and prompt"));
  EXPECT_TRUE(holds(refused("{\"prompt\": \"a\", \"completion\": \"b\"}", options),
                    "has prompt where the lines before have messages"));
  EXPECT_TRUE(holds(refused(chat_line("abcdefgh", "ijk"), options), "nothing to learn within --block-size 8"));
  EXPECT_TRUE(holds(refused(chat_line("", "a"), options), "has nothing to learn; give it an answer"));
  DatasetOptions whole = options;
  whole.truncation = false;
  EXPECT_TRUE(
      holds(refused(chat_line("abc", "defghi"), whole), "has 9 tokens, more than --block-size 8", "truncation"));
  EXPECT_TRUE(holds(error_of([] { read("d.jsonl", chat_line("a", "b"), options_with(8)); }),
                    "line 1: has messages, and there is no tokenizer"));
}

// Every sequence is in one sample, whole and unchanged; samples are full: no two have room for each other.
TEST(Dataset, PackingKeepsEverySequenceWholeAndFillsTheSamples) {
  std::string lines;
  std::multiset<std::vector<int32_t>> expected, labels;
  for (int64_t i = 0; i < 200; i++) {
    std::vector<int32_t> ids, own;
    for (int64_t j = 0; j < 2 + i * 37 % 61; j++) {
      ids.push_back(static_cast<int32_t>((i * 31 + j * 7) % 257));
      own.push_back(j % 3 == 1 ? ids.back() : ignored_label);
    }
    lines += "{\"input_ids\": " + json_list(ids) + ", \"labels\": " + json_list(own) + "}\n";
    expected.insert(ids);
    labels.insert(own);
  }
  DatasetOptions options = options_with(64);
  options.packing = true;
  Dataset data = read("d.jsonl", lines, options);
  ASSERT_EQ(data.sequences(), 200);
  std::multiset<std::vector<int32_t>> found, found_labels;
  std::vector<size_t> sizes;
  int64_t most = 0;
  for (int64_t i = 0; i < data.samples(); i++) {
    std::vector<int32_t> whole;
    for (int64_t s = data.first_sequence(i); s < data.first_sequence(i + 1); s++) {
      found.insert(to_vector(data.sequence(s).tokens));
      found_labels.insert(to_vector(data.sequence(s).labels));
      for (const int32_t id : data.sequence(s).tokens) whole.push_back(id);
    }
    most = std::max(most, data.first_sequence(i + 1) - data.first_sequence(i));
    EXPECT_EQ(to_vector(data.sample(i).tokens), whole);
    EXPECT_LE(whole.size(), 64u);
    sizes.push_back(whole.size());
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(found_labels, labels);
  EXPECT_EQ(data.most_sequences(), most);
  for (auto* array : {&data.tokens, &data.labels}) EXPECT_EQ(array->own().capacity(), array->size());  // none unused
  std::sort(sizes.begin(), sizes.end());
  EXPECT_GT(sizes[0] + sizes[1], 64u);
}

void expect_equal(const Dataset& a, const Dataset& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.starts, b.starts);
  EXPECT_EQ(a.blocks, b.blocks);
  EXPECT_EQ(a.packed, b.packed);
  EXPECT_EQ(a.documents, b.documents);
  EXPECT_EQ(a.cut_samples, b.cut_samples);
  EXPECT_EQ(a.cut_tokens, b.cut_tokens);
}

// Whatever is changed, the data is that of a reading anew; the cache is used where nothing was, and only there.
TEST(DatasetCache, GivesWhatReadingGivesAndIsKeyedByContent) {
  const ScratchFolder scratch;
  const std::string file = scratch / "d.jsonl";
  DatasetOptions options = with_texts(8);
  const auto read_twice = [&](const std::string& tokenizer) {
    DatasetCache cache(scratch / "cache");
    Dataset first = cache.read(file, options, tokenizer);
    EXPECT_EQ(cache.hit(), "");
    EXPECT_EQ(DatasetCache(cache).read(file, options, tokenizer).tokens, first.tokens);  // not kept yet
    EXPECT_EQ(cache.keep(first), "");
    const Dataset again = cache.read(file, options, tokenizer);
    EXPECT_TRUE(holds(cache.hit(), scratch / "cache/tokenized-", ".safetensors"));
    expect_equal(first, read_dataset(file, options));
    expect_equal(again, first);
    return cache.hit();
  };
  write_text(file, chat_line("ab", "cd") + chat_line("abc", "defghijkl"));
  const std::string kept = read_twice("a");
  EXPECT_NE(read_twice("b"), kept);
  options.block_size = 10;
  EXPECT_NE(read_twice("a"), kept);
  options.packing = true;
  EXPECT_NE(read_twice("a"), kept);
  options = with_texts(8);
  write_text(file, chat_line("ab", "cd") + chat_line("abc", "defghijkm"));
  EXPECT_NE(read_twice("a"), kept);
  write_text(file, text_lines({"abc", "defg"}));
  read_twice("a");
  write_text(file, chat_line("ab", "cd") + chat_line("abc", "defghijkl"));
  DatasetCache cache(scratch / "cache");
  cache.read(file, options, "a");
  EXPECT_EQ(cache.hit(), kept);
  write_text(kept, read_text(kept).substr(0, 300));  // cut
  Dataset data = cache.read(file, options, "a");
  expect_equal(data, read_dataset(file, options));
  EXPECT_EQ(cache.hit(), "");
  EXPECT_TRUE(holds(cache.keep(data), kept + ": ", "; tokenized again"));
  std::string damaged = read_text(kept);
  damaged.back() ^= 1;
  write_text(kept, damaged);
  data = cache.read(file, options, "a");
  EXPECT_EQ(cache.hit(), "");
  EXPECT_TRUE(holds(cache.keep(data), kept + ": is damaged; tokenized again"));
  DatasetCache nowhere(file + "/cache");
  data = nowhere.read(file, options, "a");
  EXPECT_TRUE(holds(nowhere.keep(data), "tokenized data is not kept: "));
  expect_equal(data, read_dataset(file, options));
  EXPECT_TRUE(holds(error_of([&] { cache.read(scratch / "x.jsonl", options, "a"); }), "x.jsonl", "no such file"));
}

TEST(Dataset, OfSeveralBadLinesTheFirstIsNamed) {
  std::string lines;
  for (int i = 1; i < 200; i++) lines += i % 50 == 0 ? "bad\n" : "{\"text\": \"abc\"}\n";
  EXPECT_TRUE(holds(refusal("d.jsonl", lines), "line 50: "));
}

TEST(Dataset, TextThatIsNotUtf8IsNamedByLineAndByte) {
  EXPECT_TRUE(holds(refusal("d.txt", "first\nsec\xc3\xbcnd\nth\xfcrd\n"), "line 3: byte 3 is not UTF-8"));
  EXPECT_TRUE(holds(refusal("d.txt", "\xff"), "line 1: byte 1 is not UTF-8"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xe9\"}\n"), "line 2: byte 11 is not UTF-8"));
}

TEST(Dataset, FilesWithNothingToLearnAndFilesOfAnotherKindAreRefused) {
  EXPECT_TRUE(holds(refusal("d.txt", ""), "is empty"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "\n \n"), "0 tokens"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"text\": \"\"}\n"), "0 tokens"));
  EXPECT_TRUE(holds(refusal("d.jsonl", "{\"input_ids\": [1]}\n{\"input_ids\": [1, 2], \"labels\": [1, -100]}"),
                    "3 tokens in 2 samples and none to predict"));
  EXPECT_TRUE(holds(refusal("d.csv", "a,b\n"), ".txt and .jsonl are read"));
  EXPECT_TRUE(holds(error_of([] { read_dataset("/nonexistent.txt", options_with(8)); }), "no such file"));
  EXPECT_TRUE(holds(error_of([] { read_dataset("d.txt", options_with(1)); }), "--block-size 1"));
}

TEST(Dataset, ATokenizerThatIsMissingOrDoesNotFitTheVocabularyIsNamed) {
  DatasetOptions options = options_with(8);
  options.vocabulary = 100;
  options.eos = 2;
  EXPECT_TRUE(holds(error_of([&] { read("d.txt", "abz", options); }), "d.txt: the tokenizer gives id 122", "0 to 99"));
  EXPECT_TRUE(
      holds(error_of([&] { read("d.jsonl", text_lines({"z"}), options); }), "line 1: the tokenizer gives id 122"));
  options.tokenize = nullptr;
  EXPECT_TRUE(holds(error_of([&] { read("d.txt", "abc", options); }), "no tokenizer", "model's folder", "--tokenizer"));
  EXPECT_EQ(read("d.jsonl", "{\"input_ids\": [1, 2]}", options).samples(), 1);
  options.eos = 100;
  EXPECT_TRUE(holds(error_of([&] { read("d.txt", "abc", options); }), "EOS id 100"));
}

}  // namespace
}  // namespace llama_tp
