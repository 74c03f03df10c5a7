#include "io/tokenizer/decoder_stages.h"

#include <algorithm>

#include "io/tokenizer/byte_letters.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

class Output : public DecoderStage {
 public:
  explicit Output(std::string& out) : out_(out) {}
  void take(std::string_view token) override { out_.append(token); }
  void settle() override {}
  void finish() override {}
  size_t held() const override { return 0; }

 private:
  std::string& out_;
};

// A stage that lets each token through at once needs only take().
class Stage : public DecoderStage {
 public:
  explicit Stage(NextStage next) : next_(std::move(next)) {}
  void settle() override { next_->settle(); }
  void finish() override { next_->finish(); }
  size_t held() const override { return next_->held(); }

 protected:
  NextStage next_;
};

class JoinBySpaces : public Stage {
 public:
  using Stage::Stage;
  void take(std::string_view token) override {
    if (!first_) next_->take(" ");
    first_ = false;
    next_->take(token);
  }

 private:
  bool first_ = true;
};

class Replace : public Stage {
 public:
  Replace(const Regex& pattern, std::string content, NextStage next)
      : Stage(std::move(next)), pattern_(pattern), content_(std::move(content)) {}
  void take(std::string_view token) override { next_->take(replace_all(token, pattern_, content_, workspace_)); }

 private:
  const Regex& pattern_;
  std::string content_;
  Regex::Workspace workspace_;
};

// The byte of "<0xE2>"; -1 for any other token.
int byte_of(std::string_view token) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

class ByteFallback : public Stage {
 public:
  using Stage::Stage;
  void take(std::string_view token) override {
    const int byte = byte_of(token);
    if (byte >= 0) {
      run_.push_back(static_cast<char>(byte));
    } else {
      end_run();
      next_->take(token);
    }
  }
  void settle() override {
    end_run();
    next_->settle();
  }
  void finish() override {
    end_run();
    next_->finish();
  }
  size_t held() const override { return run_.size() + next_->held(); }

 private:
  void end_run() {
    if (run_.empty()) return;
    if (utf8::first_invalid(run_) == run_.size()) {
      next_->take(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next_->take(utf8::replacement);
    }
    run_.clear();
  }

  std::string run_;
};

class ByteLevel : public Stage {
 public:
  using Stage::Stage;
  void take(std::string_view token) override {
    if (!append_bytes(bytes_, token)) bytes_.append(token);
    std::string whole;
    bytes_.erase(0, utf8::append_replacing(whole, bytes_));
    if (!whole.empty()) next_->take(whole);
  }
  void settle() override {
    end_character();
    next_->settle();
  }
  void finish() override {
    end_character();
    next_->finish();
  }
  size_t held() const override { return bytes_.size() + next_->held(); }

 private:
  void end_character() {
    if (!bytes_.empty()) next_->take(utf8::replacement);
    bytes_.clear();
  }

  std::string bytes_;
};

class StripTokens : public Stage {
 public:
  StripTokens(StripOptions options, NextStage next) : Stage(std::move(next)), options_(std::move(options)) {}
  void take(std::string_view token) override {
    for (int64_t i = 0; i < options_.start && token.starts_with(options_.character); ++i) {
      token.remove_prefix(options_.character.size());
    }
    for (int64_t i = 0; i < options_.stop && token.ends_with(options_.character); ++i) {
      token.remove_suffix(options_.character.size());
    }
    next_->take(token);
  }

 private:
  StripOptions options_;
};

class StripText : public Stage {
 public:
  StripText(StripOptions options, NextStage next)
      : Stage(std::move(next)), options_(std::move(options)), start_left_(options_.start) {}
  void take(std::string_view part) override {
    while (start_left_ > 0 && part.starts_with(options_.character)) {
      part.remove_prefix(options_.character.size());
      --start_left_;
    }
    if (part.empty()) return;
    start_left_ = 0;
    held_.append(part);
    size_t keep = held_.size();
    for (int64_t i = 0; i < options_.stop && std::string_view(held_).substr(0, keep).ends_with(options_.character);
         ++i) {
      keep -= options_.character.size();
    }
    if (keep > 0) next_->take(held_.substr(0, keep));
    held_.erase(0, keep);
  }
  void settle() override {
    if (!held_.empty()) next_->take(held_);
    held_.clear();
    next_->settle();
  }
  size_t held() const override { return held_.size() + next_->held(); }

 private:
  StripOptions options_;
  int64_t start_left_;
  std::string held_;  // characters that are stripped if nothing follows
};

class Metaspace : public Stage {
 public:
  Metaspace(const Regex& sign, bool drops_first, NextStage next)
      : Stage(std::move(next)), sign_(sign), drops_(drops_first) {}
  void take(std::string_view token) override {
    next_->take(replace_all(token, sign_, drops_ ? "" : " ", workspace_));
    drops_ = false;
  }

 private:
  const Regex& sign_;
  Regex::Workspace workspace_;
  bool drops_;
};

class Gather : public Stage {
 public:
  using Stage::Stage;
  void take(std::string_view token) override { text_.append(token); }
  void settle() override {
    if (!text_.empty()) next_->take(text_);
    text_.clear();
    next_->settle();
  }
  void finish() override {
    next_->take(text_);
    next_->finish();
  }
  size_t held() const override { return text_.size() + next_->held(); }

 private:
  std::string text_;
};

}  // namespace

NextStage make_output(std::string& out) { return std::make_unique<Output>(out); }
NextStage make_join_by_spaces(NextStage next) { return std::make_unique<JoinBySpaces>(std::move(next)); }
NextStage make_replace(const Regex& pattern, std::string content, NextStage next) {
  return std::make_unique<Replace>(pattern, std::move(content), std::move(next));
}
NextStage make_byte_fallback(NextStage next) { return std::make_unique<ByteFallback>(std::move(next)); }
NextStage make_byte_level(NextStage next) { return std::make_unique<ByteLevel>(std::move(next)); }
NextStage make_strip(StripOptions options, NextStage next) {
  if (options.whole_text) return std::make_unique<StripText>(std::move(options), std::move(next));
  return std::make_unique<StripTokens>(std::move(options), std::move(next));
}
NextStage make_metaspace(const Regex& sign, bool drops_first, NextStage next) {
  return std::make_unique<Metaspace>(sign, drops_first, std::move(next));
}
NextStage make_gather(NextStage next) { return std::make_unique<Gather>(std::move(next)); }

}  // namespace llama_tp
