"""Task recipes: one closed YAML file for each task, shipped in ``recipes/tasks`` or written by a user."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    model_validator,
)

from emeg.config import Config, runtime_field
from emeg.errors import UserError

Kind = Literal["classification", "regression", "retrieval", "encoding", "diagnosis"]
Rule = Literal[
    "cross_subject",
    "leave_one_subject_out",
    "within_subject_blocks",
    "cross_session",
    "held_out_device",
    "few_shot",
    "calibration",
    "unseen_stimuli",
]
OF_RECORDINGS = frozenset({"participants", "sessions", "scans", "path"})
"""Sources of labels that hold for a whole recording, so that windows tile it."""
OF_EACH_SUBJECT = frozenset({"within_subject_blocks", "cross_session", "unseen_stimuli"})
"""Split rules with training windows of every tested subject."""
METRICS: dict[Kind, str] = {
    "classification": "balanced_accuracy",
    "diagnosis": "balanced_accuracy",
    "regression": "pearson",
    "retrieval": "top5",
    "encoding": "correlation",
}
"""Primary metric of each kind."""


def _is_pattern(text: str) -> str:
    """Return a regular expression that compiles.

    Raises
    ------
    ValueError
        It does not compile.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}; correct it") from error
    return text


Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""Regular expression."""


class LabelSource(Config):
    """Source of the labels of a task."""

    source: Literal["events", "participants", "sessions", "scans", "table", "path"]
    """events: each event has a label; participants, sessions, scans: a column of the table of that name; table: a
    column of another file; path: part of the path of the recording's source file."""
    column: str | None = None
    """Column that holds the label (participants, sessions, scans, table)."""
    value: str = "{label}"
    """Text of a label of events, with {label} (trial type, else value), {trial_type}, {value}, {run}, {task},
    {session} and {subject}; run numbers have no leading zeros."""
    pattern: Pattern | None = None
    """Regular expression searched in the path; the label is its first group, or the whole match without one."""
    table: str | None = runtime_field(None, group="data")
    """File with a header, .csv, .tsv or .parquet, relative to the recipe. Rows belong to recordings by those columns
    of dataset, subject, session, task, run, recording and source that the file has."""
    onset: str | None = None
    """Column of the table with the start of each row's window or stretch, s; without it a row labels a recording."""
    duration: str | None = None
    """Column of the table with the length of each row's stretch, s."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"path": ("pattern",), "table": ("table", "column"), "events": ()}.get(self.source, ("column",))
        missing = [field for field in needed if getattr(self, field) is None]
        if missing:
            raise ValueError(f"source {self.source} needs {' and '.join(missing)}; add it to labels")
        return self

    @property
    def of_recordings(self) -> bool:
        """Whether a label holds for a whole recording."""
        return self.source in OF_RECORDINGS or (self.source == "table" and self.onset is None)


class WindowRule(Config):
    """Windows of a task."""

    model_config = ConfigDict(allow_inf_nan=False)

    length_s: PositiveFloat
    """Length of a window, s."""
    offset_s: float = 0.0
    """Start of the window relative to the start of the labelled stretch, s."""
    stride_s: PositiveFloat | None = None
    """Distance of windows that tile a labelled stretch, s. If not set: one window at the start of each event; windows
    side by side where a label holds for a recording."""


class SubjectName(Config):
    """Name of the subject of some files in the reference release."""

    pattern: Pattern
    """Regular expression on the source path."""
    to: str
    """Name; ``\\1`` inserts a group."""

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        try:
            re.sub(self.pattern, self.to, "")
        except re.error as error:
            raise ValueError(f"to {self.to!r} does not fit pattern {self.pattern!r}: {error}; correct to") from error
        return self


class PaperSplit(Config):
    """The folds of the reference release, for split mode paper_compat."""

    subjects_as: Literal["text", "integer"] = "text"
    """Order of the subject labels before they are shuffled."""
    official_test: Pattern | None = None
    """Regular expression on the source path of recordings that are the test set of every fold."""
    subject_names: tuple[SubjectName, ...] = ()
    """Names of subjects by source path where those of the release differ from those of the store; the first pattern
    that matches counts. A file that none matches keeps the store's name."""
    accepted_checks: tuple[str, ...] = ()
    """Leak checks that the folds of the release do not pass; accepted in split mode paper_compat only."""


