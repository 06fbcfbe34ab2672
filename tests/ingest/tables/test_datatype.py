"""Nothing from an ieeg folder is scalp EEG."""

import pytest
from tests.ingest.conftest import ingested
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.ingest.tables.datatype import is_intracranial, refuse_other_datatypes


def test_contacts_with_names_of_scalp_electrodes_are_refused_by_their_datatype(shared, tmp_path):
    made = ingested(shared / "cases/ingest/depth-electrodes-taken-for-scalp/archive", tmp_path)
    assert not made.rows
    assert set(made.refused) == {"sub-01", "sub-02", "sub-03"}
    for record in made.refused.values():
        assert record.stage == "sensors"
        assert "ieeg" in record.reason or "position" in record.reason
        assert record.source in record.reason
        assert record.next_action


@pytest.mark.parametrize("path", ["sub-01/ieeg/a.edf", "sub-01/iEEG/x.mefd", "rec_ieeg.edf", "anna/ieeg/day1/x.edf"])
def test_folder_or_suffix_state_the_datatype(path):
    assert is_intracranial(path)
    with refusal(RecordingError, path.replace("ieeg", "nirs").replace("iEEG", "NIRS"), "nirs", action="eeg folder"):
        refuse_other_datatypes(path.replace("ieeg", "nirs").replace("iEEG", "NIRS"))


@pytest.mark.parametrize("path", ["sub-01/eeg/sub-01_eeg.edf", "sub-01/meg/sub-01_meg.ds", "ieeg.edf.d/x.edf", "x.edf"])
def test_other_recordings_pass(path):
    assert not is_intracranial(path)
    refuse_other_datatypes(path)
