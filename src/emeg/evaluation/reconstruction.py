"""Measure how a tokenizer reconstructs unseen subjects: correlation, spectra, examples.

held-out segments ──normalise──▶ x ──tokenizer──▶ reconstruction ──▶ summary of every device and sensor type

Shape letters: B batch, C channels, N samples, W windows, L samples in a window.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import BatchReader, Corpus, MicroBatch
from emeg.data.sampling.order import hash_order
from emeg.evaluation.classical.spectra import CLASSICAL_BANDS
from emeg.evaluation.products import ExampleSummary, ReconstructionSummary
from emeg.metrics import normalised_product, pearson
from emeg.progress import Progress, silent
from emeg.store import Store, open_recording

if TYPE_CHECKING:
    import torch

    from emeg.tokenizers.interface import TokenizerModule
    from emeg.training.loop.batches import SignalBatch

SENSOR_TYPES = ("eeg", "magnetometer", "gradiometer", "seeg", "ecog", "dbs")
"""Names of the sensor types by their codes."""
BANDS = CLASSICAL_BANDS | {"high": (45.0, np.inf)}
"""Bands, Hz, in which correlations are also computed."""
EXAMPLE_WINDOWS = 2
"""Tokenizer windows of an example."""
CHANNEL_SECONDS = 4000.0
"""Size of a batch, channels × seconds; bounds memory."""


class Reconstructed(NamedTuple):
    """A segment with its reconstruction."""

    row: int
    """Row of the corpus."""
    signal: NDArray[np.float32]
    """(channel, window, sample), normalised as the networks read it: standard deviation about 1 over a sensor type."""
    target: NDArray[np.float32]
    """(channel, window, sample), mean 0 and standard deviation 1 in each window."""
    made: NDArray[np.float32]
    """(channel, window, sample), the reconstruction of `target`."""
    sensor_type: NDArray[np.int8]
    """(channel,)"""


@dataclass
class _Sums:
    """Values of one device and sensor type, one per segment."""

    n_channels: int = 0
    n_flat: int = 0
    pcc: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Values by subject."""
    bands: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    signal_power: list[NDArray[np.float64]] = field(default_factory=list)
    made_power: list[NDArray[np.float64]] = field(default_factory=list)


class ReconstructionOutcome(NamedTuple):
    """Summary of all devices, and the arrays that the report plots (`emeg.evaluation.products`)."""

    devices: tuple[ReconstructionSummary, ...]
    examples: tuple[ExampleSummary, ...]
    arrays: dict[str, NDArray[Any]]


def choose_segments(corpus: Corpus, per_device: int, seed: int) -> dict[str, list[int]]:
    """Choose held-out rows of every device, subjects alternating, in an order that follows from the seed."""
    queues: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in np.flatnonzero(corpus.column("split") == "held_out").tolist():
        queues[str(corpus.column("device")[row])][str(corpus.column("subject")[row])].append(str(row))
    chosen: dict[str, list[int]] = {}
    for device, subjects in sorted(queues.items()):
        turns = [
            hash_order(subjects[subject], "reconstruction", seed)
            for subject in hash_order(sorted(subjects), "reconstruction", seed)
        ]
        deal = [int(own[k]) for k in range(max(map(len, turns))) for own in turns if k < len(own)]
        chosen[device] = deal[:per_device]
    return chosen


def judge_reconstruction(
    store: Store,
    tokenizer: "TokenizerModule",
    corpus: Corpus,
    chosen: dict[str, list[int]],
    *,
    device: "torch.device",
    n_examples: int,
    example_channels: int,
    progress: Progress = silent,
) -> ReconstructionOutcome:
    """Reconstruct held-out segments and compare them with the signal.

    Correlations are computed as in training: per channel and window, averaged. The encoder sees all channels; nothing
    is masked and no noise is added.
    """
    sums: dict[tuple[str, int], _Sums] = defaultdict(_Sums)
    shown = _take_turns(list(chosen.values()), n_examples)
    kept: dict[int, Reconstructed] = {}
    done, total = 0, sum(map(len, chosen.values()))
    for name, rows in chosen.items():
        for one in reconstruct_rows(tokenizer, corpus, rows, device):
            for kind in np.unique(one.sensor_type).tolist():
                _add(sums[name, kind], one, kind, str(corpus.column("subject")[one.row]), corpus.sfreq)
            if one.row in shown:
                kept[one.row] = one
            done += 1
            progress(done, total, f"reconstruct {name}")
    keys = sorted(sums)
    arrays: dict[str, NDArray[Any]] = {}
    for d, key in enumerate(keys):
        arrays |= _spectra(d, sums[key], corpus.sfreq)
    examples = []
    for e, row in enumerate(shown):
        figures, found = _example(store, corpus, kept[row], example_channels)
        examples.append(figures)
        arrays |= {f"examples/{e}/{name}": values for name, values in found.items()}
    return ReconstructionOutcome(tuple(_device(key, sums[key]) for key in keys), tuple(examples), arrays)


