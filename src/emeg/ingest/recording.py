"""One unit of work: a source becomes a recording in the store, or a quarantine record."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emeg.dsp.standardise import n_samples_at
from emeg.errors import RecordingError
from emeg.ingest.attributes import catalog_row, recording_attributes, rounding_note
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.config import IngestConfig
from emeg.ingest.pseudonyms import header_texts
from emeg.ingest.readers.opening import open_recording, read_signal, reading
from emeg.ingest.signal.cleaning import check_cleaning, clean
from emeg.ingest.signal.meg_state import find_state, refuse_shielded
from emeg.ingest.signal.standardising import finished, standardise_recording
from emeg.ingest.source import Source
from emeg.ingest.tables.channels import apply_channels, apply_electrodes
from emeg.ingest.tables.contradictions import compare
from emeg.ingest.tables.device import device_name
from emeg.ingest.tables.events import find_events
from emeg.ingest.tables.sidecars import read_sidecars
from emeg.ingest.tables.treatment import count_note, treat
from emeg.ingest.transfer.download import fetched, recording_id
from emeg.sensors import PickedSensors, Sensors, check_geometry, sensors_from_info
from emeg.store import (
    CatalogRow,
    Event,
    QuarantineRecord,
    Store,
    has_row,
    publish_row,
    quarantine,
    release,
    write_recording,
)
from emeg.store.claims import claimed

if TYPE_CHECKING:
    import mne

_CTF_GRADES = (1, 2, 3)


@dataclass(frozen=True)
class Outcome:
    """What became of a source."""

    source: str
    recording: str
    state: Literal["ready", "quarantined", "elsewhere"]
    """``elsewhere``: another worker has claimed it and may still be at it."""
    reason: str = ""


@dataclass
class _Found:
    """What was learned of a source before it failed."""

    sensors: Sensors | None = None
    secrets: tuple[str, ...] = ()


def ingest_recording(source: Source, config: IngestConfig) -> Outcome:
    """Bring one source into the store, or into quarantine with the reason.

    Nothing is visible before it is complete; the catalogue row comes last. A recording that another worker has claimed
    is left to it (`Outcome.state` is ``elsewhere``), and one that another has brought in is not made again.

    Raises
    ------
    TransientError
        A transfer failed; the same call may succeed later.
    """
    store = Store.open(config.root, create=True)
    name = recording_id(source, config)
    with claimed(store, name) as ours:
        if not ours:
            return Outcome(source.shown, name, "elsewhere")
        if has_row(store, name):
            return Outcome(source.shown, name, "ready")
        return _bring_in(store, name, source, config)


def refuse(source: Source, config: IngestConfig, error: RecordingError) -> Outcome:
    """Quarantine a source whose worker cannot do so itself."""
    store, name = Store.open(config.root, create=True), recording_id(source, config)
    record = _refusal(source, name, config, error, _Found())
    quarantine(store, record)
    return Outcome(record.source, name, "quarantined", record.reason)


def _bring_in(store: Store, name: str, source: Source, config: IngestConfig) -> Outcome:
    found = _Found()
    try:
        with fetched(source, config.transfer) as folder:
            row, events = _ingest(store, name, source, folder, config, found)
    except RecordingError as error:
        record = _refusal(source, name, config, error, found)
        quarantine(store, record)
        return Outcome(source.shown, name, "quarantined", record.reason)
    publish_row(store, row, events)
    release(store, source.dataset, source.shown)
    return Outcome(source.shown, name, "ready")


def _refusal(source: Source, name: str, config: IngestConfig, error: RecordingError, found: _Found) -> QuarantineRecord:
    message = str(error)
    message = source.scrubbed(message, found.secrets)
    return QuarantineRecord(
        source=source.shown,
        dataset=source.dataset,
        stage=error.stage,
        reason=message if message.startswith(source.shown) else f"{source.shown}: {message}",
        next_action=source.scrubbed(error.next_action, found.secrets),
        sensors=tuple(found.sensors.to_records()) if found.sensors is not None else (),
        layout=found.sensors.layout_id if found.sensors is not None else "",
        recording=name,
        config_hash=config.standardise.product_hash(),
    )


def _ingest(
    store: Store, name: str, source: Source, folder: Path, config: IngestConfig, found: _Found
) -> tuple[CatalogRow, tuple[Event, ...]]:
    check_cleaning(config.standardise.cleaning)
    opened = open_recording(source, folder)
    raw = opened.raw
    found.secrets = header_texts(raw.info)
    sidecars = read_sidecars(source, folder)
    # A damaged header shows here as often as on opening: an unknown type, a unit that is none, a singular transform.
    with reading(source, folder):
        table = apply_channels(raw, sidecars)
        placed = apply_electrodes(raw, sidecars)
        events = find_events(raw, sidecars)
        table, excluded = treat(raw, table, source.treatment)
        picked = sensors_from_info(raw.info, montage=_montage(source, config), meg_frame=config.standardise.meg_frame)
        picked = picked._replace(dropped={**picked.dropped, **excluded})
        notes = [*opened.notes, *sidecars.notes, *table.notes, *placed, *compare(raw, sidecars)]
        notes += count_note(len(picked.sensors), source.treatment)
        if not len(picked.sensors):
            raise _no_usable_channel(picked)
        found.sensors = picked.sensors
        grade = _compensate(raw)
        raw, cleaned = clean(raw, config.standardise.cleaning, table.bad)
        refuse_shielded(raw)
        state = find_state(raw, picked.picks, source.path)
    misplaced = _geometry_fault(picked.sensors)
    device = device_name(picked.sensors, sidecars, source.format)
    n_samples = n_samples_at(raw.n_times, float(raw.info["sfreq"]), config.standardise.sfreq)
    scratch = Path(config.transfer.scratch) if config.transfer.scratch else None
    limit = round(config.memory_mib * 2**20)
    with ChannelRows(len(picked.picks), n_samples, in_memory_bytes=limit, folder=scratch) as values:
        with ChannelRows(len(picked.picks), raw.n_times, in_memory_bytes=limit, folder=scratch) as source_rows:
            read_signal(source, folder, raw, picked.picks, source_rows)
            signal = standardise_recording(
                source_rows, values, raw, picked, table, sidecars, config.standardise, misplaced
            )
        raised = write_recording(
            store,
            name,
            finished(values, signal.interpolation),
            sensors=signal.sensors,
            attributes=recording_attributes(source, signal, device, raw, config),
            bad=signal.bad,
            measures=signal.measures,
        )
    notes += [*events.notes, *cleaned, *signal.notes, *rounding_note(raised)]
    notes = [source.scrubbed(note, found.secrets) for note in notes]
    return catalog_row(
        name, source, raw, signal, picked, state, device, grade, len(events.events), notes, config
    ), events.events


def _montage(source: Source, config: IngestConfig) -> str | None:
    return config.montage or (source.treatment.montage if source.treatment is not None else None)


def _no_usable_channel(picked: PickedSensors) -> RecordingError:
    reasons = Counter(picked.dropped.values())
    example = {reason: name for name, reason in reversed(picked.dropped.items())}
    listed = "; ".join(f"{n} such as {example[reason]!r}: {reason}" for reason, n in reasons.most_common(4))
    return RecordingError(
        f"no usable channel among {len(picked.dropped)} ({listed})",
        stage="sensors",
        next_action="give positions (electrodes.tsv, or a montage for the dataset) or types (channels.tsv)",
    )


def _compensate(raw: "mne.io.BaseRaw") -> int:
    """Bring CTF data to the highest compensation grade that the file has coefficients for; returns the grade.

    Recordings come at grade 0 to 3; the highest leaves the least of distant fields. It must be done while the
    reference channels are still there. 4D's own compensation is no CTF grade and stays as recorded.
    """
    grades = [int(comp["kind"]) for comp in raw.info["comps"] if int(comp["kind"]) in _CTF_GRADES]
    current = int(raw.compensation_grade or 0)
    if grades and max(grades) != current:
        raw.apply_gradient_compensation(max(grades), verbose="ERROR")
        return max(grades)
    return current


def _geometry_fault(sensors: Sensors) -> RecordingError | None:
    """Keep the gate's verdict for later: a file with wrong units often has them wrong in both, and both are told."""
    try:
        check_geometry(sensors)
    except RecordingError as error:
        return error
    return None
