// The interpreter itself: what it refuses, and that it sees what is used too early.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "ptx/global_memory.h"
#include "ptx/machine.h"
#include "support/error_of.h"

namespace llama_tp::ptx {
namespace {

// Memory that kernels may touch.
template <class Value, size_t count>
struct Reserved {
  Reserved() { add_memory(&values[0], sizeof values); }
  ~Reserved() { remove_memory(&values[0]); }
  alignas(16) Value values[count] = {};
};

// A kernel of one parameter, an address in %rd1, with a few registers of each kind; 256 bytes of shared memory.
std::map<std::string, Kernel> kernel_of(const std::string& body) {
  return read_module(R"(.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 bytes[];
.visible .entry k(.param .u64 k_param_0)
.maxntid 64, 1, 1
{
.reg .pred %p<4>;
.reg .f32 %f<9>;
.reg .b32 %r<9>;
.reg .b64 %rd<9>;
ld.param.u64 %rd1, [k_param_0];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
)" + body + "\nret;\n}\n");
}

void run_body(const std::string& body, const void* memory, bool early = false) {
  const auto module = kernel_of(body);
  run({.kernel = &module.at("k"),
       .blocks = {},
       .threads = 32,
       .shared_bytes = 256,
       .early = early,
       .parameters = {reinterpret_cast<const char*>(&memory), sizeof memory}});
}

void expect_refused(const std::string& body, const std::string& why) {
  Reserved<float, 64> memory;
  const std::string said = error_of([&] { run_body(body, &memory.values[0]); });
  EXPECT_NE(said.find(why), std::string::npos) << "said: " << said << "\nof: " << body;
}

TEST(Interpreter, MemoryThatWasGivenBackIsNobodys) {
  alignas(16) static float values[64] = {};
  const auto load = [&] { run_body("ld.global.f32 %f1, [%rd1+128];", &values[0]); };
  add_memory(&values[0], sizeof values);
  load();
  remove_memory(&values[0]);
  EXPECT_NE(error_of(load), "");
  add_memory(&values[0], 64);
  EXPECT_NE(error_of(load).find("behind the beginning of memory of 64 bytes"), std::string::npos);
  remove_memory(&values[0]);
}

TEST(Interpreter, LanesPartAndMeetAgain) {
  Reserved<uint32_t, 32> memory;
  // Odd lanes go around a loop as often as their number says; then all exchange with their neighbours.
  run_body(R"(
and.b32 %r2, %r1, 1;
mov.u32 %r3, %r1;
setp.eq.s32 %p1, %r2, 0;
@%p1 bra $meet;
$again:
add.s32 %r3, %r3, 100;
sub.s32 %r2, %r2, 1;
setp.gt.s32 %p2, %r2, 0;
@%p2 bra $again;
$meet:
shfl.sync.bfly.b32 %r4|%p3, %r3, 1, 31, -1;
st.global.u32 [%rd3], %r4;)",
           &memory.values[0]);
  for (uint32_t lane = 0; lane < 32; lane++)
    EXPECT_EQ(memory.values[lane], lane % 2 == 0 ? lane + 101 : lane - 1) << "lane " << lane;
}

TEST(Interpreter, ACopyIsNotThereBeforeItsWait) {
  Reserved<float, 4> memory;
  memory.values[0] = 3;
  const auto loaded = [&](const std::string& wait) {
    run_body(
        "setp.ne.s32 %p1, %r1, 0;\n@%p1 bra $end;\ncp.async.cg.shared.global [bytes], [%rd1], 16, 16;\n"
        "cp.async.commit_group;\n" +
            wait + "ld.shared.f32 %f1, [bytes];\nst.global.f32 [%rd1+4], %f1;\n$end:",
        &memory.values[0]);
    return memory.values[1];
  };
  EXPECT_TRUE(std::isnan(loaded("")));
  EXPECT_TRUE(std::isnan(loaded("cp.async.wait_group 1;\n")));
  EXPECT_EQ(loaded("cp.async.wait_group 0;\n"), 3);
}

TEST(Interpreter, RefusesWhatAGpuWouldNotDo) {
  expect_refused("ld.global.f32 %f1, [%rd3+256];", "line 16 (ld.global.f32), thread 0: an access 256 bytes behind");
  expect_refused("ld.global.f32 %f1, [%rd1+-4];", "memory");
  expect_refused("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+8];", "a misaligned access of 16 bytes");
  expect_refused("st.shared.f32 [bytes+256], %f1;", "outside of the 256 bytes of shared memory");
  expect_refused("mbarrier.arrive.shared::cta.b64 _, [bytes];", "no barrier was initialized there");
  expect_refused("mbarrier.init.shared::cta.b64 [bytes], 1;\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [bytes], 0;",
                 "waits for ever");
  // Half of the lanes have ended.
  const std::string half = "setp.lt.s32 %p1, %r1, 16;\n@%p1 bra $end;\n";
  expect_refused(half + "shfl.sync.bfly.b32 %r4|%p3, %r3, 1, 31, -1;\n$end:", "(shfl.sync.bfly.b32)");
  expect_refused(half + "bar.warp.sync -1;\n$end:", "waits for ever");
  // Two halves at barriers of their own.
  expect_refused(half + "bar.sync 0;\nbra.uni $last;\n$end:\nbar.sync 0;\n$last:", "waits for ever");
  expect_refused("div.s32 %r2, %r1, 0;", "a division by 0");
}

TEST(Interpreter, AGridThatBeginsEarlyWaitsBeforeItTouchesMemory) {
  Reserved<float, 64> memory;
  const auto said = [&](const std::string& body) { return error_of([&] { run_body(body, &memory.values[0], true); }); };
  const std::string load = "ld.global.f32 %f1, [%rd3];\n", wait = "griddepcontrol.wait;\n";
  run_body("prefetch.global.L2 [%rd1];\n" + wait + load, &memory.values[0], true);
  EXPECT_NE(said(load + wait).find("before the wait for the grids ahead"), std::string::npos);
  EXPECT_NE(said("").find("it ends without having waited"), std::string::npos);
  EXPECT_NE(said("setp.ne.s32 %p1, %r1, 5;\n@%p1 griddepcontrol.wait;").find("thread 5: it ends"), std::string::npos);
}

TEST(Interpreter, RefusesInstructionsThatItDoesNotKnow) {
  EXPECT_EQ(error_of([] { kernel_of("sin.approx.f32 %f1, %f2;"); }),
            "ptx: line 16: an unknown instruction sin.approx.f32");
  EXPECT_NE(error_of([] { kernel_of("mov.u32 %r1, %smid;"); }).find("an unknown name %smid"), std::string::npos);
}

}  // namespace
}  // namespace llama_tp::ptx