def reconstruct_rows(
    tokenizer: "TokenizerModule", corpus: Corpus, rows: Sequence[int], device: "torch.device"
) -> Iterator[Reconstructed]:
    """Reconstruct segments of a corpus, batches of one channel count at a time, in float32."""
    import torch

    from emeg.tokenizers.braintokenizer import normalise_signal
    from emeg.tokenizers.braintokenizer.windows import cut_windows

    for part, batch in _read(corpus, rows):
        pos, types = batch.pos.to(device), batch.sensor_type.to(device)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            x_BCN = normalise_signal(batch.signal.to(device), types)
            target_BCWL = tokenizer.targets(x_BCN)
            made_BCWL = tokenizer.reconstruct(x_BCN, pos, types)
        signal_BCWL = cut_windows(x_BCN, tokenizer.sizes.window_length, 0.0)
        signal, target, made = (t.float().cpu().numpy() for t in (signal_BCWL, target_BCWL, made_BCWL))
        kinds = batch.sensor_type.numpy().astype(np.int8)
        for b, row in enumerate(part):
            yield Reconstructed(row, signal[b], target[b], made[b], kinds[b])


def tokenize_rows(
    tokenizer: "TokenizerModule", corpus: Corpus, rows: Sequence[int], device: "torch.device"
) -> Iterator[NDArray[np.int64]]:
    """Yield codes (segment, latent, step, quantizer), batch by batch, for windows without overlap."""
    import torch

    from emeg.tokenizers.braintokenizer import normalise_signal

    for _, batch in _read(corpus, rows):
        pos, types = batch.pos.to(device), batch.sensor_type.to(device)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            x_BCN = normalise_signal(batch.signal.to(device), types)
            yield tokenizer.tokenize(x_BCN, pos, types).codes.cpu().numpy()


def correlate_in_bands(
    a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]], sfreq: float
) -> dict[str, NDArray[np.float64]]:
    """Compute the correlation of `a` and `b` inside each of `BANDS`, along the last axis.

    Parameters
    ----------
    a, b : float, shape (..., samples)
        Signals in any unit.
    sfreq : float
        Sampling rate, Hz.
    """
    freqs = np.fft.rfftfreq(a.shape[-1], 1.0 / sfreq)
    fa, fb = np.fft.rfft(a, axis=-1), np.fft.rfft(b, axis=-1)
    found = {}
    for name, (low, high) in BANDS.items():
        bins = (freqs >= low) & (freqs < high)
        own, other = fa[..., bins], fb[..., bins]
        products = np.sum((own * other.conj()).real, axis=-1)
        found[name] = normalised_product(
            products, np.sum(np.abs(own) ** 2, axis=-1), np.sum(np.abs(other) ** 2, axis=-1)
        )
    return found


def _read(corpus: Corpus, rows: Sequence[int]) -> Iterator[tuple[list[int], "SignalBatch"]]:
    from emeg.training.loop.batches import signal_batch

    reader = BatchReader(corpus)
    for part in _batches(corpus, rows):
        yield part, signal_batch(reader.read(MicroBatch(tuple(part), (0,) * len(part), corpus.n_samples)))


def _batches(corpus: Corpus, rows: Sequence[int]) -> Iterator[list[int]]:
    counts = corpus.column("channels")
    seconds = corpus.n_samples / corpus.sfreq
    for channels in sorted({int(counts[row]) for row in rows}):
        own = [row for row in rows if counts[row] == channels]
        size = max(1, int(CHANNEL_SECONDS / (channels * seconds)))
        for first in range(0, len(own), size):
            yield own[first : first + size]


def _take_turns(queues: list[list[int]], limit: int) -> list[int]:
    longest = max(map(len, queues), default=0)
    return [queue[k] for k in range(longest) for queue in queues if k < len(queue)][:limit]


