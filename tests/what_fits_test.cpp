// What a training run that does not fit is told: every figure is that of the plan which its words ask for.
#include "train/what_fits.h"

#include <gtest/gtest.h>

#include "backend/device.h"
#include "backend/device_handle.h"
#include "backend/meta.h"
#include "report/format.h"
#include "scratch_folder.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

// The CPU's scratch memory, in a memory that no other rank shares.
class OwnMemory : public MetaBackend {
 public:
  using MetaBackend::MetaBackend;
  DeviceHandle* device() override { return &device_; }

 private:
  DeviceHandle device_;
};

class WhatFits : public testing::Test {
 protected:
  WhatFits() {
    unsetenv("SLURM_JOB_ID");
    write_file(folder_ / "config.json", small_config().dump());
    config_ = read_model_config(folder_ / "config.json");
  }

  AskedTraining asked(int64_t samples, bool recompute, int fsdp) const {
    const TrainerOptions options{{samples, 1, fsdp, 512, 1}, recompute, false, {}};
    return {config_, options, {1, fsdp, 1}, 0, DType::bf16, samples};
  }
  int64_t needs(int64_t samples, bool recompute, int fsdp) const {
    const AskedTraining run = asked(samples, recompute, fsdp);
    return plan_rank(config_, run.options, run.mesh, 0, run.dtype, *backend_).memory.total();
  }
  std::string said(int64_t free) const { return describe_too_large(asked(8, false, 1), free, *backend_); }

  ScratchFolder folder_;
  ModelConfig config_;
  std::unique_ptr<Backend> backend_ = make_backend("cpu", {});
};

TEST_F(WhatFits, TheLargestBatchThatFitsIsNamedWithItsMemory) {
  const int64_t free = needs(2, false, 1);
  const std::string words = said(free);
  EXPECT_NE(words.find("this rank needs " + bytes_text(needs(8, false, 1)) + " ("), std::string::npos) << words;
  EXPECT_NE(words.find("but " + bytes_text(free) + " are free (cpu: "), std::string::npos) << words;
  EXPECT_NE(words.find("saved_split "), std::string::npos) << words;
  EXPECT_NE(words.find("what would fit: --per-device-train-batch-size 2 (" + bytes_text(free) + ")"), std::string::npos)
      << words;
  EXPECT_EQ(words.find('\n'), std::string::npos);
}

// Slurm's control group may leave a job little of a machine with much.
TEST_F(WhatFits, ASlurmJobIsToldWhatLimitsItsMemoryWhereThatIsTheHosts) {
  setenv("SLURM_JOB_ID", "7", 1);
  const std::string words = said(4096);
  OwnMemory device(*backend_);
  const std::string on_device = describe_too_large(asked(8, false, 1), 4096, device);
  unsetenv("SLURM_JOB_ID");
  EXPECT_NE(words.find("but 4.00 KiB are free, which this Slurm job's --mem may limit (cpu: "), std::string::npos)
      << words;
  EXPECT_NE(on_device.find("but 4.00 KiB are free ("), std::string::npos) << on_device;
}

TEST_F(WhatFits, RecomputeAndMoreRanksAreNamedWhereTheyFit) {
  const int64_t free = needs(8, true, 1);
  EXPECT_NE(said(free).find("--gradient-checkpointing (" + bytes_text(free) + ")"), std::string::npos) << said(free);
  EXPECT_EQ(said(free - 1).find("--gradient-checkpointing ("), std::string::npos) << said(free - 1);
  const int64_t of_two = needs(8, false, 2);
  ASSERT_LT(of_two, needs(8, false, 1));
  EXPECT_NE(said(of_two).find("--fsdp 2 on 2 ranks on 2 times as many machines (" + bytes_text(of_two) + ")"),
            std::string::npos)
      << said(of_two);
}

// More ranks of a host have less of its memory each; those on a GPU have one of their own.
TEST_F(WhatFits, MachinesAreNamedWhereRanksShareTheirMemory) {
  OwnMemory device(*backend_);
  const std::string words = describe_too_large(asked(8, false, 1), needs(8, false, 2), device);
  EXPECT_NE(words.find("--fsdp 2 on 2 ranks ("), std::string::npos) << words;
  EXPECT_EQ(words.find("machines"), std::string::npos) << words;
}

