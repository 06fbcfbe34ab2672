"""Events of every format that has them, counted and timed by a second parse of the file: never by emeg's reader.

The parse is of raw bytes, of XML, or by a library that emeg's reader does not use for events (pymatreader, antio).
"""

import datetime
import re
import shutil
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from tests.ingest.faults.gdf_and_cnt import cnt
from tests.ingest.maker_formats import SFREQ, N, Planted, noise, write_ctf, write_gdf, write_mff, write_persyst

from emeg.ingest.config import IngestConfig
from emeg.ingest.facts import RecordingFacts
from emeg.ingest.listing.sources import list_sources
from emeg.ingest.recording import open_header

PLANTED = Planted(
    "control", "A1234567", datetime.date(1970, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
)
CHANNELS = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def found(archive: Path) -> list[tuple[float, float, str, str]]:
    """Return onset (s), duration (s), label and value of the events of the one recording of an archive."""
    config = IngestConfig(archive=str(archive), root=str(archive.parent / "store"), workers=0)
    [source] = list_sources(config)
    facts = RecordingFacts(source, config, "x" * 16)
    open_header(facts, archive)
    return [(round(e.onset_s, 6), round(e.duration_s, 6), e.trial_type, e.value) for e in facts.events.events]


def times(events):
    return [(onset_s, label) for onset_s, _, label, _ in events]


@pytest.mark.parametrize("name", ["eeglab/eeglab_data.set", "eeglab-single/eeglab_data_30s.set"])
def test_eeglab_by_pymatreader(shared, name):
    import pymatreader

    path = shared / "data/devices" / name
    content = pymatreader.read_mat(path)
    content = content.get("EEG", content)
    events, rate = content["event"], float(content["srate"])
    expected = sorted(
        (round((float(latency) - 1.0) / rate, 6), str(kind))
        for latency, kind in zip(events["latency"], events["type"], strict=True)
    )
    ours = times(found(path.parent))
    assert len(ours) == {"eeglab": 154, "eeglab-single": 20}[path.parent.name]
    assert [label for _, label in ours] == [label for _, label in expected]
    np.testing.assert_allclose([t for t, _ in ours], [t for t, _ in expected], atol=2e-5)


def test_eeglab_boundaries_and_durations_by_what_was_written(tmp_path):
    """Latencies are samples from 1; 300 samples were cut out at the boundary; types may be numbers."""
    import scipy.io

    events = [(11.0, 0.0, "go"), (500.5, 300.0, "boundary"), (601.0, 64.0, "stop"), (1001.0, 0.0, 7.0)]
    chanlocs = np.array([(name,) for name in CHANNELS], [("labels", object)])
    table = np.array([(a, b, c) for a, b, c in events], [("latency", object), ("duration", object), ("type", object)])
    content = {
        "setname": "x", "nbchan": 6.0, "trials": 1.0, "pnts": float(N), "srate": float(SFREQ), "xmin": 0.0,
        "xmax": (N - 1) / SFREQ, "data": (noise(6, 10.0)).astype(np.float32), "chanlocs": chanlocs, "event": table,
    }  # fmt: skip
    (tmp_path / "archive").mkdir()
    scipy.io.savemat(tmp_path / "archive/x.set", {"EEG": content})
    assert [one[:3] for one in found(tmp_path / "archive")] == [
        (10 / SFREQ, 0.0, "go"),
        (600 / SFREQ, 0.5, "stop"),
        (1000 / SFREQ, 0.0, "7"),
    ]


def gdf_table(data: bytes) -> list[tuple[float, int]]:
    """Parse the table of events of a GDF file: onset in s and type."""
    version = float(data[3:8])
    n_records, n = struct.unpack_from("<q", data, 236)[0], struct.unpack_from("<H", data, 252)[0]
    per_record = struct.unpack_from(f"<{n}I", data, 256 + 216 * n)
    kinds = struct.unpack_from(f"<{n}I", data, 256 + 220 * n)
    width = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 16: 4, 17: 8}
    begin = 256 * struct.unpack_from("<H", data, 184)[0] if version > 1.9 else struct.unpack_from("<q", data, 184)[0]
    at = begin + n_records * sum(count * width[kind] for count, kind in zip(per_record, kinds, strict=True))
    if version > 1.93:
        count, rate = int.from_bytes(data[at + 1 : at + 4], "little"), struct.unpack_from("<f", data, at + 4)[0]
    else:
        rate, count = int.from_bytes(data[at + 1 : at + 4], "little"), struct.unpack_from("<I", data, at + 4)[0]
    positions = struct.unpack_from(f"<{count}I", data, at + 8)
    types = struct.unpack_from(f"<{count}H", data, at + 8 + 4 * count)
    numerator, denominator = struct.unpack_from("<II", data, 244)
    rate = rate or per_record[0] * denominator / numerator  # not stated: positions are samples of the signals
    return sorted(((p - 1) / rate, kind) for p, kind in zip(positions, types, strict=True))


