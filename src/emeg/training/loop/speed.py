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
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

PEAKS = {
    "H200": {"bf16-mixed": 989e12, "32-true": 67e12},
    "H100": {"bf16-mixed": 989e12, "32-true": 67e12},
    "A100": {"bf16-mixed": 312e12, "32-true": 19.5e12},
}
"""Operations a second of dense matrix products, from the makers' data sheets (SXM), by a part of the device's name."""


def peak_of(device: torch.device, precision: str) -> float | None:
    """Return the peak of a device in operations a second, or None if it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks.get(precision) for part, peaks in PEAKS.items() if part in name), None)


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


def brainomni_operations(c: BrainOmniConfig, t: BrainTokenizerConfig, *, n_steps: int) -> float:
    """Count the operations of a training step for one segment of `n_steps` steps: matrix products, three passes."""
    positions, half = t.n_neuro * n_steps, c.lm_dim // 2
    linear = 2 * (4 * half * half) + 8 * c.lm_dim**2
    attention = 2 * half * (n_steps + t.n_neuro)
    head = c.mask_ratio * c.lm_dim * c.num_quantizers_used * t.codebook_size
    projection = 0 if t.n_dim == c.lm_dim else t.n_dim * c.lm_dim
    return 3.0 * 2 * positions * (c.lm_depth * (linear + attention) + head + projection)


def n_windows_of(c: BrainTokenizerConfig, n_samples: int) -> int:
    """Count the windows of a segment without overlap."""
    return max(1, n_samples // (c.steps_per_window * prod(c.ratios)))
