"""One unit of work: a source becomes a recording in the store, or a quarantine record."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from emeg import __version__
from emeg.errors import RecordingError
from emeg.ingest.channels import ChannelTable, apply_channels, apply_electrodes
from emeg.ingest.cleaning import check_cleaning, clean
from emeg.ingest.config import IngestConfig, StandardiseConfig
from emeg.ingest.contradictions import believable_mains, compare
from emeg.ingest.device import device_name
from emeg.ingest.events import find_events
from emeg.ingest.interpolation import Interpolation, interpolation
from emeg.ingest.kernel.mains import detect_mains
from emeg.ingest.kernel.response import Band, plan_band
from emeg.ingest.kernel.standardise import ROWS_AT_ONCE, n_samples_at, standardise
from emeg.ingest.listing import Source
from emeg.ingest.pseudonyms import header_texts
from emeg.ingest.quality import (
    BadChannels,
    bad_seconds,
    find_bad_channels,
    flat_channels,
    refuse_amplitude,
    refuse_nan,
    same_signal,
)
from emeg.ingest.readers import open_recording, read_signal, reading
from emeg.ingest.rows import ChannelRows
from emeg.ingest.sidecars import Sidecars, read_sidecars
from emeg.ingest.state import State, find_state, refuse_shielded
from emeg.ingest.transfer import fetched, recording_id
from emeg.ingest.treatment import count_note, treat
from emeg.sensors import PickedSensors, Sensors, SensorType, check_geometry, sensors_from_info
from emeg.store import (
    BadReason,
    CatalogRow,
    Event,
    QuarantineRecord,
    RecordingAttributes,
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

_LOWEST_LOWPASS_HZ = 1.0
"""A header that claims a low-pass at or below this has a wrong number in it, not a signal without a spectrum."""

_CTF_GRADES = (1, 2, 3)

ROWS_BYTES = 2**26
"""Source signal that is filtered at once, 64 MiB."""

STRETCH = 153_600
"""Samples of all channels that are handed to the store at once: ten minutes, one shard."""

JUDGED_S, JUDGED_STRETCH_S = 600.0, 10.0
"""Signal that a channel is judged among its neighbours by, s, and in which stretches it is taken of a longer recording:
what a whole night needs in memory is then what ten minutes need."""


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


@dataclass(frozen=True)
class _Signal:
    """A standardised recording, not yet written."""

    n_samples: int
    sensors: Sensors
    bad: NDArray[np.uint8]
    channels: BadChannels
    interpolation: Interpolation
    band: Band
    mains: float
    notes: tuple[str, ...]


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
    with claimed(store, name, seconds=2 * config.time_limit_s) as ours:
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
            signal = _standardise(source_rows, values, raw, picked, table, sidecars, config.standardise, misplaced)
        raised = write_recording(
            store,
            name,
            _finished(values, signal.interpolation),
            sensors=signal.sensors,
            attributes=_attributes(source, signal, device, raw, config),
            bad=signal.bad,
        )
    notes += [*events.notes, *cleaned, *signal.notes, *_rounding_note(raised)]
    notes = [source.scrubbed(note, found.secrets) for note in notes]
    return _row(
        name, source, raw, signal, picked, state, device, grade, len(events.events), notes, config
    ), events.events


def _rounding_note(raised: float) -> tuple[str, ...]:
    """Where the spectrum falls so low under the peak that sixteen bits do not span both, the peak wins."""
    if not raised:
        return ()
    return (f"in {raised:.2%} of channels × chunks rounding noise may be less than 20 dB under the spectrum",)


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


def _finished(values: ChannelRows, replaced: Interpolation) -> Iterator[NDArray[np.float32]]:
    """Give stretches of the standardised signal, bad channels replaced."""
    for start in range(0, values.shape[1], STRETCH):
        block = values.columns(start, start + STRETCH)
        replaced.apply(block)
        yield block


def _geometry_fault(sensors: Sensors) -> RecordingError | None:
    """Keep the gate's verdict for later: a file with wrong units often has them wrong in both, and both are told."""
    try:
        check_geometry(sensors)
    except RecordingError as error:
        return error
    return None