def test_gdf_by_its_bytes(shared, tmp_path):
    folder = shared / "data/devices/gtec-gdf"
    for archive in (folder, tmp_path / "archive"):
        if archive != folder:
            archive.mkdir()
            write_gdf(archive / "x.gdf", CHANNELS, PLANTED)
        expected = gdf_table(next(archive.glob("*.gdf")).read_bytes())
        assert len(expected) == (98 if archive == folder else 2)
        if archive == folder:
            assert expected.pop()[0] > 57024 / 256  # behind the last sample
        assert times(found(archive)) == [(round(onset, 6), str(kind)) for onset, kind in expected]


@pytest.mark.parametrize("rate", [64.0, 512.0, 1000.0])
@pytest.mark.parametrize("mode", [1, 3])
def test_gdf_tables_with_a_rate_of_their_own(tmp_path, rate, mode):
    """The signals have 128 Hz, the table a rate of its own. A type with the highest bit ends an event."""
    (tmp_path / "archive").mkdir()
    path = tmp_path / "archive/x.gdf"
    write_gdf(path, CHANNELS, PLANTED)
    data = path.read_bytes()[: 256 * 7 + 2 * 6 * N]
    rows = [(1.0, 769, 0.0), (3.25, 770, 1.5), (6.0, 768, 0.0), (8.0, 768 | 0x8000, 0.0)]
    table = bytes([mode]) + len(rows).to_bytes(3, "little") + np.float32(rate).tobytes()
    table += np.array([round(onset * rate) + 1 for onset, _, _ in rows], "<u4").tobytes()
    table += np.array([kind for _, kind, _ in rows], "<u2").tobytes()
    if mode == 3:
        table += np.zeros(len(rows), "<u2").tobytes()
        table += np.array([round(duration * rate) for *_, duration in rows], "<u4").tobytes()
    path.write_bytes(data + table)
    expected = [(1.0, 0.0, "769"), (3.25, 1.5 if mode == 3 else 0.0, "770"), (6.0, 2.0, "768")]
    assert [one[:3] for one in found(tmp_path / "archive")] == expected


def with_triggers(data: bytes, triggers: list[tuple[int, bytes]]) -> bytes:
    """Append a chunk of triggers to ANT Neuro's container, which has sizes of 64 bits."""
    assert data[:4] == b"RF64"
    events = b"".join(struct.pack("<Q8s", sample, code) for sample, code in triggers)
    whole = data + b"evt " + struct.pack("<Q", len(events)) + events
    return whole[:4] + struct.pack("<Q", len(whole) - 12) + whole[12:]


