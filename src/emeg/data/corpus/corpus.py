"""Open a frozen corpus: its manifest, its tables, and range reads of its segments.

Shape letters: B batch, C channels, N samples, K chunks of a stored segment.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emeg.data.batch import Sample
from emeg.data.corpus.ranges import ByteRange, RangeReader
from emeg.data.corpus.tar_shards import chunk_edges
from emeg.errors import UserError
from emeg.hashing import hash_json, sha256_file
from emeg.notebook import html_table
from emeg.sensors import sensor_regions
from emeg.sensors.layout import INTRACRANIAL_TYPES
from emeg.store import Store, open_recording
from emeg.store.catalog.parquet import table_of
from emeg.store.recordings.quantise import dequantise
from emeg.uri import Location

FORMAT = 1
"""Version of the files of a corpus; a reader refuses a newer one."""


class Segment(NamedTuple):
    """A segment as stored."""

    signal: NDArray[np.int16]
    """(C, N), read-only."""
    scale: NDArray[np.float32]
    """(C, K): scale of each chunk; signal · scale is the value in V, T or T/m."""
    edges: tuple[int, ...]
    """K + 1 chunk borders, counted from the segment's start; first 0, last N."""
    row: int
    """Row of the corpus."""

    def values(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return samples `start` to `stop` in V, T or T/m, float32 (C, stop - start)."""
        return dequantise(self.signal, self.scale, self.edges, start, stop)


class Corpus:
    """Segments of one length from many recordings, split by subject. Opening reads no signal.

    It can be pickled and shared between threads, since it holds tables and no open file.
    """

    def __init__(self, name: str, folder: Location, manifest: dict[str, Any]) -> None:
        self.name = name
        self.folder = folder
        self.manifest = manifest
        sizes = {shard["name"]: int(shard["bytes"]) for shard in manifest["shards"]}
        self.shards = RangeReader(folder / "shards", sizes)

    def __repr__(self) -> str:
        splits = ", ".join(f"{n} {split}" for split, n in self._counts("subjects").items())
        return (
            f"<Corpus {self.name} | {self._counts('segments').total()} segments of {self.manifest['segment_s']:g} s at"
            f" {self.sfreq:g} Hz, {splits} subjects>"
        )

    def _repr_html_(self) -> str:
        """Return a table of the splits for a notebook."""
        subjects, segments = self._counts("subjects"), self._counts("segments")
        hours = self.manifest["segment_s"] / 3600
        rows = ((split, subjects[split], n, f"{n * hours:.2f}") for split, n in segments.items())
        return f"<p>Corpus {self.name}</p>{html_table(('split', 'subjects', 'segments', 'hours'), rows)}"

    def _counts(self, of: str) -> Counter[str]:
        """Count the subjects or segments of each split, from the manifest alone."""
        if of == "subjects":
            return Counter(self.manifest["subjects"].values())
        counts: Counter[str] = Counter()
        for shard in self.manifest["shards"]:
            counts[shard["split"]] += shard["n_segments"]
        return counts

    @classmethod
    def open(cls, store: Store, name: str | None = None) -> Self:
        """Open a corpus by its id, or the only one in the store if no id is given.

        Raises
        ------
        UserError
            There is no such corpus, its format is newer, or its manifest was changed.
        """
        name = store.only("corpora", name)
        folder = store.location("corpora", name)
        manifest: dict[str, Any] = (folder / "manifest.json").read_json()
        if int(manifest["format"]) > FORMAT:
            raise UserError(f"{folder}: corpus format {manifest['format']} is newer than {FORMAT}; update emeg")
        if hash_json(manifest) != name:
            raise UserError(
                f"{folder / 'manifest.json'}: its hash is {hash_json(manifest)}, not {name}: a corpus is frozen;"
                " restore the file, or remove the corpus and run shard again"
            )
        return cls(name, folder, manifest)

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""
        return float(self.manifest["sfreq"])

    @property
    def n_samples(self) -> int:
        """Samples of every segment."""
        return int(self.manifest["segment_samples"])

    @property
    def subjects(self) -> dict[str, str]:
        """Split of every subject with segments, by global name ``dataset/subject``."""
        return dict(self.manifest["subjects"])

    @cached_property
    def segments(self) -> pa.Table:
        """Table of segments in corpus order; the row number is ``segment``."""
        return table_of((self.folder / "segments.parquet").read_bytes())

    def __len__(self) -> int:
        return int(self.segments.num_rows)

    @cached_property
    def layouts(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int8]]]:
        """Normalised positions (C, 6), or (C, 7) after `add_regions`, and sensor types (C,) of every layout."""
        table = table_of((self.folder / "layouts.parquet").read_bytes())
        names = np.array(table["layout"].to_pylist())
        pos = np.stack([table[axis].to_numpy() for axis in POSITION_COLUMNS], axis=1).astype(np.float32)
        types = table["type"].to_numpy().astype(np.int8)
        borders = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        return {str(names[a]): (pos[a:b], types[a:b]) for a, b in itertools.pairwise(borders)}

    def column(self, name: str) -> NDArray[Any]:
        """Return one column of `segments` as an array, cached."""
        if name not in self._columns:
            values = self.segments[name]
            is_text = pa.types.is_string(values.type) or pa.types.is_dictionary(values.type)
            self._columns[name] = np.array(values.to_pylist(), str) if is_text else values.to_numpy()
        return self._columns[name]

    def codes(self, name: str) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
        """Return the sorted distinct values of a text column and the index of each row's value in them, cached."""
        if name not in self._codes:
            values, codes = np.unique(self.column(name), return_inverse=True)
            self._codes[name] = (values, codes.astype(np.int64))
        return self._codes[name]

    def sensors_of(self, rows: NDArray[np.int64], channels: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return the positions (B, C, 6 or 7) and sensor types (B, C) of segments with equal channel counts.

        Parameters
        ----------
        rows : int64, shape (segments,)
            Row indices of the corpus, all of `channels` channels.
        channels : int
            Channel count.
        """
        pos, types, first = self._flat_layouts
        indices = first[self.codes("layout")[1][rows]][:, None] + np.arange(channels)
        return pos[indices], types[indices]

    def add_regions(self, store: Store) -> None:
        """Add the brain region of every sensor as a seventh column of the positions, for networks that use regions.

        A corpus holds normalised positions. Regions are found by the positions of the recordings that it was made from.

        Raises
        ------
        UserError
            A recording of the corpus is no longer in the store.
        """
        names, first = np.unique(self.column("layout"), return_index=True)
        known = self.layouts
        with_regions = {}
        for layout, recording in zip(names.tolist(), self.column("recording")[first].tolist(), strict=True):
            if not store.has("recordings", f"{recording}.zarr"):
                raise UserError(
                    f"corpus {self.name}: recording {recording}, whose positions state the brain regions, is not in"
                    f" {store.root}; ingest it again, or use a tokenizer without regions"
                )
            regions_C = sensor_regions(open_recording(store, recording).sensors).astype(np.float32)
            pos, types = known[layout]
            with_regions[layout] = (np.column_stack([pos[:, :6], regions_C]), types)
        self.__dict__["layouts"] = with_regions
        self.__dict__.pop("_flat_layouts", None)

    @property
    def has_intracranial(self) -> bool:
        """Whether some sensors are intracranial electrodes."""
        return any(bool(np.isin(types, INTRACRANIAL_TYPES).any()) for _, types in self.layouts.values())

    @cached_property
    def _flat_layouts(self) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int64]]:
        """Positions and types of all layouts, concatenated, and the first index of each layout."""
        known = [self.layouts[str(name)] for name in self.codes("layout")[0]]
        first = np.cumsum([0, *(len(types) for _, types in known)])[:-1]
        return np.concatenate([pos for pos, _ in known]), np.concatenate([types for _, types in known]), first

    @cached_property
    def _codes(self) -> dict[str, tuple[NDArray[np.str_], NDArray[np.int64]]]:
        return {}

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    def read(self, indices: Sequence[int]) -> list[Segment]:
        """Read segments by row, in the order given; neighbours are merged into one read.

        Raises
        ------
        UserError
            A shard is missing, or its size differs from the manifest.
        """
        ranges = []
        for i in indices:
            shard = str(self.column("shard")[i])
            for offset, n_bytes in (("offset", "bytes"), ("step_offset", "step_bytes")):
                start = int(self.column(offset)[i])
                ranges.append(ByteRange(shard, start, start + int(self.column(n_bytes)[i])))
        data = self.shards.read(ranges)
        chunk = int(self.manifest["chunk_samples"])
        segments = []
        for k, i in enumerate(indices):
            channels = int(self.column("channels")[i])
            signal = np.frombuffer(data[2 * k], np.int16).reshape(channels, self.n_samples)
            scale = np.frombuffer(data[2 * k + 1], np.float32).reshape(channels, -1)
            edges = tuple(chunk_edges(int(self.column("start")[i]), self.n_samples, chunk))
            segments.append(Segment(signal, scale, edges, int(i)))
        return segments

    def samples(
        self, indices: Sequence[int], crop_start: Sequence[int] | None = None, n_samples: int | None = None
    ) -> list[Sample]:
        """Read segments in physical units with their sensors, `n_samples` long, each from its `crop_start`."""
        starts = crop_start if crop_start is not None else (0,) * len(indices)
        length = self.n_samples if n_samples is None else n_samples
        samples = []
        for segment, start in zip(self.read(indices), starts, strict=True):
            pos, types = self.layouts[str(self.column("layout")[segment.row])]
            samples.append(Sample(segment.values(start, start + length), pos, types, segment.row))
        return samples

    def verify(self) -> None:
        """Check the SHA-256 of every shard of a local corpus against the manifest.

        Raises
        ------
        UserError
            A shard differs.
        """
        for shard in self.manifest["shards"]:
            path = (self.folder / "shards" / shard["name"]).local_path()
            if not path.exists() or sha256_file(path) != shard["sha256"]:
                raise UserError(
                    f"{path}: differs from the manifest of its corpus; copy the corpus again, or run `emeg shard` again"
                )


POSITION_COLUMNS = ("x", "y", "z", "ox", "oy", "oz")
"""Columns of layouts.parquet: normalised position, then orientation."""
