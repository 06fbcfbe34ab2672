"""One unit of work: a source becomes a recording in the store, or a quarantine record.

``ingest_recording`` ──▶ ``open_header`` ──▶ ``pick_sensors`` ──▶ ``prepare`` ──▶ ``write_signal`` ──▶ catalogue row
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emeg.dsp.standardise import n_samples_at
from emeg.errors import RecordingError
from emeg.ingest.attributes import catalog_row, recording_attributes, rounding_note
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.config import IngestConfig
from emeg.ingest.facts import RecordingFacts
from emeg.ingest.outcome import Outcome
from emeg.ingest.pseudonyms import header_texts
from emeg.ingest.readers.breaks import (
    find_breaks,
    mark_breaks,
    set_file_times,
    stretches_of,
    table_in_file_time,
)
from emeg.ingest.readers.opening import open_recording, read_signal, reading
from emeg.ingest.readers.rates import RateGroup, pick_rates
from emeg.ingest.signal.cleaning import check_cleaning, clean
from emeg.ingest.signal.meg_state import find_state, refuse_shielded
from emeg.ingest.signal.standardising import finished, standardise_recording
from emeg.ingest.source import Source
from emeg.ingest.tables.channels import apply_channels
from emeg.ingest.tables.contradictions import compare
from emeg.ingest.tables.datatype import refuse_other_datatypes
from emeg.ingest.tables.device import device_name
from emeg.ingest.tables.electrodes import apply_contacts, apply_electrodes
from emeg.ingest.tables.events import find_events
from emeg.ingest.tables.marks import marked_seconds
from emeg.ingest.tables.sidecars import read_sidecars
from emeg.ingest.tables.treatment import count_note, treat
from emeg.ingest.tables.triggers import trigger_names
from emeg.ingest.transfer.download import fetched, recording_id
from emeg.sensors import PickedSensors, Sensors, check_geometry, sensors_from_info
from emeg.store import QuarantineRecord, Store, find_refusal, has_row, publish_row, quarantine, release, write_recording
from emeg.store.catalog.tables import replace_events
from emeg.store.claims import claimed

if TYPE_CHECKING:
    import mne

logger = logging.getLogger(__name__)

_CTF_GRADES = (1, 2, 3)
_FIX_ELECTRODES = "give positions (electrodes.tsv, or a montage for the dataset) or types (channels.tsv)"
_FIX_CONTACTS = (
    "give the types SEEG, ECOG or DBS in channels.tsv, and positions in electrodes.tsv with their coordsystem.json"
    " (MNI152, Talairach or ACPC, in mm, cm or m)"
)
_OMITTED = "outside data range"
"""MNE-Python's remark on annotations that it left out."""


def ingest_recording(source: Source, config: IngestConfig) -> Outcome:
    """Ingest one source: write its recording to the store, or a quarantine record with the reason.

    Nothing is visible before it is complete; the catalogue row is written last. A recording that another worker has
    claimed is left to that worker (`Outcome.state` is ``claimed``), and one that another worker has made or refused is
    not made again (`Outcome.made` is false).

    Raises
    ------
    TransientError
        A transfer failed; the same call may succeed later.
    """
    store = Store.open(config.root, create=True)
    facts = RecordingFacts(source, config, recording_id(source, config))
    with claimed(store, facts.recording) as ours:
        if not ours:
            return Outcome(source.shown, facts.recording, "claimed", made=False)
        if has_row(store, facts.recording):
            return (
                _relabel(store, facts)
                if source.relabel
                else Outcome(source.shown, facts.recording, "ready", made=False)
            )
        refusal = None if config.retry_quarantined else find_refusal(store, source.dataset, source.shown)
        if refusal is not None and refusal.recording == facts.recording and not source.relabel:
            return Outcome(source.shown, facts.recording, "quarantined", refusal.reason, made=False)
        return _ingest(store, facts)


def refuse(source: Source, config: IngestConfig, error: RecordingError) -> Outcome:
    """Quarantine a source whose worker cannot do so itself."""
    facts = RecordingFacts(source, config, recording_id(source, config))
    return _refuse(Store.open(config.root, create=True), facts, error)


def _ingest(store: Store, facts: RecordingFacts) -> Outcome:
    try:
        check_cleaning(facts.config.standardise.cleaning)
        with fetched(facts.source, facts.config.transfer) as folder:
            open_header(facts, folder)
            pick_sensors(facts, folder)
            prepare(facts, folder)
            write_signal(facts, folder, store)
            row = catalog_row(facts)
    except RecordingError as error:
        return _refuse(store, facts, error)
    publish_row(store, row, facts.events.events)
    release(store, facts.source.dataset, facts.source.shown)
    return Outcome(facts.source.shown, facts.recording, "ready")


