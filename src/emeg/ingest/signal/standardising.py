"""From a source's samples to a standardised signal, its bad channels and seconds, and measures of its quality.

Shape letters: C channels, N samples.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emeg.dsp.mains import detect_mains
from emeg.dsp.response import Band, plan_band
from emeg.dsp.standardise import ROWS_AT_ONCE, standardise
from emeg.errors import RecordingError
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.facts import RecordingFacts, Standardised
from emeg.ingest.readers.breaks import Stretch
from emeg.ingest.signal.bad_channels import (
    BadChannels,
    bad_seconds,
    find_bad_channels,
    flat_channels,
    refuse_amplitude,
    refuse_nan,
    same_signal,
)
from emeg.ingest.signal.interpolation import Interpolation, interpolation
from emeg.ingest.signal.measures import (
    SEGMENT_S,
    SourceLook,
    bad_segments,
    by_segment,
    measure,
    segment_pieces,
)
from emeg.ingest.signal.pieces import Pieces, Span
from emeg.ingest.tables.channels import ChannelTable
from emeg.ingest.tables.contradictions import believable_mains
from emeg.sensors import PickedSensors, Sensors
from emeg.store import BadReason

_LOWEST_LOWPASS_HZ = 1.0
"""Low-pass frequency, Hz, at or below which the header is taken to be wrong."""

ROWS_BYTES = 2**26
"""Size of the source signal that is filtered at once, 64 MiB."""

STRETCH = 153_600
"""Samples of all channels that are handed to the store at once: ten minutes, one shard."""

JUDGED_S, JUDGED_STRETCH_S = 600.0, 10.0
"""Duration of the signal by which channels are compared, s, and of the pieces in which it is taken from a longer
recording, so that a whole night needs no more memory than ten minutes."""


def standardise_recording(source_rows: ChannelRows, values: ChannelRows, facts: RecordingFacts) -> Standardised:
    """Standardise a recording channel by channel; judge the channels and measure the segments.

    Parameters
    ----------
    source_rows, values : ChannelRows
        The source in volts, teslas or teslas per metre, whose units are corrected in place, and the table that receives
        the standardised signal.
    facts : RecordingFacts
        What is known of the recording; it is not changed.

    Raises
    ------
    RecordingError
        Samples that are no numbers, wrong units, misplaced sensors, too many bad channels.
    """
    sfreq, config = facts.sfreq_source, facts.config.standardise
    picked, table = facts.picked, facts.table
    sensors = picked.sensors
    notes: list[str] = []
    _scale(source_rows, picked, table)
    refuse_nan(source_rows, sensors)
    mains = _mains(_middle(source_rows, facts.stretches, sfreq), facts, notes)
    band = plan_band(
        sfreq=sfreq,
        l_freq=config.l_freq,
        h_freq=config.h_freq,
        lowpass=_lowpass(facts, notes),
        mains=mains if config.notch else 0.0,
    )
    n_seconds = -(-values.shape[1] // round(config.sfreq))
    recorded = [Span(one.start, one.stop) for one in facts.stretches]
    spans = [_stored(one, sfreq, config.sfreq, values.shape[1]) for one in recorded]
    seen = SourceLook(*source_rows.shape, n_seconds, sfreq=sfreq, mains=mains, spans=recorded)
    _filter(source_rows, values, band, seen, facts)
    flat_C = flat_channels(source_rows, values, sensors, spans)
    _refuse_units(values, sensors, flat_C, facts.misplaced, spans)
    judged_CN = _evenly(values, config.sfreq, spans)
    if same_signal(judged_CN[~flat_C]):
        notes.append("all channels carry the same signal: a test signal of the amplifier, or a shorted cap")
    channels = find_bad_channels(judged_CN, sensors, sfreq=config.sfreq, flat_C=flat_C, marked=table.bad)
    _refuse_bad_share(channels, sensors, config.max_bad_share)
    pieces = segment_pieces(values.shape[1], spans, sfreq=config.sfreq)
    measures = measure(values, sensors, flat_C, seen, band, sfreq=config.sfreq, pieces=pieces)
    marks = bad_seconds(values, channels, seen.bad, sfreq=config.sfreq, spans=spans)
    marks |= _by_second(bad_segments(measures, sensors, flat_C), pieces, n_seconds, config.sfreq)
    _refuse_flat_seconds(marks)
    wanted = channels.indices if config.bad_channels == "interpolate" else np.empty(0, np.intp)
    replaced = interpolation(sensors, wanted, facts.raw.info, picked.picks)
    marks[replaced.channels] |= int(BadReason.INTERPOLATED)
    notes += channels.notes
    found = by_segment(measures, pieces)
    return Standardised(values.shape[1], sensors, marks, found, channels, replaced, band, mains, tuple(notes))


def _stored(span: Span, sfreq_in: float, sfreq_out: float, n_out: int) -> Span:
    """Return the samples of the store that a span of the source becomes."""
    start, stop = (min(round(at * sfreq_out / sfreq_in), n_out) for at in span)
    return Span(start, stop)


def _by_second(marks: NDArray[np.uint8], pieces: Pieces, n_seconds: int, sfreq: float) -> NDArray[np.uint8]:
    """Return the marks of segments by second; those of a piece are on the seconds that it touches.

    Returns
    -------
    uint8, shape (channels, n_seconds)
        `BadReason` bits, without a unit.
    """
    if not pieces.is_divided:
        return np.repeat(marks, round(SEGMENT_S), axis=1)[:, :n_seconds]
    found = np.zeros((len(marks), n_seconds), np.uint8)
    for piece in np.flatnonzero(marks.any(axis=0)).tolist():
        start, stop = pieces.bounds[piece : piece + 2]
        found[:, int(start // sfreq) : int(-(-stop // sfreq))] |= marks[:, piece, None]
    return found


def _filter(source_rows: ChannelRows, values: ChannelRows, band: Band, seen: SourceLook, facts: RecordingFacts) -> None:
    """Filter and resample all channels, some at a time, and measure the source while it is in memory.

    Every stretch is processed separately and continued by its mirror image at its ends, as a recording is. Samples
    between stretches are zero.
    """
    sfreq_in, sfreq_out = facts.sfreq_source, facts.config.standardise.sfreq
    n_out = values.shape[1]
    at_once = ROWS_AT_ONCE * max(1, ROWS_BYTES // (4 * ROWS_AT_ONCE * source_rows.shape[1]))
    for first in range(0, len(source_rows), at_once):
        rows_CN = source_rows.rows(first, first + at_once)
        for stretch in facts.stretches:
            # Sample k of the store is at k / sfreq_out for any rates, so a stretch may begin between two samples.
            start, stop = _stored(Span(stretch.start, stretch.stop), sfreq_in, sfreq_out, n_out)
            if stop <= start:
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond float32 are refused by their size
                done_CN = standardise(
                    rows_CN[:, stretch.start : stretch.stop],
                    band,
                    sfreq_in=sfreq_in,
                    sfreq_out=sfreq_out,
                    n_out=stop - start,
                    lead_s=start / sfreq_out - stretch.start / sfreq_in if stretch.start else 0.0,
                )
            values.put(first, start, done_CN)
        seen.measure(first, rows_CN)


def _scale(source_rows: ChannelRows, picked: PickedSensors, table: ChannelTable) -> None:
    for channel, name in enumerate(picked.sensors.names):
        if name in table.scales:
            source_rows.put(channel, 0, source_rows[channel][None] * np.float32(table.scales[name]))


def _middle(source_rows: ChannelRows, stretches: tuple[Stretch, ...], sfreq: float) -> NDArray[np.float32]:
    """Return two minutes from the middle of the longest stretch, or all of it."""
    longest = max(stretches, key=lambda one: one.stop - one.start)
    middle, half = (longest.start + longest.stop) // 2, round(60 * sfreq)
    return source_rows.columns(max(longest.start, middle - half), min(longest.stop, middle + half))


def _evenly(values: ChannelRows, sfreq: float, spans: list[Span]) -> NDArray[np.float32]:
    """Return the signal by which channels are compared: all of it up to `JUDGED_S`, else pieces spread evenly.

    Of an interrupted recording these are whole pieces of its stretches, so that no window of a comparison crosses a
    pause; only where all stretches are shorter than a piece are they joined.
    """
    n, length = values.shape[1], round(JUDGED_STRETCH_S * sfreq)
    count = round(JUDGED_S / JUDGED_STRETCH_S)
    if spans != [Span(0, n)]:
        whole = [start for one in spans for start in range(one.start, one.stop - length + 1, length)]
        pieces = [Span(start, start + length) for start in whole] or spans
        chosen = np.unique(np.linspace(0, len(pieces) - 1, min(count, len(pieces))).astype(int)).tolist()
        return np.concatenate([values.columns(*pieces[index]) for index in chosen], axis=1)
    if n <= count * length:
        return values.columns(0, n)
    starts = np.linspace(0, n - length, count).astype(int)
    return np.concatenate([values.columns(start, start + length) for start in starts], axis=1)


def _refuse_units(
    signal_CN: ChannelRows,
    sensors: Sensors,
    flat_C: NDArray[np.bool_],
    misplaced: RecordingError | None,
    spans: list[Span],
) -> None:
    try:
        refuse_amplitude(signal_CN, sensors, flat_C, spans)
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


def _refuse_flat_seconds(marks: NDArray[np.uint8]) -> None:
    """Refuse a recording without a second of signal in any channel, though its channels are not constant throughout."""
    if ((marks & int(BadReason.FLAT)) != 0).all():
        raise RecordingError(
            f"all {len(marks)} channels are flat in each of {marks.shape[1]} seconds: the recording holds no signal",
            stage="signal",
            next_action="check that the amplifier was connected",
        )


def _refuse_bad_share(channels: BadChannels, sensors: Sensors, most: float) -> None:
    n = len(channels.indices)
    if n > most * len(sensors):
        raise RecordingError(
            f"{n} of {len(sensors)} channels are bad, more than the share of {most:g} that is accepted"
            f" (such as {sensors.names[int(channels.indices[0])]!r})",
            stage="signal",
            next_action="inspect the recording; raise max_bad_share if it is worth keeping",
        )


def _mains(source_CN: NDArray[np.float32], facts: RecordingFacts, notes: list[str]) -> float:
    """Return the mains frequency, Hz: as stated by sidecar or header, else as found in the spectrum, else 0."""
    stated = believable_mains(facts.sidecars.mains or float(facts.raw.info["line_freq"] or 0.0), notes)
    if stated > 0.0:
        return stated
    detected = detect_mains(source_CN, facts.sfreq_source)
    notes.append(
        f"mains frequency not stated; {detected:g} Hz found in the spectrum"
        if detected
        else "mains frequency neither stated nor found in the spectrum"
    )
    return detected


def _lowpass(facts: RecordingFacts, notes: list[str]) -> float:
    """Return the low-pass of the source from header and sidecar, Hz; 0 where none is below the Nyquist frequency."""
    nyquist = facts.sfreq_source / 2.0
    both = (float(facts.raw.info["lowpass"] or 0.0), facts.sidecars.lowpass)
    stated = [value for value in both if 0.0 < value < nyquist]
    believed = [value for value in stated if value > _LOWEST_LOWPASS_HZ]
    if len(believed) < len(stated):
        notes.append(f"a low-pass of {min(stated):g} Hz is stated, which no recording has; not believed")
    return min(believed, default=0.0)


def finished(values: ChannelRows, replaced: Interpolation) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of the standardised signal, with bad channels replaced.

    Yields
    ------
    float32, shape (channels, up to `STRETCH` samples)
        V, T or T/m.
    """
    for start in range(0, values.shape[1], STRETCH):
        block = values.columns(start, start + STRETCH)
        replaced.apply(block)
        yield block
