"""Write the tokens, labels and spectral targets that the pretraining study uses.

`python -m benchmarks.study.prepare OUT STORE TOKENIZER [OVERLAP]` tokenizes every segment and every task window of a
store that `emeg ingest` and `emeg shard` made. It writes one file ``NAME.npz`` for each dataset and channel count,
with the codes of all segments, the log power of each 2-s window of a segment by channel and band of 2 Hz, the codes
and labels of the task windows, and their classical features (log band power and tangent space).

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps, Q
levels.
"""

import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from scipy.signal import butter, sosfiltfilt

from emeg.data import Batch, BatchReader, Corpus, MicroBatch, infer_task, task_windows
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal

WINDOW = 512
"""Samples of a window: 2 s at 256 Hz."""
EDGES_HZ = np.concatenate([[1.0], np.arange(2.0, 47.0, 2.0)])
"""Edges of the bands of the spectral target."""
BANDS_HZ = ((1, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 18), (18, 22), (22, 30), (30, 45))
"""Bands of the classical baseline: log power by channel."""
TANGENT_HZ = ((4, 8), (8, 13), (13, 30))
"""Bands of the tangent space of covariance matrices."""
LEAST_SUBJECTS = 3
"""Subjects below which a dataset has no task."""
CHUNK = 16
"""Segments or task windows read at once."""

FloatArray = NDArray[np.floating[Any]]


def log_power(signal_BCN: FloatArray, sfreq: float, edges_hz: FloatArray) -> FloatArray:
    """Return the log power between successive edges, with a Hann taper.

    Parameters
    ----------
    signal_BCN : float, shape (batch, channels, samples)
        Output of `normalise_signal`, dimensionless.
    sfreq : float
        Sampling rate, Hz.
    edges_hz : float, shape (bands + 1,)
        Edges of the bands, Hz.

    Returns
    -------
    float, shape (batch, channels, bands)
    """
    centred = signal_BCN - signal_BCN.mean(axis=-1, keepdims=True)
    power = np.abs(np.fft.rfft(centred * np.hanning(centred.shape[-1]), axis=-1)) ** 2
    freqs = np.fft.rfftfreq(centred.shape[-1], 1.0 / sfreq)
    pairs = list(pairwise(edges_hz))
    return np.log(np.stack([power[..., (freqs >= a) & (freqs < b)].mean(-1) for a, b in pairs], axis=-1) + 1e-9)


def classical_features(signal_BCN: FloatArray, sfreq: float) -> dict[str, FloatArray]:
    """Return the features of the two classical baselines by name."""
    powers = [log_power(signal_BCN, sfreq, np.array(band, float)) for band in BANDS_HZ]
    tangents = []
    for band in TANGENT_HZ:
        sos = butter(4, band, "bandpass", fs=sfreq, output="sos")
        covariances = Covariances("oas").transform(sosfiltfilt(sos, signal_BCN, axis=-1))
        tangents.append(TangentSpace().fit_transform(covariances))
    return {
        "band_power": np.concatenate(powers, axis=-1).reshape(len(signal_BCN), -1),
        "tangent_space": np.concatenate(tangents, axis=1),
    }


def encode(tokenizer: BrainTokenizer, batch: Batch, overlap: float) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return the codes and the normalised signal of a batch."""
    types = torch.from_numpy(batch.sensor_type.astype(np.int64))
    x = normalise_signal(torch.from_numpy(batch.signal), types)
    tokens = tokenizer.tokenize(x, torch.from_numpy(batch.pos), types, overlap=overlap)
    return tokens.codes.numpy().astype(np.uint8), x.numpy()


def segments(corpus: Corpus, tokenizer: BrainTokenizer, rows: list[int], overlap: float) -> dict[str, Any]:
    """Tokenize segments of equal channels and compute their spectral targets."""
    reader, codes, powers = BatchReader(corpus), [], []
    for start in range(0, len(rows), CHUNK):
        part = tuple(rows[start : start + CHUNK])
        found, x_BCN = encode(tokenizer, reader.read(MicroBatch(part, (0,) * len(part), corpus.n_samples)), overlap)
        codes.append(found)
        windows_BCWL = x_BCN[..., : x_BCN.shape[-1] // WINDOW * WINDOW].reshape(*x_BCN.shape[:2], -1, WINDOW)
        flat = windows_BCWL.transpose(0, 2, 1, 3).reshape(-1, x_BCN.shape[1], WINDOW)
        power = log_power(flat, corpus.sfreq, EDGES_HZ).astype(np.float16)
        powers.append(power.reshape(len(part), -1, *power.shape[1:]))
    return {"codes": np.concatenate(codes), "power": np.concatenate(powers)}


def labelled(
    store: Store, tokenizer: BrainTokenizer, dataset: str, subjects: list[str], overlap: float
) -> dict[str, Any]:
    """Tokenize the windows of the task of a dataset and compute their classical features."""
    task = infer_task(store, dataset, subjects)
    windows = task_windows(store, task, subjects)
    kept = np.flatnonzero(windows.channels == np.bincount(windows.channels).argmax())
    codes, signals = [], []
    for start in range(0, len(kept), CHUNK):
        found, x_BCN = encode(tokenizer, windows.read(kept[start : start + CHUNK].tolist()), overlap)
        codes.append(found)
        signals.append(x_BCN)
    features = classical_features(np.concatenate(signals).astype(np.float64), windows.sfreq)
    return {
        "task": task.name,
        "task_codes": np.concatenate(codes),
        "task_label": windows.labels[kept],
        "task_subject": windows.subjects[kept].astype(str),
        **{f"task_{name}": values.astype(np.float32) for name, values in features.items()},
    }


def main() -> None:
    """Write one file for each dataset."""
    out, root, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    overlap = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    only = sys.argv[5].split(",") if len(sys.argv) > 5 else None
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    store = Store.open(root)
    corpus = Corpus.open(store, None)
    tokenizer = BrainTokenizer.from_pretrained(folder)
    out.mkdir(parents=True, exist_ok=True)
    split, subject = corpus.column("split"), corpus.column("subject").astype(str)
    dataset = np.array([name.split("/")[0] for name in subject])
    layout = corpus.column("layout")
    for name in only or sorted(set(dataset)):
        own = np.flatnonzero(dataset == name)
        most = max(set(layout[own]), key=lambda one: int((layout[own] == one).sum()))
        rows = [row for row in own.tolist() if layout[row] == most]
        found = segments(corpus, tokenizer, rows, overlap)
        found |= {
            "split": split[rows].astype(str),
            "subject": subject[rows],
            "split_of": np.array(
                [f"{one}\t{kind}" for one, kind in corpus.subjects.items() if one.startswith(f"{name}/")]
            ),
        }
        subjects = sorted(s for s in corpus.subjects if s.startswith(f"{name}/"))
        if len(subjects) >= LEAST_SUBJECTS:
            found |= labelled(store, tokenizer, name, subjects, overlap)
        np.savez(out / f"{name}.npz", **found)
        print(name, {key: value.shape for key, value in found.items() if isinstance(value, np.ndarray)}, flush=True)


if __name__ == "__main__":
    main()
