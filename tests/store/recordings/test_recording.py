"""A recording is read as written, to half a quantisation step, from any root; damaged data are never returned."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import welch
from tests.messages import refusal

from emeg.errors import RecordingError, UserError
from emeg.sensors import Sensors
from emeg.store import BadReason, RecordingAttributes, Store, open_recording, write_recording
from emeg.store.recordings.quantise import UNWRITTEN

N = 2560 * 2 + 700


@pytest.fixture
def write(sensors, attributes) -> Callable[..., np.ndarray]:
    """Write a recording of noise, and return its arguments."""

    def build(store: Store, name: str = "r", *, n: int = N, signal=None, **options) -> np.ndarray:
        made = np.random.default_rng(3).normal(0, 1e-5, size=(3, n)).astype(np.float32)
        given_sensors = sensors(3)
        bad = np.zeros((3, -(-n // 256)), np.uint8)
        bad[1, 0] = BadReason.FLAT | BadReason.MARKED
        options = {"bad": bad} | options
        write_recording(
            store,
            name,
            made if signal is None else signal,
            sensors=given_sensors,
            attributes=attributes(given_sensors),
            **options,
        )
        return made

    return build


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_round_trip(store: Store, write, sensors, attributes) -> None:
    signal = write(store)
    assert store.names("recordings") == ["r.zarr"]
    recording = open_recording(store, "r")
    assert (recording.n_samples, recording.n_chunks, recording.sfreq) == (N, 3, 256.0)
    assert recording.attributes == attributes(sensors(3))
    assert recording.sensors.to_records() == sensors(3).to_records()
    assert recording.bad[1, 0] == BadReason.FLAT | BadReason.MARKED
    assert recording.bad.sum() == recording.bad[1, 0]
    stored = recording.read(0, N)
    assert stored.dtype == np.float32
    step = np.repeat(recording.scale, 2560, axis=1)[:, :N]
    assert (np.abs(stored.astype(np.float64) - signal) <= step / 2).all()
    assert np.array_equal(recording.read(2000, 5500), stored[:, 2000:5500])
    codes, steps = recording.read_stored(2560, N)
    assert codes.dtype == np.int16
    assert np.array_equal(codes * np.repeat(steps, 2560, axis=1)[:, : N - 2560], stored[:, 2560:])


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 150), min_size=1, max_size=5).filter(lambda ls: sum(ls) > 0),
    chunk=st.integers(10, 60),
    per_shard=st.integers(1, 4),
    data=st.data(),
)
def test_blocks_of_any_length_make_the_same_recording(tmp_path_factory, lengths, chunk, per_shard, data) -> None:
    store = Store.open(tmp_path_factory.mktemp("store"), create=True)
    n = sum(lengths)
    signal = np.random.default_rng(n).normal(0, 1e-5, size=(2, n)).astype(np.float32)
    sensors = Sensors(("a", "b"), np.zeros(2), ("V", "V"), np.eye(3)[:2] * 0.09, np.zeros((2, 3)), np.ones(2))
    options = {
        "sensors": sensors,
        "attributes": RecordingAttributes(
            sfreq=50, pass_band=(1, 20), layout=sensors.layout_id, source="s", dataset="d", subject="1",
            config_hash="c", version="0",
        ),
        "bad": np.zeros((2, -(-n // 50)), np.uint8),
        "chunk": chunk,
        "chunks_per_shard": per_shard,
    }  # fmt: skip
    write_recording(store, "whole", signal, **options)
    write_recording(store, "blocks", iter(np.split(signal, np.cumsum(lengths)[:-1], axis=1)), **options)
    rooms = store.root.local_path() / "recordings"
    assert files(rooms / "whole.zarr") == files(rooms / "blocks.zarr")
    recording = open_recording(store, "blocks")
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    part = recording.read(start, stop)
    step = np.repeat(recording.scale, chunk, axis=1)[:, start:stop]
    assert (np.abs(part.astype(np.float64) - signal[:, start:stop]) <= step / 2).all()
    assert np.array_equal(np.concatenate(list(recording.blocks(7)), axis=1), recording.read(0, n))


def test_other_processes_write_the_same_bytes(tmp_path: Path, write) -> None:
    """The marker, the arrays and their metadata do not depend on time, host or order of threads."""
    first = Store.open(tmp_path / "first", create=True)
    np.save(tmp_path / "signal.npy", write(first, n=256 * 900))
    script = f"""
