"""Write segments into shards and tables: offsets first, then the signals, one recording after another."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from emeg.data.corpus.corpus import POSITION_COLUMNS
from emeg.data.corpus.cutting import RecordingCache, Stretch, read_stretch
from emeg.data.corpus.split import Split
from emeg.data.corpus.tar_shards import (
    allocate,
    chunk_edges,
    encode_segment,
    pack,
    segment_offsets,
    shard_name,
    write_at,
)
from emeg.hashing import sha256_file
from emeg.progress import Progress
from emeg.store import CatalogRow

_TEXT = pa.dictionary(pa.int32(), pa.string())

SEGMENTS = pa.schema(
    [
        ("segment", pa.int64()),
        ("recording", _TEXT),
        ("subject", _TEXT),
        ("dataset", _TEXT),
        ("device", _TEXT),
        ("modality", _TEXT),
        ("start", pa.int64()),
        ("n_samples", pa.int64()),
        ("split", _TEXT),
        ("channels", pa.int32()),
        ("layout", _TEXT),
        ("shard", _TEXT),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("step_offset", pa.int64()),
        ("step_bytes", pa.int64()),
    ]
)
"""Columns of segments.parquet."""

LAYOUTS = pa.schema(
    [("layout", pa.string()), ("channel", pa.int32()), ("type", pa.int8())]
    + [(name, pa.float32()) for name in POSITION_COLUMNS]
)
"""Columns of layouts.parquet."""


class Member(NamedTuple):
    """A segment of the corpus, in corpus order."""

    stretch: Stretch
    split: Split
    channels: int


class Shard(NamedTuple):
    """A shard: members `first` up to, not including, `last`, of one channel count and one split."""

    name: str
    channels: int
    split: Split
    first: int
    last: int


def subject_name(row: CatalogRow) -> str:
    """Return the global name ``dataset/subject`` of the subject of a recording."""
    return f"{row.dataset}/{row.subject}"


class CorpusWriter:
    """Write the shards and tables of a corpus into a folder.

    Corpus order mixes all recordings, so that a shard holds segments of hundreds of them. Since the offset of every
    segment is known beforehand, each recording is read once, from start to end.
    """

    def __init__(
        self,
        folder: Path,
        rows: Sequence[CatalogRow],
        opened: RecordingCache,
        members: Sequence[Member],
        n_segment: int,
        max_shard_bytes: int,
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._opened = opened
        self._members = members
        self._n_segment = n_segment
        self._shards = plan_shards(members, n_segment, max_shard_bytes)
        first = opened[members[0].stretch.recording]
        self._sfreq, self._chunk = first.sfreq, first.chunk

    def write(self, progress: Progress) -> list[dict[str, Any]]:
        """Write everything but the manifest; return the manifest's list of shards."""
        (self._folder / "shards").mkdir()
        starts = self._write_segments_table()
        self._write_layouts_table()
        by_recording: dict[int, list[int]] = defaultdict(list)
        for segment, member in enumerate(self._members):
            by_recording[member.stretch.recording].append(segment)
        shard_of = [shard.name for shard in self._shards for _ in range(shard.first, shard.last)]
        for done, number in enumerate(sorted(by_recording)):
            recording = self._opened[number]
            for segment in sorted(by_recording[number], key=lambda s: self._members[s].stretch.start):
                signal, scale = read_stretch(recording, self._members[segment].stretch.start, self._n_segment)
                data = encode_segment(f"{segment:08d}", signal, scale, self._attributes(segment))
                write_at(self._folder / "shards" / shard_of[segment], starts[segment], data)
            row = self._rows[number]
            progress(done + 1, len(by_recording), f"cut {subject_name(row)}, {len(by_recording[number])} segments")
        return [self._listed(shard) for shard in self._shards]

    def _record(self, segment: int) -> dict[str, Any]:
        """Return the fields of a segment that its table row and its shard share."""
        member = self._members[segment]
        row = self._rows[member.stretch.recording]
        return {
            "segment": segment,
            "recording": row.recording,
            "subject": subject_name(row),
            "dataset": row.dataset,
            "device": row.device,
            "modality": row.modality,
            "start": member.stretch.start,
            "split": member.split,
            "channels": member.channels,
            "layout": row.layout,
        }

    def _attributes(self, segment: int) -> Mapping[str, Any]:
        edges = chunk_edges(self._members[segment].stretch.start, self._n_segment, self._chunk)
        return self._record(segment) | {"sfreq": self._sfreq, "chunk_edges": edges}

    def _write_segments_table(self) -> list[int]:
        """Compute all offsets, create the empty shards and write the table; return the first byte of each segment."""
        starts = []
        with pq.ParquetWriter(self._folder / "segments.parquet", SEGMENTS, compression="zstd") as writer:
            for shard in self._shards:
                records, end = [], 0
                for segment in range(shard.first, shard.last):
                    offsets = segment_offsets(end, shard.channels, self._n_segment, self._attributes(segment))
                    starts.append(offsets.start)
                    end = offsets.stop
                    more = {"n_samples": self._n_segment, "shard": shard.name} | offsets.arrays._asdict()
                    records.append(self._record(segment) | more)
                allocate(self._folder / "shards" / shard.name, end)
                writer.write_table(pa.Table.from_pylist(records, schema=SEGMENTS))
        return starts

    def _write_layouts_table(self) -> None:
        """Write the positions and types of every layout, from the first recording that has it."""
        first: dict[str, int] = {}
        for number in sorted({member.stretch.recording for member in self._members}):
            first.setdefault(self._rows[number].layout, number)
        records = []
        for layout, number in sorted(first.items()):
            sensors = self._opened[number].sensors
            for channel, (pos, kind) in enumerate(zip(sensors.model_positions(), sensors.types, strict=True)):
                position = {name: float(value) for name, value in zip(POSITION_COLUMNS, pos, strict=True)}
                records.append({"layout": layout, "channel": channel, "type": int(kind)} | position)
        table = pa.Table.from_pylist(records, schema=LAYOUTS)
        pq.write_table(table, self._folder / "layouts.parquet", compression="zstd")

    def _listed(self, shard: Shard) -> dict[str, Any]:
        path = self._folder / "shards" / shard.name
        return {
            "name": shard.name,
            "channels": shard.channels,
            "split": shard.split,
            "n_segments": shard.last - shard.first,
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }


def plan_shards(members: Sequence[Member], n_segment: int, limit: int) -> list[Shard]:
    """Divide the segments into shards of one channel count and one split, numbered by channel count."""
    groups: dict[tuple[int, Split], list[int]] = defaultdict(list)
    for segment, member in enumerate(members):
        groups[member.channels, member.split].append(segment)
    shards = []
    number: Counter[int] = Counter()
    for (channels, split), segments in groups.items():
        size = channels * n_segment * 2 + 4096  # headers, scales and JSON, about
        for first, last in pack([size] * len(segments), limit):
            shards.append(
                Shard(shard_name(channels, number[channels]), channels, split, segments[0] + first, segments[0] + last)
            )
            number[channels] += 1
    return shards
