"""A card that is not there, as far as the compiler asks: an H100 for which Triton compiles and nothing runs.

`python pretended_card.py '{"dropout": 0.1}' compiled` compiles an update of the paper's network with these
fields by this path, and prints what it launches. It replaces private names of PyTorch and Triton, so it has a
process of its own. Needs Triton and a C++ compiler.
"""

import importlib.util
import json
import math
import re
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

N_SLOTS = 128
H100 = SimpleNamespace(
    name="NVIDIA H100", major=9, minor=0, multi_processor_count=132, total_memory=80 << 30, uuid="0",
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
    shared_memory_per_block=49152, shared_memory_per_block_optin=232448, L2_cache_size=50 << 20,
    shared_memory_per_multiprocessor=233472, warp_size=32, gcnArchName="", is_integrated=0,
    is_multi_gpu_board=0,
)  # fmt: skip

#: PyTorch's CPU build has no such guard, and asks for one wherever a CUDA tensor is indexed.
GUARD = """
#include <torch/extension.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
using namespace c10;
struct Guard final : public impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device) const override { return {DeviceType::CUDA, 0}; }
  Device getDevice() const override { return {DeviceType::CUDA, 0}; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const noexcept override {
    return Stream(Stream::DEFAULT, {DeviceType::CUDA, 0});
  }
  Stream getNewStream(Device d, int) const override { return getStream(d); }
  Stream exchangeStream(Stream s) const noexcept override { return getStream(s.device()); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);
int ok() { return 1; }
"""


class Driver:
    """What Triton asks of a driver before it launches anything."""

    utils = SimpleNamespace(
        get_device_properties=lambda device: {
            "max_shared_mem": 232448, "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": 32,
            "sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1,
        },
        load_binary=lambda *_: (0, 0, 0, 0, 0),
    )  # fmt: skip

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_active_torch_device(self):
        return torch.device("cuda", 0)

    def get_device_interface(self):
        return torch.cuda

    def get_benchmarker(self):
        return None

    def set_current_device(self, device):
        pass


def pretend():
    """Have PyTorch and Triton believe in the card."""
    import torch._dynamo.device_interface as interface
    import triton
    from torch._inductor.fx_passes import fuse_attention, misc_patterns, pad_mm
    from torch.utils.cpp_extension import load_inline

    with tempfile.TemporaryDirectory() as folder:
        load_inline(
            "guard", GUARD, functions=["ok"], build_directory=folder, extra_cflags=["-O0"], with_cuda=False
        )
    torch.version.cuda = "13.0"
    answers = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0, "init": None,
        "_lazy_init": None, "synchronize": None, "get_device_properties": H100, "get_device_name": H100.name,
        "get_device_capability": (9, 0), "_exchange_device": 0, "_maybe_exchange_device": 0,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8), "set_rng_state": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("get_rng_state", "set_rng_state"):
        setattr(torch.cuda.random, name, getattr(torch.cuda, name))
    cuda = interface.CudaInterface
    for name, answer in {
        "is_available": True, "get_compute_capability": 90, "current_device": 0, "synchronize": None,
        "get_device_properties": H100, "exchange_device": 0, "maybe_exchange_device": 0, "get_raw_stream": 0,
    }.items():  # fmt: skip
        setattr(cuda, name, staticmethod(lambda *_, answer=answer: answer))
    for name, answer in {"get_device_properties": H100, "current_device": 0, "set_device": None}.items():
        setattr(cuda.Worker, name, staticmethod(lambda *_, answer=answer: answer))
    for name in ("RawStream", "Raw", "exchangeDevice", "maybeExchangeDevice", "getDevice"):
        full = {"RawStream": "_cuda_getCurrentRawStream"}.get(name, f"_cuda_{name}")
        setattr(torch._C, full, lambda *_: 0)
    for module, name in (
        (fuse_attention, "_sfdp_init"),
        (misc_patterns, "_misc_patterns_init"),
        (pad_mm, "_pad_mm_init"),
    ):
        setattr(module, name, lambda *_, **__: None)
    triton.runtime.driver.set_active(Driver())
    library = torch.library.Library("aten", "IMPL")
    library.impl(
        "empty.memory_format", lambda size, *, dtype=None, **_: torch.empty(size, dtype=dtype), "CUDA"
    )
    return library  # as long as it lives


class Written(BaseException):
    """The code is there; it is not to be run."""


