"""The object with the facts about a recording: no fact can be read before it is set, and none is lost."""

from dataclasses import fields

import pytest
from tests.ingest.test_recording import bids, signal

from emeg.errors import RecordingError
from emeg.ingest import IngestConfig, list_sources
from emeg.ingest.attributes import catalog_row
from emeg.ingest.facts import RecordingFacts
from emeg.ingest.recording import _refuse, open_header, pick_sensors, prepare, write_signal
from emeg.store import Store, read_quarantine

ORDER = ["open_header", "pick_sensors", "prepare", "write_signal"]


@pytest.fixture
def facts(tmp_path):
    bids(tmp_path, signal())
    config = IngestConfig(archive=str(tmp_path / "archive"), root=str(tmp_path / "store"), workers=0)
    (source,) = list_sources(config)
    return RecordingFacts(source, config, "0" * 16)


def run(facts, tmp_path, *, until=4):
    archive, store = tmp_path / "archive", Store.open(tmp_path / "store", create=True)
    steps = [
        lambda: open_header(facts, archive),
        lambda: pick_sensors(facts, archive),
        lambda: prepare(facts, archive),
        lambda: write_signal(facts, archive, store),
    ]
    for step in steps[:until]:
        step()


def test_each_step_fills_the_fields_that_name_it_and_no_others(facts, tmp_path):
    stepped = {one.name: one.metadata["step"] for one in fields(facts) if "step" in one.metadata}
    assert set(stepped.values()) == set(ORDER)
    for done in range(len(ORDER) + 1):
        fresh = RecordingFacts(facts.source, facts.config, facts.recording)
        run(fresh, tmp_path, until=done)
        assert {name for name in stepped if fresh.knows(name)} == {
            name for name, step in stepped.items() if ORDER.index(step) < done
        }


def test_a_field_cannot_be_read_before_its_step(facts):
    with pytest.raises(AttributeError, match=r"picked.*pick_sensors"):
        _ = facts.picked
    with pytest.raises(AttributeError, match="no field 'pickled'"):
        _ = facts.pickled


def test_a_row_needs_every_fact_that_it_is_made_of(facts, tmp_path):
    run(facts, tmp_path)
    whole = catalog_row(facts)
    assert whole.n_channels == 10
    for name in ("raw", "picked", "events", "state", "device", "compensation_grade", "signal"):
        kept = facts.__dict__.pop(name)
        with pytest.raises(AttributeError, match=rf"\b{name}\b"):
            catalog_row(facts)
        facts.__dict__[name] = kept
    assert catalog_row(facts) == whole


def test_notes_of_every_step_reach_the_row_in_order_each_once(facts, tmp_path):
    run(facts, tmp_path, until=3)
    facts.add_notes(["first", "second", "first"])
    run_rest = Store.open(tmp_path / "store", create=True)
    write_signal(facts, tmp_path / "archive", run_rest)
    notes = catalog_row(facts).notes
    assert notes[:2] == ("first", "second")
    assert len(notes) == len(set(notes)) > 2  # the mains frequency is stated nowhere


def test_a_refusal_tells_the_sensors_as_far_as_they_are_known(facts, tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    error = RecordingError("broken", next_action="mend it")
    _refuse(store, facts, error)
    run(facts, tmp_path, until=2)
    (before,) = read_quarantine(store)
    assert before.sensors == ()
    _refuse(store, facts, error)
    (after,) = read_quarantine(store)
    assert len(after.sensors) == 10
    assert after.layout == facts.picked.sensors.layout_id