class SplitRule(Config):
    """How windows are divided into training, validation and test."""

    model_config = ConfigDict(allow_inf_nan=False)

    rule: Rule = "cross_subject"
    """cross_subject: folds of subjects, stratified by label; leave_one_subject_out; within_subject_blocks: blocks of
    time of each subject; cross_session: one session of each subject is tested; held_out_device: folds of subjects, test
    windows of one device, training windows of the others; few_shot: a few labelled examples of each new subject;
    calibration: unlabelled minutes of each new subject; unseen_stimuli: folds of stimuli."""
    n_folds: int = Field(5, ge=2)
    """Number of folds."""
    gap_s: float = Field(0.0, ge=0)
    """Time between blocks of one subject that no side uses, s."""
    examples_per_class: tuple[PositiveInt, ...] = (5,)
    """Labelled examples of each class and subject, for few_shot."""
    calibration_s: PositiveFloat = 60.0
    """Unlabelled signal of each subject, s, for calibration."""
    official_test: Pattern | None = None
    """Regular expression on the source path of recordings that are the test set of every fold of cross_subject."""


class StimulusTable(Config):
    """Features of the stimuli of a retrieval or encoding task."""

    table: str = runtime_field(..., group="data")
    """File with a header, .csv, .tsv or .parquet, relative to the recipe."""
    key: str
    """Column with the name of the stimulus, as the labels have it."""
    features: tuple[str, ...] = ()
    """Columns of the features; all other numeric columns if not given."""
    low_level: tuple[str, ...] = ()
    """Columns of low-level features, such as the envelope of a sound or the luminance of an image. For encoding they
    are a model of their own, above which `features` have to be."""


def _texts(value: Any) -> Any:  # noqa: ANN401 - YAML
    """Return the classes as pairs of name and texts; YAML numbers and single values become texts."""
    pairs = value.items() if isinstance(value, Mapping) else value
    as_list = [(name, [own] if isinstance(own, str | int | float) else own) for name, own in pairs]
    return {str(name): tuple(str(one) for one in own) for name, own in as_list}


