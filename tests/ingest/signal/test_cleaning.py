"""Optional cleaning steps: each removes its artefact, is off by default, and names inputs that it cannot process."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.ingest.signal.test_meg_state import coils_on, helmet, scalp
from tests.messages import refusal

from emeg.errors import RecordingError, UserError
from emeg.ingest.config import CleaningConfig, StandardiseConfig
from emeg.ingest.signal.cleaning import clean

NONE = frozenset()


def power(raw, frequency, picks="meg"):
    spectrum = np.fft.rfft(raw.get_data(picks), axis=1)
    return float((np.abs(spectrum[:, round(frequency * raw.n_times / raw.info["sfreq"])]) ** 2).sum())


def test_cleaning_is_off_by_default_and_product_names_stay():
    raw = scalp(2.0)
    assert clean(raw, CleaningConfig(), NONE) == (raw, ())
    assert "cleaning" not in StandardiseConfig().product_fields()
    asked = StandardiseConfig(cleaning=CleaningConfig(reference="average"))
    assert asked.product_hash() != StandardiseConfig().product_hash()


def test_a_far_field_is_taken_out_by_the_maxwell_filter_and_the_recording_is_ready(tmp_path):
    raw = helmet(6.0)
    normals = np.array([channel["loc"][9:12] for channel in raw.info["chs"]])
    is_mag = np.array(raw.get_channel_types()) == "mag"
    t = raw.times
    field = np.outer(normals @ [0.6, 0.0, 0.8] * is_mag, 5e-12 * np.sin(2 * np.pi * 17.0 * t))
    raw._data += field
    (tmp_path / "archive").mkdir()
    raw.save(tmp_path / "archive/run_raw.fif", verbose="ERROR")
    plain = ingested(tmp_path / "archive", tmp_path / "plain")
    made = ingested(tmp_path / "archive", tmp_path / "store", standardise={"cleaning": {"maxwell": True}})
    (row,) = made.rows.values()
    assert row.sss
    assert row.rank < 100
    assert any("Maxwell filter" in note for note in row.notes)

    def line(store):
        signal = store.recording(next(iter(store.rows))).read(0, 6 * 256)[is_mag]
        return np.linalg.norm(np.fft.rfft(signal, axis=1)[:, 17 * 6])

    assert line(made) < 0.1 * line(plain)


def test_shielded_data_are_accepted_after_a_maxwell_filter(tmp_path):
    raw = helmet(6.0)
    with raw.info._unlock():
        raw.info["maxshield"] = True
    (tmp_path / "archive").mkdir()
    raw.save(tmp_path / "archive/run_raw.fif", verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store", standardise={"cleaning": {"maxwell": True}})
    (row,) = made.rows.values()
    assert row.sss
    assert not row.internal_shielding


def test_head_position_coils_are_taken_out():
    frequencies = (83.0, 91.0, 97.0)
    raw = coils_on(helmet(10.0), frequencies)
    rng = np.random.default_rng(0)
    for f in frequencies:
        raw._data += 3e-12 * rng.standard_normal((306, 1)) * np.sin(2 * np.pi * f * raw.times)
    made = clean(raw, CleaningConfig(remove_hpi=True), NONE)
    assert all(power(made.raw, f) < 1e-2 * power(raw, f) for f in frequencies)
    assert power(made.raw, 20.0) == pytest.approx(power(raw, 20.0), rel=0.05)
    assert "83, 91, 97 Hz removed" in made.notes[0]


def test_steps_that_find_nothing_to_do_say_so():
    made = clean(scalp(2.0), CleaningConfig(remove_hpi=True, maxwell=True), NONE)
    assert len(made.notes) == 2
    assert all("no " in note for note in made.notes)


def test_references():
    raw = scalp(2.0)
    average = clean(raw, CleaningConfig(reference="average"), frozenset({"Cz"})).raw
    good = [name for name in raw.ch_names if name != "Cz"]
    assert np.abs(average.get_data(good).mean(axis=0)).max() < 1e-12
    first, second = raw.ch_names[:2]
    pair = clean(raw, CleaningConfig(reference=f"{first}, {second}"), NONE).raw
    expected = raw.get_data() - raw.get_data([first, second]).mean(axis=0)
    np.testing.assert_allclose(pair.get_data(), expected, atol=1e-12)
    with refusal(RecordingError, "'TP9'", action="standardise.cleaning.reference"):
        clean(raw, CleaningConfig(reference="TP9"), NONE)


def test_labels_need_a_package_that_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mne_icalabel", None)
    with refusal(UserError, "standardise.cleaning.ica_labels", action="mne-icalabel"):
        clean(scalp(2.0), CleaningConfig(ica_labels=True), NONE)
    (tmp_path / "archive").mkdir()
    scalp(4.0).save(tmp_path / "archive/a_raw.fif", verbose="ERROR")
    with refusal(UserError, "standardise.cleaning.ica_labels", action="mne-icalabel"):
        ingested(tmp_path / "archive", tmp_path / "store", standardise={"cleaning": {"ica_labels": True}})


def test_components_with_an_artefacts_label_are_taken_out(monkeypatch):
    """The labels are given by a stand-in that knows the blinks; fitting and removal are real."""
    raw = scalp(40.0)
    rng = np.random.default_rng(1)
    blinks = np.convolve(rng.random(raw.n_times) < 0.003, np.hanning(50), mode="same")
    undisturbed = raw.get_data()
    topography = np.linspace(1.0, 0.0, 19)[:, None]
    raw._data += 2e-4 * topography * blinks

    def label(seen, ica, method):
        assert method == "iclabel"
        sources = ica.get_sources(seen).get_data()
        likeness = np.abs(np.corrcoef(sources, blinks)[-1, :-1])
        labels = ["eye blink" if i == likeness.argmax() else "brain" for i in range(len(sources))]
        return {"labels": labels, "y_pred_proba": np.full(len(labels), 0.9)}

    monkeypatch.setitem(sys.modules, "mne_icalabel", SimpleNamespace(label_components=label))
    made = clean(raw, CleaningConfig(ica_labels=True), NONE)
    assert "1 of" in made.notes[0]
    assert "eye blink" in made.notes[0]
    before, after = (np.corrcoef(one.get_data()[0], blinks)[0, 1] for one in (raw, made.raw))
    assert before > 0.8
    assert abs(after) < 0.1
    expected = (undisturbed - undisturbed.mean(axis=0))[12]
    assert np.corrcoef(made.raw.get_data()[12], expected)[0, 1] > 0.9
    assert clean(raw, CleaningConfig(ica_labels=True, ica_min_probability=0.95), NONE).notes[0].endswith("removed")