import numpy as np
from emeg.store import Store, open_recording, write_recording
old = open_recording(Store.open({str(tmp_path / "first")!r}), "r")
signal = np.load({str(tmp_path / "signal.npy")!r})
write_recording(Store.open({str(tmp_path / "second")!r}, create=True), "r", np.array_split(signal, 77, axis=1),
                sensors=old.sensors, attributes=old.attributes, bad=old.bad)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert files(tmp_path / "first") == files(tmp_path / "second")


def test_layout_on_disk(local_store: Store, write) -> None:
    """Guaranteed to other readers: Zarr v3, named dimensions, one file for 60 chunks, open without emeg."""
    write(local_store, n=2560 * 61)
    folder = local_store.root.local_path() / "recordings" / "r.zarr"
    assert sorted(path.name for path in (folder / "signal" / "c" / "0").iterdir()) == ["0", "1"]
    group = zarr.open_group(folder, mode="r")
    signal, step, bad = group["signal"], group["step"], group["bad"]
    assert (signal.dtype, signal.shape, signal.chunks, signal.shards) == ("int16", (3, 156160), (3, 2560), (3, 153600))
    assert (step.dtype, step.shape) == ("float32", (3, 61))
    assert (bad.dtype, bad.shape) == ("uint8", (3, 610))
    assert signal.metadata.dimension_names == ("channel", "time")
    codecs = json.loads((folder / "signal" / "zarr.json").read_text())["codecs"][0]["configuration"]["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]
    assert (codecs[1]["configuration"]["cname"], codecs[1]["configuration"]["shuffle"]) == ("zstd", "bitshuffle")
    assert group.attrs["sensors"][2]["name"] == "E2"
    assert group.attrs["pass_band"] == [0.1, 96.0]


def test_memory_is_bounded_by_a_shard(local_store: Store, write) -> None:
    def blocks():
        for seed in range(200):
            yield np.random.default_rng(seed).normal(0, 1e-5, size=(3, 2560)).astype(np.float32)

    tracemalloc.start()
    write(local_store, signal=blocks(), bad=np.zeros((3, 2000), np.uint8), chunks_per_shard=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6  # the whole would be 6.1 MB as float32; a shard is 0.15 MB as int16


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(local_store: Store, write, value: float) -> None:
    signal = np.ones((3, N), np.float32)
    signal[2, 2600] = value
    with refusal(RecordingError, "E2", str(value), "sample 2600", action="channel") as caught:
        write(local_store, signal=signal)
    assert caught.value.stage == "store"
    assert caught.value.next_action
    assert local_store.names("recordings") == []


def test_shapes_that_do_not_belong_together_are_refused(local_store: Store, write) -> None:
    with refusal(RecordingError, "samples", action="source file"):
        write(local_store, signal=np.empty((3, 0), np.float32))
    with refusal(UserError, "(2, 5)", action="(3, samples)"):
        write(local_store, signal=np.empty((2, 5), np.float32))
    with refusal(UserError, "recording r", "bad", "(3, 1)", action="(3, 23)"):
        write(local_store, bad=np.zeros((3, 1), np.uint8))
    assert local_store.names("recordings") == []


def test_ranges_outside_are_refused(local_store: Store, write) -> None:
    write(local_store)
    recording = open_recording(local_store, "r")
    for start, stop in [(-1, 5), (5, 4), (0, N + 1)]:
        with refusal(UserError, "recording r", f"{start} to {stop}", action=f"0 to {N}"):
            recording.read(start, stop)
    with refusal(UserError, "recording r", "0 to 2561", action="2560"):
        recording.read_stored(0, 2561)
    with refusal(UserError, "other.zarr", action="`emeg catalog`"):
        open_recording(local_store, "other")


@pytest.fixture
def shard_file(local_store: Store, write) -> Path:
    write(local_store)
    return local_store.root.local_path() / "recordings" / "r.zarr" / "signal" / "c" / "0" / "0"


def test_lost_shard_is_not_silence(local_store: Store, shard_file: Path) -> None:
    shard_file.unlink()
    with refusal(RecordingError, "r.zarr", "shard", action="ingest again"):
        open_recording(local_store, "r").read(0, 100)


def test_truncated_shard_is_noticed(local_store: Store, shard_file: Path) -> None:
    shard_file.write_bytes(shard_file.read_bytes()[:-500])
    with refusal(RecordingError, "r.zarr", "checksum", action="ingest again"):
        open_recording(local_store, "r").read(0, 100)


@pytest.mark.parametrize("place", [40, 700, 3000])
def test_flipped_byte_is_noticed(local_store: Store, shard_file: Path, place: int) -> None:
    data = bytearray(shard_file.read_bytes())
    data[place] ^= 16
    shard_file.write_bytes(data)
    with refusal(RecordingError, "r.zarr", "checksum", action="ingest again"):
        open_recording(local_store, "r").read(0, 100)


def test_lost_steps_are_noticed(local_store: Store, shard_file: Path) -> None:
    (shard_file.parents[3] / "step" / "c" / "0" / "0").unlink()
    with refusal(RecordingError, "r.zarr", "scales", action="ingest again"):
        open_recording(local_store, "r").read(0, 100)


def test_silence_is_kept(local_store: Store, write) -> None:
    write(local_store, signal=np.zeros((3, N), np.float32))
    assert not open_recording(local_store, "r").read(0, N).any()


def test_a_step_away_from_the_fill_value(local_store: Store, write) -> None:
    signal = np.full((3, N), -1e-3, np.float32)
    write(local_store, signal=signal)
    codes, _ = open_recording(local_store, "r").read_stored(0, 2560)
    assert codes.min() > UNWRITTEN


def test_real_eeg_is_at_most_035_of_float32(shared: Path, local_store: Store, write, sensors, attributes) -> None:
    mne = pytest.importorskip("mne")
    source = shared / "data" / "arithmetic" / "sub-04" / "eeg" / "sub-04_task-rest_eeg.edf"
    raw = mne.io.read_raw_edf(source, preload=True, verbose="error").pick("eeg")
    raw.resample(256, npad=0, verbose="error").filter(0.5, 96, verbose="error")
    signal = raw.get_data().astype(np.float32)
    n_channels, n = signal.shape
    made = sensors(n_channels)
    bad = np.zeros((n_channels, -(-n // 256)), np.uint8)
    # what its sidecar says of the file: nothing above 45 Hz is kept, so nothing there is to be told from noise
    told = attributes(made).model_copy(update={"pass_band": (0.5, 45.0)})
    write_recording(local_store, "r", signal, sensors=made, attributes=told, bad=bad)
    folder = local_store.root.local_path() / "recordings" / "r.zarr"
    size = sum(len(data) for data in files(folder).values())
    assert size <= 0.35 * signal.nbytes
    error = open_recording(local_store, "r").read(0, n) - signal
    rates, of_error = welch(error.astype(float), 256, nperseg=256)
    of_signal = welch(signal.astype(float), 256, nperseg=256)[1]
    kept = (rates >= 1) & (rates <= 44)
    assert (10 * np.log10(of_error / of_signal))[:, kept].max() <= -20.0


def test_import_loads_neither_zarr_nor_pyarrow() -> None:
    script = "import sys, emeg.store; sys.exit(any(m in sys.modules for m in ('zarr', 'pyarrow', 'torch', 'mne')))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
