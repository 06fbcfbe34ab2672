"""Device of a stage, and the clock of its measurements."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Result = dict[str, Any]
"""Figures of a stage by name, as JSON."""
GIB = 2**30


class Setup(NamedTuple):
    """Device of a stage, and whether it runs in its tiny form."""

    device: torch.device
    tiny: bool

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def autocast(self, dtype: torch.dtype) -> torch.autocast:
        """Return the autocast of a precision; none for float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def seconds_of(setup: Setup, work: Callable[[], object], *, repeats: int = 5) -> float:
    """Return the median seconds of a call, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        setup.wait()
        began = time.perf_counter()
        work()
        setup.wait()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]
