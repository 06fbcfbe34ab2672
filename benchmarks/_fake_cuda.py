"""Fake CUDA tensors for a build of PyTorch without CUDA. They have shapes, dtypes and devices, but no values.

`enable` must run before the first ``import torch``, because PyTorch checks only once whether CUDA is available.
"""

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("_fake_cuda.cpp")
VIEWS = frozenset(
    (
        *("alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh", "narrow", "permute", "select"),
        *("slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
        *("view_as_complex", "view_as_real", "_reshape_alias", "_unsafe_view"),
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
        *("device", "dim", "is_contiguous", "is_same_size", "layout", "numel", "size", "storage_offset", "stride"),
        *("sym_numel", "sym_size", "sym_stride"),
    )
)
"""Operations that start no kernel, including queries of a tensor's properties."""
WAITS = frozenset(("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal"))
"""Operations with a result that the host needs: on a GPU, the host waits for the device at each of them."""


BANDWIDTH, PEAK_BF16, PEAK_FLOAT32 = 3.35e12, 989e12, 67e12
"""Of an H100 SXM: bytes/s of its memory, and operations/s of dense matrix products."""
MEMORY_SHARE, PEAK_SHARE = 0.88, 0.75
"""Shares of the bandwidth and of the peak that large copies and large matrix products reach."""
SHORTEST_S = 2e-6
"""Seconds that a kernel takes at least."""


class Costs(NamedTuple):
    """Counts of what a piece of work costs on a GPU."""

    kernels: int
    """Operations that start a kernel. An LSTM and fused attention count once in the forward and once in the backward
    pass; a fused RMS norm counts once and twice."""
    waits: int
    """Number of times that the host waits for the device, including copies to the host."""
    uploads: int
    """Copies from the host to the device."""
    gflop: float
    """Arithmetic of matrix products, convolutions and LSTMs, 1e9 operations."""
    gbyte: float
    """Memory that kernels read and write, 1e9 bytes: inputs and outputs of each."""
    saved_mib: float
    """Memory that the forward pass saves for the backward pass, MiB, without parameters."""
    peak_mib: float
    """Largest size of all tensors that exist at a time, MiB, without those from before."""
    device_ms: float
    """Milliseconds of an H100 if each kernel is limited by memory or arithmetic, and the host never makes it wait."""
    fused_ms: float
    """The same, if all that is not a matrix product, a convolution or attention is fused into its neighbours: what
    compiled code approaches."""


def enable() -> None:
    """Build and load the fake device, unless the build of PyTorch has CUDA.

    Raises
    ------
    RuntimeError
        PyTorch is loaded already.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch is loaded already; call enable before the first import of torch")
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("torch is not installed")
    package = Path(spec.origin).parent
    for name in ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(package / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(_build(package)), mode=ctypes.RTLD_GLOBAL)


def _build(package: Path) -> Path:
    """Compile the device, once for each version of its source and of PyTorch."""
    version = (package / "version.py").read_bytes()
    digest = hashlib.sha256(SOURCE.read_bytes() + version).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"emeg-fake-cuda-{digest}.so"
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        include, lib = package / "include", package / "lib"
        paths = [f"-I{include}", f"-I{include / 'torch/csrc/api/include'}", f"-L{lib}"]
        flags = ["-std=c++20", "-O1", "-shared", "-fPIC"]
        command = ["g++", *flags, str(SOURCE), *paths, "-lc10", "-ltorch_cpu", "-o", str(unfinished)]
        subprocess.run(command, check=True, capture_output=True)
        unfinished.replace(target)
    return target


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Make all tensors in the block fake.

    Autograd runs in the calling thread, and autocast behaves as if CUDA were available.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.cuda.amp import common

    before = common.amp_definitely_not_available, torch.cuda.is_bf16_supported
    with ExitStack() as stack:
        stack.callback(lambda: _patch(*before))
        _patch(lambda: False, lambda *_, **__: True)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(FakeTensorMode())
        yield


def _patch(is_absent: Any, has_bf16: Any) -> None:  # noqa: ANN401 - functions of torch
    import torch
    from torch.cuda.amp import common

    common.amp_definitely_not_available = is_absent
    torch.cuda.is_bf16_supported = has_bf16


class Allocations:
    """Sizes of the storages that exist on the fake device, and their largest sum so far."""

    def __init__(self) -> None:
        self.peak = self._now = 0
        self._known: set[int] = set()

    def note(self, tensor: Any) -> None:  # noqa: ANN401 - a tensor; torch is imported late
        """Count the tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class Fusion:
    """Time of kernels whose element-wise neighbours are fused into as few passes over the memory as possible.

    A fused operation reads a tensor of a matrix product once in each of the two passes, and writes only what a matrix
    product reads; all else is recomputed where it is needed.
    """

    def __init__(self) -> None:
        self._virtual: set[int] = set()
        self._read: set[tuple[int, bool]] = set()

    def seconds(self, given: list[Any], made: list[Any], n_flop: int) -> float:
        """Return the seconds that an operation adds."""
        import torch

        is_backward = torch._C._current_graph_task_id() != -1
        n_bytes = 0
        for tensor in given:
            key = tensor.untyped_storage()._cdata
            if n_flop:
                n_bytes += _n_bytes(tensor) * (2 if key in self._virtual else 1)
                self._virtual.discard(key)
            elif key not in self._virtual and (key, is_backward) not in self._read:
                self._read.add((key, is_backward))
                n_bytes += _n_bytes(tensor)
        for tensor in made:
            key = tensor.untyped_storage()._cdata
            self._read -= {(key, False), (key, True)}
            if n_flop:
                self._virtual.discard(key)
                n_bytes += _n_bytes(tensor)
            else:
                self._virtual.add(key)
        return max(n_bytes / (BANDWIDTH * MEMORY_SHARE), _arithmetic_s([*given, *made], n_flop))


def _arithmetic_s(tensors: list[Any], n_flop: int) -> float:
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    peak = PEAK_BF16 if floats and floats[0].itemsize == 2 else PEAK_FLOAT32
    return n_flop / (peak * PEAK_SHARE)


_counts: list[Counter[str]] = []


def add_operations(n: int) -> None:
    """Count operations of a substitute whose arithmetic PyTorch does not know."""
    for counts in _counts:
        counts["flop"] += n
        for clock in ("picoseconds", "fused picoseconds"):
            counts[clock] += round(n / (PEAK_FLOAT32 * PEAK_SHARE) * 1e12)


def add_kernel(name: str, tensors: list[Any]) -> None:
    """Count a kernel of a substitute that reads tensors which its other kernels read too."""
    for counts in _counts:
        _add_kernel(counts, name, tensors, 0)


@contextmanager
def counting(*, saved_tensors: bool = False) -> Iterator[Counter[str]]:
    """Count kernels, waits, uploads, arithmetic and memory in the block; pass the counts to `costs_of`.

    `saved_tensors` counts what is saved for the backward pass instead: its hooks start kernels of their own.
    """
    import torch

    counts: Counter[str] = Counter()
    allocations, saved = Allocations(), Allocations()

    def keep(tensor: Any) -> Any:  # noqa: ANN401 - autograd's own
        if tensor.device.type == "cuda" and not isinstance(tensor, torch.nn.Parameter):
            saved.note(tensor)
        return tensor

    _counts.append(counts)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    try:
        with hooks if saved_tensors else _mode(counts, allocations):
            yield counts
    finally:
        _counts.remove(counts)
        counts["peak"], counts["saved"] = allocations.peak, saved.peak


def _mode(counts: Counter[str], allocations: Allocations) -> Any:  # noqa: ANN401 - a dispatch mode; torch is imported late
    """Return a mode in which every operation is counted."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    fusion = Fusion()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
            out = func(*args, **(kwargs or {}))
            name = str(func.overloadpacket).rpartition(".")[2]
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            devices, results = {leaf.device.type for leaf in given}, {leaf.device.type for leaf in made}
            if "cuda" in devices and ("cpu" in results or name in WAITS or _is_by_mask(name, args)):
                counts["waits"] += 1
                counts[f"wait {name}"] += 1
            if "cpu" in devices and "cuda" in results and name in {"_to_copy", "copy_", "to"}:
                counts["uploads"] += 1
            if "cuda" in devices | results and name not in VIEWS:
                is_product = func._overloadpacket in flop_registry
                n_flop = (
                    int(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)) if is_product else 0
                )
                _add_kernel(counts, name, [*given, *made], n_flop)
                counts["fused picoseconds"] += round(fusion.seconds(given, made, n_flop) * 1e12)
            for leaf in made:
                if leaf.device.type == "cuda":
                    allocations.note(leaf)
            return out

    return Count()


def _is_by_mask(name: str, args: Any) -> bool:  # noqa: ANN401 - of any operation
    """Return whether an index is a mask, whose number of true values the host needs."""
    import torch

    is_index = name in {"index", "index_put", "index_put_"}
    return is_index and any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1])


def _add_kernel(counts: Counter[str], name: str, tensors: list[Any], n_flop: int) -> None:
    n_bytes = sum(_n_bytes(tensor) for tensor in tensors if tensor.device.type == "cuda")
    seconds = max(n_bytes / (BANDWIDTH * MEMORY_SHARE), _arithmetic_s(tensors, n_flop), SHORTEST_S)
    counts["kernels"] += 1
    counts[f"kernel {name}"] += 1
    counts["flop"] += n_flop
    counts["bytes"] += n_bytes
    counts["picoseconds"] += round(seconds * 1e12)


def _n_bytes(tensor: Any) -> int:  # noqa: ANN401 - a tensor; torch is imported late
    """Return the bytes that a kernel reads or writes of a tensor: those of expanded dimensions once."""
    n = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return int(n) * int(tensor.element_size())


def costs_of(counts: Counter[str]) -> Costs:
    """Return the totals of `counting`."""
    return Costs(
        kernels=counts["kernels"],
        waits=counts["waits"],
        uploads=counts["uploads"],
        gflop=round(counts["flop"] / 1e9, 3),
        gbyte=round(counts["bytes"] / 1e9, 3),
        saved_mib=round(counts["saved"] / 2**20, 1),
        peak_mib=round(counts["peak"] / 2**20, 1),
        device_ms=round(counts["picoseconds"] / 1e9, 3),
        fused_ms=round(counts["fused picoseconds"] / 1e9, 3),
    )
