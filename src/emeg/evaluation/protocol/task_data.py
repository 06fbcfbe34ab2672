"""Everything that the cells of one task share: windows, splits, signals, features, and features of the stimuli.

Shape letters: B batch, C channels, N samples, D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emeg.data.tasks.recipes import StimulusTable, TaskRecipe
from emeg.data.tasks.spans import read_user_table, task_recordings
from emeg.data.tasks.windows import TaskWindows, task_windows
from emeg.errors import UserError
from emeg.evaluation.classical.channels import CommonChannels, common_channels
from emeg.evaluation.embeddings import EmbeddingSpec, embed
from emeg.evaluation.protocol.interfaces import Channel, Windows
from emeg.evaluation.protocol.scoring import OF_KIND
from emeg.evaluation.protocol.splits import ALONE, SplitManifest, make_paper_splits, make_splits
from emeg.progress import Progress, silent
from emeg.sensors import SensorType
from emeg.sensors.layout import INTRACRANIAL_TYPES, MEG_TYPES
from emeg.store import Store, open_recording

if TYPE_CHECKING:
    from emeg.training.finetune.labelled_windows import Windows as LabelledWindows

BIN_S = 0.05
"""Length of the bins in which responses are averaged for encoding, s."""


class Stimuli(NamedTuple):
    """Stimuli of a retrieval or encoding task."""

    names: tuple[str, ...]
    """Names, as the labels have them."""
    table_BD: NDArray[np.float64]  # noqa: N815
    """Features of each stimulus, shape (stimuli, features), scaled to mean 0 and deviation 1."""
    low_level_BD: NDArray[np.float64] | None = None  # noqa: N815
    """Low-level features of each stimulus, scaled likewise; None if the task names none."""


def read_stimuli(stimulus: StimulusTable) -> Stimuli:
    """Read the features of the stimuli.

    Raises
    ------
    UserError
        A column is missing or is not numeric, or a name occurs twice.
    """
    table = read_user_table(stimulus.table)
    if stimulus.key not in table.column_names:
        raise UserError(
            f"{stimulus.table}: no column {stimulus.key}; its columns are {', '.join(table.column_names)}; set key"
        )
    numeric = [
        field.name
        for field in table.schema
        if field.name != stimulus.key and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
    ]
    others = [name for name in numeric if name not in stimulus.low_level]
    wanted = list(stimulus.features) or others
    wrong = sorted({*wanted, *stimulus.low_level} - set(numeric))
    if wrong or not wanted:
        raise UserError(
            f"{stimulus.table}: {', '.join(wrong) or 'all other columns'} not numeric; set features and low_level to"
            " numeric columns"
        )
    names = [str(name) for name in table[stimulus.key].to_pylist()]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{stimulus.table}: {twice[0]} has two rows; keep one row a stimulus")
    low_level_BD = _scaled_columns(stimulus.table, table, stimulus.low_level) if stimulus.low_level else None
    return Stimuli(tuple(names), _scaled_columns(stimulus.table, table, wanted), low_level_BD)


def _scaled_columns(source: str, table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    values = np.stack([np.asarray(table[name].to_pylist(), np.float64) for name in names], axis=1)
    if not np.isfinite(values).all():
        raise UserError(f"{source}: a feature is missing or not finite; fill it in or remove the stimulus")
    sd = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(sd > 0, sd, 1.0))


class Signal(NamedTuple):
    """Windows of the channels that models of signals read."""

    signal_BCN: NDArray[np.float32]  # noqa: N815
    channels: tuple[Channel, ...]
    """Channels that all recordings share; empty if every subject has its own."""
    own_channels: Mapping[str, tuple[Channel, ...]] = MappingProxyType({})
    """Channels by subject, if every subject has its own: the first channels of the subject's windows; zeros follow."""


