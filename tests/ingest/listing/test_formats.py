"""Formats that no library writes, written here by their descriptions: signal, names and events are compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray
from tests.ingest.conftest import Ingested, ingested
from tests.ingest.faults.intact import LABELS, NAMES, ONSETS_S, SFREQ, helmet, truth

from emeg.store import read_events

STEP_UV = 0.01


def steps() -> NDArray[np.int16]:
    """The good recording in steps of 10 nV, shape (samples, channels)."""
    return np.ascontiguousarray(np.rint(truth().T / (STEP_UV * 1e-6)).astype("<i2"))


def in_band(signal_CN: NDArray[np.float64], sfreq: float) -> NDArray[np.float64]:
    return scipy.signal.sosfiltfilt(scipy.signal.butter(4, (2, 35), "bandpass", fs=sfreq, output="sos"), signal_CN)


def check(made: Ingested, key: str, true: dict[str, NDArray[np.float64]]) -> None:
    """Every channel differs from the others; in volts or tesla."""
    recording = made.recording(key)
    ours = in_band(recording.read(0, recording.n_samples).astype(np.float64), 256.0)[:, 256:-256]
    for row, name in zip(ours, recording.sensors.names, strict=True):
        expected = scipy.signal.resample_poly(in_band(true[name], SFREQ), 32, 25)[256:-256]
        assert np.corrcoef(row, expected)[0, 1] > 0.99
        assert row.std() == pytest.approx(expected.std(), rel=0.05)


def persyst(folder: Path) -> Path:
    folder.mkdir(parents=True)
    comments = "\n".join(f"{t},0,0,0,{text}" for t, text in zip(ONSETS_S, LABELS, strict=True))
    (folder / "a.lay").write_text(
        f"[FileInfo]\nFile=a.dat\nFileType=Interleaved\nSamplingRate={SFREQ:g}\nHeaderLength=0\n"
        f"Calibration={STEP_UV}\nWaveformCount={len(NAMES)}\nDataType=0\n[Patient]\nFirst=Anna\nBirthDate=\nSex=\n"
        "[ChannelMap]\n"
        + "".join(f"{name}-Ref={i + 1}\n" for i, name in enumerate(NAMES))
        + f"[Comments]\n{comments}\n"
    )
    (folder / "a.dat").write_bytes(steps().tobytes())
    return folder / "a.dat"


def bci2000(folder: Path) -> Path:
    folder.mkdir(parents=True)
    n = len(NAMES)
    gains = " ".join(f"{STEP_UV}muV" for _ in NAMES)
    body = (
        "\r\n[ State Vector Definition ]\r\nStimulusCode 8 0 0 0\r\n[ Parameter Definition ]\r\n"
        f"Source:Signal%20Properties int SamplingRate= {SFREQ:g}Hz 256Hz 1 % // rate\r\n"
        f"Source:Signal%20Properties floatlist SourceChGain= {n} {gains} 0.003 % % // gain\r\n"
        f"Source:Signal%20Properties floatlist SourceChOffset= {n} {' '.join('7' for _ in NAMES)} 0 % % // offset\r\n"
        f"Source:Signal%20Properties stringlist ChannelNames= {n} {' '.join(NAMES)} % % % // names\r\n\r\n"
    )
    head = f"BCI2000V= 1.1 HeaderLen= %5d SourceCh= {n} StatevectorLen= 1 DataFormat= int16"
    header = (head % (len(head % 0) + len(body))) + body
    states = np.zeros((len(steps()), 1), np.uint8)
    for onset, text in zip(ONSETS_S, LABELS, strict=True):
        states[round(onset * SFREQ) : round(onset * SFREQ) + 20] = 1 + LABELS.index(text)
    frames = np.concatenate([(steps() + np.int16(7)).view(np.uint8), states], axis=1)
    (folder / "a.dat").write_bytes(header.encode() + frames.tobytes())
    return folder / "a.dat"


def fil(folder: Path) -> tuple[Path, NDArray[np.float64]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    names = [f"A{i}" for i in range(len(helmet()))]
    field_fT = 3e3 * (helmet() / 0.11 @ rng.standard_normal((3, 2400)) + 0.5 * rng.standard_normal((64, 2400)))
    rows = "".join(f"{name}\tMEGMAG\tfT\tgood\n" for name in names)
    (folder / "sub-01_channels.tsv").write_text("name\ttype\tunits\tstatus\n" + rows)
    places = [
        "\t".join([name, *(f"{1000 * v:.4f}" for v in p), *(f"{v:.6f}" for v in p / np.linalg.norm(p))])
        for name, p in zip(names, helmet(), strict=True)
    ]
    (folder / "sub-01_positions.tsv").write_text("\n".join(["name\tPx\tPy\tPz\tOx\tOy\tOz", *places]) + "\n")
    (folder / "sub-01_meg.json").write_text(json.dumps({"SamplingFrequency": SFREQ, "PowerLineFrequency": 50}))
    (folder / "sub-01_meg.bin").write_bytes(field_fT.T.astype(">f4").tobytes())
    return folder / "sub-01_meg.bin", field_fT * 1e-15


@pytest.mark.parametrize("write", [persyst, bci2000])
def test_signal_names_and_events_are_the_file_s(write, tmp_path):
    write(tmp_path / "archive/S001")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    assert not [record.reason for record in made.refused.values()]
    assert made.rows["S001"].n_eeg == len(NAMES)
    check(made, "S001", {spelt: row for n, row in zip(NAMES, truth(), strict=True) for spelt in (n, n.upper())})
    events = read_events(made.store, made.rows["S001"].recording)
    assert [event.onset_s for event in events] == pytest.approx(ONSETS_S, abs=1e-6)
    assert len({event.trial_type for event in events}) == 2


@pytest.mark.parametrize("write", [persyst, bci2000])
def test_data_that_end_within_a_sample_are_refused(write, tmp_path):
    data = write(tmp_path / "archive/S001")
    data.write_bytes(data.read_bytes()[:-3])
    assert "truncated" in ingested(tmp_path / "archive", tmp_path / "store").refused["S001"].reason


def test_optically_pumped_magnetometers_of_the_fil_keep_field_and_places(tmp_path):
    data, field = fil(tmp_path / "archive/sub-01/meg")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    row, recording = made.rows["sub-01"], made.recording("sub-01")
    assert (row.n_magnetometers, row.device, row.mains) == (64, "opm64", 50.0)
    assert np.allclose(recording.sensors.positions, helmet(), atol=1e-6)
    check(made, "sub-01", dict(zip(recording.sensors.names, field, strict=True)))
    data.write_bytes(data.read_bytes()[:-3])
    assert "truncated" in ingested(tmp_path / "archive", tmp_path / "cut").refused["sub-01"].reason


def artemis(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Write 60 gradiometers of an Artemis123 by MNE's table of its coils, and return the field in tesla."""
    from mne.io.artemis123.utils import _load_mne_locs

    folder.mkdir(parents=True)
    locs = {name: loc for name, loc in _load_mne_locs().items() if name.startswith("MEG") and np.abs(loc[:3]).any()}
    names = sorted(locs)[:60]
    rng = np.random.default_rng(5)
    places = np.array([locs[name][:3] for name in names])
    field = 3e-12 * (places / 0.11 @ rng.standard_normal((3, 2400)) + 0.5 * rng.standard_normal((len(names), 2400)))
    stated = {"DAQ Sample Rate": f"{SFREQ:g}", "Subject ID": "x", "Project Name": "", "Purpose": "", "Notes": ""}
    stated |= dict.fromkeys(("Temporal Filter Active?", "Decimation Active?", "Spatial Filter Active?"), "FALSE")
    stated |= {f"Head Tracking Channel {i}": "OFF" for i in range(1, 5)}
    lines = ["<start main header>", *(f"{key}\t{value}" for key, value in stated.items()), "<end main header>"]
    lines += ["<start per channel header>", *(f"{name}\t1\t1\t1\t0\t0\t0" for name in names)]
    lines += ["<end per channel header>", "<start length>", str(field.shape[1]), "<end length>"]
    (folder / "a.txt").write_text("\n".join(lines) + "\n")
    (folder / "a.bin").write_bytes((field.T * 1e15).astype(">f4").tobytes())
    return dict(zip(names, field, strict=True))


def test_an_artemis123_keeps_its_field_and_its_coils(tmp_path):
    field = artemis(tmp_path / "archive/S001")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    assert not [record.reason for record in made.refused.values()]
    assert made.rows["S001"].n_gradiometers == 60
    check(made, "S001", field)
