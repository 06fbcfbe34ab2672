"""Files with signals of several rates, against readers that resample nothing."""

import edfio
import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.ingest.maker_formats import write_gdf_of_rates

from emeg.ingest import IngestConfig, list_sources
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.facts import RecordingFacts
from emeg.ingest.readers import opening
from emeg.ingest.readers.rates import interpolate
from emeg.ingest.recording import open_header, pick_sensors

EEG = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "T7", "T8")


def read(archive, tmp_path):
    """Read the only recording of an archive; return its facts and the source's samples without offsets."""
    config = IngestConfig(archive=str(archive), root=str(tmp_path / "store"), workers=0)
    (source,) = list_sources(config)
    facts = RecordingFacts(source, config, "0" * 16)
    open_header(facts, archive)
    pick_sensors(facts, archive)
    with ChannelRows(len(facts.picked.picks), facts.raw.n_times, in_memory_bytes=2**30) as rows:
        opening.read_signal(facts, archive, rows)
        return facts, rows.rows(0, len(rows)).copy()


def signals(seconds, rates, kind=edfio.EdfSignal):
    rng = np.random.default_rng(1)
    return [
        kind(
            np.cumsum(rng.standard_normal(round(seconds * rate))) * 0.1 + 7.0,
            rate,
            label=name,
            physical_dimension="uV",
            physical_range=(-3000.0, 3000.0),
        )
        for name, rate in rates.items()
    ]


def centred(values):
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("seconds", [1, 15, 16, 17, 31, 32, 33, 47])
@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_each_signal_is_as_a_reader_finds_it_that_does_not_resample(tmp_path, monkeypatch, seconds, kind):
    """Lengths on both sides of the borders of our blocks (16 s here) and of MNE-Python's (8 s)."""
    rates = dict.fromkeys(EEG, 128) | {"ECG": 512, "Resp": 32}
    archive = tmp_path / "archive"
    archive.mkdir()
    made = signals(seconds, rates, edfio.EdfSignal if kind == "edf" else edfio.BdfSignal)
    (edfio.Edf if kind == "edf" else edfio.Bdf)(made).write(archive / f"night.{kind}")
    monkeypatch.setattr(opening, "STRETCH_SAMPLES", 16 * 128 * len(EEG) + 5)
    record = (8 * 128 + 512 + 32) * (2 if kind == "edf" else 3)
    monkeypatch.setattr("mne.io.edf.edf._EDF_CHUNK_BYTES", 8 * record)
    facts, ours = read(archive, tmp_path)
    truth = (edfio.read_edf if kind == "edf" else edfio.read_bdf)(archive / f"night.{kind}")
    by_name = {signal.label: signal.data * 1e-6 for signal in truth.signals}
    assert facts.picked.sensors.names == EEG
    assert facts.sfreq_source == 128.0
    expected = centred(np.stack([by_name[name] for name in EEG]))
    assert ours.shape == expected.shape
    assert np.allclose(centred(ours), expected, atol=1e-10)