class TaskRecipe(Config):
    """A task: dataset, labels, windows, classes or target, split rule, metric."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name of the task."""
    title: str = Field(min_length=1)
    """What is decoded, in one line."""
    dataset: str | None = None
    """Dataset: its name in the store, or its id in the registry; all datasets with such labels if not set."""
    kind: Kind
    """classification, diagnosis (one label a subject, metrics also by subject), regression (a continuous target),
    retrieval (find the stimulus), encoding (predict the signal from features of the stimulus)."""
    labels: LabelSource
    """Source of the labels."""
    window: WindowRule
    """Windows."""
    classes: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_texts)] = Field(default_factory=dict)
    """Texts of each class, for classification and diagnosis; the last of two classes is the positive one."""
    stimulus: StimulusTable | None = None
    """Features of the stimuli, for retrieval and encoding."""
    split: SplitRule = SplitRule()
    """Split rule of mode strict. Intracranial tasks (modality ieeg) are split by blocks of time of each subject if not
    set: every person has other electrodes, and neighbouring windows are alike."""
    paper: PaperSplit = PaperSplit()
    """Split of mode paper_compat."""
    metric: str = ""
    """Primary metric; by default that of the kind."""
    modality: Literal["eeg", "meg", "eeg+meg", "ieeg"] | None = None
    """Use only recordings of this modality."""
    sensors: Literal["eeg", "meg", "ieeg"] | None = None
    """Use only these sensors of recordings that have several kinds."""
    device: str | None = None
    """Use only recordings of this device."""
    include: tuple[str, ...] = ()
    """Patterns of source paths to use; all if not given."""
    subjects: tuple[str, ...] = ()
    """Global names dataset/subject to use; all with labels if not given."""
    accepted_checks: tuple[str, ...] = ()
    """Leak checks that this task cannot pass by its design; the notes say why."""
    published: dict[str, float] = Field(default_factory=dict)
    """Published values of the primary metric, by model."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        with_classes = self.kind in ("classification", "diagnosis")
        if with_classes and len(self.classes) < 2:
            raise ValueError(f"kind {self.kind} needs at least two classes; add classes: {{name: [texts]}}")
        if not with_classes and self.classes:
            raise ValueError(f"kind {self.kind} has no classes; remove them")
        if (self.kind in ("retrieval", "encoding")) != (self.stimulus is not None):
            raise ValueError("stimulus is needed by retrieval and encoding and by no other kind; add or remove it")
        if self.kind == "encoding" and self.split.rule not in OF_EACH_SUBJECT:
            raise ValueError(
                f"kind encoding fits each subject alone, which split.rule {self.split.rule} leaves without training;"
                f" use one of {', '.join(sorted(OF_EACH_SUBJECT))}"
            )
        if self.split.rule == "unseen_stimuli" and self.stimulus is None:
            raise ValueError(
                f"split.rule unseen_stimuli divides stimuli, and kind {self.kind} has none; use cross_subject"
            )
        if self._has_one_label_a_subject and self.split.rule in (*OF_EACH_SUBJECT, "few_shot"):
            raise ValueError(
                f"split.rule {self.split.rule} fits on labels of each tested subject, who has one label here, so that"
                " nothing is left to predict; use cross_subject, leave_one_subject_out, held_out_device or calibration"
            )
        texts = [text for own in self.classes.values() for text in own]
        doubled = sorted({text for text in texts if texts.count(text) > 1})
        if doubled:
            raise ValueError(f"classes: {', '.join(doubled)} stands in two classes; keep it in one")
        if self.modality == "ieeg" and "split" not in self.model_fields_set and not self._has_one_label_a_subject:
            object.__setattr__(self, "split", SplitRule(rule="within_subject_blocks"))
        if not self.metric:
            object.__setattr__(self, "metric", METRICS[self.kind])
        return self

    @property
    def _has_one_label_a_subject(self) -> bool:
        return self.kind == "diagnosis" or self.labels.source == "participants"

    @field_serializer("classes")
    def _in_order(self, classes: dict[str, tuple[str, ...]]) -> list[tuple[str, list[str]]]:
        """Return pairs: stored JSON sorts the keys of mappings, and a label is an index into the classes."""
        return [(name, list(own)) for name, own in classes.items()]

    @property
    def stride_s(self) -> float | None:
        """Distance of windows that tile a labelled stretch, s; None for one window at each event."""
        if self.window.stride_s is None and self.labels.of_recordings:
            return self.window.length_s
        return self.window.stride_s


def known_tasks() -> dict[str, TaskRecipe]:
    """Return the recipes shipped with emeg, by name."""
    return dict(_shelf())


@cache
def _shelf() -> dict[str, TaskRecipe]:
    found = {}
    shelf = resources.files("emeg") / "recipes" / "tasks"
    for file in sorted(shelf.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            recipe = TaskRecipe.from_yaml(file.read_text(encoding="utf-8"), source=f"recipes/tasks/{file.name}")
            if f"{recipe.id}.yaml" != file.name:
                raise UserError(f"recipes/tasks/{file.name} holds task {recipe.id}; rename it to {recipe.id}.yaml")
            found[recipe.id] = recipe
    return dict(sorted(found.items()))


def load_task(name: str) -> TaskRecipe:
    """Load a task by name, or from a YAML file; tables are found beside the file.

    Raises
    ------
    UserError
        There is no such task or file, or a field of the file is refused.
    """
    if not name.endswith((".yaml", ".yml")):
        known = _shelf()
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; use {close[0]} if you mean that" if close else ""
            raise UserError(
                f"there is no task {name!r}{hint}; choose one that `emeg tasks` lists, or give a .yaml file"
            )
        return known[name]
    file = Path(name)
    if not file.is_file():
        raise UserError(f"task {name}: there is no such file; give the path of a YAML file")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"task {name}: not readable as YAML; save it as UTF-8: {error}") from error
    recipe = TaskRecipe.from_yaml(text, source=name)
    return _beside(recipe, file.parent)


def _beside(recipe: TaskRecipe, folder: Path) -> TaskRecipe:
    """Return the recipe with the paths of its tables resolved from the folder of its file."""
    changes: dict[str, Any] = {}
    if recipe.labels.table is not None and "://" not in recipe.labels.table:
        changes["labels"] = recipe.labels.model_copy(update={"table": str(folder / recipe.labels.table)})
    if recipe.stimulus is not None and "://" not in recipe.stimulus.table:
        changes["stimulus"] = recipe.stimulus.model_copy(update={"table": str(folder / recipe.stimulus.table)})
    return recipe.model_copy(update=changes) if changes else recipe
