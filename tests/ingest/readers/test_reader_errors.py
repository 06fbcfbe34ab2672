"""Errors of readers name the file, the format, a cause and the next action, and quote no code."""

import re
import shutil
import struct
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.messages import check_message, refusal

from emeg.errors import RecordingError
from emeg.ingest.readers.header_cnt import check_cnt, data_format
from emeg.ingest.readers.opening import reading
from emeg.ingest.readers.reader_errors import translated
from emeg.ingest.source import Source

FRAGMENTS = re.compile(
    r"Error\b|Traceback|line \d+|\.py\b|object at|\bNone\b|\w+\(\)|/work|/tmp|[a-z]+_[a-z]+_[a-z]+|\{|\["
)


def translation(error, path="sub-01/x.cdt", format_="mne"):
    return translated(error, Source("a", "d", path, format_, "s"), Path("/tmp/a"))


@pytest.mark.parametrize(
    ("error", "cause", "action"),
    [
        (KeyError("trials"), "Curry", "complete"),
        (AssertionError(), "Curry", "complete"),
        (IndexError("list index out of range"), "damaged", "complete"),
        (struct.error("unpack requires a buffer of 4 bytes"), "header", "fetch"),
        (ValueError("cannot reshape array of size 7 into shape (3,4)"), "header", "fetch"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "encoding", "repair"),
        (FileNotFoundError("no corresponding header file found ['.cdt.dpa']"), "absent", "put"),
        (PermissionError(13, "denied"), "file", "read"),
        (
            ValueError("Expected int16/int32 data in _read_segment(fid) of <RawCurry object at 0x7f12>"),
            "Curry",
            "complete",
        ),
        (
            RuntimeError("/tmp/a/sub-01/x.cdt is neither ASCII nor BINARY. It is odd."),
            "ASCII nor BINARY",
            "complete",
        ),
    ],
)
def test_an_error_becomes_file_format_cause_and_next_action(error, cause, action):
    made = translation(error)
    text = str(made)
    assert text.startswith("sub-01/x.cdt: ")
    check_message(made, cause, action=action)
    assert not FRAGMENTS.search(text.removeprefix("sub-01/x.cdt: ")), text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("For read file header to work, the module curryreader is needed, but it could not be imported."),
        ModuleNotFoundError("No module named 'curryreader'"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(error):
    made = translation(error)
    check_message(made, "Curry", "curryreader", action="emeg[curry]")
    check_message(made, action="--retry-quarantined")


def test_a_curry_recording_without_the_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "curryreader", None)
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "x.cdt").write_bytes(bytes(400))
    (folder / "x.cdt.dpa").write_text("FILE_INFO START\n")
    (record,) = ingested(folder, tmp_path / "store").refused.values()
    check_message(record, "curryreader", action="emeg[curry]")


def test_every_exception_of_a_reader_is_a_recording_s(tmp_path):
    source = Source("a", "d", "x.edf", "edf", "s")
    with refusal(RecordingError, "x.edf", action="companions"), reading(source, tmp_path):
        raise Exception("Encountered invalid byte")  # noqa: TRY002 - as MNE-Python does


def test_texts_of_readers_have_no_words_that_resemble_private_paths(tmp_path):
    """Regression: in texts with words that contain a slash, messages replaced these words by invented ones."""
    folder = tmp_path / "archive/anna-schmidt"
    folder.mkdir(parents=True)
    (folder / "rec.nedf").write_bytes(b"<EEGData>" + bytes(2000))
    (record,) = ingested(tmp_path / "archive", tmp_path / "store").refused.values()
    assert record.source in record.reason
    assert not re.search(r"[A-Za-z]+/[a-z0-9]{6,}", record.reason.replace(record.source, ""))


