"""Where a step waits, which kernels take its time, and how much memory it needs."""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu.device import GIB, Result, Setup
from benchmarks.gpu.speed import make_work
from torch.profiler import ProfilerActivity, profile

from emeg.training.scaling import memory_of, read_counts


def waits(setup: Setup) -> Result:
    """List the places of a step at which the host waits for the device; none on a CPU."""
    places: Counter[str] = Counter()
    for network, channels in (("nano", 0), ("nano", 8)) if setup.tiny else (("tiny", 0), ("paper", 19)):
        work = make_work(setup, network, n=1, channels=channels)
        for _ in range(2):
            work.step()
        with noted_waits(places, enabled=setup.is_cuda):
            work.step()
    return {"waits": sum(places.values()), "places": dict(places), "measured": setup.is_cuda}


@contextmanager
def noted_waits(places: Counter[str], *, enabled: bool) -> Iterator[None]:
    """Count the warnings of PyTorch about synchronizing calls, by the line of emeg that they come from."""
    if not enabled:
        yield
        return
    show = warnings.showwarning

    def note(message: Warning | str, *rest: Any, **named: Any) -> None:  # noqa: ANN401 - of the standard library
        if "synchroniz" not in str(message):
            show(message, *rest, **named)  # type: ignore[arg-type]
            return
        frames = [frame for frame in traceback.extract_stack() if "/emeg/" in frame.filename]
        places[f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside emeg"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = show


def kernels(setup: Setup) -> Result:
    """List the kernels that take most of a step."""
    found: Result = {}
    for name, work in (
        ("base", make_work(setup, "nano" if setup.tiny else "base", n=1 if setup.tiny else 16)),
        ("paper", make_work(setup, "nano" if setup.tiny else "paper", n=1, channels=8 if setup.tiny else 64)),
    ):
        for _ in range(2):
            work.step()
        setup.wait()
        activity = ProfilerActivity.CUDA if setup.is_cuda else ProfilerActivity.CPU
        with profile(activities=[activity]) as profiler:
            work.step()
            setup.wait()
        column = "self_device_time_total" if setup.is_cuda else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event, column=column: -float(getattr(event, column)))  # type: ignore[misc]
        found[f"kernels_{name}"] = sum(event.count for event in events)
        found[f"top_{name}"] = [
            (event.key[:80], event.count, round(float(getattr(event, column)) / 1e3, 3)) for event in events[:15]
        ]
    return found


def memory(setup: Setup) -> Result:
    """Double the micro-batch until the memory is full, and compare peaks with the forecast."""
    network = "nano" if setup.tiny else "base"
    counts = read_counts()["brainomni"][network]
    found: Result = {"network": network, "peak_gib": {}, "forecast_gib": {}}
    n, most = 1, 2 if setup.tiny else 4096
    while n <= most:
        try:
            if setup.is_cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            work = make_work(setup, network, n=n)
            work.step()
            work.step()
            setup.wait()
        except torch.OutOfMemoryError:
            found["out_of_memory_at"] = n
            break
        if setup.is_cuda:
            found["peak_gib"][n] = torch.cuda.max_memory_allocated() / GIB
        expected = memory_of(counts, n, partial_sums=0)
        found["forecast_gib"][n] = expected.state_gib + expected.activations_gib
        del work
        n *= 2
    return found