def _add(sums: _Sums, one: Reconstructed, kind: int, subject: str, sfreq: float) -> None:
    own = one.sensor_type == kind
    target, made = one.target[own], one.made[own]
    pcc = pearson(target, made)
    sums.n_channels = max(sums.n_channels, int(own.sum()))
    sums.n_flat += int(np.isnan(pcc).sum())
    alive = ~np.isnan(pcc)
    if not alive.any():
        return
    sums.pcc[subject].append(float(pcc[alive].mean()))
    for band, values in correlate_in_bands(target[alive], made[alive], sfreq).items():
        if np.isfinite(values).any():
            sums.bands[band].append(float(np.nanmean(values)))
    sums.signal_power.append(_median_power(target[alive], sfreq))
    sums.made_power.append(_median_power(made[alive], sfreq))


def _median_power(windows: NDArray[np.float32], sfreq: float) -> NDArray[np.float64]:
    """Return the power per Hz (Hann window), median over windows and channels."""
    taper = np.hanning(windows.shape[-1] + 1)[:-1]
    spectrum = np.fft.rfft(windows.astype(np.float64) * taper, axis=-1)
    density = np.square(np.abs(spectrum)) * (2.0 / (sfreq * np.sum(taper**2)))
    return np.asarray(np.median(density.reshape(-1, density.shape[-1]), axis=0))


def _device(key: tuple[str, int], sums: _Sums) -> ReconstructionSummary:
    means = [float(np.mean(values)) for values in sums.pcc.values()]
    everything = [value for values in sums.pcc.values() for value in values]
    return ReconstructionSummary(
        device=key[0],
        sensor_type=SENSOR_TYPES[key[1]],
        n_segments=len(everything),
        n_subjects=len(means),
        n_channels=sums.n_channels,
        pcc=float(np.mean(everything)) if everything else None,
        pcc_subjects_sd=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        n_flat=sums.n_flat,
        bands={name: float(np.mean(values)) for name, values in sums.bands.items()},
    )


def _spectra(index: int, sums: _Sums, sfreq: float) -> dict[str, NDArray[Any]]:
    if not sums.signal_power:
        return {}
    n_freqs = len(sums.signal_power[0])
    return {
        f"spectra/{index}/freqs": np.fft.rfftfreq(2 * (n_freqs - 1), 1.0 / sfreq),
        f"spectra/{index}/signal": np.mean(sums.signal_power, axis=0),
        f"spectra/{index}/reconstruction": np.mean(sums.made_power, axis=0),
    }


def _example(
    store: Store, corpus: Corpus, one: Reconstructed, n_channels: int
) -> tuple[ExampleSummary, dict[str, NDArray[np.float32]]]:
    """Return an example: a few channels spread over the montage, the first windows of the segment."""
    recording = str(corpus.column("recording")[one.row])
    alive = np.flatnonzero((one.target[:, :EXAMPLE_WINDOWS].std(axis=-1) > 0).all(axis=1))
    alive = alive if len(alive) else np.arange(len(one.target))
    picks = alive[np.unique(np.linspace(0, len(alive) - 1, min(n_channels, len(alive))).round().astype(int))]
    signal = one.signal[picks, :EXAMPLE_WINDOWS]
    made = one.made[picks, :EXAMPLE_WINDOWS]
    # targets may be windows with mean 0 and deviation 1: restore both, or windows would not join
    target = one.target[picks, :EXAMPLE_WINDOWS]
    spread = np.maximum(target.std(axis=-1, ddof=1, keepdims=True), 1e-12)
    factor = signal.std(axis=-1, ddof=1, keepdims=True) / spread
    back = (made - target.mean(axis=-1, keepdims=True)) * factor + signal.mean(axis=-1, keepdims=True)
    pcc = pearson(target, made)
    names = open_recording(store, recording).sensors.names
    figures = ExampleSummary(
        device=str(corpus.column("device")[one.row]),
        subject=str(corpus.column("subject")[one.row]),
        recording=recording,
        start_s=float(corpus.column("start")[one.row] / corpus.sfreq),
        sfreq=corpus.sfreq,
        channels=tuple(names[i] for i in picks),
        pcc=float(np.nanmean(pcc)) if np.isfinite(pcc).any() else None,
    )
    flat = {"signal": signal, "reconstruction": back.astype(np.float32)}
    return figures, {name: values.reshape(len(picks), -1) for name, values in flat.items()}
