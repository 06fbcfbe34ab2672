"""Measure how much of each frequency band the codes of the default tokenizer retain for unseen subjects.

For each archive: ingest, split by subject, train with the default recipe on one thread, reconstruct segments of
held-out subjects with all channels visible, and correlate by band, channel and window. `task_information`
is the margin over chance of the band-power classifier on reconstructions, divided by its margin on the signals; it is
cross-validated over all subjects of the archive, with one division into folds. `task_information_mean` averages the
accuracies over `DIVISIONS` divisions, because one division of ten subjects moves an accuracy by about .03.
`edge_ratio` is the mean error in the first or last 16 samples of a window, divided by that in its middle. Beside each
band stand the best correlation that the rate allows for a Gaussian signal (`bound`), and that of as many spatial
components as there are latent sources, without any quantization (`pca`).
The real archives are read from EMEG_DATA (default ../shared/data). Archives that are missing there are skipped;
`archives` lists those that were measured.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._rate_bounds import gaussian_bound, spatial_components
from numpy.typing import NDArray

from emeg.data import (
    Batch,
    BatchReader,
    Corpus,
    MicroBatch,
    ShardConfig,
    infer_task,
    shard,
    subject_folds,
    task_windows,
)
from emeg.evaluation.classical.baselines import fit_baseline
from emeg.evaluation.classical.spectra import Spectra
from emeg.evaluation.reconstruction import choose_segments, correlate_in_bands, judge_reconstruction, reconstruct_rows
from emeg.ingest import IngestConfig, ingest
from emeg.metrics import balanced_accuracy
from emeg.store import Store
from emeg.synthetic import SynthesizeConfig, synthesize
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal
from emeg.training import TrainTokenizerConfig, train_tokenizer

REAL = ("ssvep", "arithmetic")
STEPS = os.environ.get("EMEG_BANDS_STEPS")
"""Steps of the tokenizer, for a quick look; the recipe's if not set."""
SPLIT = {"held_out": 0.3, "validation": 0.3}
SEGMENTS = 72
"""Held-out segments of each device."""
EDGE = 16
"""Samples at each end of a window."""
FOLDS = 5
DIVISIONS = 8
"""Divisions of the subjects into folds for `task_information_mean`."""


