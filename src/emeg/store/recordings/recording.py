"""Recordings as Zarr v3 groups: ``signal`` int16 with ``step``, ``bad``, and ``measures``.

Shape letters: C channels, N samples.

Zarr v3 specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html; sharding: ZEP 2.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import FsspecStore, LocalStore

from emeg.errors import RecordingError, UserError
from emeg.notebook import html_table
from emeg.sensors import Sensors, SensorType
from emeg.sensors.layout import INTRACRANIAL_TYPES
from emeg.store.catalog.records import RecordingAttributes, Stretch
from emeg.store.connection_errors import connection_to
from emeg.store.digests import write_digest
from emeg.store.products import Store
from emeg.store.recordings.measures import BadStretch, Measures, bad_stretches
from emeg.store.recordings.quantise import UNWRITTEN, KeptBand, dequantise, quantisation_scales, quantise
from emeg.uri import Location

CHUNK = 2560
"""Samples in a chunk: 10 s at 256 Hz."""

CHUNKS_PER_SHARD = 60
"""Chunks in a file: 10 min at 256 Hz; 20 MB for 64 channels."""


def folder_name(recording: str) -> str:
    """Return the name of a recording's folder below ``recordings``."""
    return f"{recording}.zarr"


def write_recording(
    store: Store,
    recording: str,
    signal: NDArray[np.float32] | Iterable[NDArray[np.float32]],
    *,
    sensors: Sensors,
    attributes: RecordingAttributes,
    bad: NDArray[np.uint8],
    measures: Measures | None = None,
    chunk: int = CHUNK,
    chunks_per_shard: int = CHUNKS_PER_SHARD,
) -> float:
    """Write one recording; it becomes visible when complete, and its catalogue row is written after it.

    Parameters
    ----------
    store : Store
    recording : str
        Recording id; the folder is ``recordings/<recording>.zarr``.
    signal : float32, shape (C, N), or an iterable of blocks of shape (C, any length)
        V, T or T/m. No more than one shard is held at a time.
    sensors : Sensors
        The C sensors, in the order of the rows.
    attributes : RecordingAttributes
    bad : uint8, shape (C, seconds)
        `BadReason` bits; seconds = N / sfreq, rounded up.
    measures : Measures, optional
        What was measured of every channel and segment.
    chunk, chunks_per_shard : int
        Samples in a chunk, chunks in a shard (one file).

    Returns
    -------
    float
        Share of channels × chunks whose scale had to follow the peak, so that rounding noise may be less than 20 dB
        under the spectrum there.

    Raises
    ------
    RecordingError
        The signal has NaN or infinity, or no samples (stage ``store``).
    UserError
        The shapes of signal, sensors and bad do not belong together.
    """
    blocks = [signal] if isinstance(signal, np.ndarray) else signal
    with store.publishing("recordings", folder_name(recording)) as folder:
        group = zarr.create_group(LocalStore(folder), zarr_format=3, attributes=_group_attributes(sensors, attributes))
        writer = _SignalWriter(group, sensors.names, _kept_band(attributes), chunk, chunks_per_shard)
        for block in blocks:
            writer.append(block)
        writer.close()
        seconds = int(np.ceil(writer.n_samples / attributes.sfreq))
        if bad.shape != (len(sensors), seconds):
            raise UserError(f"recording {recording}: bad has shape {bad.shape}; pass {(len(sensors), seconds)}")
        _write_whole(group, "step", np.concatenate(writer.scales, axis=1), ("channel", "chunk"))
        _write_whole(group, "bad", np.asarray(bad, np.uint8), ("channel", "second"))
        if measures is not None:
            _write_measures(group, measures, len(sensors), writer.n_samples / attributes.sfreq)
        write_digest(store, recording, folder)
    return writer.raised / (len(sensors) * len(writer.scales))


def _kept_band(attributes: RecordingAttributes) -> KeptBand:
    return KeptBand(attributes.sfreq, *attributes.pass_band, attributes.notches)