def _relabel(store: Store, facts: RecordingFacts) -> Outcome:
    """Replace the events of a recording whose tables of events have changed; its signal stays.

    Where the new tables cannot be used, the recording keeps its events and the outcome says why; the next run tries
    again.
    """
    source = facts.source
    try:
        with fetched(source, facts.config.transfer) as folder:
            open_header(facts, folder)
    except RecordingError as error:
        reason = f"events not updated: {facts.scrubbed(str(error))}"
        logger.warning("%s: %s", source.shown, reason)
        return Outcome(source.shown, facts.recording, "ready", reason)
    replace_events(store, facts.recording, facts.events.events, facts.events.notes)
    return Outcome(source.shown, facts.recording, "ready")


def _refuse(store: Store, facts: RecordingFacts, error: RecordingError) -> Outcome:
    source, message = facts.source, facts.scrubbed(str(error))
    sensors = facts.picked.sensors if facts.knows("picked") and len(facts.picked.sensors) else None
    record = QuarantineRecord(
        source=source.shown,
        dataset=source.dataset,
        stage=error.stage,
        reason=message if message.startswith(source.shown) else f"{source.shown}: {message}",
        next_action=facts.scrubbed(error.next_action),
        sensors=tuple(sensors.to_records()) if sensors is not None else (),
        layout=sensors.layout_id if sensors is not None else "",
        recording=facts.recording,
        config_hash=facts.config.standardise.product_hash(),
    )
    quarantine(store, record)
    return Outcome(source.shown, facts.recording, "quarantined", record.reason)


def open_header(facts: RecordingFacts, folder: Path) -> None:
    """Open a recording, read its sidecars and apply them to its header; nothing of the signal is read.

    Parameters
    ----------
    facts : RecordingFacts
        Receives the open file, the sidecars, the channel table and the events.
    folder : Path
        Folder with the archive's files.

    Raises
    ------
    RecordingError
        The file or a sidecar is damaged, or they contradict each other.
    """
    source = facts.source
    refuse_other_datatypes(source.path)
    opened = open_recording(source, folder)
    facts.raw = opened.raw
    facts.secrets = header_texts(opened.raw.info)
    sidecars = read_sidecars(source, folder)
    # A damaged header shows here as often as on opening: an unknown type, a unit that is none, a singular transform.
    with reading(source, folder):
        facts.breaks = find_breaks(facts.raw, source, folder, sidecars)
        notes = opened.notes
        moved = set_file_times(facts.raw, source, folder, facts.breaks)
        if moved is not None:
            sidecars = table_in_file_time(sidecars, facts.breaks)
            notes = (*(note for note in notes if _OMITTED not in note), *moved)
        facts.sidecars = sidecars
        table = apply_channels(facts.raw, facts.sidecars, scalp=not facts.is_intracranial)
        place = apply_contacts if facts.is_intracranial else apply_electrodes
        placed = place(facts.raw, facts.sidecars)
        facts.events = find_events(facts.raw, facts.sidecars, source.format)
        facts.table, facts.excluded = treat(facts.raw, table, source.treatment)
        facts.add_notes([*notes, *facts.sidecars.notes, *facts.table.notes, *placed])


def pick_sensors(facts: RecordingFacts, folder: Path) -> None:
    """Choose the channels that are sensors with a known position, and compare the file with its sidecars.

    Raises
    ------
    RecordingError
        No channel is usable, or the sidecars contradict the file.
    """
    source, config = facts.source, facts.config
    with reading(source, folder):
        picked = sensors_from_info(
            facts.raw.info,
            montage=_montage(source, config),
            meg_frame=config.standardise.meg_frame,
            intracranial=facts.is_intracranial,
        )
        facts.picked = picked._replace(dropped={**picked.dropped, **facts.excluded})
        if not len(picked.sensors):
            about = [note for note in facts.notes if "positions" in note]
            raise _no_usable_channel(facts.picked, about, is_intracranial=facts.is_intracranial)
        whole = facts.raw
        _read_at_own_rates(facts)
        facts.stretches = stretches_of(facts.breaks, facts.raw.n_times, facts.sfreq_source)
        if facts.breaks:
            facts.add_notes([_pause_note(facts)])
        rate, n_times = facts.sfreq_source, facts.raw.n_times
        facts.add_notes(compare(whole, facts.sidecars, sfreq=rate, n_times=n_times))
        facts.add_notes(count_note(len(picked.sensors), source.treatment))
    facts.misplaced = _geometry_fault(facts.picked.sensors)