def test_ant_neuro_by_antio_and_by_what_was_written(shared, tmp_path):
    from antio import read_cnt

    data = (shared / "data/devices/ant-waveguard/test_CA_208.cnt").read_bytes()
    triggers = [(100, b"1"), (250, b"S 12"), (400, b"255")]
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "x.cnt").write_bytes(with_triggers(data, triggers))
    opened = read_cnt(str(archive / "x.cnt"))
    read = [opened.get_trigger(i)[:2] for i in range(opened.get_trigger_count())]
    rate = opened.get_sample_frequency()
    assert read == [(code.decode(), sample) for sample, code in triggers]
    assert times(found(archive)) == [(sample / rate, code) for code, sample in read]
    assert found(shared / "data/devices/ant-waveguard") == []
    assert read_cnt(str(shared / "data/devices/ant-waveguard/test_CA_208.cnt")).get_trigger_count() == 0


def test_persyst_by_its_lines(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    write_persyst(archive / "x.lay", CHANNELS, PLANTED)
    header = archive / "x.lay"
    comments = ["2.5,0.5,0,0,left", "2.5,0.0,0,0,right", "7.25,0.0,0,0,rest, eyes open"]
    header.write_text(header.read_text() + "\n".join(comments) + "\n")
    section = header.read_text().partition("[Comments]")[2]
    rows = [line.split(",", 4) for line in section.splitlines() if line.count(",") >= 4]
    assert len(rows) == 5
    expected = sorted((float(row[0]), float(row[1])) for row in rows)
    assert sorted(one[:2] for one in found(archive)) == expected
    assert {"left", "right"} <= {label for _, label in times(found(archive))}


def test_mff_by_its_xml(shared, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    write_mff(archive / "x.mff", PLANTED)
    [track] = (archive / "x.mff").glob("Events*.xml")
    space = {"e": "http://www.egi.com/event_mff"}
    expected = []
    for event in ET.parse(track).getroot().iterfind("e:event", space):
        fields = {child.tag.partition("}")[2]: child.text or "" for child in event}
        began = datetime.datetime.fromisoformat(fields["beginTime"])
        onset_s = (began - PLANTED.measured).total_seconds()
        expected.append((onset_s, fields["code"]))
    assert len(expected) == 3
    assert times(found(archive)) == [(round(onset, 6), code) for onset, code in expected]
    tracks = (shared / "data/devices/egi-mff/example_3.mff").glob("Events*.xml")
    assert sum(len(ET.parse(path).getroot().findall("e:event", space)) for path in tracks) == 0
    assert found(shared / "data/devices/egi-mff") == []


MARKERS = {"left": [(0, 0.5), (0, 2.25), (0, 9.0)], "rightHand": [(0, 4.0)], "empty": []}


def ctf_markers(path: Path) -> list[tuple[float, str, int]]:
    """Parse a marker file: time from the synchronisation point in s, name, trial."""
    rows = []
    for block in path.read_text().split("CLASSGROUPID:")[1:]:
        name = re.search(r"^NAME:\n(.*)$", block, re.MULTILINE)[1]
        listed = block.partition("LIST OF SAMPLES:\n")[2]
        rows += [(float(t), name, int(n)) for n, t in re.findall(r"^\s*\+?(\d+)\s+([+-]?[\d.]+)\s*$", listed, re.M)]
    return sorted(rows)


def marker_file(markers) -> str:
    text = f"PATH OF DATASET:\nx.ds\n\nNUMBER OF MARKERS:\n{len(markers)}\n\n"
    for name, samples in markers.items():
        text += f"CLASSGROUPID:\n+3\nNAME:\n{name}\nCOMMENT:\n\nCOLOR:\ngreen\nEDITABLE:\nYes\nCLASSID:\n+1\n"
        text += (
            f"NUMBER OF SAMPLES:\n{len(samples)}\nLIST OF SAMPLES:\nTRIAL NUMBER\t\tTIME FROM SYNC POINT (in seconds)\n"
        )
        text += "".join(f"                  +{trial}\t\t\t\t     {time:+.4f}\n" for trial, time in samples) + "\n\n"
    return text


def test_ctf_markers_by_their_lines(tmp_path):
    archive = tmp_path / "archive"
    write_ctf(archive / "x.ds", PLANTED)
    (archive / "x.ds/MarkerFile.mrk").write_text(marker_file(MARKERS))
    expected = ctf_markers(archive / "x.ds/MarkerFile.mrk")
    assert len(expected) == 4
    assert times(found(archive)) == [(time, name) for time, name, _ in expected]


def test_neuroscan_by_its_bytes(tmp_path):
    (tmp_path / "archive").mkdir()
    data = cnt()
    (tmp_path / "archive/x.cnt").write_bytes(data)
    n_channels, rate = (struct.unpack_from("<H", data, at)[0] for at in (370, 376))
    at = struct.unpack_from("<I", data, 886)[0]
    kind, size = data[at], struct.unpack_from("<I", data, at + 1)[0]
    assert kind == 2
    expected = []
    for begin in range(at + 9, at + 9 + size, 19):
        code, offset = struct.unpack_from("<H", data, begin)[0], struct.unpack_from("<I", data, begin + 4)[0]
        behind = (offset - 900 - 75 * n_channels) / (4 * n_channels)  # EEGLAB and MNE: the byte behind its sample
        expected.append(((behind - 1.0) / rate, str(code)))
    assert len(expected) > 1
    assert times(found(tmp_path / "archive")) == [(round(onset, 6), code) for onset, code in sorted(expected)]


@pytest.mark.parametrize("accepted", [11, 14])
def test_interruptions_of_a_neuroscan_file_are_breaks(tmp_path, accepted):
    """EEGLAB calls events boundaries whose code of acceptance has 11 (reset) or 14 (discontinuity) above 4 bits."""
    (tmp_path / "archive").mkdir()
    data = bytearray(cnt())
    at = struct.unpack_from("<I", data, 886)[0] + 9
    before = found_breaks(tmp_path / "archive", data)
    data[at + 3 * 19 + 3] = accepted << 4
    n_channels, rate = (struct.unpack_from("<H", data, start)[0] for start in (370, 376))
    offset = struct.unpack_from("<I", data, at + 3 * 19 + 4)[0]
    expected = (offset - 900 - 75 * n_channels) / (4 * n_channels) / rate
    assert (before, found_breaks(tmp_path / "archive", data)) == ([], [(expected, expected)])


def found_breaks(archive: Path, data: bytes) -> list[tuple[float, float]]:
    (archive / "x.cnt").write_bytes(data)
    return breaks_of(archive)


def test_nicolet_has_no_events_of_its_own(shared):
    header = (shared / "data/devices/nicolet/test_nicolet_raw.head").read_text()
    assert not re.search(r"event|marker|annot|trig", header, re.IGNORECASE)
    assert found(shared / "data/devices/nicolet") == []


TRIALS_AT, BEFORE_TRIGGER_AT = 1312, 1316
COMPENSATION_BYTES, CHANNEL_BYTES, SYSTEM_CLOCK = 1992, 1328, 17
"""Where a res4 header states the number of trials (int16) and the samples before a trial's trigger (int32)."""


def write_trials(folder: Path, *, n_trials: int, before_trigger: int, pause_samples: int | None) -> np.ndarray:
    """Write a CTF data set of several trials; with a pause its last sensor is the acquisition's clock."""
    write_ctf(folder, PLANTED)
    stem = folder.name.removesuffix(".ds")
    header = bytearray((folder / f"{stem}.res4").read_bytes())
    struct.pack_into(">h", header, TRIALS_AT, n_trials)
    struct.pack_into(">i", header, BEFORE_TRIGGER_AT, before_trigger)
    one = np.frombuffer((folder / f"{stem}.meg4").read_bytes()[8:], ">i4").reshape(-1, N)
    whole = np.concatenate([np.roll(one, 100 * trial, axis=1) for trial in range(n_trials)], axis=1)
    if pause_samples is not None:
        name = header.index(b"MLC34-1609")
        header[name : name + 11] = b"SCLK01-1609"
        kinds = name + 2 * 32 + 23 * CHANNEL_BYTES  # behind this name and the last one: the table of channels
        struct.pack_into(">h", header, kinds, SYSTEM_CLOCK)
        struct.pack_into(">d", header, kinds + 8, 1.0)  # gain
        size = COMPENSATION_BYTES
        struct.pack_into(">h", header, len(header) - 24 * size - 2, 23)  # a clock has no compensation
        del header[-size:]
        whole[23] = 1000 * (np.arange(n_trials * N) + pause_samples * (np.arange(n_trials * N) // (2 * N)))
    (folder / f"{stem}.res4").write_bytes(header)
    blocks = whole.reshape(len(whole), n_trials, N).transpose(1, 0, 2)
    (folder / f"{stem}.meg4").write_bytes(b"MEG41CP\0" + blocks.astype(">i4").tobytes())
    return whole


@pytest.mark.parametrize("before_trigger", [0, 128])
def test_ctf_trials_on_disk_are_stretches_and_their_markers_lie_in_them(tmp_path, before_trigger):
    """Three trials of ten seconds without a clock: stretches only if they begin before a trigger."""
    archive = tmp_path / "archive"
    write_trials(archive / "x.ds", n_trials=3, before_trigger=before_trigger, pause_samples=None)
    markers = {"left": [(0, 0.5), (2, 2.25)], "right": [(1, 4.0), (1, 7.5)]}
    (archive / "x.ds/MarkerFile.mrk").write_text(marker_file(markers))
    listed = ctf_markers(archive / "x.ds/MarkerFile.mrk")
    expected = sorted((10.0 * trial + before_trigger / SFREQ + time, name) for time, name, trial in listed)
    assert times(found(archive)) == [(round(onset, 6), name) for onset, name in expected]
    assert [end for end, _ in breaks_of(archive)] == ([10.0, 20.0] if before_trigger else [])


def test_ctf_trials_on_disk_follow_each_other_where_the_clock_goes_on(tmp_path):
    """Of three borders between trials one has a pause of 500 samples."""
    archive = tmp_path / "archive"
    write_trials(archive / "x.ds", n_trials=4, before_trigger=128, pause_samples=500)
    assert breaks_of(archive) == [(20.0, 20.0)]


def breaks_of(archive: Path) -> list[tuple[float, float]]:
    config = IngestConfig(archive=str(archive), root=str(archive.parent / "store"), workers=0)
    [source] = list_sources(config)
    facts = RecordingFacts(source, config, "x" * 16)
    open_header(facts, archive)
    return [(one.end_s, one.start_s) for one in facts.breaks]


def test_4d_epochs_on_disk_are_stretches(shared, tmp_path):
    """A 4D file of one epoch, made longer and given a second entry in its list of epochs: 2,500 and 3,600 samples."""
    device, archive = shared / "data/devices/bti248", tmp_path / "archive"
    shutil.copytree(device, archive)
    path = archive / "test_pdf_linux"
    data = path.read_bytes()
    [header_at] = struct.unpack(">q", data[-8:])
    samples, header = data[:header_at], bytearray(data[header_at:-8])
    epoch_at, epoch_bytes = 96, 56
    assert struct.unpack_from(">i", header, epoch_at) == (305,)
    assert len(samples) % 305 == 0
    epochs = []
    for length in (2500, 3600):
        epoch = bytearray(header[epoch_at : epoch_at + epoch_bytes])
        struct.pack_into(">i", epoch, 0, length)
        epochs.append(bytes(epoch))
    struct.pack_into(">i", header, 12, 2)  # number of epochs
    header[epoch_at : epoch_at + epoch_bytes] = b"".join(epochs)
    path.write_bytes(samples * 20 + bytes(header) + struct.pack(">q", 20 * len(samples)))
    assert breaks_of(archive) == [(2500 / 1017.25, 2500 / 1017.25)]
