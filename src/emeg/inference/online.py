"""Tokens and embeddings of a stream, window after window, while it arrives.

Shape letters: C channels, N samples.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.inference.causal import CausalFilter, CausalResampler, causal_sections
from emeg.inference.input_windows import SFREQ
from emeg.inference.packets import PacketCounts, PacketOrder
from emeg.models import EncoderModule, Sources, load_encoder
from emeg.sensors import Sensors, check_geometry, positions_with_regions, sensors_from_info
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.interface import Tokens

if TYPE_CHECKING:
    import mne


class OnlineConfig(Config):
    """Settings of the encoder of a stream."""

    mains_hz: float = Field(0.0, ge=0.0)
    """Mains frequency, Hz, for notches; 0: none."""
    normalise_s: PositiveFloat = 10.0
    """Seconds before a window's end from which its scale is computed; fewer at the start of the stream."""
    context_s: PositiveFloat = 10.0
    """Seconds before a window's end whose tokens an embedding is computed from."""
    patience_s: float = Field(0.02, ge=0.0)
    """Signal that may arrive after a missing packet before the packet counts as lost and is bridged, s."""
    max_bridged_share: float = Field(0.1, ge=0.0, le=1.0)
    """Largest share of a window that may be lost; a window with more is not encoded."""
    embed: bool = True
    """Embed windows too; tokens alone are faster."""
    montage: str | None = None
    """MNE montage for electrode names that the standard set does not know."""
    threads: int = runtime_field(1, ge=0)
    """Threads of torch while encoding; 0: as set."""


class TokenWindow(NamedTuple):
    """One window of a stream."""

    start_s: float
    """Start, s after the first sample of the stream."""
    end_s: float
    codes: NDArray[np.int64]
    """(latent, step, quantizer)."""
    embedding: NDArray[np.float32] | None
    """(latent, step, d): the window's steps, embedded with the context before them."""
    channels: NDArray[np.bool_]
    """bool (channel,): channels used; one without signal in the window is left out."""
    bridged_share: float
    """Share of the samples that were lost and bridged."""


