"""The loaders that `benchmarks.loader` compares. Each yields batches of float32 signals, positions, types and a mask.

Shape letters: B batch, C channels, N samples.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import torch
import webdataset
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emeg.data import BatchReader, Corpus, Loader, SamplingConfig, SamplingPlan
from emeg.sensors import Sensors
from emeg.store import CatalogRow, RecordingAttributes, Store, publish_row, write_recording
from emeg.training.loop.batches import SignalReader

CHANNELS, SAMPLES, BATCH = 64, 2560, 16

Given = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""A batch as training needs it: signal (B, C, N), positions (B, C, 6), sensor types (B, C), and mask or `None`."""


def make_store(folder: Path, n_people: int, segments_each: int) -> Store:
    """Create a store with recordings of noise from 64 channels."""
    store = Store.open(folder, create=True)
    rng = np.random.default_rng(0)
    places = rng.normal(size=(CHANNELS, 3))
    sensors = Sensors(
        names=tuple(f"E{i}" for i in range(CHANNELS)),
        types=np.zeros(CHANNELS, np.int8),
        units=("V",) * CHANNELS,
        positions=places / np.linalg.norm(places, axis=1, keepdims=True) * 0.09,
        orientations=np.zeros((CHANNELS, 3)),
        coils=np.ones(CHANNELS, np.int32),
    )
    n = segments_each * SAMPLES
    for person in range(n_people):
        name = f"r{person:02d}"
        signal = rng.standard_normal((CHANNELS, n), np.float32) * np.float32(2e-5)
        about = {"device": "x", "layout": sensors.layout_id, "source": f"{name}.edf", "dataset": "d"}
        about |= {"subject": f"{person:02d}", "config_hash": "c0", "version": "0"}
        attributes = RecordingAttributes(sfreq=256.0, pass_band=(0.1, 96.0), **about)
        bad = np.zeros((CHANNELS, n // 256), np.uint8)
        write_recording(store, name, signal, sensors=sensors, attributes=attributes, bad=bad)
        row = CatalogRow(
            recording=name, modality="eeg", n_channels=CHANNELS, n_eeg=CHANNELS, n_magnetometers=0, n_gradiometers=0,
            sfreq_source=256.0, duration_s=n / 256, pass_band_low=0.1, pass_band_high=96.0, n_events=0, **about,
        )  # fmt: skip
        publish_row(store, row, [])
    return store


class Ours:
    """emeg's loader as training uses it; workers are threads."""

    def __init__(self, corpus: Corpus, workers: int) -> None:
        self._corpus, self._workers, self._epoch = corpus, workers, 0
        budget = BATCH * CHANNELS * SAMPLES / corpus.sfreq
        self.plan = SamplingPlan(corpus, SamplingConfig(budget_channel_seconds=budget))
        self._reader = SignalReader(BatchReader(corpus))

    def __iter__(self) -> Iterator[Given]:
        n = self.plan.n_steps()
        start = self._epoch * n
        self._epoch += 1
        for loaded in Loader(self.plan, self._reader, start=start, stop=start + n, workers=self._workers):
            batch = loaded.batch.to("cpu")
            yield batch.signal, batch.pos, batch.sensor_type, batch.channel_mask


class PtFiles(Dataset[dict[str, Tensor]]):
    """Dataset of one float32 .pt file for each segment."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return torch.load(self._paths[index], weights_only=True)


def write_pt(corpus: Corpus, folder: Path) -> list[Path]:
    """Write one .pt file for each segment in the reference release's form: float32 signal, positions, types."""
    folder.mkdir()
    paths = []
    for row in range(len(corpus)):
        (sample,) = corpus.samples([row])
        path = folder / f"{row:06d}.pt"
        tensors = {"x": sample.signal, "pos": sample.pos, "sensor_type": sample.sensor_type.astype(np.int64)}
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)
        paths.append(path)
    return paths


class PtSide:
    """The reference release's loader: a shuffled DataLoader over one file for each segment."""

    def __init__(self, paths: list[Path], workers: int) -> None:
        self._loader = DataLoader(
            PtFiles(paths), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )

    def __iter__(self) -> Iterator[Given]:
        for batch in self._loader:
            yield batch["x"], batch["pos"], batch["sensor_type"], None


class WebdatasetSide:
    """The webdataset package on the corpus's shards; the training process converts integers to floats."""

    def __init__(self, corpus: Corpus, workers: int) -> None:
        folder = corpus.folder.local_path() / "shards"
        urls = [str(folder / shard["name"]) for shard in corpus.manifest["shards"] if shard["split"] == "train"]
        layouts = {name: (pos, types.astype(np.int64)) for name, (pos, types) in corpus.layouts.items()}

        def arrays(sample: dict) -> tuple:
            return (sample["signal.npy"], sample["step.npy"], *layouts[sample["json"]["layout"]])

        dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), detshuffle=True, seed=0, empty_check=False)
        dataset = dataset.shuffle(256).decode().map(arrays).batched(BATCH)
        self._loader = webdataset.WebLoader(
            dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
        )

    def __iter__(self) -> Iterator[Given]:
        for signal, step, pos, types in self._loader:
            signal, step, pos, types = (torch.as_tensor(a) for a in (signal, step, pos, types))
            yield signal.float().mul_(step), pos, types, None


class ObjectPerSegment(Dataset[tuple]):
    """Dataset of one object for each segment, with the same int16 bytes as the corpus."""

    def __init__(self, options: dict, folder: str, n: int, layout: tuple) -> None:
        self._options, self._folder, self._n, self._layout = options, folder, n, layout
        self._files: tuple[int, fsspec.AbstractFileSystem] | None = None

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> tuple:
        if self._files is None or self._files[0] != os.getpid():  # an fsspec file system must not be used after a fork
            self._files = os.getpid(), fsspec.filesystem("s3", skip_instance_cache=True, **self._options)
        # with several connections, s3fs requests the size first, which would be a second request
        data = self._files[1].cat_file(f"{self._folder}/{index:06d}.npy", max_concurrency=1)
        content = io.BytesIO(data)
        signal, step = np.load(content, allow_pickle=False), np.load(content, allow_pickle=False)
        return torch.from_numpy(signal), torch.from_numpy(step), *self._layout


def write_objects(corpus: Corpus, fs: fsspec.AbstractFileSystem, folder: str, rows: list[int]) -> None:
    """Write one object for each segment into a bucket."""
    for number, row in enumerate(rows):
        (segment,) = corpus.read([row])
        content = io.BytesIO()
        np.save(content, segment.signal)
        np.save(content, segment.scale)
        fs.pipe_file(f"{folder}/{number:06d}.npy", content.getvalue())


class ObjectSide:
    """A shuffled DataLoader over one object for each segment."""

    def __init__(self, dataset: ObjectPerSegment, workers: int) -> None:
        self._loader = DataLoader(
            dataset,
            BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )

    def __iter__(self) -> Iterator[Given]:
        for signal, step, pos, types in self._loader:
            yield signal.float().mul_(step), pos, types, None
