"""Define a task, or infer one from the events of a dataset."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from pydantic import PositiveFloat, field_validator

from emeg.config import Config
from emeg.data.tasks.recipes import TaskRecipe
from emeg.errors import UserError
from emeg.store import Event, Store, read_catalog, read_events

MIN_WINDOWS = 5
"""Fewest windows of a class in an inferred task."""
MIN_SUBJECTS = 3
"""Fewest subjects of a class: one each for training, validation and test."""
MIN_SHARE_OF_SUBJECTS = 0.8
"""Fewest subjects of a class as a share of those with any class: a label that marks a group is not inferred."""
MIN_BALANCE = 0.1
"""Fewest windows of a class as a share of those of the most frequent class."""
SAME_DURATION = 1.3
"""Largest ratio of durations between event types that can be conditions of one experiment."""
LONGEST_WINDOW_S = 10.0
TILED_S = 2 * LONGEST_WINDOW_S
"""Length, s, from which events can be conditions of one experiment whatever their durations: windows tile them."""
SHORTEST_WINDOW_S = 2.0
"""Shortest window, s: one window of the BrainTokenizer. Shorter events use this length from their onset on."""


_MARK = re.compile(r"(?:BAD|EDGE)(?:[_ ]|$)|(?i:boundary|new segment/?)$")
"""Labels of bad data and of interruptions, which are no conditions of an experiment."""


class TaskConfig(Config):
    """Classification task: events or labels of subjects and recordings, windows and classes."""

    name: str
    """Name of the task in reports."""
    classes: dict[str, tuple[str, ...]]
    """Trial types (or event values) of each class, as JSON on the command line: '{"left": ["left_hand", "769"]}'. With
    `label`, values of that column: '{"patient": ["MDD"], "control": ["HC"]}'."""
    window_s: PositiveFloat
    """Length of a window, s."""
    label: str | None = None
    """Column of participants.tsv, sessions.tsv or scans.tsv that holds the class of a subject or a recording, such as
    group. Windows then tile the whole recording. If not set, classes come from events."""
    offset_s: float = 0.0
    """Start of the window relative to the event's onset, s."""
    stride_s: PositiveFloat | None = None
    """Distance of windows that tile each event, s; one window per event if not set; with `label`, `window_s`."""
    modality: str | None = None
    """Use only recordings of this modality (eeg, meg, eeg+meg, ieeg)."""
    device: str | None = None
    """Use only recordings of this device."""
    dataset: str | None = None
    """Use only recordings of this dataset."""

    @field_validator("classes")
    @classmethod
    def _by_name(cls, classes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Order the classes by name: stored JSON has sorted keys, and a label is an index into the classes."""
        return dict(sorted(classes.items()))

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result; without `label`, those of versions that had no such field."""
        fields = super().product_fields()
        if self.label is None:
            del fields["label"]
        return fields


class FoundEvents(NamedTuple):
    """Events of one label: duration (s) and subject of each."""

    label: str
    durations: tuple[float, ...]
    subjects: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Tenth percentile of the durations, s: the last event of a recording is often cut short."""
        return float(np.quantile(self.durations, 0.1, method="lower"))


@dataclass(frozen=True)
class _Family:
    """Labels of similar duration."""

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
        """Return the family without labels of too few windows or subjects; None if fewer than two are left."""
        n_subjects = len({subject for m in self.members for subject in m.subjects})
        most_windows = max(self.n_windows(m) for m in self.members)
        kept = tuple(
            m
            for m in self.members
            if self.n_windows(m) >= max(MIN_WINDOWS, MIN_BALANCE * most_windows)
            and len(set(m.subjects)) >= max(MIN_SUBJECTS, MIN_SHARE_OF_SUBJECTS * n_subjects)
        )
        return _Family(kept) if len(kept) > 1 else None


def event_label(event: Event) -> str:
    """Return the trial type of an event, else its value, else an empty text."""
    return next((text for text in (event.trial_type, event.value) if text and text.lower() != "n/a"), "")


def single_task(recipe: TaskRecipe) -> TaskConfig:
    """Return a recipe as the configuration of a single task, for fine-tuning.

    Raises
    ------
    UserError
        Fine-tuning cannot do the recipe's kind of task, or its source of labels.
    """
    if reason := why_not_single(recipe):
        raise UserError(
            f"task {recipe.id}: fine-tuning {reason}; use `emeg evaluate --tasks {recipe.id}` for this task"
        )
    labels = recipe.labels
    return TaskConfig(
        name=recipe.id,
        classes=recipe.classes,
        window_s=recipe.window.length_s,
        label=None if labels.source == "events" else labels.column,
        offset_s=recipe.window.offset_s,
        stride_s=recipe.window.stride_s,
        modality=recipe.modality,
        device=recipe.device,
        dataset=recipe.dataset,
    )


def why_not_single(recipe: TaskRecipe) -> str:
    """Return what a recipe asks for that fine-tuning on a single task cannot do; empty if it can do all."""
    labels = recipe.labels
    plain_events = labels.source == "events" and labels.value == "{label}"
    if not recipe.classes or not (plain_events or labels.source in ("participants", "sessions", "scans")):
        return "needs classes, with labels of events or of a column of participants, sessions or scans"
    if recipe.split.rule not in ("cross_subject", "leave_one_subject_out"):
        return f"divides by subjects, and its split rule is {recipe.split.rule}"
    chosen = [name for name in ("include", "subjects", "sensors") if getattr(recipe, name)]
    return f"uses all recordings and sensors, and its recipe chooses by {', '.join(chosen)}" if chosen else ""


def infer_task(store: Store, dataset: str, subjects: Sequence[str] | None = None) -> TaskConfig:
    """Infer a task from the events of a dataset.

    Labels of similar duration that most subjects have, often enough and about equally often, are taken for the
    conditions of one experiment. Of several experiments the one with the longest events is chosen, then the one with
    most windows. Long events are tiled with windows. Labels that mark subjects (patients, controls) are never inferred.

    Parameters
    ----------
    subjects : sequence of str, optional
        Global names of the subjects whose events count; all if not given.

    Raises
    ------
    UserError
        There is no such dataset, or no two labels fit; the message lists the labels found.
    """
    found = _find_events(store, dataset, subjects)
    families = [family for family in map(_Family.usable, _families(found)) if family is not None]
    if not families:
        n_subjects = len({s for events in found for s in events.subjects})
        listed = (
            ", ".join(f"{e.label} {len(e.durations)}× {len(set(e.subjects))} subjects" for e in found[:8]) or "none"
        )
        raise UserError(
            f"dataset {dataset}: no task can be inferred from its events ({listed}; {n_subjects} subjects with events);"
            f" at least two labels of similar duration with {MIN_WINDOWS} windows each from {MIN_SUBJECTS} subjects are"
            " needed. Define a task: --task.name NAME --task.window-s SECONDS --task.classes"
            ' \'{"class": ["trial type"], …}\' (docs/how-to/own-task.md)'
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
        raise UserError(f"there is no dataset {dataset} in the catalogue; choose from {known}")
    durations: Mapping[str, list[float]] = defaultdict(list)
    subjects_of: Mapping[str, list[str]] = defaultdict(list)
    for row in rows:
        subject = f"{row.dataset}/{row.subject}"
        if subjects is not None and subject not in subjects:
            continue
        for event in read_events(store, row.recording):
            if (label := event_label(event)) and not _MARK.match(label):
                durations[label].append(event.duration_s if np.isfinite(event.duration_s) else 0.0)
                subjects_of[label].append(subject)
    return [FoundEvents(label, tuple(durations[label]), tuple(subjects_of[label])) for label in sorted(durations)]


def _families(found: Sequence[FoundEvents]) -> list[_Family]:
    """Group labels by duration, longest first; events shorter than 0.5 s count as instantaneous."""
    families: list[list[FoundEvents]] = []
    for events in sorted(found, key=lambda e: (-e.duration_s, e.label)):
        longest = families[-1][0].duration_s if families else 0.0
        both_tiled = events.duration_s >= TILED_S
        if families and (both_tiled or longest <= max(events.duration_s, 0.5) * SAME_DURATION):
            families[-1].append(events)
        else:
            families.append([events])
    return [_Family(tuple(members)) for members in families]