class OnlineEncoder:
    """Encode packets as they arrive, with causal filters (`emeg.inference.causal`) and a running scale.

    A window is complete when its last sample has arrived, plus `lookahead_s` if the rate is no multiple of 256 Hz. It
    overlaps the window before as in pretraining. A channel that is flat or NaN throughout a window is left out of it;
    single NaN values are replaced by the channel's last value.

    Parameters
    ----------
    network : EncoderModule
        Encoder of any kind, such as a BrainOmni.
    info : mne.Info
        Channels and rate of the stream, in V, T or T/m.
    config : OnlineConfig, optional

    Raises
    ------
    UserError
        No channel of `info` has a known position, or the rate is too low.
    """

    def __init__(self, network: EncoderModule, info: "mne.Info", config: OnlineConfig | None = None) -> None:
        self.config = config or OnlineConfig()
        self._network = network.eval()
        picked = sensors_from_info(info, montage=self.config.montage)
        if not len(picked.sensors):
            raise UserError(
                f"info: no usable channel ({'; '.join(sorted(set(picked.dropped.values())))}); set a montage on it"
            )
        check_geometry(picked.sensors)
        self.sensors: Sensors = picked.sensors
        self._picks, self._n_channels = picked.picks, len(info["ch_names"])
        sfreq = float(info["sfreq"])
        self._length = network.tokenizer.sizes.window_length
        self._stride = round(self._length * (1.0 - network.config.overlap_ratio))
        self._order = PacketOrder(self._n_channels, patience=round(self.config.patience_s * sfreq))
        self._filter = CausalFilter(causal_sections(sfreq, self.config.mains_hz))
        self._resampler = CausalResampler(sfreq)
        self._raw = _RawTrack(sfreq)
        self._kept = np.empty((len(self.sensors), 0), np.float32)
        self._kept_first = 0
        self._next_window = 0
        self._held = np.zeros(len(self.sensors))
        self._tokens: list[Tokens] = []
        self._pos = torch.from_numpy(positions_with_regions(self.sensors))[None]
        self._types = torch.from_numpy(self.sensors.types.astype(np.int64))[None]

    @classmethod
    def from_pretrained(cls, model: Path, info: "mne.Info", config: OnlineConfig | None = None) -> Self:
        """Load the encoder of a folder."""
        return cls(load_encoder(Path(model)), info, config)

    @property
    def lookahead_s(self) -> float:
        """Seconds of signal after its end that a window needs."""
        return self._resampler.lookahead_s

    @property
    def counts(self) -> PacketCounts:
        """Counts of packets and samples so far."""
        return self._order.counts

    def push(self, packet_CN: NDArray[np.float64], *, first_sample: int | None = None) -> list[TokenWindow]:
        """Add a packet and return the windows that are complete, usually none or one.

        Parameters
        ----------
        packet_CN : float64, shape (channels of info, samples)
            V, T or T/m.
        first_sample : int, optional
            Number of its first sample in the stream, which shows late, repeated and lost packets. If omitted, packets
            arrive in order and none is lost.

        Raises
        ------
        UserError
            The packet has another number of channels.
        """
        stretch = self._order.push(packet_CN, first_sample)
        if not stretch.bridged.size:
            return []
        signal_CN = stretch.signal[self._picks]
        self._raw.push(signal_CN, stretch.bridged)
        fresh = self._resampler.push(self._filter.push(self._hold(signal_CN)))
        self._kept = np.concatenate([self._kept, fresh.astype(np.float32)], axis=1)
        windows = []
        while self._next_window * self._stride + self._length <= self._kept_first + self._kept.shape[1]:
            window = self._window(self._next_window * self._stride)
            self._next_window += 1
            if window is not None:
                windows.append(window)
        self._forget()
        return windows

    def _hold(self, signal_CN: NDArray[np.float64]) -> NDArray[np.float64]:
        """Replace values that are not finite by the channel's last value."""
        lost = ~np.isfinite(signal_CN)
        if lost.any():
            signal_CN = signal_CN.copy()
            for c in np.flatnonzero(lost.any(axis=1)):
                row = np.concatenate([[self._held[c]], np.where(lost[c], np.nan, signal_CN[c])])
                last = np.maximum.accumulate(np.where(np.isfinite(row), np.arange(len(row)), 0))
                signal_CN[c] = row[last][1:]
        self._held = signal_CN[:, -1].copy()
        return signal_CN

    def _window(self, start: int) -> TokenWindow | None:
        """Encode the window that begins at a sample (256 Hz)."""
        end = start + self._length
        alive, bridged = self._raw.between(start / SFREQ, end / SFREQ)
        if bridged > self.config.max_bridged_share or not alive.any():
            self._tokens.clear()  # an embedding's context has no holes
            return None
        first = max(self._kept_first, end - round(self.config.normalise_s * SFREQ))
        past = torch.from_numpy(self._kept[:, first - self._kept_first : end - self._kept_first])[None]
        mask = None if alive.all() else torch.from_numpy(alive)[None]
        with _threads(self.config.threads), torch.inference_mode():
            x = normalise_signal(past, self._types, mask, intracranial=bool(self.sensors.is_intracranial.any()))[
                ..., -self._length :
            ]
            tokens = self._network.tokenizer.tokenize(x, self._pos, self._types, channel_mask=mask)
            embedding = self._embed(tokens, mask) if self.config.embed else None
        return TokenWindow(start / SFREQ, end / SFREQ, tokens.codes[0].numpy(), embedding, alive, bridged)

    def _embed(self, tokens: Tokens, mask: Tensor | None) -> NDArray[np.float32]:
        n_context = max(1, 1 + int((self.config.context_s * SFREQ - self._length) // self._stride))
        self._tokens = [*self._tokens, tokens][-n_context:]
        sources = None
        if self._network.tokenizer.sizes.n_sources is None:
            sources = Sources.of(self._pos, self._types, mask)
        context = Tokens(*(torch.cat(parts, dim=2) for parts in zip(*self._tokens, strict=True)))
        embedded = self._network.embed_tokens(context, sources)
        return np.asarray(embedded[0, :, -tokens.codes.shape[2] :].numpy())

    def _forget(self) -> None:
        """Drop samples that no later window or scale needs."""
        next_end = self._next_window * self._stride + self._length
        keep_from = min(self._next_window * self._stride, next_end - round(self.config.normalise_s * SFREQ))
        drop = max(0, keep_from - self._kept_first)
        self._kept, self._kept_first = self._kept[:, drop:], self._kept_first + drop
        self._raw.forget(self._next_window * self._stride / SFREQ)


class _RawTrack:
    """Record which channels carried a signal and which samples were bridged, in samples of the source."""

    def __init__(self, sfreq: float) -> None:
        self._sfreq = sfreq
        self._first = 0
        self._moves: NDArray[np.bool_] | None = None
        self._bridged = np.empty(0, bool)
        self._last: NDArray[np.float64] | None = None

    def push(self, signal_CN: NDArray[np.float64], bridged: NDArray[np.bool_]) -> None:
        before = signal_CN[:, :1] if self._last is None else self._last
        # NaN differs from every value, but is no signal
        moves = (np.diff(signal_CN, axis=1, prepend=before) != 0) & np.isfinite(signal_CN) & ~bridged
        self._last = signal_CN[:, -1:]
        self._moves = moves if self._moves is None else np.concatenate([self._moves, moves], axis=1)
        self._bridged = np.concatenate([self._bridged, bridged])

    def between(self, start_s: float, end_s: float) -> tuple[NDArray[np.bool_], float]:
        """Return which channels were alive for at least half of the window, and the share that was bridged."""
        assert self._moves is not None
        part = slice(round(start_s * self._sfreq) - self._first, round(end_s * self._sfreq) - self._first)
        share = self._moves[:, part].mean(axis=1)
        return share > min(0.5, 0.5 * float(np.median(share))), float(self._bridged[part].mean())

    def forget(self, until_s: float) -> None:
        drop = min(round(until_s * self._sfreq) - self._first, len(self._bridged))
        if drop > 0 and self._moves is not None:
            self._moves, self._bridged = self._moves[:, drop:], self._bridged[drop:]
            self._first += drop


class _threads:  # noqa: N801 - reads as a statement
    """Set the number of torch's threads during a block."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._n:
            torch.set_num_threads(self._n)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
