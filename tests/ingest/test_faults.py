"""Every kind of fault has its correct outcome, and no event of a kept recording is lost."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray
from tests.ingest.faults.corpus import Fault, Ready, Refused, corpus
from tests.ingest.faults.intact import LABELS, NAMES, ONSETS_S, SFREQ, places, truth

from emeg.ingest import IngestConfig, ingest_recording
from emeg.ingest.listing.sources import list_archive
from emeg.ingest.pseudonyms import Pseudonyms
from emeg.store import CatalogRow, Store, open_recording, read_catalog, read_events, read_quarantine

FAULTS = corpus()
_TOLD = re.compile(
    r"Omitted (\d+) annotation"
    r"|(\d+) (?:of \d+ (?:events lie (?:outside|in a pause)|rows have no onset)|events have an onset that is NaN)"
)


def test_there_are_kinds_enough() -> None:
    assert len(FAULTS) >= 60


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_its_expected_outcome(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    archive = tmp_path / "archive"
    archive.mkdir()
    fault.make(archive)
    config = IngestConfig(archive=str(archive), root=str(tmp_path / "store"), workers=0)
    store = Store.open(config.root, create=True)
    sources = list_archive(config).sources
    assert [source.path for source in sources] == sorted(fault.outcomes)
    for source in sources:
        ingest_recording(source, config)
    shown = {source.path: source.shown for source in sources}
    rows = {row.source: row for row in read_catalog(store)}
    records = {record.source: record for record in read_quarantine(store)}
    for name_of, right in fault.outcomes.items():
        path = shown[name_of]
        if isinstance(right, Refused):
            assert path in records, rows[path]
            _check_reason(right, name_of, records[path].reason, records[path].next_action, tmp_path)
        else:
            assert path in rows, records[path].reason
            _check_kept(right, rows[path], store, fault)
    assert len(rows) + len(records) == len(fault.outcomes)


def _check_reason(right: Refused, path: str, reason: str, next_action: str, tmp_path: Path) -> None:
    for words in (right.words, *right.more, Pseudonyms().part(Path(right.file or path).name)):
        assert words in reason
    assert next_action
    assert "\n" not in reason or "\n" in path
    assert str(tmp_path) not in reason


def _check_kept(right: Ready, row: CatalogRow, store: Store, fault: Fault) -> None:
    notes = "; ".join(row.notes)
    assert (row.n_channels, row.bad_channels) == (right.channels, right.bad)
    assert set(row.dropped) >= set(right.dropped)
    assert len(row.dropped) == len(right.dropped)
    for words in right.notes:
        assert words in notes
    _check_events(right, row, store, fault)
    if right.compared:
        _check_signal(right, row, store)


def _check_events(right: Ready, row: CatalogRow, store: Store, fault: Fault) -> None:
    """Kept events and events noted as left out add up to those of the source; the kept ones have their times."""
    events = read_events(store, row.recording)
    told = sum(int("".join(found)) for note in row.notes for found in _TOLD.findall(note))
    assert (len(events), told) == (right.events, right.lost)
    assert len(events) + told == fault.source_events
    true = dict(zip(ONSETS_S, LABELS, strict=True))
    for event in events:
        nearest = min(true, key=lambda onset: abs(onset - event.onset_s))
        assert abs(nearest - event.onset_s) <= 0.5 / SFREQ
        assert event.trial_type.endswith(true[nearest])
        assert np.isfinite(event.duration_s)
        del true[nearest]


def _in_band(signal_CN: NDArray[np.float64], sfreq: float) -> NDArray[np.float64]:
    return scipy.signal.sosfiltfilt(scipy.signal.butter(4, (2, 35), "bandpass", fs=sfreq, output="sos"), signal_CN)


def _check_signal(right: Ready, row: CatalogRow, store: Store) -> None:
    """Every channel has its electrode's signal in volts, at its electrode's position."""
    recording = open_recording(store, row.recording)
    ours = _in_band(recording.read(0, recording.n_samples).astype(np.float64), 256.0)
    true = scipy.signal.resample_poly(_in_band(truth(), SFREQ), 32, 25, axis=1)
    middle = slice(256, min(ours.shape[1], true.shape[1]) - 256)
    for i, name in enumerate(recording.sensors.names):
        electrode = right.electrodes.get(name, name)
        if name in right.bad:
            continue
        expected = true[NAMES.index(electrode), middle]
        assert np.corrcoef(ours[i, middle], expected)[0, 1] > 0.99
        assert ours[i, middle].std() == pytest.approx(expected.std(), rel=0.05)
        assert not right.placed or np.linalg.norm(recording.sensors.positions[i] - places()[electrode]) < 2e-3
