"""Types and bad marks of `channels.tsv` are applied to the right channels."""

import mne
import numpy as np
from tests.ingest.conftest import ingested
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.ingest.tables.channels import apply_channels
from emeg.ingest.tables.sidecars import Sidecars

CASES = "cases/ingest"


def raw_of(*names):
    info = mne.create_info(list(names), 256.0, "eeg")
    return mne.io.RawArray(np.zeros((len(names), 10)), info, verbose="ERROR")


def applied(raw, *rows):
    return apply_channels(
        raw, Sidecars(channels=[dict(zip(("name", "type", "status"), row, strict=True)) for row in rows])
    )


def test_bad_channels_in_other_spelling_are_bad(shared, tmp_path):
    made = ingested(shared / CASES / "sidecar-names-in-other-spelling/archive", tmp_path)
    row = made.rows["sub-03"]
    assert (row.n_channels, row.bad_channels) == (19, ("Fp1",))
    assert [note for note in row.notes if "channels.tsv" in note and "'FP1' for 'Fp1'" in note]


def test_types_of_channels_in_a_projector_are_those_of_the_table(shared, tmp_path):
    made = ingested(shared / CASES / "type-change-of-a-channel-in-a-projector/archive", tmp_path)
    assert not made.refused
    row = made.rows["sub-01"]
    assert row.n_channels == 17
    assert set(row.dropped) == {"Fp1", "Fp2"}
    assert row.n_projectors == 1


def test_channels_meet_rows_by_electrode_and_by_spelling():
    raw = raw_of("EEG Fp1-Ref", "Fc5.", "EEG T3-A2", "EEG 001", "EOG 1")
    table = applied(
        raw,
        ("FP1", "EEG", "bad"),
        ("FC5", "EEG", "good"),
        ("T7", "EEG", "bad"),
        ("EEG001", "EEG", "bad"),
        ("eog1", "EOG", "good"),
    )
    assert table.bad == {"EEG Fp1-Ref", "EEG T3-A2", "EEG 001"}
    assert raw.get_channel_types() == ["eeg", "eeg", "eeg", "eeg", "eog"]


def test_what_could_mean_two_channels_means_none_and_a_lost_mark_is_named():
    table = applied(raw_of("C3-A2", "C3-M1", "Cz"), ("C3", "EEG", "bad"), ("Cz", "EEG", "good"))
    assert table.bad == frozenset()
    assert [note for note in table.notes if "1 channels marked bad are not in the file" in note and "'C3'" in note]


def test_a_table_of_other_channels_is_refused():
    with refusal(RecordingError, "channels.tsv", "'O1'", "'Fz'", action="channels.tsv") as caught:
        applied(raw_of("Fz", "Cz"), ("O1", "EEG", "good"))
    assert "channels.tsv" in caught.value.next_action
