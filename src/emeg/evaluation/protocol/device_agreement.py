"""Agreement of the network's tokens between devices that recorded the same sources at the same time.

Recordings count as simultaneous if dataset, subject, session, task and run are the same, they last equally long to a
sample, and at least `FEWEST_EVENTS` events of the same types have the same onsets to a sample. EEG and MEG sensors of
one recording count as two devices.

Shape letters: C channels, N samples.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.probes import DeviceWindows, Tokens, compare_tokens, tokens_of
from emeg.store import CatalogRow, Store, open_recording, read_catalog, read_events

if TYPE_CHECKING:
    from emeg.models import EncoderModule

FEWEST_EVENTS = 4
"""Fewest events by which recordings count as simultaneous; fewer may agree by design."""
MOST_WINDOWS = 48
"""Most windows of a device that are tokenized."""


class View(NamedTuple):
    """Sensors of a recording that count as one device."""

    device: str
    recording: str
    sensors: str
    """eeg or meg if only these sensors count, else empty."""


def simultaneous_views(store: Store, rows: Sequence[CatalogRow]) -> list[tuple[View, ...]]:
    """Return groups of views of the same sources at the same time, each of two devices or more.

    Parameters
    ----------
    store : Store
    rows : sequence of CatalogRow
        Recordings to look at.
    """
    groups: dict[tuple[Any, ...], list[CatalogRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.recording):
        events = [(round(one.onset_s * 256), one.trial_type, one.value) for one in read_events(store, row.recording)]
        key: tuple[Any, ...] = (row.dataset, row.subject, row.session, row.task, row.run, round(row.duration_s * 256))
        enough = len(events) >= FEWEST_EVENTS
        groups[(*key, tuple(sorted(events)) if enough else row.recording)].append(row)
    found = []
    for own in groups.values():
        views = {view.device: view for row in own for view in _views(row)}
        if len(views) > 1:
            found.append(tuple(views[name] for name in sorted(views)))
    return found


def _views(row: CatalogRow) -> list[View]:
    device = row.device or "unknown device"
    if row.n_eeg and row.n_eeg < row.n_channels:
        return [View(f"{device}, {kind.upper()}", row.recording, kind) for kind in ("eeg", "meg")]
    return [View(device, row.recording, "")]


def device_agreement(
    store: Store, network: "EncoderModule", subjects: Sequence[str], *, window_s: float
) -> list[dict[str, Any]]:
    """Return the agreement of tokens for every pair of devices that recorded some of the subjects simultaneously.

    Parameters
    ----------
    store : Store
    network : EncoderModule
        Its tokenizer is used.
    subjects : sequence of str
        Global names; recordings of others are not used.
    window_s : float
        Length of a window, s.

    Returns
    -------
    list of dict
        `emeg.evaluation.probes.TokenAgreement` as JSON, with ``n_subjects``; empty without such recordings.
    """
    chosen = set(subjects)
    rows = [row for row in read_catalog(store) if f"{row.dataset}/{row.subject}" in chosen and row.contents == "brain"]
    groups = simultaneous_views(store, rows)
    if not groups:
        return []
    each = max(MOST_WINDOWS // len(groups), 2)
    subject_of = {row.recording: f"{row.dataset}/{row.subject}" for row in rows}
    tokens: dict[str, list[Tokens]] = defaultdict(list)
    stretches: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, views in enumerate(groups[:MOST_WINDOWS]):
        for view in views:
            made = tokens_of(network, _read(store, view, each, window_s))
            tokens[view.device].append(made)
            stretches[view.device] += [(number, k) for k in range(len(made.codes))]
    n_codes = int(network.tokenizer.sizes.n_codes)
    joined = {device: _joined(own) for device, own in tokens.items()}
    return [
        found
        for one, other in combinations(sorted(joined), 2)
        if (found := _pair(joined, stretches, groups, subject_of, one, other, n_codes))
    ]


def _read(store: Store, view: View, n_windows: int, window_s: float) -> DeviceWindows:
    """Read windows spread over a recording; simultaneous views get the same samples."""
    opened = open_recording(store, view.recording)
    kept = np.arange(len(opened.sensors))
    if view.sensors:
        kept = np.flatnonzero(opened.sensors.is_eeg == (view.sensors == "eeg"))
    n_samples = min(round(window_s * opened.sfreq), opened.n_samples)
    n_windows = max(min(n_windows, opened.n_samples // n_samples), 1)
    starts = np.linspace(0, opened.n_samples - n_samples, n_windows).round().astype(int)
    signals = np.stack([opened.read(start, start + n_samples)[kept] for start in starts.tolist()])
    return DeviceWindows(view.device, signals.astype(np.float32), opened.sensors.take(kept))


def _joined(parts: Sequence[Tokens]) -> Tokens:
    codes, latents = (np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "latents"))
    return Tokens(parts[0].device, codes, latents)


def _pair(
    joined: dict[str, Tokens],
    stretches: dict[str, list[tuple[int, int]]],
    groups: Sequence[tuple[View, ...]],
    subject_of: dict[str, str],
    one: str,
    other: str,
    n_codes: int,
) -> dict[str, Any] | None:
    shared = sorted(set(stretches[one]) & set(stretches[other]))
    if len(shared) < 2:
        return None

    def rows(device: str) -> NDArray[np.intp]:
        return np.array([stretches[device].index(stretch) for stretch in shared], np.intp)

    found = compare_tokens(joined[one].take(rows(one)), joined[other].take(rows(other)), n_codes)
    seen = {subject_of[groups[number][0].recording] for number, _ in shared}
    return {**found._asdict(), "n_subjects": len(seen)}