def main() -> None:
    """Measure every archive and print one flat JSON object last."""
    data = Path(os.environ.get("EMEG_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
    asked = sys.argv[1:] or [*REAL, "synthetic"]
    result: dict[str, Any] = {"bench": "bands"}
    measured: list[str] = []
    edges: list[float] = []
    information: dict[str, list[float]] = {"": [], "_mean": []}
    for name in asked:
        archive = data / name
        if name != "synthetic" and not archive.is_dir():
            print(f"{name}: left out, {archive} is not there (set EMEG_DATA)", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            if name == "synthetic":
                archive = Path(synthesize(SynthesizeConfig(out=f"{folder}/archive")).out)
            found = measure(name, archive, Path(folder) / "store")
        print(json.dumps(found), flush=True)
        measured.append(name)
        edges.append(found.pop(f"{name}_edge_ratio"))
        for kind, values in information.items():
            values.append(found.pop(f"{name}_task_information{kind}"))
        result |= found
    result |= {
        "archives": " ".join(measured),
        "task_information_min": round(min(information[""]), 4),
        "task_information_mean_min": round(min(information["_mean"]), 4),
        "edge_ratio_max": round(max(edges), 4),
    }
    print(json.dumps(result))


def measure(name: str, archive: Path, root: Path) -> dict[str, Any]:
    """Train a tokenizer on one archive and return the metrics of its held-out subjects."""
    store = Store.open(str(root), create=True)
    ingest(IngestConfig(archive=str(archive), root=str(root), workers=0))
    split = SPLIT if name != "synthetic" else {}
    corpus = Corpus.open(store, shard(ShardConfig(root=str(root), **split)).corpus)
    steps = {} if STEPS is None else {"steps": int(STEPS)}
    trained = train_tokenizer(TrainTokenizerConfig(root=str(root), corpus=corpus.name, threads=1, **steps))
    tokenizer = BrainTokenizer.from_pretrained(store.local_copy("models", trained.model))
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    chosen = choose_segments(corpus, SEGMENTS, 0)
    outcome = judge_reconstruction(store, tokenizer, corpus, chosen, device=cpu, n_examples=0, example_channels=0)
    found: dict[str, Any] = {}
    for device in outcome.devices:
        prefix = name if name != "synthetic" else f"{name}_{device.device}_{device.sensor_type}"
        found[f"{prefix}_pcc"] = round(float(device.pcc or 0.0), 4)
        found |= {f"{prefix}_{band}": round(value, 4) for band, value in device.bands.items()}
    rows = [row for own in chosen.values() for row in own]
    sizes = tokenizer.config
    bits_per_second = sizes.bits_per_second(corpus.sfreq)
    for kind, own in chosen.items():
        prefix = name if name != "synthetic" else f"{name}_{kind}"
        found |= limits(prefix, tokenizer, corpus, own, bits_per_second)
    return found | {
        f"{name}_edge_ratio": edge_ratio(tokenizer, corpus, rows, cpu),
        **{f"{name}_task_information{kind}": v for kind, v in task_information(store, tokenizer, corpus).items()},
        f"{name}_train_s": round(trained.seconds, 1),
        "bits_per_second": round(bits_per_second),
    }


def limits(
    prefix: str, tokenizer: BrainTokenizer, corpus: Corpus, rows: list[int], bits_per_second: float
) -> dict[str, float]:
    """Return by band what the rate allows at best (``…_bound_…``) and what spatial components keep (``…_pca_…``).

    The bound is computed in the equalised domain, where the tokenizer spends its bits; the components are those of
    training subjects with the same channels, as many as the tokenizer has latent sources.
    """
    train = same_channels(corpus, np.flatnonzero(corpus.column("split") == "train").tolist(), rows[0])
    rows = same_channels(corpus, rows, rows[0])
    if not train:
        return {}
    length, n = tokenizer.config.window_length, tokenizer.config.n_neuro
    signals, types = normalised(corpus, train), torch.from_numpy(read(corpus, train[:1]).sensor_type)
    projection = spatial_components(np.concatenate(list(signals), axis=-1), n)
    held_out = normalised(corpus, rows)
    windows = cut(held_out, length)
    kept = correlate_in_bands(windows, np.einsum("cd,wdl->wcl", projection, windows), corpus.sfreq)
    equalised = held_out
    if tokenizer.equaliser is not None:
        with torch.inference_mode():
            x = torch.from_numpy(held_out).float()
            equalised = tokenizer.equaliser(x, types.expand(len(x), -1)).numpy()
    bound = gaussian_bound(cut(equalised, length), corpus.sfreq, bits_per_second)
    found = {f"{prefix}_bound_{band}": round(value, 4) for band, value in bound.items()}
    return found | {f"{prefix}_pca_{band}": round(float(np.nanmean(values)), 4) for band, values in kept.items()}


def same_channels(corpus: Corpus, rows: list[int], like: int) -> list[int]:
    """Return those rows, at most `SEGMENTS`, that have the layout of another row."""
    layouts = corpus.column("layout")
    own = [row for row in rows if layouts[row] == layouts[like]]
    return own[:: max(1, len(own) // SEGMENTS)][:SEGMENTS]


def read(corpus: Corpus, rows: list[int]) -> Batch:
    """Read whole segments of equal channels."""
    return BatchReader(corpus).read(MicroBatch(tuple(rows), (0,) * len(rows), corpus.n_samples))


def normalised(corpus: Corpus, rows: list[int]) -> NDArray[np.float32]:
    """Read and normalise segments: float32, shape (segments, channels, samples)."""
    batch = read(corpus, rows)
    out: NDArray[np.float32] = normalise_signal(
        torch.from_numpy(batch.signal), torch.from_numpy(batch.sensor_type)
    ).numpy()
    return out


def cut(signal_BCN: NDArray[np.floating[Any]], length: int) -> NDArray[np.floating[Any]]:
    """Cut segments into windows: shape (windows, channels, samples of a window)."""
    n = signal_BCN.shape[-1] // length
    cut_BCWL = signal_BCN[..., : n * length].reshape(*signal_BCN.shape[:2], n, length)
    return cut_BCWL.transpose(0, 2, 1, 3).reshape(-1, signal_BCN.shape[1], length)


def edge_ratio(tokenizer: BrainTokenizer, corpus: Corpus, rows: list[int], device: torch.device) -> float:
    """Return the mean error at the worse end of a window divided by that in its middle; all segments weigh the same."""
    profiles = []
    for one in reconstruct_rows(tokenizer, corpus, rows, device):
        profile = np.abs(one.made - one.target).mean(axis=(0, 1), dtype=np.float64)
        profiles.append(profile / profile.mean())
    mean = np.mean(profiles, axis=0)
    return float(max(mean[:EDGE].mean(), mean[-EDGE:].mean()) / mean[EDGE:-EDGE].mean())


def task_information(store: Store, tokenizer: BrainTokenizer, corpus: Corpus) -> dict[str, float]:
    """Return the classifier's margin over chance on reconstructions, divided by its margin on the signals.

    Returns
    -------
    dict
        "": with the first division into folds; "_mean": with accuracies averaged over all divisions.
    """
    subjects = sorted(corpus.subjects)
    windows = task_windows(store, infer_task(store, subjects[0].split("/")[0], subjects), subjects)
    channels = int(np.bincount(windows.channels).argmax())
    kept = np.flatnonzero(windows.channels == channels)
    signals, made = [], []
    for start in range(0, len(kept), 16):
        batch = windows.read(kept[start : start + 16].tolist())
        x, types = torch.from_numpy(batch.signal), torch.from_numpy(batch.sensor_type)
        x = normalise_signal(x, types)
        with torch.inference_mode():
            out = tokenizer.reconstruct(x, torch.from_numpy(batch.pos), types)
            signals.append(tokenizer.targets(x).flatten(2).numpy())
            made.append(out.flatten(2).numpy())
    labels, people = windows.labels[kept], windows.subjects[kept]
    scores = [scored(np.concatenate(parts), labels, people, windows.sfreq) for parts in (signals, made)]
    chance = 1.0 / len(windows.classes)
    found = {}
    for kind, (whole, kept_part) in {"": [one[0] for one in scores], "_mean": np.mean(scores, axis=1)}.items():
        print(
            f"band power{kind}: signals {whole:.3f}, reconstructions {kept_part:.3f}, chance {chance:.3f}", flush=True
        )
        found[kind] = float((kept_part - chance) / max(whole - chance, 1e-9))
    return found


def scored(
    signal_BCN: NDArray[np.float32], labels: NDArray[np.int64], people: NDArray[np.str_], sfreq: float
) -> list[float]:
    """Return the balanced accuracy of the band-power classifier, cross-validated by subject, for each division."""
    types = np.zeros(signal_BCN.shape[1], np.int8)
    spectra = Spectra.of(signal_BCN, sfreq=sfreq, sensor_type=types, pass_band=(0.1, 96.0))
    n_classes, found = len(np.unique(labels)), []
    for seed in range(DIVISIONS):
        predicted = np.full(len(labels), -1)
        for fold in subject_folds(labels, people, FOLDS, seed):
            rows = fold.map(lambda names: np.flatnonzero(np.isin(people, list(names))))
            fitted = fit_baseline("band_power", spectra, labels, n_classes, rows)
            predicted[rows.test] = fitted.probabilities.argmax(axis=1)
        found.append(balanced_accuracy(labels, predicted))
    return found


if __name__ == "__main__":
    main()
