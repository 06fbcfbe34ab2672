"""Curry 8: a recording written as the format prescribes, ingested; and without the package that reads it."""

import sys
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.ingest.maker_formats import SFREQ, N, noise
from tests.messages import check_message

from emeg.store import read_events

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "T7", "T8")
EVENTS = ((128, 7), (640, 9), (1000, 7))
"""Sample and type."""


def listed(name: str, rows: list[str]) -> str:
    """Write a list of a Curry header: four lines with its name, of which the last two enclose the rows."""
    return "\n".join(
        [
            f"{name} START              # Do not edit!",
            f"   ListNrRows           = {len(rows)}",
            f"{name} END",
            "",
            f"{name} START_LIST         # Do not edit!",
            *rows,
            f"{name} END_LIST",
            "",
        ]
    )


def write_curry(path: Path, signal: np.ndarray, *, n_epochs: int = 1, n_averaged: int = 1) -> None:
    """Write `.cdt` (float32, µV, by sample), `.cdt.dpa` (header) and `.cdt.ceo` (events)."""
    (1e6 * signal.T).astype("<f4").tofile(path)
    parameters = {
        "NumSamples": N,
        "NumChannels": len(NAMES),
        "NumTrials": 1,
        "SampleFreqHz": SFREQ,
        "TriggerOffsetUsec": 0,
        "DataFormat": "FLOAT",
        "DataSampOrder": "SAMP",
        "DataByteOrder": "BINARY",
        "SampleTimeUsec": 1e6 / SFREQ,
        **dict.fromkeys(("StartYear", "StartMonth", "StartDay"), 1),
        **dict.fromkeys(("StartHour", "StartMin", "StartSec", "StartMillisec"), 0),
        "AmplifierInfo": "",
    }
    places = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    text = "FileVersion      = 804\n\nDATA_PARAMETERS START\n"
    text += "".join(f"   {key:<20} = {value}\n" for key, value in parameters.items())
    text += "DATA_PARAMETERS END\n\nDEVICE_PARAMETERS START\n"
    text += f"   DataUnit             = uV\n   NumChanThisGroup     = {len(NAMES)}\nDEVICE_PARAMETERS END\n\n"
    text += listed("LABELS", list(NAMES))
    text += listed("SENSORS", ["\t".join(f"{1000 * v:.3f}" for v in places[name]) for name in NAMES])
    text += listed("IMPEDANCE_VALUES", [" ".join(["5"] * len(NAMES))])
    if n_epochs > 1:
        text = text.replace(f"NumSamples           = {N}", f"NumSamples           = {N // n_epochs}")
        text = text.replace("NumTrials            = 1", f"NumTrials            = {n_epochs}")
        text += listed("EPOCH_LABELS", [f"e{i}" for i in range(n_epochs)])
        text += listed("EPOCH_INFORMATION", [f"{n_averaged} 10 {i} 1 1 0 0" for i in range(n_epochs)])
    path.with_name(f"{path.name}.dpa").write_text(text)
    rows = [f"{sample}\t0\t{kind}\t0\t{sample}\t{sample}\t0\t0\t0\t0\t0" for sample, kind in EVENTS]
    marks = listed("NUMBER_LIST", rows) + listed("REMARK_LIST", [""] * len(rows))
    path.with_name(f"{path.name}.ceo").write_text(marks)


def test_a_curry_recording_has_its_signal_in_volts_and_its_events(tmp_path):
    pytest.importorskip("curryreader")
    (tmp_path / "archive").mkdir()
    signal = noise(len(NAMES), 1e-5)
    write_curry(tmp_path / "archive/x.cdt", signal)
    made = ingested(tmp_path / "archive", tmp_path / "store")
    assert not made.refused, [record.reason for record in made.refused.values()]
    [(name, row)] = made.rows.items()
    assert (row.n_eeg, row.sfreq_source) == (len(NAMES), float(SFREQ))
    ours = made.recording(name).read(0, made.recording(name).n_samples)
    theirs = mne.filter.resample(signal, 256, SFREQ, npad="auto", verbose="ERROR")
    for i, electrode in enumerate(made.recording(name).sensors.names):
        pair = np.stack([ours[i], theirs[NAMES.index(electrode)]]).astype(float)
        one, other = mne.filter.filter_data(pair, 256.0, 2, 40, verbose="ERROR")[:, 256:-256]
        assert np.corrcoef(one, other)[0, 1] > 0.99
        assert np.std(one) == pytest.approx(np.std(other), rel=0.05)
    found = [(round(event.onset_s * SFREQ), event.trial_type) for event in read_events(made.store, row.recording)]
    assert found == [(sample, str(kind)) for sample, kind in EVENTS]


@pytest.mark.parametrize("n_averaged", [1, 40])
def test_epochs_and_averages_are_refused_by_name(tmp_path, n_averaged):
    pytest.importorskip("curryreader")
    (tmp_path / "archive").mkdir()
    write_curry(tmp_path / "archive/x.cdt", noise(len(NAMES), 1e-5), n_epochs=2, n_averaged=n_averaged)
    [record] = ingested(tmp_path / "archive", tmp_path / "store").refused.values()
    check_message(record, "x.cdt", "Curry", "average", action="continuous recording")


def test_without_its_package_the_message_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "archive").mkdir()
    write_curry(tmp_path / "archive/x.cdt", noise(len(NAMES), 1e-5))
    monkeypatch.setitem(sys.modules, "curryreader", None)
    [record] = ingested(tmp_path / "archive", tmp_path / "store").refused.values()
    check_message(record, "x.cdt", "curryreader", action="emeg[curry]")