def _group_attributes(sensors: Sensors, attributes: RecordingAttributes) -> dict[str, Any]:
    stated = attributes.model_dump(mode="json")
    if not attributes.stretches:  # recordings without interruption are written as they were before there were stretches
        del stated["stretches"]
    return {**stated, "sensors": sensors.to_records()}


def _compressors() -> tuple[BloscCodec, Crc32cCodec]:
    # zstd may decode a chunk with a flipped byte; the checksum detects it.
    return BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()


def _write_measures(group: zarr.Group, measures: Measures, n_channels: int, duration_s: float) -> None:
    expected = (len(measures.names), n_channels, int(np.ceil(duration_s / measures.segment_s)))
    if measures.values.shape != expected:
        raise UserError(f"measures have shape {measures.values.shape}; pass {expected}")
    values = np.asarray(measures.values, np.float32)
    about = {"names": list(measures.names), "segment_s": measures.segment_s}
    _write_whole(group, "measures", values, ("measure", "channel", "segment"), about)


def _write_whole(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dimensions: tuple[str, ...],
    about: dict[str, Any] | None = None,
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        compressors=_compressors(),
        dimension_names=dimensions,
        fill_value=0,
        attributes=about,
        config={"write_empty_chunks": True},
    )
    array[:] = values


class _SignalWriter:
    """Collect blocks into chunks, quantise them, and write whole shards."""

    def __init__(
        self, group: zarr.Group, names: tuple[str, ...], band: KeptBand, chunk: int, chunks_per_shard: int
    ) -> None:
        shape = (len(names), chunk * chunks_per_shard)
        self.names = names
        self.n_samples = 0
        self.scales: list[NDArray[np.float32]] = []
        self.raised = 0
        self._band = band
        self._written = 0
        self._pending = np.empty((len(names), chunk), np.float32)
        self._codes = np.empty(shape, np.int16)
        self._array = group.create_array(
            "signal",
            shape=(len(names), 0),
            dtype="int16",
            chunks=(len(names), chunk),
            shards=shape,
            compressors=_compressors(),
            dimension_names=("channel", "time"),
            fill_value=UNWRITTEN,
            config={"write_empty_chunks": True},
        )

    def append(self, block: NDArray[np.float32]) -> None:
        if block.ndim != 2 or block.shape[0] != len(self.names):
            raise UserError(f"signal block has shape {block.shape}; pass ({len(self.names)}, samples)")
        taken, chunk = 0, self._pending.shape[1]
        while taken < block.shape[1]:
            filled = self.n_samples % chunk
            n = min(chunk - filled, block.shape[1] - taken)
            self._pending[:, filled : filled + n] = block[:, taken : taken + n]
            taken += n
            self.n_samples += n
            if self.n_samples % chunk == 0:
                self._finish_chunk(chunk)

    def close(self) -> None:
        if self.n_samples == 0:
            raise _refusal("the signal has no samples", "check the source file; its transfer may be incomplete")
        rest = self.n_samples % self._pending.shape[1]
        if rest:
            self._finish_chunk(rest)
        self._write_shard()

    def _finish_chunk(self, length: int) -> None:
        values = self._pending[:, :length]
        start = self.n_samples - length
        self._check_finite(values, start)
        scale, raised = quantisation_scales(values, self._band)
        self.raised += int(np.count_nonzero(raised))
        self.scales.append(scale[:, None])
        self._codes[:, start - self._written : self.n_samples - self._written] = quantise(values, scale)
        if self.n_samples - self._written == self._codes.shape[1]:
            self._write_shard()

    def _write_shard(self) -> None:
        if self.n_samples > self._written:
            self._array.resize((len(self.names), self.n_samples))
            self._array[:, self._written : self.n_samples] = self._codes[:, : self.n_samples - self._written]
            self._written = self.n_samples

    def _check_finite(self, values: NDArray[np.float32], start: int) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            channel, sample = np.argwhere(~finite)[0]
            raise _refusal(
                f"channel {self.names[channel]} has {values[channel, sample]} at sample {start + sample}"
                f" ({(~finite).sum()} values in its chunk); int16 cannot hold it",
                "fill the gaps or leave the channel out",
            )


