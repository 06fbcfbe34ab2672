"""Marks and measures of an interrupted recording: each side of a pause by itself."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.signal.test_measures import SFREQ, noise, sensors  # noqa: F401 - a fixture

from emeg.dsp.response import Band
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.signal.bad_channels import BadChannels, bad_seconds, flat_channels
from emeg.ingest.signal.constant_stretches import find_constant
from emeg.ingest.signal.measures import SourceLook, bad_segments, by_segment, measure, segment_pieces
from emeg.ingest.signal.pieces import Span, divide
from emeg.store import BadReason


@st.composite
def interrupted(draw):
    """Draw cells, and spans of the same samples with gaps between some of them."""
    n = draw(st.integers(1, 60))
    length = draw(st.integers(1, 12))
    cuts = sorted(draw(st.sets(st.integers(0, n), max_size=6)) | {0, n})
    spans = [Span(a, b) for a, b in itertools.pairwise(cuts) if draw(st.booleans())] or [Span(0, n)]
    return np.minimum(np.arange(-(-n // length) + 1) * length, n), spans


@given(interrupted())
def test_every_sample_is_in_one_piece_of_its_cell_and_no_piece_crosses_the_end_of_a_span(drawn):
    bounds, spans = drawn
    pieces = divide(bounds, spans)
    covered = np.zeros(bounds[-1], int)
    for piece, (start, stop) in enumerate(itertools.pairwise(pieces.bounds.tolist())):
        covered[start:stop] += 1
        cell = pieces.cells[piece]
        assert bounds[cell] <= start < stop <= bounds[cell + 1]
        inside = [span for span in spans if span.start <= start and stop <= span.stop]
        outside = all(stop <= span.start or span.stop <= start for span in spans)
        assert (len(inside) == 1) == pieces.recorded[piece] != outside
    assert (covered == 1).all()
    for cell, piece in enumerate(pieces.longest().tolist()):
        mine = [p for p in range(len(pieces.cells)) if pieces.cells[p] == cell]
        best = max((bool(pieces.recorded[p]), int(pieces.lengths[p])) for p in mine)
        assert (bool(pieces.recorded[piece]), int(pieces.lengths[piece])) == best


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.sets(st.integers(1, 59), max_size=5))
def test_runs_divided_at_cuts_are_the_runs_of_the_parts(values, cuts):
    row = np.array(values, np.float32)
    at = [0, *sorted(cut for cut in cuts if cut < len(row)), len(row)]
    parts = [(a, find_constant(row[a:b])) for a, b in itertools.pairwise(at)]
    expected = [(a + s, a + e) for a, runs in parts for s, e in zip(runs.starts, runs.stops, strict=True)]
    found = find_constant(row).split(np.array(at[1:-1], np.intp))
    assert list(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == expected


def look(rows, spans, sfreq=SFREQ, mains=0.0):
    seen = SourceLook(*rows.shape, round(rows.shape[1] / sfreq), sfreq=sfreq, mains=mains, spans=spans)
    seen.measure(0, rows)
    return seen


def test_each_side_of_a_pause_has_its_own_extremes_and_its_own_runs():
    """Both sides stay at their highest value; the second lies 5 units lower. A run over the pause is two short ones."""
    rows = noise(1, 20)
    rows[0, 3 * 256 : 3 * 256 + 6] = 9.0
    rows[0, 10 * 256 :] -= 5.0
    rows[0, 15 * 256 : 15 * 256 + 6] = 4.0
    rows[0, 10 * 256 - 20 : 10 * 256 + 20] = rows[0, 10 * 256]  # 0.08 s on each side: too short to be flat
    sides = look(rows, [Span(0, 2560), Span(2560, 5120)])
    assert np.flatnonzero(sides.bad[0] & int(BadReason.CLIPPED)).tolist() == [3, 15]
    assert not sides.values[0].any()
    whole = look(rows, [Span(0, 5120)])
    assert np.flatnonzero(whole.bad[0] & int(BadReason.CLIPPED)).tolist() == [3]
    assert whole.values[0].any()


def test_the_mains_ratio_of_a_divided_segment_is_that_of_its_longest_piece():
    """A hum of 50 Hz that exists on one side of a pause only, at 13 s of 30."""
    sfreq = 500.0
    rows = noise(2, 30, sfreq)
    time = np.arange(rows.shape[1]) / sfreq
    rows[:, 6500:] += (2.0 * np.sin(2 * np.pi * 50.0 * time[6500:])).astype(np.float32)
    seen = look(rows, [Span(0, 6500), Span(6500, 15000)], sfreq, mains=50.0)
    alone = look(np.ascontiguousarray(rows[:, 6500:10000]), (), sfreq, mains=50.0)
    short = look(np.ascontiguousarray(rows[:, :6500]), (), sfreq, mains=50.0)
    assert seen.values[2, :, 0] == pytest.approx(short.values[2, :, 0], rel=1e-5)
    assert seen.values[2, :, 1] == pytest.approx(alone.values[2, :, 0], rel=1e-4)
    assert seen.values[2, :, 1] == pytest.approx(seen.values[2, :, 2], rel=0.5)


def test_measures_and_marks_of_both_sides_are_those_of_the_sides_alone(sensors):  # noqa: F811
    """A pause at 13 s of 30: noise of high frequencies in one channel before it, a lonely channel behind it."""

    def slow(n_channels, seed):
        spectrum = np.fft.rfft(noise(n_channels, 30, seed=seed), axis=1)
        return np.fft.irfft(spectrum / np.maximum(np.arange(spectrum.shape[1]), 150.0), axis=1) * 150.0

    rows = (1e-5 * (slow(1, 3) + 0.3 * slow(19, 4))).astype(np.float32)
    rows[4, : 13 * 256] += (3e-5 * np.diff(noise(1, 30, seed=5), append=0.0))[0, : 13 * 256]
    rows[7, 13 * 256 :] = 1e-5 * slow(1, 6)[0, 13 * 256 :]
    spans = [Span(0, 13 * 256), Span(13 * 256, 30 * 256)]
    flat = np.zeros(19, bool)

    def judged(signal, spans):
        with ChannelRows(*signal.shape, in_memory_bytes=2**30) as values:
            values.put(0, 0, signal)
            pieces = segment_pieces(signal.shape[1], spans, sfreq=SFREQ)
            seen = look(signal, spans)
            found = measure(values, sensors, flat, seen, Band(0.1, 96.0), sfreq=SFREQ, pieces=pieces)
            return by_segment(found, pieces), bad_segments(found, sensors, flat), pieces

    measures, marks, pieces = judged(rows, spans)
    assert pieces.bounds.tolist() == [0, 2560, 3328, 5120, 7680]
    for start, stop, piece in ((0, 2560, 0), (2560, 3328, 1), (3328, 5120, 2), (5120, 7680, 3)):
        alone, own_marks, _ = judged(np.ascontiguousarray(rows[:, start:stop]), ())
        assert np.array_equal(marks[:, piece], own_marks[:, 0])
        if piece != 1:
            column = {0: 0, 2: 1, 3: 2}[piece]
            for name in ("deviation", "high_frequency", "correlation", "neighbours"):
                assert np.array_equal(measures.of(name)[:, column], alone.of(name)[:, 0])
    noisy, lonely = int(BadReason.NOISY), int(BadReason.UNCORRELATED)
    assert [bool(marks[4, piece] & noisy) for piece in (0, 2, 3)] == [True, False, False]
    assert [bool(marks[7, piece] & lonely) for piece in (0, 2, 3)] == [False, True, True]


def test_a_second_with_a_pause_is_no_noisier_than_its_sides():
    rows = noise(2, 20)
    rows[0, 3200:] += 40.0  # another offset behind the pause at 12.5 s
    good = BadChannels(np.zeros(2, np.uint8), ())
    none = np.zeros((2, 20), np.uint8)
    joined = bad_seconds(rows, good, none, sfreq=SFREQ)
    assert np.flatnonzero(joined[0]).tolist() == [12]
    assert not bad_seconds(rows, good, none, sfreq=SFREQ, spans=[Span(0, 3200), Span(3200, 5120)]).any()


def test_samples_that_fill_a_pause_do_not_make_a_channel_flat_or_quiet(sensors):  # noqa: F811
    rows = 1e-5 * noise(19, 20)
    rows[:, 1280:4608] = 0.0  # 13 of 20 s
    rows[3] *= 5e-4
    spans = [Span(0, 1280), Span(4608, 5120)]
    assert np.flatnonzero(flat_channels(rows, rows, sensors, spans)).tolist() == [3]
    marks = bad_seconds(rows, BadChannels(np.zeros(19, np.uint8), ()), np.zeros((19, 20), np.uint8), sfreq=SFREQ)
    assert marks.any()  # a median of zeros calls the seconds with a signal noisy
    kept = bad_seconds(
        rows, BadChannels(np.zeros(19, np.uint8), ()), np.zeros((19, 20), np.uint8), sfreq=SFREQ, spans=spans
    )
    assert not kept.any()