TEST_F(WhatFits, WhereNothingAloneFitsAllTogetherMay) {
  const int64_t free = needs(1, true, 4);
  for (const int64_t alone : {needs(1, false, 1), needs(8, true, 1), needs(8, false, 64), needs(1, true, 2)})
    ASSERT_GT(alone, free);
  EXPECT_NE(said(free).find("what would fit: --per-device-train-batch-size 1 --gradient-checkpointing --fsdp 4 on 4 "
                            "ranks on 4 times as many machines (" +
                            bytes_text(free) + ")"),
            std::string::npos)
      << said(free);
  EXPECT_NE(said(1).find("nor would it fit"), std::string::npos) << said(1);
}

class WhatFitsAGlobalBatch : public WhatFits {
 protected:
  // What is said of a run of one rank with so many samples a forward, of which the data may have fewer.
  std::string said_of(int64_t global_batch, int64_t micro_batch, int64_t samples, int64_t free) const {
    AskedTraining run = asked(samples, false, 1);
    run.micro_batch = micro_batch;
    run.global_batch = global_batch;
    return describe_too_large(run, free, *backend_);
  }
  // The words that ask for the smaller batch, as many ranks and as much as they need.
  std::string fsdp(const std::string& samples, int ranks, int64_t needs) const {
    return text("; ", samples, "--fsdp ", ranks, " on ", ranks, " ranks on ", ranks, " times as many machines (",
                bytes_text(needs), ")");
  }
};

TEST_F(WhatFitsAGlobalBatch, BatchesThatDoNotDivideItAreNotNamed) {
  const int64_t free = needs(3, false, 1);
  EXPECT_NE(said_of(0, 7, 7, free).find("--per-device-train-batch-size 3 ("), std::string::npos);
  const std::string words = said_of(14, 7, 7, free), named = "what would fit: --per-device-train-batch-size 2 (";
  EXPECT_NE(words.find(named + bytes_text(needs(2, false, 1)) + ")"), std::string::npos) << words;
}

TEST_F(WhatFitsAGlobalBatch, MoreRanksAreNamedWithTheBatchThatDividesIt) {
  const int64_t of_four = needs(2, false, 4), of_two = needs(4, false, 2);
  ASSERT_GT(of_two, of_four);
  const std::string words = said_of(8, 8, 8, of_four);
  EXPECT_NE(words.find(fsdp("--per-device-train-batch-size 2 ", 4, of_four)), std::string::npos) << words;
  const std::string undivided = said_of(16, 8, 8, needs(8, false, 2));
  EXPECT_NE(undivided.find(fsdp("", 2, needs(8, false, 2))), std::string::npos) << undivided;
}

// What was given is what the global batch is divided by, be the data fewer samples.
TEST_F(WhatFitsAGlobalBatch, ABatchThatTheDataDoNotFillIsNamedToo) {
  const std::string words = said_of(8, 8, 2, needs(2, false, 4));
  EXPECT_NE(words.find(fsdp("--per-device-train-batch-size 2 ", 4, needs(2, false, 4))), std::string::npos) << words;
  const std::string divided = said_of(16, 8, 5, needs(5, false, 2));
  EXPECT_NE(divided.find(fsdp("", 2, needs(5, false, 2))), std::string::npos) << divided;
}

TEST_F(WhatFitsAGlobalBatch, RanksThatDoNotDivideItAreNotNamed) {
  EXPECT_NE(said_of(0, 7, 7, needs(7, false, 2)).find("--fsdp 2"), std::string::npos);
  EXPECT_EQ(said_of(7, 7, 7, needs(7, false, 2)).find("--fsdp"), std::string::npos);
  const std::string words = said_of(4, 4, 4, needs(1, true, 4));
  EXPECT_NE(words.find(fsdp("--per-device-train-batch-size 1 --gradient-checkpointing ", 4, needs(1, true, 4))
                           .replace(0, 2, "what would fit: ")),
            std::string::npos)
      << words;
  EXPECT_NE(said_of(4, 4, 4, 1).find("so far as --global-batch-size 4 can be divided"), std::string::npos);
}

}  // namespace
}  // namespace llama_tp
