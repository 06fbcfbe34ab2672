"""Tasks: which events are which class, and what an archive that nobody described could be asked."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pydantic import PositiveFloat

from emeg.config import Config
from emeg.errors import UserError
from emeg.store import Event, Store, read_catalog, read_events

MIN_WINDOWS = 5
"""A class needs this many windows to be inferred."""
MIN_PEOPLE = 3
"""… and this many people: one each for training, validation and test."""
MIN_SHARE_OF_PEOPLE = 0.8
"""… and this share of those who have any class of the family: a label that marks a group is nothing to infer."""
MIN_BALANCE = 0.1
"""… and this share of the windows of the commonest class."""
SAME_DURATION = 1.3
"""Event types whose durations differ by less than this factor can be one experiment's conditions."""
LONGEST_WINDOW_S = 10.0
SHORTEST_WINDOW_S = 2.0
"""A window of the BrainTokenizer; shorter events, and those without duration, get as much from their onset on."""


class TaskConfig(Config):
    """A question to ask of windows: which class is it."""

    name: str
    """Name in reports."""
    classes: dict[str, tuple[str, ...]]
    """Class -> trial types (event values where events have no trial type) that belong to it; as a flag in JSON:
    '{"left": ["left_hand", "769"]}'."""
    window_s: PositiveFloat
    """Length of a window, s."""
    offset_s: float = 0.0
    """Start of the window after the event's onset, s; may be negative."""
    stride_s: PositiveFloat | None = None
    """Tile each event's duration with windows so far apart, s. None: one window an event."""
    modality: str | None = None
    """Only recordings of this modality (eeg, meg, eeg+meg). None: any."""
    device: str | None = None
    """Only recordings of this device. None: any."""
    dataset: str | None = None
    """Only recordings of this dataset. None: any."""


class FoundEvents(NamedTuple):
    """Events of one label: durations (s) and people, event by event."""

    label: str
    durations: tuple[float, ...]
    people: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Duration that nine events in ten have; the last of a recording is often cut short."""
        return float(np.quantile(self.durations, 0.1, method="lower"))


@dataclass(frozen=True)
class _Family:
    """Labels of like duration."""

    members: tuple[FoundEvents, ...]
    window_s: float = field(init=False)
    stride_s: float | None = field(init=False)

    def __post_init__(self) -> None:
        shortest = min(m.duration_s for m in self.members)
        window = min(max(shortest, SHORTEST_WINDOW_S), LONGEST_WINDOW_S)
        object.__setattr__(self, "window_s", round(window, 3))
        object.__setattr__(self, "stride_s", round(window, 3) if shortest >= 2 * window else None)

    def n_windows(self, member: FoundEvents) -> int:
        if self.stride_s is None:
            return len(member.durations)
        return sum(max(0, 1 + int((d - self.window_s) / self.stride_s + 1e-6)) for d in member.durations)

    def usable(self) -> "_Family | None":
        """Keep the labels with enough windows and people; None where fewer than two are left."""
        n_people = len({person for m in self.members for person in m.people})
        most_windows = max(self.n_windows(m) for m in self.members)
        kept = tuple(
            m
            for m in self.members
            if self.n_windows(m) >= max(MIN_WINDOWS, MIN_BALANCE * most_windows)
            and len(set(m.people)) >= max(MIN_PEOPLE, MIN_SHARE_OF_PEOPLE * n_people)
        )
        return _Family(kept) if len(kept) > 1 else None


def event_label(event: Event) -> str:
    """Trial type, or the value where there is none; empty where there is neither."""
    return next((text for text in (event.trial_type, event.value) if text and text.lower() != "n/a"), "")


def infer_task(store: Store, dataset: str, subjects: Sequence[str] | None = None) -> TaskConfig:
    """Find a task in the events of a dataset that nobody described.

    Labels of like duration that most people have, often enough and about equally often, are taken for the conditions
    of one experiment; of several experiments the one with the longest events is chosen, then the one with most
    windows. Long events are tiled with windows. Labels that mark people (patients, controls) are never inferred.

    Parameters
    ----------
    subjects : sequence of str, optional
        Look at these people's events only, by global name.

    Raises
    ------
    UserError
        There is no such dataset, or no two labels fit; the message lists what was found.
    """
    found = _find_events(store, dataset, subjects)
    families = [family for family in map(_Family.usable, _families(found)) if family is not None]
    if not families:
        people = len({p for events in found for p in events.people})
        listed = ", ".join(f"{e.label} {len(e.durations)}× {len(set(e.people))} people" for e in found[:8]) or "none"
        raise UserError(
            f"dataset {dataset}: no task can be read from its events ({listed}; {people} people with events); two"
            f" labels of like duration, {MIN_WINDOWS} windows each from {MIN_PEOPLE} people, are needed: describe one"
        )
    best = max(families, key=lambda f: (f.window_s, sum(f.n_windows(m) for m in f.members), f.members[0].label))
    labels = sorted(m.label for m in best.members)
    return TaskConfig(
        name=dataset,
        classes={label: (label,) for label in labels},
        window_s=best.window_s,
        stride_s=best.stride_s,
        dataset=dataset,
    )


def _find_events(store: Store, dataset: str, subjects: Sequence[str] | None) -> list[FoundEvents]:
    rows = [row for row in read_catalog(store) if row.dataset == dataset]
    if not rows:
        known = ", ".join(sorted({row.dataset for row in read_catalog(store)})) or "none"
        raise UserError(f"there is no dataset {dataset} in the catalogue; there are {known}")
    durations: Mapping[str, list[float]] = defaultdict(list)
    people: Mapping[str, list[str]] = defaultdict(list)
    for row in rows:
        person = f"{row.dataset}/{row.subject}"
        if subjects is not None and person not in subjects:
            continue
        for event in read_events(store, row.recording):
            if label := event_label(event):
                durations[label].append(event.duration_s if np.isfinite(event.duration_s) else 0.0)
                people[label].append(person)
    return [FoundEvents(label, tuple(durations[label]), tuple(people[label])) for label in sorted(durations)]


def _families(found: Sequence[FoundEvents]) -> list[_Family]:
    """Group labels by duration, longest first; what is shorter than half a second counts as a moment."""
    families: list[list[FoundEvents]] = []
    for events in sorted(found, key=lambda e: (-e.duration_s, e.label)):
        longest = families[-1][0].duration_s if families else 0.0
        if families and (longest <= max(events.duration_s, 0.5) * SAME_DURATION):
            families[-1].append(events)
        else:
            families.append([events])
    return [_Family(tuple(members)) for members in families]
