"""Electrodes that every subject has for himself have spectra and no topography; shared ones have dots."""

import pytest
from tests.reports.grids import add_recordings, predictions, task

from emeg.evaluation.protocol.products import GridTask
from emeg.reports.sections.signals import signals_of
from emeg.sensors import SensorType
from emeg.store import Store


@pytest.mark.parametrize("kind", [SensorType.SEEG, SensorType.ECOG, SensorType.DBS])
def test_electrodes_that_no_two_subjects_share_are_drawn_as_spectra(tmp_path, kind):
    store = Store.open(tmp_path / "store", create=True)
    add_recordings(store, kind=int(kind))
    found = signals_of(store, GridTask.checked(task("t1"), source="test"), "e1", predictions("m", ("t1",)))
    (picture,) = found.pictures
    assert "of each recording" in picture.alt
    assert {one.panel for one in found.figures} == {"spectra"}
    assert found.missing == ""