@dataclass(eq=False)
class TaskData:
    """One task of the grid."""

    store: Store
    recipe: TaskRecipe
    windows: TaskWindows
    stimuli: Stimuli | None
    manifests: Mapping[tuple[int, int | None], SplitManifest]
    """Splits by seed and number of examples."""
    n_seen: int = 0
    """Subjects left out because a model of the comparison was trained on them."""

    def __post_init__(self) -> None:
        self._features: dict[EmbeddingSpec, NDArray[np.float32]] = {}

    @property
    def examples(self) -> tuple[int | None, ...]:
        """Numbers of labelled examples to evaluate; None for all."""
        return self.recipe.split.examples_per_class if self._is_few_shot else (None,)

    @property
    def _is_few_shot(self) -> bool:
        return next(iter(self.manifests.values())).rule == "few_shot"

    @property
    def rule(self) -> str:
        """Name of the split rule."""
        return next(iter(self.manifests.values())).rule

    @property
    def accepted_checks(self) -> tuple[str, ...]:
        """Leak checks that the task cannot pass by its design, or by the folds of the release in that split mode."""
        of_paper = self.recipe.paper.accepted_checks if self.rule == "paper_compat" else ()
        return (*self.recipe.accepted_checks, *of_paper)

    @property
    def n_classes(self) -> int:
        """Number of classes; 0 without classes."""
        return len(self.recipe.classes)

    @property
    def truth(self) -> NDArray[Any]:
        """Labels as the estimators receive them: class indices, targets, or stimulus indices."""
        return self.windows.labels if self.windows.targets is None else self.windows.targets

    @cached_property
    def shared_channels(self) -> CommonChannels:
        """Channels that all recordings of the task share, those of the sensors that the recipe asks for."""
        return self._channels_shared_by(np.ones(len(self.windows), bool))

    @cached_property
    def own_channels(self) -> dict[str, CommonChannels]:
        """Channels that all recordings of a subject share, by subject; empty if subjects are not fitted separately.

        Only for electrodes in the brain, which differ between subjects. Encoding compares responses of the same
        channels.
        """
        if self.rule not in ALONE or self.recipe.kind == "encoding":
            return {}
        subjects = self.windows.subjects
        found = {name: self._channels_shared_by(subjects == name) for name in np.unique(subjects).tolist()}
        is_inside = any(np.isin(own.sensor_type, INTRACRANIAL_TYPES).any() for own in found.values())
        return found if is_inside else {}

    @property
    def has_channels(self) -> bool:
        """Whether models of signals have channels: of all recordings, or of those of each subject."""
        sets = list(self.own_channels.values()) or [self.shared_channels]
        return all(own.names for own in sets)

    def _channels_shared_by(self, rows: NDArray[np.bool_]) -> CommonChannels:
        shared = common_channels(self.store, sorted(set(self.windows.recordings[rows].tolist())))
        if self.recipe.sensors is None:
            return shared
        wanted = {"eeg": (SensorType.EEG,), "meg": MEG_TYPES, "ieeg": INTRACRANIAL_TYPES}[self.recipe.sensors]
        kept = np.flatnonzero(np.isin(shared.sensor_type, wanted))
        return shared._replace(
            names=tuple(shared.names[k] for k in kept),
            sensor_type=shared.sensor_type[kept],
            picks={recording: picks[kept] for recording, picks in shared.picks.items()},
        )

    @cached_property
    def signal(self) -> Signal | None:
        """Signals of all windows; None if the recordings share no channel."""
        if not self.has_channels:
            return None
        sets = list(self.own_channels.values()) or [self.shared_channels]
        n_samples = self.windows.n_samples
        signal_BCN = np.zeros((len(self.windows), max(len(own.names) for own in sets), n_samples), np.float32)
        for recording, picks in ((name, picks) for own in sets for name, picks in own.picks.items()):
            opened = open_recording(self.store, recording)
            for row in np.flatnonzero(self.windows.recordings == recording).tolist():
                start = int(self.windows.starts[row])
                signal_BCN[row, : len(picks)] = opened.read(start, start + n_samples)[picks]
        if self.own_channels:
            return Signal(signal_BCN, (), {name: self._described(own) for name, own in self.own_channels.items()})
        return Signal(signal_BCN, self._described(self.shared_channels))

    def _described(self, shared: CommonChannels) -> tuple[Channel, ...]:
        """Return the channels with the positions that they have in their first recording."""
        recording, picks = next(iter(shared.picks.items()))
        positions = open_recording(self.store, recording).sensors.positions[picks]
        return tuple(
            Channel(name, SensorType(kind), (float(x), float(y), float(z)))
            for name, kind, (x, y, z) in zip(shared.names, shared.sensor_type.tolist(), positions.tolist(), strict=True)
        )

    @cached_property
    def windows_in_memory(self) -> "LabelledWindows":
        """Windows with all channels of their recording, for networks that are trained on the task."""
        from emeg.training.finetune.labelled_windows import in_memory

        return in_memory(self.windows)

    def features(self, spec: EmbeddingSpec, device: str = "auto", progress: Progress = silent) -> NDArray[np.float32]:
        """Return the features of a frozen network for all windows, float32 of shape (windows, features)."""
        if spec.weights == "pretrained":
            spec = spec._replace(seed=0)
        if spec not in self._features:
            self._features[spec] = embed(self.store, self.windows, spec, device=device, progress=progress)
        return self._features[spec]

    @cached_property
    def responses(self) -> NDArray[np.float64]:
        """Mean signal of every channel in bins of `BIN_S`, float64 of shape (windows, channels · bins), scaled."""
        assert self.signal is not None, "make_task_data refuses encoding without shared channels"
        signal_BCN = self.signal.signal_BCN
        n_bin = max(1, round(BIN_S * self.windows.sfreq))
        n_bins = max(1, signal_BCN.shape[2] // n_bin)
        cut = signal_BCN[..., : n_bins * n_bin].reshape(*signal_BCN.shape[:2], n_bins, -1)
        flat = cut.mean(axis=-1, dtype=np.float64).reshape(len(cut), -1)
        sd = flat.std(axis=0)
        return np.asarray((flat - flat.mean(axis=0)) / np.where(sd > 0, sd, 1.0))

    def as_windows(self, *, features: NDArray[np.float32] | None = None, with_signal: bool = False) -> Windows:
        """Return the windows as the models compared receive them.

        Parameters
        ----------
        features : float32, shape (windows, features), optional
            Features in any unit.
        with_signal : bool
        """
        signal = self.signal if with_signal else None
        windows = self.windows
        return Windows(
            signal_BCN=None if signal is None else signal.signal_BCN,
            features_BD=features,
            labels=self.truth,
            subjects=windows.subjects,
            sessions=windows.sessions,
            datasets=windows.datasets,
            devices=windows.devices,
            recordings=windows.recordings,
            starts=windows.starts,
            channels=() if signal is None else signal.channels,
            sfreq=windows.sfreq,
        )


def make_task_data(
    store: Store,
    recipe: TaskRecipe,
    *,
    seeds: Sequence[int],
    split_mode: str = "strict",
    seen: frozenset[str] = frozenset(),
    withdrawn: frozenset[str] = frozenset(),
    groups: Mapping[str, str] | None = None,
) -> TaskData:
    """Cut the windows of a task and divide them.

    Parameters
    ----------
    store : Store
    recipe : TaskRecipe
    seeds : sequence of int
    split_mode : str
        strict: the rule of the recipe; paper_compat: the folds of the reference release.
    seen : frozenset of str
        Global names of subjects that a model of the comparison was trained on; they are left out.
    withdrawn : frozenset of str
        Global names of subjects who were withdrawn from the store; they are left out.
    groups : mapping, optional
        Key shared by names of the same person.

    Raises
    ------
    UserError
        The task cannot run on this store; the message gives the reason and the next action.
    """
    _check_metric(recipe)
    stimuli = read_stimuli(recipe.stimulus) if recipe.stimulus is not None else None
    rows = task_recordings(store, recipe)
    everybody = {f"{row.dataset}/{row.subject}" for row in rows} - withdrawn
    if not everybody:
        raise UserError(
            f"task {recipe.id}: all its subjects were withdrawn from the store; ingest a dataset with other subjects"
        )
    unseen = sorted(everybody - seen)
    if not unseen:
        raise UserError(
            f"task {recipe.id}: a model of the comparison was trained on all {len(everybody)} subjects; run"
            " `emeg shard --held-out` and train on that corpus, or ingest a dataset that was not trained on"
        )
    windows = task_windows(store, recipe, unseen, stimuli=() if stimuli is None else stimuli.names)
    _check_classes(windows, recipe)
    manifests: dict[tuple[int, int | None], SplitManifest] = {}
    for seed in seeds:
        if split_mode == "paper_compat":
            n_folds = recipe.split.n_folds
            manifests[seed, None] = make_paper_splits(windows, recipe.paper, n_folds=n_folds, groups=groups)
        elif recipe.split.rule == "few_shot":
            for k in recipe.split.examples_per_class:
                manifests[seed, k] = make_splits(windows, recipe.split, seed=seed, examples=k, groups=groups)
        else:
            manifests[seed, None] = make_splits(windows, recipe.split, seed=seed, groups=groups)
    _check_parts(windows, recipe, manifests)
    data = TaskData(store, recipe, windows, stimuli, manifests, n_seen=len(everybody) - len(unseen))
    if recipe.kind == "encoding" and not data.shared_channels.names:
        raise UserError(
            f"task {recipe.id}: encoding needs channels that all recordings share, and there are none; set device, or"
            " include to the recordings of one"
        )
    return data


def _check_metric(recipe: TaskRecipe) -> None:
    if recipe.metric not in OF_KIND[recipe.kind]:
        raise UserError(
            f"task {recipe.id}: metric {recipe.metric!r} is none of kind {recipe.kind}; use one of"
            f" {', '.join(OF_KIND[recipe.kind])}"
        )


def _check_classes(windows: TaskWindows, recipe: TaskRecipe) -> None:
    """Raise an error if a class has no window: its texts may be misspelt, and chance would be counted with it."""
    there = set(windows.labels.tolist())
    for number, (name, texts) in enumerate(recipe.classes.items()):
        if number not in there:
            raise UserError(
                f"task {recipe.id}: class {name} ({', '.join(texts)}) has no window among"
                f" {len(set(windows.subjects.tolist()))} subjects; correct its texts, remove the class, or add subjects"
                " who have it"
            )


def _check_parts(
    windows: TaskWindows, recipe: TaskRecipe, manifests: Mapping[tuple[int, int | None], SplitManifest]
) -> None:
    """Raise an error if something would be fitted on no window, or predicted for none."""
    for manifest in manifests.values():
        for fold in range(len(manifest)):
            for part in manifest.parts(fold, windows.subjects, alone=recipe.kind == "encoding"):
                for episode in (*part.choose, *part.test):
                    if len(episode.fit) and len(episode.predict):
                        continue
                    rows = np.concatenate([episode.fit, episode.predict])
                    subjects = ", ".join(np.unique(windows.subjects[rows]).tolist()[:6]) or "a subject"
                    what = "predict" if len(episode.fit) else "fit"
                    raise UserError(
                        f"task {recipe.id}: split rule {manifest.rule}: fold {fold + 1} has no windows of {subjects} to"
                        f" {what}; use another rule or fewer folds, or leave the subject out with subjects"
                    )