def _standardise(
    source_rows: ChannelRows,
    values: ChannelRows,
    raw: "mne.io.BaseRaw",
    picked: PickedSensors,
    table: ChannelTable,
    sidecars: Sidecars,
    config: StandardiseConfig,
    misplaced: RecordingError | None,
) -> _Signal:
    """Fill `values` channel by channel; judge the channels."""
    sfreq = float(raw.info["sfreq"])
    sensors = picked.sensors
    notes: list[str] = []
    _scale(source_rows, picked, table)
    refuse_nan(source_rows, sensors)
    mains = _mains(_middle(source_rows, sfreq), raw, sidecars, notes)
    band = plan_band(
        sfreq=sfreq,
        l_freq=config.l_freq,
        h_freq=config.h_freq,
        lowpass=_lowpass(raw, sidecars, notes),
        mains=mains if config.notch else 0.0,
    )
    at_once = ROWS_AT_ONCE * max(1, ROWS_BYTES // (4 * ROWS_AT_ONCE * source_rows.shape[1]))
    for first in range(0, len(source_rows), at_once):
        rows_CN = source_rows.rows(first, first + at_once)
        with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond single precision are refused by their size
            values.put(first, 0, standardise(rows_CN, band, sfreq_in=sfreq, sfreq_out=config.sfreq))
    flat_C = flat_channels(source_rows, values, sensors)
    _refuse_units(values, sensors, flat_C, misplaced)
    judged_CN = _evenly(values, config.sfreq)
    if same_signal(judged_CN[~flat_C]):
        notes.append("all channels carry the same signal: a test signal of the amplifier, or a shorted cap")
    channels = find_bad_channels(judged_CN, sensors, sfreq=config.sfreq, flat_C=flat_C, marked=table.bad)
    _refuse_bad_share(channels, sensors, config.max_bad_share)
    bad_CS = bad_seconds(source_rows, values, channels, sfreq_source=sfreq, sfreq=config.sfreq)
    wanted = channels.indices if config.bad_channels == "interpolate" else np.empty(0, np.intp)
    replaced = interpolation(sensors, wanted, raw.info, picked.picks)
    bad_CS[replaced.channels] |= int(BadReason.INTERPOLATED)
    return _Signal(values.shape[1], sensors, bad_CS, channels, replaced, band, mains, (*notes, *channels.notes))


def _scale(source_rows: ChannelRows, picked: PickedSensors, table: ChannelTable) -> None:
    for channel, name in enumerate(picked.sensors.names):
        if name in table.scales:
            source_rows.put(channel, 0, source_rows[channel][None] * np.float32(table.scales[name]))


def _middle(source_rows: ChannelRows, sfreq: float) -> NDArray[np.float32]:
    """Two minutes from the middle, or all there is."""
    middle, half = source_rows.shape[1] // 2, round(60 * sfreq)
    return source_rows.columns(max(0, middle - half), middle + half)


def _evenly(values: ChannelRows, sfreq: float) -> NDArray[np.float32]:
    """Take what channels are judged by: all of it up to `JUDGED_S`, of more as much in stretches spread evenly."""
    n, length = values.shape[1], round(JUDGED_STRETCH_S * sfreq)
    count = round(JUDGED_S / JUDGED_STRETCH_S)
    if n <= count * length:
        return values.columns(0, n)
    starts = np.linspace(0, n - length, count).astype(int)
    return np.concatenate([values.columns(start, start + length) for start in starts], axis=1)


def _refuse_units(
    signal_CN: ChannelRows, sensors: Sensors, flat_C: NDArray[np.bool_], misplaced: RecordingError | None
) -> None:
    try:
        refuse_amplitude(signal_CN, sensors, flat_C)
    except RecordingError as error:
        if misplaced is None:
            raise
        raise RecordingError(
            f"{misplaced}; and {error}",
            stage=misplaced.stage,
            next_action=f"{misplaced.next_action}; {error.next_action}",
        ) from error
    if misplaced is not None:
        raise misplaced


def _refuse_bad_share(channels: BadChannels, sensors: Sensors, most: float) -> None:
    n = len(channels.indices)
    if n > most * len(sensors):
        raise RecordingError(
            f"{n} of {len(sensors)} channels are bad, more than the share of {most:g} that is accepted"
            f" (such as {sensors.names[int(channels.indices[0])]!r})",
            stage="signal",
            next_action="look at the recording; raise max_bad_share if it is worth keeping",
        )


def _mains(source_CN: NDArray[np.float32], raw: "mne.io.BaseRaw", sidecars: Sidecars, notes: list[str]) -> float:
    stated = believable_mains(sidecars.mains or float(raw.info["line_freq"] or 0.0), notes)
    if stated > 0.0:
        return stated
    detected = detect_mains(source_CN, float(raw.info["sfreq"]))
    notes.append(
        f"mains frequency not stated; {detected:g} Hz found in the spectrum"
        if detected
        else "mains frequency neither stated nor found in the spectrum"
    )
    return detected


def _lowpass(raw: "mne.io.BaseRaw", sidecars: Sidecars, notes: list[str]) -> float:
    """Low-pass of the source, Hz, from header and sidecar; 0 where none is below Nyquist."""
    nyquist = float(raw.info["sfreq"]) / 2.0
    stated = [value for value in (float(raw.info["lowpass"] or 0.0), sidecars.lowpass) if 0.0 < value < nyquist]
    believed = [value for value in stated if value > _LOWEST_LOWPASS_HZ]
    if len(believed) < len(stated):
        notes.append(f"a low-pass of {min(stated):g} Hz is stated, which no recording has; not believed")
    return min(believed, default=0.0)


def _attributes(
    source: Source, signal: _Signal, device: str, raw: "mne.io.BaseRaw", config: IngestConfig
) -> RecordingAttributes:
    return RecordingAttributes(
        sfreq=config.standardise.sfreq,
        pass_band=_pass_band(signal, raw),
        notches=signal.band.notches,
        device=device,
        layout=signal.sensors.layout_id,
        source=source.shown,
        dataset=source.dataset,
        subject=source.subject,
        licence=source.licence,
        config_hash=config.standardise.product_hash(),
        version=__version__,
    )


def _pass_band(signal: _Signal, raw: "mne.io.BaseRaw") -> tuple[float, float]:
    """Say what the signal holds: our band, or the source's high-pass where that is higher."""
    highpass = round(float(raw.info["highpass"] or 0.0), 6)
    low = highpass if signal.band.low < highpass < signal.band.high else signal.band.low
    return low, signal.band.high


def _row(
    name: str,
    source: Source,
    raw: "mne.io.BaseRaw",
    signal: _Signal,
    picked: PickedSensors,
    state: State,
    device: str,
    grade: int,
    n_events: int,
    notes: list[str],
    config: IngestConfig,
) -> CatalogRow:
    sensors = signal.sensors
    low, high = _pass_band(signal, raw)
    counts = {kind: int(np.count_nonzero(sensors.types == kind)) for kind in SensorType}
    return CatalogRow(
        recording=name,
        dataset=source.dataset,
        subject=source.subject,
        session=source.session,
        task=source.task,
        run=source.run,
        acquisition=source.acquisition,
        device=device,
        modality=sensors.modality,
        source=source.shown,
        n_channels=len(sensors),
        n_eeg=counts[SensorType.EEG],
        n_magnetometers=counts[SensorType.MAGNETOMETER],
        n_gradiometers=counts[SensorType.GRADIOMETER],
        layout=sensors.layout_id,
        sfreq_source=float(raw.info["sfreq"]),
        duration_s=signal.n_samples / config.standardise.sfreq,
        pass_band_low=low,
        pass_band_high=high,
        notches=signal.band.notches,
        mains=signal.mains,
        bad_channels=tuple(sensors.names[i] for i in signal.channels.indices),
        interpolated=tuple(sensors.names[i] for i in signal.interpolation.channels),
        dropped=picked.dropped,
        compensation_grade=grade,
        **state._asdict(),
        n_events=n_events,
        licence=source.licence,
        notes=tuple(dict.fromkeys(notes)),
        config_hash=config.standardise.product_hash(),
        version=__version__,
    )
