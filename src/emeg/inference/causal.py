"""Filter and resample a stream to the pass band and rate of the networks, from past samples alone.

Shape letters: C channels, N samples.

The networks were trained on signals that ingest filtered with zero phase. Causal filters shift rhythms in time (about
10 ms at 10 Hz) and change slow drifts, so some codes differ from offline ones; `benchmarks/RESULTS.md` has the share.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, tf2sos

from emeg.dsp.response import plan_band
from emeg.errors import UserError
from emeg.inference.input_windows import H_FREQ, L_FREQ, SFREQ

HIGH_PASS_ORDER = 1
"""A first-order high-pass at 0.1 Hz: steeper ones ring for tens of seconds after a jump."""

LOW_PASS_ORDER = 6

NOTCH_Q = 30.0
"""Width of a notch: its frequency over 30."""

TAPS = 16
"""Length of the interpolating filter where the rate is no multiple of 256 Hz; half of it lies ahead."""

KAISER_BETA = 6.0
"""About 60 dB below the pass band's signal outside of it."""


def causal_sections(sfreq: float, mains: float) -> NDArray[np.float64]:
    """Design second-order sections of high-pass, notches and low-pass: float64, shape (sections, 6).

    Raises
    ------
    UserError
        The rate is below 64 Hz.
    """
    if not np.isfinite(sfreq) or sfreq < 64.0:
        raise UserError(f"info: a rate of {sfreq:g} Hz is too low for a stream; use 64 Hz or more")
    band = plan_band(sfreq=sfreq, l_freq=L_FREQ, h_freq=H_FREQ, lowpass=0.0, mains=mains)
    parts = [butter(HIGH_PASS_ORDER, band.low, "highpass", fs=sfreq, output="sos")]
    parts += [tf2sos(*iirnotch(notch, NOTCH_Q, fs=sfreq)) for notch in band.notches]
    if band.high < sfreq / 2.0 * 0.99:
        parts.append(butter(LOW_PASS_ORDER, band.high, "lowpass", fs=sfreq, output="sos"))
    return np.concatenate(parts)


@dataclass
class CausalFilter:
    """Filter chunk after chunk as if it were one signal.

    The level before the stream is assumed to be that of the first sample, so that an offset of the amplifier is no
    jump.
    """

    sections: NDArray[np.float64]
    _state: NDArray[np.float64] | None = None

    def push(self, signal_CN: NDArray[np.float64]) -> NDArray[np.float64]:
        """Filter the next samples.

        Parameters
        ----------
        signal_CN : float64, shape (channels, samples)
            V, T or T/m.
        """
        if signal_CN.shape[1] == 0:
            return signal_CN
        if self._state is None:
            self._state = sosfilt_zi(self.sections)[:, None, :] * signal_CN[None, :, :1]
        out, self._state = sosfilt(self.sections, signal_CN, axis=-1, zi=self._state)
        return np.asarray(out)


@dataclass
class CausalResampler:
    """Resample to 256 Hz, returning each sample as soon as its input has arrived.

    From a multiple of 256 Hz every n-th sample is taken. Any other rate is interpolated by a windowed sinc function,
    which needs `lookahead_s` of later signal. Sample k of the result is k / 256 s after the first sample of the source.
    """

    sfreq: float
    _kept: NDArray[np.float64] | None = None
    _kept_first: int = 0
    _n_out: int = 0
    _offsets: NDArray[np.intp] = field(default_factory=lambda: np.arange(1 - TAPS // 2, TAPS // 2 + 1))

    @property
    def thins(self) -> bool:
        """Whether every n-th sample is taken unchanged."""
        return float(self.sfreq / SFREQ).is_integer()

    @property
    def lookahead_s(self) -> float:
        """Seconds of later signal that a sample needs."""
        return 0.0 if self.thins else TAPS // 2 / self.sfreq

    def push(self, signal_CN: NDArray[np.float64]) -> NDArray[np.float64]:
        """Filter and resample the next source samples; return the samples at 256 Hz that are complete.

        Parameters
        ----------
        signal_CN : float64, shape (channels, samples)
            V, T or T/m, at the source's rate.
        """
        half = 0 if self.thins else TAPS // 2
        if self._kept is None:
            # the level before the stream is its first value
            self._kept = np.repeat(signal_CN[:, :1], half, axis=1)
            self._kept_first = -half
        self._kept = np.concatenate([self._kept, signal_CN], axis=1)
        end = self._kept_first + self._kept.shape[1]
        # the last output whose furthest tap, floor(position) + half, has arrived
        n_ready = max(0, int(np.ceil((end - half) * SFREQ / self.sfreq - 1e-9)) + 1)
        positions = np.arange(self._n_out, n_ready) * self.sfreq / SFREQ
        positions = positions[np.floor(positions + 1e-9) + half < end]
        out = self._at(positions)
        self._n_out += len(positions)
        keep_from = int(np.floor(self._n_out * self.sfreq / SFREQ + 1e-9)) - half
        drop = min(max(0, keep_from - self._kept_first), self._kept.shape[1])
        self._kept, self._kept_first = self._kept[:, drop:], self._kept_first + drop
        return out

    def _at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self._kept is not None
        whole = np.floor(positions + 1e-9).astype(np.intp)
        if self.thins:
            return self._kept[:, whole - self._kept_first]
        distance = self._offsets - (positions - whole)[:, None]
        inside = np.clip(1.0 - (distance / (TAPS / 2)) ** 2, 0.0, None)
        taps = np.sinc(distance) * np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
        taps /= taps.sum(axis=1, keepdims=True)
        gathered = self._kept[:, whole[:, None] + self._offsets - self._kept_first]
        return np.asarray(np.einsum("ckt,kt->ck", gathered, taps))
