# make            ./llama_tp
# make test       every test but the long ones (a pairwise choice of settings); make test-all: all of them
# make demo       train a small Llama on two ranks and let it write; make bench: speed and memory
# make bundle     build/llama_tp-bundle.tar.gz: the program and what it needs, for machines with a GPU and without MPI or oneDNN
# make racecheck  the CUDA kernels, emulated, under ThreadSanitizer; make accesses: what they ask of memory
# make sanitize   the tests under AddressSanitizer and UndefinedBehaviorSanitizer
# make format     clang-format and clang-tidy; make clean
#
# ARCH=x86-64-v3  another instruction set than this machine's;  CXX=clang++;  BUILD=dir;  CUDA_ARCH="80 90a";  NVCC= (no CUDA)

CXX      ?= g++
ARCH     ?= native
SANITIZE ?=
BUILD    ?= build/$(notdir $(lastword $(CXX)))-$(ARCH)$(if $(SANITIZE),-sanitize)
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(JOBS)
endif

# The CUDA compiler, where there is one; NVCC= leaves CUDA out. The program needs cuBLASLt and NCCL only when it runs on a
# GPU (it looks for them then, in CUDA's own folder, too), and their headers to be built. CUDA_ARCH: what the kernels are
# compiled for, several by spaces, the last also as PTX, for later GPUs; by default those of this machine's GPUs that the
# kernels can run on (8.0 and later) and the toolkit knows, else 80. The letter of 90a stands for Hopper's own
# instructions, which are not used where 90 is named, too.
NVCC      ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
NVCC_VERSION := $(if $(NVCC),$(shell $(NVCC) --version 2>/dev/null | sed -n 's/.*release .*, V//p'))
CUDA_HOME := $(if $(NVCC),$(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $(NVCC))))))
CUDA_LIB  := $(patsubst %/,%,$(dir $(firstword $(wildcard $(foreach folder,lib64 lib lib/*-linux-gnu,$(CUDA_HOME)/$(folder)/libcudart_static.a)))))
# Older ones know no C++20.
CUDA_OLD  := $(if $(filter-out 8 9 10 11,$(firstword $(subst ., ,$(NVCC_VERSION)))),,CUDA 12 or later)
CUDA_MISSING := $(if $(NVCC),$(or $(CUDA_OLD),$(strip $(if $(CUDA_LIB),,libcudart_static.a) $(foreach header,cublasLt.h nccl.h,\
                  $(if $(wildcard $(CUDA_HOME)/include/$(header) /usr/include/$(header)),,$(header))))),nvcc)
CUDA      := $(if $(CUDA_MISSING),,yes)
ifndef CUDA_ARCH
GPUS       := $(if $(CUDA),$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -xE '[0-9]+\.[0-9]+' | awk -F. '$$1 >= 8 { print $$1 $$2 }' | sort -nu))
KNOWN_ARCH := $(if $(GPUS),$(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch 2>/dev/null)))
CUDA_ARCH  := $(or $(patsubst 90,90a,$(filter $(KNOWN_ARCH),$(GPUS))),80)
endif

pkg = $(shell pkg-config $(1) $(2) 2>/dev/null)
# The MPI whose mpicc stands first in PATH, as its mpirun does: Open MPI, MPICH or one of MPICH's kin. All know -show.
MPI_COMMAND := $(shell mpicc -show 2>/dev/null)
MPI_CFLAGS  := $(or $(filter -I%,$(MPI_COMMAND)),$(call pkg,--cflags,ompi-c))
MPI_LIBS    := $(or $(filter -L% -l% -Wl%,$(MPI_COMMAND)),$(call pkg,--libs,ompi-c))
TEXT_CFLAGS := $(foreach library,libpcre2-8 libutf8proc sentencepiece,$(call pkg,--cflags,$(library)))
TEXT_LIBS   := $(foreach library,pcre2-8 utf8proc sentencepiece,$(or $(call pkg,--libs,lib$(library)),$(call pkg,--libs,$(library)),-l$(library)))

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror=return-type
CXXFLAGS += -std=c++20 -O2 -march=$(ARCH) -fopenmp $(WARNINGS)
CPPFLAGS += -I. -Isrc -Itests -I$(BUILD)/generated $(patsubst -I%,-isystem %,$(MPI_CFLAGS) $(TEXT_CFLAGS)) -DLLAMA_TP_ARCH='"$(ARCH)"'
LDLIBS   += -ldnnl $(MPI_LIBS) $(TEXT_LIBS) -lpthread
ifneq ($(SANITIZE),)
CXXFLAGS += -g -Wno-maybe-uninitialized -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif

# What only a build with CUDA has, and the objects that know whether it is one.
OF_CUDA  := src/backend/cuda/cuda_backend.cpp src/backend/cuda/cuda_graph.cpp src/backend/cuda/cublas_lt.cpp src/backend/cuda/cublas_lt_library.cpp \
            src/backend/cuda/tune_product.cpp src/parallel/nccl_communicator.cpp
KNOW_CUDA := $(addprefix $(BUILD)/src/,backend/folder.o parallel/folder.o backend/cuda/cuda_backend.o)
SOURCES  := $(filter-out src/main.cpp $(if $(CUDA),,$(OF_CUDA)),$(sort $(shell find src -name '*.cpp')))
# A folder is compiled as one: headers are read once, which takes half the time. Not that of the arithmetic, where the
# time is the optimizer's, and not that of CUDA, of which a test replaces a file. clang-tidy (make format) takes file by
# file and sees what one forgot to include.
ALONE    := $(filter src/backend/cpu/% src/backend/cuda/%,$(SOURCES))
FOLDERS  := $(patsubst %/,%,$(sort $(dir $(filter-out $(ALONE),$(SOURCES)))))
OBJECTS  := $(FOLDERS:%=$(BUILD)/%/folder.o) $(ALONE:%.cpp=$(BUILD)/%.o)
LIBRARY  := $(BUILD)/libllama_tp.a
BINARY   := $(if $(or $(SANITIZE),$(filter-out build/%,$(BUILD))),$(BUILD)/llama_tp,llama_tp)
TESTS    := $(patsubst tests/%.cpp,$(BUILD)/tests/%,$(filter-out $(if $(CUDA),,tests/cuda_%_test.cpp tests/product_tuning_test.cpp tests/tokens_ahead_test.cpp) $(if $(SANITIZE),tests/accesses_test.cpp),$(sort $(wildcard tests/*_test.cpp))))
SUPPORT  := $(BUILD)/tests/libsupport.a

KERNELS     := $(sort $(wildcard kernels/*.cu))
CUDA_LIBRARY := $(if $(CUDA),$(BUILD)/cuda/libkernels.a)
# Later GPUs take PTX of 90, not of 90a, which is Hopper's alone.
OF_PTX      := $(patsubst %a,%,$(lastword $(CUDA_ARCH)))
# nvcc 12.0 takes for unused what one branch of an if constexpr uses; g++, which compiles the kernels, too, does not.
OF_KERNELS  := -std=c++20 -I. -Isrc -diag-suppress=177,550
NVCCFLAGS   += $(OF_KERNELS) -O3 $(foreach arch,$(CUDA_ARCH),-gencode arch=compute_$(arch),code=sm_$(arch)) \
               -gencode arch=compute_$(OF_PTX),code=compute_$(OF_PTX) \
               $(if $(filter 90,$(CUDA_ARCH)),,$(if $(filter 90a,$(CUDA_ARCH)),-DLLAMA_TP_SM_90A))
SPACE       := $(subst ,, )
CUDA_NAMES  := sm_$(subst $(SPACE),$(SPACE)sm_,$(strip $(CUDA_ARCH)))
ifneq ($(CUDA),)
$(KNOW_CUDA): CPPFLAGS += -DLLAMA_TP_CUDA_ARCH='"$(CUDA_NAMES)"'
CPPFLAGS    += $(if $(filter-out /usr,$(CUDA_HOME)),-isystem $(CUDA_HOME)/include)
# Where this toolkit is, and where other machines have theirs.
RUNPATH     := $(subst $(SPACE),:,$(strip $(CUDA_LIB) $(filter-out $(CUDA_LIB),/usr/local/cuda/lib64)))
LDLIBS      += -L$(CUDA_LIB) -Wl,-rpath,$(RUNPATH) -lcudart_static -ldl -lrt
endif

# The tests of operations once more, with the CUDA kernels compiled as C++ and run on the CPU; the kernels always under
# AddressSanitizer, so that an access out of bounds is seen. The emulation itself is told of it (EMULATION_ASAN).
EMULATED  := $(BUILD)/emulated/libkernels.a
EMULATION := $(KERNELS:%.cu=%.o) $(patsubst %.cpp,%.o,$(sort $(wildcard tests/emulation/*.cpp)))
OF_OPERATIONS := activation adamw attention cross_entropy embedding linear norm rope sample
TESTS     += $(OF_OPERATIONS:%=$(BUILD)/tests/emulated_%_test) $(BUILD)/tests/emulated_hopper_attention_test
# And all of them in one program with the kernels on a GPU, which scripts/gpu_check starts where there is one.
ON_DEVICE := $(BUILD)/tests/on_device/on_device
TESTS     += $(if $(CUDA),$(ON_DEVICE))
# And with the kernels as nvcc has compiled them, interpreted from PTX.
TESTS     += $(if $(CUDA),$(BUILD)/tests/ptx_test $(BUILD)/tests/ptx_ampere_attention_test)

# Where the arithmetic is, and where nothing takes time.
$(BUILD)/src/backend/cpu/%.o $(BUILD)/src/base/%.o $(BUILD)/src/parallel/%.o: CXXFLAGS += -O3
$(foreach folder,bench commands io io/chat model report train,$(BUILD)/src/$(folder)/folder.o): CXXFLAGS += -O1
# g++ 12 warns of a std::variant's member that is not the one in use.
$(BUILD)/src/io/tokenizer/%.o: CXXFLAGS += -Wno-unknown-warning-option -Wno-maybe-uninitialized

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all tests test test-all demo bench bundle sanitize racecheck accesses format clean needs found force

all: found $(BINARY)

# Before anything is compiled: each rule that does it waits for this.
needs:
	@command -v $(CXX) >/dev/null || { echo "make: no C++ compiler ($(CXX)); scripts/dependencies installs what is missing"; exit 1; }
	@printf '%s\n' '#if __clang_major__ ? __clang_major__ < 14 : __GNUC__ < 12' '#error' '#endif' | $(CXX) -E -x c++ - >/dev/null 2>&1 || \
	  { echo "make: $$($(CXX) --version | head -n 1) is too old; CXX= names another: g++ 12, clang 14 or later"; exit 1; }
	@[ -n "$(MPI_LIBS)" ] || { echo "make: no MPI; scripts/dependencies installs what is missing"; exit 1; }
	@[ -n "$(call pkg,--libs,libutf8proc)$(wildcard /usr/include/utf8proc.h)" ] || { echo "make: no utf8proc; scripts/dependencies installs what is missing"; exit 1; }

# One line each on what this build uses.
found: needs
	@echo "compiler  $$($(CXX) --version | head -n 1), -march=$(ARCH)"
	@echo "MPI      " $$(mpirun --version 2>/dev/null | sed '/[0-9]/q')
	@echo "oneDNN    $$(sed -n 's/^#define DNNL_VERSION_\(MAJOR\|MINOR\|PATCH\) *//p' /usr/include/oneapi/dnnl/dnnl_version.h 2>/dev/null | paste -sd. -)"
	@echo "CUDA      $(if $(CUDA),nvcc $(NVCC_VERSION) for $(CUDA_NAMES),left out: no $(CUDA_MISSING))"

$(BUILD)/llama_tp: $(BUILD)/src/main.o $(LIBRARY) $(CUDA_LIBRARY)
	@echo "  $@"
	@$(CXX) $(CXXFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@
# Of the build that was asked for last.
ifneq ($(BINARY),$(BUILD)/llama_tp)
$(BINARY): $(BUILD)/llama_tp force
	@cmp -s $< $@ || cp -f $< $@
endif

$(LIBRARY): $(OBJECTS)
	$(archive)

$(SUPPORT): $(patsubst %.cpp,$(BUILD)/%.o,$(sort $(wildcard tests/support/*.cpp)))
	$(archive)

$(BUILD)/%.o: %.cpp | needs
	@mkdir -p $(@D)
	@echo "  $<"
	@$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -c $< -o $@

# Behind what wrote $@.now: a file that is written each time, and changes only when what it says does.
define keep_if_same
@if cmp -s $@.now $@; then rm $@.now; else mv $@.now $@; fi
endef

# An archive is made anew also when a source is gone, whose object it would keep.
define archive
@rm -f $@
@$(AR) rcs $@ $(filter %.o,$^)
endef
$(LIBRARY) $(SUPPORT) $(CUDA_LIBRARY) $(EMULATED): $(BUILD)/sources
$(BUILD)/sources: force
	@mkdir -p $(@D)
	@echo $(SOURCES) $(KERNELS) $(sort $(wildcard tests/support/*.cpp tests/emulation/*.cpp)) > $@.now
	$(keep_if_same)

# The files of a folder, as a list of includes; changes when a file comes or goes.
$(BUILD)/%/folder.cpp: force
	@mkdir -p $(@D)
	@printf '#include "%s"\n' $(sort $(filter $*/%.cpp,$(foreach file,$(SOURCES),$(if $(filter $*/,$(dir $(file))),$(file))))) > $@.now
	$(keep_if_same)
$(BUILD)/%/folder.o: $(BUILD)/%/folder.cpp | needs
	@echo "  $*"
	@$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -c $< -o $@

# Changes when the choice of CUDA does, or the toolkit, whose headers are in no .d file.
$(BUILD)/cuda_flags: force
	@mkdir -p $(@D)
	@echo '$(if $(CUDA),$(CUDA_HOME) $(NVCC_VERSION) $(NVCCFLAGS))' > $@.now
	$(keep_if_same)
$(KNOW_CUDA) $(OF_CUDA:%.cpp=$(BUILD)/%.o) $(KERNELS:%.cu=$(BUILD)/cuda/%.o): $(BUILD)/cuda_flags

$(BUILD)/cuda/%.o: %.cu | needs
	@mkdir -p $(@D)
	@echo "  $<"
	@$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@
$(BUILD)/cuda/libkernels.a: $(KERNELS:%.cu=$(BUILD)/cuda/%.o)
	$(archive)

# Families, chat templates, configs of well-known models and datasheets of devices are data, in the binary wherever it is
# started: the JSON files of a folder become raw string literals, {"name", "text"}, of one list.
$(BUILD)/src/model/folder.o: $(BUILD)/generated/families.inc $(BUILD)/generated/configs.inc
$(BUILD)/src/io/chat/folder.o: $(BUILD)/generated/chat_templates.inc
$(BUILD)/src/train/folder.o: $(BUILD)/generated/devices.inc
$(BUILD)/generated/families.inc: $(sort $(wildcard src/model/families/*.json))
$(BUILD)/generated/chat_templates.inc: $(sort $(wildcard src/io/chat/templates/*.json))
$(BUILD)/generated/configs.inc: $(sort $(wildcard data/configs/*.json))
$(BUILD)/generated/devices.inc: $(sort $(wildcard data/devices/*.json))
$(BUILD)/generated/%.inc: force
	@mkdir -p $(@D)
	@for file in $(filter %.json,$^); do printf "{\"%s\", R\"json(" "$$(basename $$file .json)"; cat $$file; printf ")json\"},\n"; done > $@.now
	$(keep_if_same)

$(BUILD)/tests/%_test: $(BUILD)/tests/%_test.o $(SUPPORT) $(LIBRARY) $(CUDA_LIBRARY)
	$(link_test)
$(ON_DEVICE): $(patsubst %.cpp,$(BUILD)/%.o,$(OF_OPERATIONS:%=tests/%_test.cpp) $(sort $(wildcard tests/on_device/*.cpp))) $(SUPPORT) $(LIBRARY) $(CUDA_LIBRARY)
	$(link_test)
define link_test
@mkdir -p $(@D)
@echo "  $@"
@$(CXX) $(CXXFLAGS) $(LDFLAGS) $^ -lgtest $(LDLIBS) -o $@
endef

# A C++ compiler passes over #pragma unroll, or cannot follow it where threads may switch, and over the bounds of a launch,
# with the constants that only these name.
AS_CPP  := -Wno-unknown-pragmas -Wno-unknown-warning-option -Wno-pass-failed -Wno-unused-const-variable
CHECKED := -fsanitize=address,undefined -fno-sanitize-recover=undefined
$(BUILD)/emulated/%.o: %.cu | needs
	@mkdir -p $(@D)
	@echo "  $< as C++"
	@$(CXX) -x c++ $(CXXFLAGS) $(CHECKED) $(AS_CPP) $(CPPFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/emulated/%.o: %.cpp | needs
	@mkdir -p $(@D)
	@echo "  $<"
	@$(CXX) $(CXXFLAGS) -O3 -DEMULATION_ASAN $(CPPFLAGS) -MMD -MP -c $< -o $@
$(EMULATED): $(addprefix $(BUILD)/emulated/,$(EMULATION))
	$(archive)
$(BUILD)/tests/emulated_%_test: $(BUILD)/tests/%_test.o $(EMULATED) $(LIBRARY) $(SUPPORT)
	$(link_emulated)
$(BUILD)/tests/emulated_hopper_%_test: $(BUILD)/tests/%_test.o $(BUILD)/tests/hopper/hopper.o $(EMULATED) $(LIBRARY) $(SUPPORT)
	$(link_emulated)
$(addprefix $(BUILD)/tests/,emulation_test hopper_emulation_test matrix_layouts_test device_memory_ranks_test): %: %.o $(EMULATED) $(LIBRARY) $(SUPPORT)
	$(link_emulated)
$(addprefix $(BUILD)/tests/,cuda_backend_test cuda_ranks_test cuda_waits_ranks_test product_tuning_test tokens_ahead_test): %: %.o $(BUILD)/tests/cuda/double.o $(BUILD)/tests/cuda/cublas_lt_double.o $(EMULATED) $(LIBRARY) $(SUPPORT)
	$(link_emulated)
$(BUILD)/tests/cuda_ranks_test $(BUILD)/tests/cuda_waits_ranks_test: | $(BUILD)/tests/cuda/libnccl.so.2
$(BUILD)/tests/cuda/libnccl.so.2: tests/cuda/nccl_double.cpp tests/cuda/nccl_double.h src/parallel/communicator.h | needs
	@mkdir -p $(@D)
	@echo "  $@"
	@$(CXX) $(CXXFLAGS) $(CPPFLAGS) -shared -fPIC -Wl,-soname,$(@F) $< -o $@
define link_emulated
@mkdir -p $(@D)
@echo "  $@"
@$(CXX) $(CXXFLAGS) $(CHECKED) $(LDFLAGS) $^ $(LIBRARY) $(EMULATED) -lgtest $(LDLIBS) -o $@
endef
$(addprefix $(BUILD)/tests/,emulation_test.o hopper_emulation_test.o matrix_layouts_test.o): CXXFLAGS += -Wno-unknown-pragmas

# The kernels' PTX, text within the objects, and a CUDA runtime in tests/ptx that interprets it.
COMPILED := $(KERNELS:%.cu=$(BUILD)/ptx/%.o)
$(COMPILED): $(BUILD)/cuda_flags
$(BUILD)/ptx/%.o: %.cu | needs
	@mkdir -p $(@D)
	@echo "  $< to PTX"
	@$(NVCC) $(OF_KERNELS) -DLLAMA_TP_SM_90A -gencode arch=compute_90a,code=compute_90a --no-compress -MMD -MP -MF $(@:.o=.d) -c $< -o $@
# Integers overflow as on a GPU, and products and sums are rounded one by one.
INTERPRETER := $(patsubst %.cpp,$(BUILD)/%.o,$(sort $(wildcard tests/ptx/*.cpp)))
$(INTERPRETER): CXXFLAGS += -O3 -fwrapv -ffp-contract=off -Wno-unknown-pragmas
$(BUILD)/tests/ptx_test: $(patsubst %.cpp,$(BUILD)/%.o,$(OF_OPERATIONS:%=tests/%_test.cpp))
$(BUILD)/tests/ptx_ampere_attention_test: $(BUILD)/tests/attention_test.o $(BUILD)/tests/ptx/ampere/ampere.o
$(BUILD)/tests/ptx_test $(BUILD)/tests/ptx_ampere_attention_test: $(BUILD)/tests/on_device/backend.o $(INTERPRETER) $(COMPILED) $(SUPPORT) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  $@"
	@$(CXX) $(CXXFLAGS) $(LDFLAGS) $(filter %.o,$^) $(SUPPORT) $(LIBRARY) -lgtest $(filter-out -lcudart_static,$(LDLIBS)) -o $@

# The same kernels under ThreadSanitizer, which sees each CUDA thread as a thread.
OF_MACHINE := $(patsubst %,tests/emulation/%.o,bulk_copies device_memory fiber instructions machine warpgroup)
INSTRUMENTED := $(KERNELS:%.cu=$(BUILD)/raced/%.o) $(BUILD)/raced/src/base/error.o
$(BUILD)/raced/%.o: %.cu | needs
	@mkdir -p $(@D)
	@echo "  $< as C++"
	@$(CXX) -x c++ $(CXXFLAGS) -g -O1 -fsanitize=thread -DEMULATION_TSAN $(AS_CPP) $(CPPFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/raced/%.o: %.cpp | needs
	@mkdir -p $(@D)
	@echo "  $<"
	@$(CXX) $(CXXFLAGS) -DEMULATION_TSAN $(CPPFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/tests/racecheck: $(INSTRUMENTED) $(addprefix $(BUILD)/raced/,tests/racecheck.o $(OF_MACHINE))
	@mkdir -p $(@D)
	@echo "  $@"
	@$(CXX) -fsanitize=thread $(LDFLAGS) $^ -o $@
racecheck: $(BUILD)/tests/racecheck
	@$<

# And with a record of accesses in ThreadSanitizer's place, so not beside other sanitizers. Addresses of code are those
# that addr2line knows (-no-pie).
ACCESSED := $(addprefix $(BUILD)/accessed/,$(OF_MACHINE) $(patsubst %.cpp,%.o,$(sort $(wildcard tests/accesses/*.cpp))))
$(BUILD)/accessed/%.o: %.cpp | needs
	@mkdir -p $(@D)
	@echo "  $<"
	@$(CXX) $(CXXFLAGS) -DEMULATION_ACCESSES $(CPPFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/accessed/tests/accesses_test.o: CXXFLAGS += -g -O1 -fsanitize=thread -Wno-unknown-pragmas
$(BUILD)/tests/accesses: $(INSTRUMENTED) $(BUILD)/accessed/tests/accesses.o $(ACCESSED)
	$(link_accesses)
$(BUILD)/tests/accesses_test: $(INSTRUMENTED) $(BUILD)/accessed/tests/accesses_test.o $(ACCESSED)
	$(link_accesses)
define link_accesses
@mkdir -p $(@D)
@echo "  $@"
@$(CXX) -no-pie $(LDFLAGS) $^ $(if $(filter %_test,$@),-lgtest -lgtest_main) -o $@
endef
accesses: $(BUILD)/tests/accesses
	@$<

tests: $(TESTS)

RUN_TESTS = BUILD=$(BUILD) BINARY=$(BINARY) TESTS="$(notdir $(filter %_test,$(TESTS)))" scripts/run_tests

test: all
	@$(MAKE) --no-print-directory tests
	@$(RUN_TESTS)

test-all: all
	@$(MAKE) --no-print-directory tests
	@LLAMA_TP_TEST_ALL=1 $(RUN_TESTS)

# For any x86-64 CPU with AVX2, on Arm for any 64-bit one since version 8.2, and for every GPU that the kernels are for;
# scripts/bundle packs it.
BUNDLE      := build/bundle
BUNDLE_ARCH  = $(if $(filter aarch64,$(shell uname -m)),armv8.2-a,x86-64-v3)
bundle:
	@$(MAKE) --no-print-directory BUILD=$(BUNDLE) ARCH=$(BUNDLE_ARCH) CUDA_ARCH="80 89 90a" \
	  found $(BUNDLE)/llama_tp $(if $(CUDA),$(BUNDLE)/tests/on_device/on_device)
	@BUILD=$(BUNDLE) scripts/bundle

sanitize:
	@$(MAKE) --no-print-directory SANITIZE=1 all tests
	@$(MAKE) --no-print-directory SANITIZE=1 run-sanitized
run-sanitized:
	@$(RUN_TESTS)

demo:
	@scripts/demo
bench: all
	@BINARY=$(BINARY) scripts/bench

format:
	clang-format -i $$(git ls-files '*.cpp' '*.cu' '*.h')
	clang-tidy --quiet $$(git ls-files 'src/*.cpp') -- -std=c++20 -fopenmp $(CPPFLAGS)

clean:
	rm -rf build llama_tp

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