def generated(fields, path):
    """The code that is made of the gradients and of the optimizer of an update by a path that compiles."""
    import torch._inductor.config as config
    from torch._inductor.graph import GraphLowering
    from torch._subclasses.fake_tensor import FakeTensorMode

    from grokking_core import Run, kernels, model
    from grokking_core.model.products import Products
    from grokking_core.training.ensemble import Ensemble

    config.force_disable_caches, config.benchmark_kernel, config.compile_threads = True, True, 1

    def save(code):
        raise Written(code)

    GraphLowering.save_output_code = staticmethod(save)
    run, codes = Run(operation="x/y", **fields), {}
    model.Layout(run)  # it is remembered; no network is built among the fakes
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        e = Ensemble([run] * N_SLOTS, N_SLOTS, torch.device("cuda"), path)
        products = e.network.products
        for network in (e.network, *(evaluator.network for evaluator in e.evaluators.values())):
            network.products = Products()  # our own cannot be called with fakes, only compiled
        e.rehearse()
        e.network.products = products
        e.network.fused = kernels.load("branches") if path == "kernels" else None
        numbers = [torch.zeros(N_SLOTS, 1, device="cuda") for _ in range(7)]
        for name, function, arguments in (
            ("gradients", e._gradients, e.tables.batch(e.step)),
            ("optimizer", e.optimizer.apply, (numbers, None)),
        ):
            try:
                e.backend.compile(function)(*arguments)
            except Written as written:
                codes[name] = written.args[0]
    return codes


def built(code):
    """How many kernels of some code Triton compiles for the card; what is compiled is not loaded."""
    from torch._inductor.runtime import triton_helpers
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    triton_helpers.set_driver_to_gpu = lambda: None
    CachingAutotuner.precompile = lambda kernel, *_, **__: kernel._precompile_worker()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location("code_for_a_card", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        kernels = [kernel for kernel in vars(module).values() if isinstance(kernel, CachingAutotuner)]
        return sum(bool(kernel.compile_results) for kernel in kernels)


def touched(call):
    """Bytes that the products and our own kernels of some code touch: operands and results, in float32."""
    sizes, total = {}, {"products": 0, "own": 0}

    def numbers(dims):
        return math.prod(int(d) for d in dims.split(",") if d.strip())

    for line in call.splitlines():
        if made := re.match(r"\s+(\w+) = empty_strided_cuda\(\(([^)]*)\)", line):
            sizes[made[1]] = numbers(made[2])
        elif given := re.match(r"\s+assert_size_stride\((\w+), \(([^)]*)\)", line):
            sizes[given[1]] = numbers(given[2])
        elif again := re.match(r"\s+(\w+) = reinterpret_tensor\(\w+, \(([^)]*)\)", line):
            sizes[again[1]] = numbers(again[2])
        elif again := re.match(r"\s+(\w+) = (\w+); del", line):
            sizes[again[1]] = sizes.get(again[2], 0)
        elif launched := re.match(r"\s+(extern_kernels|_)\w*\.\w+\((.*)\)", line):
            views = re.findall(r"reinterpret_tensor\(\w+, \(([^)]*)\)", launched[2])
            whole = re.sub(r"reinterpret_tensor\(\w+, \([^)]*\), \([^)]*\), \d+\)", "", launched[2])
            names = re.findall(r"\b(?:buf|arg)\w+", whole)
            kind = "own" if launched[1] == "_" else "products"
            total[kind] += 4 * sum([numbers(dims) for dims in views] + [sizes[name] for name in names])
    return total


def count(code):
    """Launches, bytes that products and Triton's kernels touch for a run, and which compute in float64."""
    sources = dict(
        re.findall(r"^(triton_\w+) = async_compile\.triton\('\w+', '''(.*?)'''", code, re.M | re.S)
    )
    call = code[code.index("    def call(self, args):") : code.index("runner = Runner(")]
    called = re.findall(r"^\s+(triton_\w+)\.run\(", call, re.M)
    called = [name for name in called if name in sources]
    megabytes = sum(
        1e3 * float(re.search(r"kernel_num_gb': ([\d.e-]+)", sources[name])[1]) for name in called
    )
    total = touched(call)
    own = re.findall(r"^\s+(_\w+)\.run\(", call, re.M)
    return {
        "launches": len(called) + len(own),
        "own": len(own),
        "products": len(re.findall(r"extern_kernels\.\w+\(", call)),
        "megabytes": megabytes / N_SLOTS,
        "megabytes_of_products": total["products"] / 1e6 / N_SLOTS,
        "megabytes_of_own": total["own"] / 1e6 / N_SLOTS,
        "in_float64": sorted(
            name for name in {*called} if re.search(r"fp64|float64|libdevice\.pow", sources[name])
        ),
    }


def main(fields, path):
    """Print the counts of what an update is compiled to, and the number of kernels that were built."""
    held = pretend()
    codes = generated(json.loads(fields), path)
    print(json.dumps({name: count(code) | {"built": built(code)} for name, code in codes.items()}))
    del held


if __name__ == "__main__":
    main(*sys.argv[1:])
