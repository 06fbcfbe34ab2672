"""Measure the speed of a run: segments a second, share of time waiting for data, share of the device's peak (MFU).

Host clocks only: nothing here waits for the device. Over the steps between two logs the host cannot run far ahead, as
each log waits once. These numbers depend on the machine, so they go to the log and TensorBoard, never into a product.
"""

import time
from collections.abc import Callable
from math import prod

import torch

from emeg import metrics
from emeg.models import BrainOmniConfig
from emeg.models.window_power import waveform_bands
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig
from emeg.tokenizers.sizes import TokenizerSizes

PEAKS: tuple[tuple[str, float, float], ...] = (
    ("H100 PCIe", 756e12, 51e12),
    ("H100 NVL", 835e12, 60e12),
    ("H100 80GB HBM3", 989e12, 67e12),
    ("H200 NVL", 835e12, 60e12),
    ("H200", 989e12, 67e12),
    ("GH200 480GB", 989e12, 67e12),
    ("B200", 2250e12, 75e12),
    ("A100", 312e12, 19.5e12),
    ("A30", 165e12, 10.3e12),
    ("A40", 149.7e12, 37.4e12),
    ("A10", 125e12, 31.2e12),
    ("L40S", 362e12, 91.6e12),
    ("L40", 181e12, 90.5e12),
    ("L4", 121e12, 30.3e12),
    ("RTX 4090", 165.2e12, 82.6e12),
    ("RTX 3090", 71e12, 35.6e12),
    ("RTX 6000 Ada Generation", 364.2e12, 91.1e12),
    ("MI300X", 1307.4e12, 163.4e12),
    ("MI325X", 1307.4e12, 163.4e12),
)
"""Name of a device, and its peaks for dense matrix products in bf16 (accumulated in float32) and in float32 without
TF32, operations/s. From the makers' data sheets: those of NVIDIA list bf16 with sparsity, which is twice the dense
peak; GeForce and RTX Ada from the GA102 and AD102 white papers, AMD from the CDNA 3 data sheets (matrix peaks)."""
OTHER_DEVICES = ("Laptop", "MIG", "Max-Q", "RTX 4090 D")
"""Parts of names of devices that are slower than the ones listed."""


def peak_by_name(name: str, precision: str) -> float | None:
    """Return the peak of a device in operations/s, or None if it is not listed.

    Parameters
    ----------
    name : str
        Name of the device, such as ``NVIDIA H100 80GB HBM3``.
    precision : str
        ``bf16-mixed`` or ``32-true``.
    """
    words = f" {name.replace('-', ' ')} "
    if any(f" {other.replace('-', ' ')}" in words for other in OTHER_DEVICES):
        return None
    for device, bf16, float32 in PEAKS:
        if f" {device} " in words:
            return {"bf16-mixed": bf16, "32-true": float32}.get(precision)
    return None


def peak_of(device: torch.device, precision: str) -> float | None:
    """Return the peak of a device in operations/s, or None if it is not known."""
    return peak_by_name(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None


class SpeedMeter:
    """Clocks between two logs.

    Parameters
    ----------
    peak : float, optional
        Of this rank's device, operations a second.
    clock : callable
        Seconds.
    """

    def __init__(self, peak: float | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.peak = peak
        self._clock = clock
        self._asked: float | None = None
        self._paused: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._began = self._clock()
        self._waited = self._pauses = self._segments = self._operations = 0.0

    def ask(self) -> None:
        """Record that the next batch is requested."""
        self._asked = self._clock()

    def receive(self, n_segments: int, operations: float) -> None:
        """Record that a batch has arrived, with its size."""
        if self._asked is not None:
            self._waited += self._clock() - self._asked
            self._asked = None
        self._segments += n_segments
        self._operations += operations

    def pause(self) -> None:
        """Record that validation begins; it counts nowhere."""
        self._asked = None
        self._paused = self._clock()

    def resume(self) -> None:
        """Record that training continues, with the next batch requested."""
        if self._paused is not None:
            self._pauses += self._clock() - self._paused
            self._paused = None
        self.ask()

    def metrics(self) -> dict[str, float]:
        """Return ``segments_per_s``, ``data_wait`` (a share), ``teraflops`` and any ``mfu``, and reset the clocks."""
        seconds = max(self._clock() - self._began - self._pauses, 1e-9)
        rate = self._operations / seconds
        values = {
            metrics.SEGMENTS_PER_S: self._segments / seconds,
            metrics.DATA_WAIT: self._waited / seconds,
            metrics.TERAFLOPS: rate / 1e12,
        }
        if self.peak is not None:
            values[metrics.MFU] = rate / self.peak
        self._reset()
        return values


def tokenizer_operations(c: BrainTokenizerConfig, *, n_seen: int, n_channels: int, n_windows: int) -> float:
    """Count the operations of a training step for one segment: matrix products, LSTMs included, forward three times.

    Parameters
    ----------
    n_seen, n_channels : int
        Channels that are encoded and decoded.
    n_windows : int
    """
    steps, d = c.steps_per_window, c.n_dim
    encoder = 2 * c.kernel_size * c.n_filters * c.window_length
    decoder = 2 * c.last_kernel_size * c.n_filters * c.window_length
    time_steps, width = c.window_length, c.n_filters
    for stride in reversed(c.ratios):
        between = 6 * time_steps * width**2  # residual block: 3 · w · w/2 + w/2 · w + w · w
        change = 8 * time_steps * width**2  # kernel twice the stride, width twice or half
        encoder += between + change
        decoder += between + change
        time_steps, width = time_steps // stride, width * 2
    lstm = 32 * width**2 * steps
    encoder += lstm + 2 * c.last_kernel_size * width * d * steps
    decoder += lstm + 2 * c.kernel_size * d * width * steps
    per_step = 2 * d * d * (2 * n_seen + c.n_neuro + 2 * c.n_neuro + n_channels)
    per_step += 4 * c.n_neuro * d * (n_seen + n_channels)
    return 3.0 * n_windows * (n_seen * encoder + n_channels * decoder + steps * per_step)


def brainomni_operations(c: BrainOmniConfig, t: TokenizerSizes, *, n_steps: int) -> float:
    """Count the operations of a training step for one segment of `n_steps` steps: matrix products, three passes."""
    n_steps = n_steps if c.token == "step" else n_steps // t.steps_per_window
    positions, half = (t.n_sources or 1) * n_steps, c.lm_dim // 2
    linear = 2 * (4 * half * half) + 8 * c.lm_dim**2
    attention = 2 * half * (n_steps + (t.n_sources or 1))
    head = c.mask_ratio * c.lm_dim * c.num_quantizers_used * t.n_codes
    projection = 0 if t.n_dim == c.lm_dim else t.n_dim * c.lm_dim
    if c.token == "window":
        projection = head = c.lm_dim * t.n_dim * (t.steps_per_window // 2 + 1)
    elif c.token == "waveform":
        projection = head = c.lm_dim * len(waveform_bands(t.window_length))
    return 3.0 * 2 * positions * (c.lm_depth * (linear + attention) + head + projection)


def n_windows_of(c: BrainTokenizerConfig, n_samples: int) -> int:
    """Count the windows of a segment without overlap."""
    return max(1, n_samples // (c.steps_per_window * prod(c.ratios)))