def test_gdf_signals_of_several_rates_are_as_they_were_written(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    truth = write_gdf_of_rates(archive / "x.gdf", dict.fromkeys(EEG, 128) | {"ECG": 512}, seconds=20)
    facts, ours = read(archive, tmp_path)
    assert facts.sfreq_source == 128.0
    assert np.allclose(centred(ours), centred(np.stack([truth[name] for name in EEG])), atol=1e-10)


def test_channels_of_two_rates_are_brought_to_the_higher_one_in_time(tmp_path):
    seconds, slow = 40, ("T7", "T8")
    t = {rate: np.arange(seconds * rate) / rate for rate in (256, 64)}
    archive = tmp_path / "archive"
    archive.mkdir()
    made = [
        edfio.EdfSignal(50.0 * np.sin(2 * np.pi * 9.0 * t[rate]), rate, label=name, physical_dimension="uV")
        for name, rate in ((name, 64 if name in slow else 256) for name in EEG)
    ]
    edfio.Edf(made).write(archive / "x.edf")
    facts, ours = read(archive, tmp_path)
    assert facts.sfreq_source == 256.0
    assert any("2 channels" in note and "64 Hz" in note for note in facts.notes)
    inner = slice(1024, -1024)
    for row in ours[:, inner]:
        assert np.abs(row - 50e-6 * np.sin(2 * np.pi * 9.0 * t[256])[inner]).max() < 0.1e-6


def test_a_trigger_channel_faster_than_the_signals_leaves_times_true(tmp_path):
    """MNE-Python takes the rate from the signals and the number of samples from the triggers."""
    archive, seconds = tmp_path / "archive", 20
    archive.mkdir()
    triggers = np.zeros(seconds * 1024)
    triggers[1024 * 5 : 1024 * 5 + 20] = 3
    triggers[1024 * 12 + 512 : 1024 * 12 + 532] = 4
    stim = edfio.EdfSignal(triggers, 1024, label="STATUS", physical_range=(-32768, 32767))
    edfio.Edf([*signals(seconds, dict.fromkeys(EEG, 256)), stim]).write(archive / "x.edf")
    facts, ours = read(archive, tmp_path)
    assert (facts.sfreq_source, ours.shape[1]) == (256.0, seconds * 256)
    assert [(event.onset_s, event.value) for event in facts.events.events] == [(5.0, "3"), (12.5, "4")]


def test_the_case_of_a_microphone_beside_the_eeg(shared, tmp_path):
    made = ingested(shared / "cases/ingest/edf-signals-of-several-rates/archive", tmp_path / "store")
    (row,) = made.rows.values()
    assert row.sfreq_source == 160.0
    assert any("16000 Hz" in note for note in row.notes)
    path = next((shared / "cases/ingest/edf-signals-of-several-rates/archive").rglob("*.edf"))
    recording = made.recording("sub-01")
    truth = {signal.label.strip("."): signal for signal in edfio.read_edf(path).signals}
    assert len(recording.sensors) == 64
    ours = mne.filter.filter_data(recording.read(0, recording.n_samples).astype(float), 256.0, 2, 30, verbose="ERROR")
    for name, row_N in zip(recording.sensors.names, ours, strict=True):
        if name in (*row.bad_channels, *row.interpolated):
            continue
        theirs = next(s for label, s in truth.items() if label.lower() == name.lower())
        assert theirs.sampling_frequency == 160
        expected = mne.filter.resample(theirs.data, 256, 160, npad=0, verbose="ERROR")
        expected = mne.filter.filter_data(expected, 256.0, 2, 30, verbose="ERROR")
        assert np.corrcoef(row_N[256:-256], expected[256 : len(row_N) - 256])[0, 1] > 0.99


@pytest.mark.parametrize(("rate", "to"), [(128, 512), (100, 250), (50, 1000)])
def test_interpolation_keeps_amplitude_and_time(rate, to):
    t, fine = np.arange(20 * rate) / rate, np.arange(20 * to) / to
    wave = np.sin(2 * np.pi * 0.4 * rate * t + 1.0)
    ours = interpolate(wave, len(fine))
    inner = slice(3 * to, -3 * to)
    assert np.abs(ours - np.sin(2 * np.pi * 0.4 * rate * fine + 1.0))[inner].max() < 1e-3


def test_only_signals_that_were_not_read_are_noted_as_left_out(tmp_path):
    """EEG at 200 Hz, triggers at 50 Hz, which are read as events, and a temperature at 10 Hz, which is not."""
    (tmp_path / "archive").mkdir()
    pulses = np.zeros(50 * 20)
    pulses[100:110] = 3
    found = signals(20, dict.fromkeys(EEG, 200))
    found.append(edfio.EdfSignal(pulses, 50, label="TRIG", physical_range=(-32768, 32767)))
    found.append(edfio.EdfSignal(np.linspace(36, 37, 200), 10, label="Temp", physical_dimension="degC"))
    edfio.Edf(found).write(tmp_path / "archive/x.edf")
    facts, _ = read(tmp_path / "archive", tmp_path)
    assert [(event.onset_s, event.value) for event in facts.events.events] == [(2.0, "3")]
    [note] = [note for note in facts.notes if "left out" in note and "Hz" in note]
    assert "signals of 10 Hz" in note
