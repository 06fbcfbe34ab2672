"""Numbers and column names of sidecars in the spellings that occur in archives."""

import json

import pytest
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.tables.contradictions import compare
from emeg.ingest.tables.sidecars import read_sidecars


def read(folder, **sidecars):
    """Read sidecars: file name -> bytes, for kinds json, channels, events and electrodes."""
    listed = []
    for kind, content in sidecars.items():
        path = folder / f"{kind}.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        listed.append((kind, ListedFile(path.name, path.stat().st_size)))
    return read_sidecars(
        Source(archive="", dataset="", path="rec.edf", format="edf", subject="", sidecars=tuple(listed)), folder
    )


@pytest.mark.parametrize(
    ("stated", "mains", "n_notes"),
    [(50, 50.0, 0), ("50 Hz", 50.0, 0), ("60,0", 60.0, 0), ("n/a", 0.0, 0), (None, 0.0, 0), ("fifty", 0.0, 1)],
)
def test_mains_may_be_a_number_with_its_unit(tmp_path, stated, mains, n_notes):
    found = read(tmp_path, json=json.dumps({"PowerLineFrequency": stated}))
    assert found.mains == mains
    assert len([note for note in found.notes if "PowerLineFrequency" in note]) == n_notes


def test_cutoffs_may_have_units(tmp_path):
    filters = {"HardwareFilters": {"Anti-aliasing": {"Cutoff (Hz)": "125 Hz"}, "Low_pass": {"Frequency": "n/a"}}}
    assert read(tmp_path, json=json.dumps(filters)).lowpass == 125.0


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_tables_and_json_are_read_in_every_encoding(tmp_path, codec):
    found = read(
        tmp_path,
        json=json.dumps({"Manufacturer": "M\u00fcller"}, ensure_ascii=False).encode(codec),
        channels="name\ttype\tunits\nFz\tEEG\t\u00b5V\n".encode(codec),
    )
    assert found.text("Manufacturer") == "M\u00fcller"
    assert found.channels == [{"name": "Fz", "type": "EEG", "units": "\u00b5V"}]


def test_columns_in_other_spelling_are_read_and_named(tmp_path):
    found = read(tmp_path, events="Onset\tDuration\tTrial Type\tmine\n1.0\t2\tgo\tx\n")
    assert found.events == [{"onset": "1.0", "duration": "2", "trial_type": "go", "mine": "x"}]
    assert [note for note in found.notes if "'Onset' as 'onset'" in note]


def test_a_table_without_its_column_is_refused(tmp_path):
    with refusal(RecordingError, "channels.txt", "'name'", action="table") as caught:
        read(tmp_path, channels="label\ttype\nFz\tEEG\n")
    assert "repair" in caught.value.next_action


def test_a_rate_with_its_unit_is_compared_and_an_unreadable_one_is_named(tmp_path):
    import mne
    import numpy as np

    raw = mne.io.RawArray(np.zeros((1, 2560)), mne.create_info(["Fz"], 256.0, "eeg"), verbose="ERROR")
    stated = {"SamplingFrequency": "256 Hz", "RecordingDuration": "10 s", "EEGChannelCount": "one"}
    [note] = compare(raw, read(tmp_path, json=json.dumps(stated)), sfreq=256.0, n_times=2560)
    assert "EEGChannelCount" in note
    [note] = compare(raw, read(tmp_path, json=json.dumps({"SamplingFrequency": "0,5 kHz"})), sfreq=256.0, n_times=2560)
    assert "500 Hz" in note


def test_quotes_and_blank_cells_of_spreadsheets_are_no_content(tmp_path):
    found = read(tmp_path, channels='"name"\t"type"\t\n"Fz"\tEEG\t\t\nCz\t"EEG"\n')
    assert found.channels == [{"name": "Fz", "type": "EEG"}, {"name": "Cz", "type": "EEG"}]