def _read_at_own_rates(facts: RecordingFacts) -> None:
    """Replace the open file by the chosen channels at their own rates where the file has signals of several rates."""
    found = pick_rates(facts.raw, facts.picked.picks, trigger_names(facts.raw))
    if found is None:
        facts.groups = (RateGroup(facts.raw, facts.picked.picks),)
        return
    facts.raw, facts.groups = found.raw, found.groups
    facts.picked = facts.picked._replace(picks=np.arange(len(facts.picked.picks)))
    facts.add_notes(found.notes)


def _pause_note(facts: RecordingFacts) -> str:
    known = [one.pause_s for one in facts.breaks if one.pause_s]
    lasted = f", {sum(known):.3f} s of pauses without samples" if known else ""
    return (
        f"the recording is interrupted: {len(facts.stretches)} stretches{lasted}; each was standardised by itself, and"
        " times count the samples of the file"
    )


def prepare(facts: RecordingFacts, folder: Path) -> None:
    """Prepare the open file for standardising: compensate CTF data, clean as configured, read its state.

    Raises
    ------
    RecordingError
        The recording needs processing that it has not had, or a step refuses it.
    """
    source = facts.source
    with reading(source, folder):
        facts.compensation_grade = _compensate(facts.raw)
        mark_breaks(facts.raw, facts.stretches)
        facts.raw, cleaned = clean(facts.raw, facts.config.standardise.cleaning, facts.table.bad)
        refuse_shielded(facts.raw)
        facts.state = find_state(facts.raw, facts.picked.picks, source.path)
    facts.device = device_name(facts.picked.sensors, facts.sidecars, source.format)
    facts.add_notes([*facts.events.notes, *cleaned])


def write_signal(facts: RecordingFacts, folder: Path, store: Store) -> None:
    """Read, standardise and write the signal; the recording is in the store afterwards, its catalogue row is not.

    Raises
    ------
    RecordingError
        The file breaks off, or its signal is not one that can be used.
    """
    raw, picks, config = facts.raw, facts.picked.picks, facts.config
    n_samples = n_samples_at(raw.n_times, facts.sfreq_source, config.standardise.sfreq)
    scratch, limit = facts.scratch_folder(), round(config.memory_mib * 2**20)
    with ChannelRows(len(picks), n_samples, in_memory_bytes=limit, folder=scratch) as values:
        with ChannelRows(len(picks), raw.n_times, in_memory_bytes=limit, folder=scratch) as source_rows:
            read_signal(facts, folder, source_rows)
            signal = standardise_recording(source_rows, values, facts)
        marks = marked_seconds(facts.events.bad, signal.sensors.names, signal.bad.shape[1], facts.source.treatment)
        signal = replace(signal, bad=signal.bad | marks)
        raised = write_recording(
            store,
            facts.recording,
            finished(values, signal.interpolation),
            sensors=signal.sensors,
            attributes=recording_attributes(facts, signal),
            bad=signal.bad,
            measures=signal.measures,
        )
    facts.signal = signal
    facts.add_notes([*signal.notes, *rounding_note(raised)])


def _montage(source: Source, config: IngestConfig) -> str | None:
    return config.montage or (source.treatment.montage if source.treatment is not None else None)


def _no_usable_channel(
    picked: PickedSensors, about_positions: list[str], *, is_intracranial: bool = False
) -> RecordingError:
    reasons = Counter(picked.dropped.values())
    example = {reason: name for name, reason in reversed(picked.dropped.items())}
    listed = "; ".join(f"{n} such as {example[reason]!r}: {reason}" for reason, n in reasons.most_common(4))
    return RecordingError(
        "; ".join([f"no usable channel among {len(picked.dropped)} ({listed})", *about_positions]),
        stage="sensors",
        next_action=_FIX_CONTACTS if is_intracranial else _FIX_ELECTRODES,
    )


def _compensate(raw: "mne.io.BaseRaw") -> int:
    """Apply the highest CTF compensation grade that the file has coefficients for; return the grade.

    Recordings come at grade 0 to 3; the highest leaves the least of distant fields. The reference channels must still
    be in the recording. 4D's own compensation is no CTF grade and stays as recorded.
    """
    grades = [int(comp["kind"]) for comp in raw.info["comps"] if int(comp["kind"]) in _CTF_GRADES]
    current = int(raw.compensation_grade or 0)
    if grades and max(grades) != current:
        raw.apply_gradient_compensation(max(grades), verbose="ERROR")
        return max(grades)
    return current


def _geometry_fault(sensors: Sensors) -> RecordingError | None:
    """Return what is wrong with the sensor positions, or None.

    It is kept for later: a file with a wrong unit of length often has a wrong unit of the signal, and both are named.
    """
    try:
        check_geometry(sensors)
    except RecordingError as error:
        return error
    return None