def _refusal(message: str, next_action: str) -> RecordingError:
    return RecordingError(message, stage="store", next_action=next_action)


def open_recording(store: Store, recording: str) -> "Recording":
    """Open a recording for reading.

    Raises
    ------
    UserError
        There is no such recording, or it is incomplete.
    """
    name = folder_name(recording)
    if not store.has("recordings", name):
        raise UserError(
            f"{store.location('recordings', name)}: no such recording; choose one that `emeg catalog` lists"
        )
    return Recording(recording, store.location("recordings", name))


class Recording:
    """One recording on disk or in a bucket; signals are read on demand. Use `open_recording`.

    Parameters
    ----------
    recording : str
        Recording id.
    location : Location
        Its Zarr group.
    """

    def __init__(self, recording: str, location: Location) -> None:
        self.id = recording
        self._location = location
        with connection_to(location):
            try:
                self._group = zarr.open_group(_zarr_store(location), mode="r", zarr_format=3)
                self._signal = self._array("signal")
            except (ValueError, KeyError, TypeError) as error:  # metadata that is lost, no JSON, or names other codecs
                raise self._damaged(f"{type(error).__name__}: {error}") from error
        attributes: dict[str, Any] = dict(self._group.attrs)
        self.sensors: Sensors = Sensors.from_records(attributes.pop("sensors"))
        self.attributes: RecordingAttributes = RecordingAttributes.checked(attributes, source=str(location))
        if self._signal.ndim != 2 or self._signal.shape[0] != len(self.sensors):
            raise self._damaged(f"signal has shape {self._signal.shape} for {len(self.sensors)} sensors")
        self.n_samples: int = self._signal.shape[1]
        self.chunk: int = self._signal.chunks[1]

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n} {name}" for name, n in self._channel_counts().items())
        about = self.attributes
        return (
            f"<Recording {self.id} | {about.dataset}/{about.subject}, {about.device or 'unknown device'}, {kinds},"
            f" {self.n_samples / self.sfreq:.1f} s at {self.sfreq:g} Hz>"
        )

    def _repr_html_(self) -> str:
        """Return a table of what the recording is, for a notebook."""
        about = self.attributes
        rows = {
            "Recording": self.id,
            "Dataset": about.dataset,
            "Subject": about.subject,
            "Source": about.source,
            "Device": about.device or "unknown",
            "Channels": ", ".join(f"{n} {name}" for name, n in self._channel_counts().items()),
            "Duration": f"{self.n_samples / self.sfreq:.1f} s",
            "Sampling rate": f"{self.sfreq:g} Hz",
            "Pass band": f"{about.pass_band[0]:g}-{about.pass_band[1]:g} Hz",
            "Notches": ", ".join(f"{frequency:g} Hz" for frequency in about.notches) or "none",
            "Licence": about.licence or "not stated",
        }
        return html_table(("", ""), rows.items())

    def _channel_counts(self) -> dict[str, int]:
        counts = {kind.name.lower(): int(np.count_nonzero(self.sensors.types == kind)) for kind in SensorType}
        named = {"eeg": "EEG", "magnetometer": "magnetometers", "gradiometer": "gradiometers"}
        named |= {kind.name.lower(): kind.name for kind in INTRACRANIAL_TYPES}
        return {named.get(name, name): n for name, n in counts.items() if n}

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""
        return self.attributes.sfreq

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Stretches without a pause, in order: the whole recording is one where nothing interrupted it.

        Samples are counted as stored: sample k is at k / `sfreq` seconds of the recording's events. Samples outside the
        stretches were not recorded and are zero.
        """
        return self.attributes.stretches or (Stretch(0, self.n_samples, 0.0),)

    def is_continuous(self, start: int, stop: int) -> bool:
        """Return whether samples `start` to `stop` were recorded without a pause."""
        return any(one.start <= start and stop <= one.stop for one in self.stretches)

    @property
    def n_chunks(self) -> int:
        """Chunks, the last possibly shorter."""
        return -(-self.n_samples // self.chunk)

    @cached_property
    def bad(self) -> NDArray[np.uint8]:
        """`BadReason` bits, uint8, shape (C, seconds)."""
        with connection_to(self._location):
            return np.asarray(self._array("bad")[:], np.uint8)

    @property
    def bad_stretches(self) -> list[BadStretch]:
        """The same as annotations: onset, duration, reason and channels."""
        return bad_stretches(self.bad, self.sensors.names, self.n_samples / self.sfreq)

    @cached_property
    def measures(self) -> Measures | None:
        """What was measured of every channel and segment; `None` where an older version wrote the recording."""
        with connection_to(self._location):
            if "measures" not in self._group:
                return None
            array = self._array("measures")
            values = np.asarray(array[:], np.float32)
        about: dict[str, Any] = dict(array.attrs)
        return Measures(tuple(about["names"]), float(about["segment_s"]), values)

    @cached_property
    def scale(self) -> NDArray[np.float32]:
        """Value of code 1, float32, shape (channels, n_chunks), in V, T or T/m."""
        with connection_to(self._location):
            scale = np.asarray(self._array("step")[:], np.float32)  # its name on disk
        if scale.shape != (len(self.sensors), self.n_chunks) or not (scale > 0).all():
            raise self._damaged("scales are missing")
        return scale

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the signal from sample `start` to `stop`, float32, shape (C, stop - start), in V, T or T/m.

        Raises
        ------
        UserError
            The range does not lie in the recording.
        RecordingError
            A file of the recording is damaged or lost.
        """
        codes_CN = self._codes(start, stop)
        first, last = start // self.chunk, -(-stop // self.chunk)
        edges = [0, *(k * self.chunk - start for k in range(first + 1, last)), stop - start]
        return dequantise(codes_CN, self.scale[:, first:last], edges)

    def read_stored(self, start: int, stop: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Return codes and scales as stored; value = code · scale.

        Parameters
        ----------
        start, stop : int
            Chunk borders; `stop` may also be the end of the recording.

        Returns
        -------
        int16, shape (C, stop - start), and float32, shape (C, chunks)

        Raises
        ------
        UserError
            The range does not lie in the recording, or not on chunk borders.
        RecordingError
            A file of the recording is damaged or lost.
        """
        if start % self.chunk or (stop % self.chunk and stop != self.n_samples):
            raise UserError(
                f"recording {self.id}: {start} to {stop} is not on borders of chunks; use multiples of {self.chunk}"
            )
        return self._codes(start, stop), self.scale[:, start // self.chunk : -(-stop // self.chunk)].copy()

    def blocks(self, length: int) -> Iterator[NDArray[np.float32]]:
        """Read the whole recording in pieces of `length` samples, the last possibly shorter."""
        for start in range(0, self.n_samples, length):
            yield self.read(start, min(start + length, self.n_samples))

    def _codes(self, start: int, stop: int) -> NDArray[np.int16]:
        if not 0 <= start <= stop <= self.n_samples:
            raise UserError(
                f"recording {self.id}: {start} to {stop} is outside the recording; use 0 to {self.n_samples}"
            )
        try:
            with connection_to(self._location):
                codes = np.asarray(self._signal[:, start:stop], np.int16)
        except (ValueError, RuntimeError) as error:  # index checksum, chunk checksum; blosc
            raise self._damaged(str(error)) from error
        if codes.size and codes.min() == UNWRITTEN:
            raise self._damaged("a shard is missing")
        return codes

    def _array(self, name: str) -> "zarr.Array[Any]":
        array = self._group[name]
        if not isinstance(array, zarr.Array):
            raise self._damaged(f"{name} is not an array")
        return array

    def _damaged(self, why: str) -> RecordingError:
        return _refusal(
            f"{self._location}: damaged: {why}", "remove this folder and its catalogue row, then ingest again"
        )


def _zarr_store(location: Location) -> LocalStore | FsspecStore:
    if location.is_local:
        return LocalStore(Path(location.path), read_only=True)
    return FsspecStore.from_mapper(location.fs.get_mapper(location.path), read_only=True)