def write_cnt(path, *, width, n_samples=2000, n_channels=9, stated=None, events_at=None):
    """Neuroscan CNT 3.0 as Paul Bourke describes it; returns volts, shape (channels, samples)."""
    rng = np.random.default_rng(2)
    names = ["FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "OZ"][:n_channels]
    steps = np.round(np.cumsum(rng.standard_normal((n_channels, n_samples)), axis=1) * 10).astype(f"<i{width}")
    head = bytearray(900)
    head[:12] = b"Version 3.0\0"
    head[370:372] = n_channels.to_bytes(2, "little")
    head[376:378] = (250).to_bytes(2, "little")
    head[864:868] = (n_samples if stated is None else stated).to_bytes(4, "little")
    data_at = 900 + 75 * n_channels
    at = data_at + steps.nbytes if events_at is None else events_at
    head[886:890] = at.to_bytes(4, "little")
    for name in names:
        channel = bytearray(75)
        channel[: len(name)] = name.encode()
        channel[47:49] = (0).to_bytes(2, "little")
        channel[59:63] = np.float32(204.8).tobytes()  # sensitivity: 204.8 / 204.8 is one microvolt a step
        channel[71:75] = np.float32(1.0).tobytes()
        head += channel
    events = struct.pack("<HBci", 7, 0, b"\0", data_at + width * n_channels * 500)
    table = b"\1" + struct.pack("<ii", len(events), 0) + events
    path.write_bytes(bytes(head) + steps.T.tobytes() + table)
    return steps * 1e-6


@pytest.mark.parametrize("width", [2, 4])
def test_neuroscan_files_of_both_widths_are_read_as_they_were_written(tmp_path, width):
    folder = tmp_path / "archive"
    folder.mkdir()
    truth = write_cnt(folder / "x.cnt", width=width)
    assert data_format(folder / "x.cnt", "x") == f"int{8 * width}"
    made = ingested(folder, tmp_path / "store")
    (name,) = made.rows or [r.reason for r in made.refused.values()]
    recording = made.recording(name)
    ours = mne.filter.filter_data(recording.read(0, recording.n_samples).astype(float), 256, 2, 30, verbose=False)
    theirs = mne.filter.resample(truth, 256, 250, npad=100, verbose=False)
    theirs = mne.filter.filter_data(theirs, 256, 2, 30, verbose=False)
    assert len(recording.sensors) == 9
    for ours_N, theirs_N in zip(ours, theirs, strict=True):
        assert np.corrcoef(ours_N[256:-256], theirs_N[256 : len(ours_N) - 256])[0, 1] > 0.99


def test_a_wrong_number_of_samples_still_tells_two_bytes_from_four(tmp_path):
    write_cnt(tmp_path / "x.cnt", width=4, stated=1999)
    assert data_format(tmp_path / "x.cnt", "x") == "int32"
    write_cnt(tmp_path / "y.cnt", width=2, stated=2001)
    assert data_format(tmp_path / "y.cnt", "y") == "int16"


def test_a_neuroscan_file_whose_numbers_fit_no_format_is_refused(tmp_path):
    write_cnt(tmp_path / "x.cnt", width=2, stated=600)
    with refusal(RecordingError, "x.cnt", "600 samples", "36000 bytes", action="number of"):
        check_cnt(tmp_path / "x.cnt", "x.cnt")


def test_a_file_that_is_neither_ant_s_nor_neuroscan_s_is_refused(tmp_path):
    (tmp_path / "x.cnt").write_bytes(b"hello" * 1000)
    with refusal(RecordingError, "x.cnt", "Neuroscan", action="extension"):
        check_cnt(tmp_path / "x.cnt", "x.cnt")


def refused_copy(shared, tmp_path, device, change):
    """Ingest a copy of a device's recording after a change to it; return the refusal."""
    archive = tmp_path / "archive"
    shutil.copytree(shared / "data/devices" / device, archive)
    change(archive)
    [record] = ingested(archive, tmp_path / "store").refused.values()
    return record


def segmented_egi(archive):
    path = archive / "test_egi.raw"
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, 0, struct.unpack_from(">i", data)[0] | 1)  # odd versions hold segments
    path.write_bytes(data)


def averaged_mff(archive):
    entry = "<entry><name>x</name><method>Averaging</method></entry>"
    (archive / "example_3.mff/history.xml").write_text(f"<historyEntries>{entry}</historyEntries>")


def averaged_4d(archive):
    path = archive / "test_pdf_linux"
    data = bytearray(path.read_bytes())
    [header_at] = struct.unpack(">q", data[-8:])
    struct.pack_into(">i", data, header_at + 16, 120)  # epochs that went into it
    path.write_bytes(data)


def kit_epochs(archive):
    """Set the type of acquisition of a KIT file, the first number of its directory's entry 8, to that of epochs."""
    path = archive / "test.sqd"
    data = bytearray(path.read_bytes())
    offset = struct.unpack_from("<i", data, 16 * 8)[0]
    assert struct.unpack_from("<i", data, offset) == (1,)
    struct.pack_into("<i", data, offset, 3)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("device", "change"),
    [("egi-raw", segmented_egi), ("egi-mff", averaged_mff), ("bti248", averaged_4d), ("kit157", kit_epochs)],
)
def test_epochs_segments_and_averages_are_refused_by_name(shared, tmp_path, device, change):
    record = refused_copy(shared, tmp_path, device, change)
    check_message(record, record.source, "average", action="continuous recording")
