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
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


class Costs(NamedTuple):
    """Counts of what a piece of work costs on a GPU."""

    kernels: int
    """Operations that start a kernel; an LSTM counts as one in the forward and one in the backward pass."""
    waits: int
    """Number of times that the host waits for the device, including copies to the host."""
    uploads: int
    """Copies from the host to the device."""
    gflop: float
    """Arithmetic of matrix products and convolutions, 1e9 operations; LSTMs are not counted."""


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


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count kernels, waits, uploads and arithmetic operations in the block; pass the counts to `costs_of`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    counts: Counter[str] = Counter()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
            out = func(*args, **(kwargs or {}))
            name = str(func.overloadpacket).rpartition(".")[2]
            given = [leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            made = [leaf.device.type for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            by_mask = name in {"index", "index_put", "index_put_"} and any(
                isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
            )
            if "cuda" in given and ("cpu" in made or name in WAITS or by_mask):
                counts["waits"] += 1
            if "cpu" in given and "cuda" in made and name in {"_to_copy", "copy_"}:
                counts["uploads"] += 1
            if "cuda" in [*given, *made] and name not in VIEWS:
                counts["kernels"] += 1
                counts[f"kernel {name}"] += 1
                if func._overloadpacket in flop_registry:
                    counts["flop"] += int(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out))
            return out

    with Count():
        yield counts


def costs_of(counts: Counter[str]) -> Costs:
    """Return the totals of `counting`."""
    return Costs(counts["kernels"], counts["waits"], counts["uploads"], round(counts["flop"] / 1e9, 3))
