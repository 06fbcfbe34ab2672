"""The sampling contract: what a step sees is a pure function of (manifest hash, seed, epoch, step).

segments of a split ──weights──▶ items of each channel count ──blocks, window──▶ order ──budget──▶ micro-batches
                                                                      └──M lanes, one micro-batch of each──▶ steps

Micro-batch m of every step comes from lane m, a stretch of the order of every channel count. A rank reads whole lanes,
so that no two ranks read the same blocks, but for those where two lanes meet.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from emeg.config import Config, runtime_field
from emeg.data.sampling.mixture import Part, sort_into_parts
from emeg.data.sampling.order import block_permutation, draws, permutation
from emeg.errors import UserError


class SamplingConfig(Config):
    """What a training step reads, and how much of it."""

    seed: int = Field(0, ge=0)
    """Seed of order, mixture and crops."""
    budget_channel_seconds: PositiveFloat = 10_000.0
    """Size of a micro-batch: channels · seconds · segments. 10,000 is 15 segments of 64 channels and 10 s."""
    crop_s: PositiveFloat | None = None
    """Cut each training segment to this many seconds, at a place drawn anew each time. None: whole segments."""
    max_channels: PositiveInt | None = None
    """Channels of a segment that training shows the network at a time, drawn anew each time; only these count in the
    budget. None: all."""
    micro_batches: PositiveInt = 1
    """Micro-batches a step, whatever the number of ranks, which must divide it."""
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """How often an epoch shows each segment of a dataset or modality (eeg, meg, eeg+meg). Absent: once. A modality that
    the corpus has nothing of does not matter, so that one recipe serves all."""
    block_segments: PositiveInt = 16
    """Neighbouring segments that stay close in the order, so that reads are local."""
    window_blocks: PositiveInt = 16
    """Blocks among which segments are mixed; from a bucket, so many are held in memory, for each channel count
    and lane."""
    workers: int = runtime_field(1, ge=0)
    """Threads that read ahead of training; 0: read when asked."""
    cache: str | None = runtime_field(None)
    """Folder on this machine that keeps shards of a bucket. None: each epoch reads the bucket again."""
    cache_gib: PositiveFloat = runtime_field(100.0)
    """Size of that folder, GiB."""


class MicroBatch(NamedTuple):
    """Segments that go through the network together, all of one channel count."""

    segments: tuple[int, ...]
    """Rows of the corpus."""
    crop_start: tuple[int, ...]
    """First sample of each, counted from the segment's start."""
    n_samples: int
    """Samples of each."""


class Share(NamedTuple):
    """What one rank reads of an epoch, in its order: for a reader that starts before it is asked."""

    segments: NDArray[np.int64]
    """(n,): rows of the corpus, batch after batch."""
    blocks: NDArray[np.int64]
    """(n,): the block of each; segments of a block are neighbours in the corpus and due at about the same time. A block
    that two lanes share counts as two: one needs it at the end of the epoch, the other at its start."""
    borders: NDArray[np.int64]
    """(batches + 1,): batch k holds segments ``borders[k]`` to ``borders[k + 1]``."""


@dataclass(frozen=True)
class SamplingState:
    """Where a run is: everything that a loader must remember."""

    corpus: str
    """Manifest hash."""
    seed: int
    epoch: int
    step: int
    """Step inside the epoch that comes next."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(str(values["corpus"]), int(values["seed"]), int(values["epoch"]), int(values["step"]))


class Plannable(Protocol):
    """What the plan must know of a corpus; `Corpus` gives it."""

    @property
    def name(self) -> str:
        """Manifest hash."""

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""

    @property
    def n_samples(self) -> int:
        """Samples of every segment."""

    def column(self, name: str) -> NDArray[Any]:
        """Give one column of the segments table: ``split``, ``channels``, ``dataset``, ``modality``."""


class _Epoch(NamedTuple):
    """One epoch's order: items and their blocks, all groups in a row, and micro-batches as (first, last)."""

    items: NDArray[np.int64]
    blocks: NDArray[np.int64]
    batches: NDArray[np.int64]
    """(step, micro-batch, 2)."""


class SamplingPlan:
    """Which segments every micro-batch of every step holds.

    Parameters
    ----------
    corpus : Corpus
    config : SamplingConfig
    split : str
        ``"train"``, ``"validation"`` or ``"held_out"``.
    channels : int, optional
        Count every segment as having this many channels, and mix all of them: for token sets, whose segments have
        the same latent sources whatever the recording's channels.

    Raises
    ------
    UserError
        The split is empty, a weight names nothing, the crop is longer than a segment, or there are fewer segments
        than micro-batches in a step.
    """

    def __init__(
        self, corpus: Plannable, config: SamplingConfig, split: str = "train", *, channels: int | None = None
    ) -> None:
        self.corpus = corpus
        self.config = config
        self.split = split
        self.n_samples = corpus.n_samples if config.crop_s is None else round(config.crop_s * corpus.sfreq)
        if not 0 < self.n_samples <= corpus.n_samples:
            raise UserError(
                f"crop_s={config.crop_s} s is {self.n_samples} samples; segments of corpus {corpus.name} have"
                f" {corpus.n_samples}; choose a shorter crop, or shard with a longer segment_s"
            )
        rows = split_rows(corpus, split)
        self._mixed = channels is not None
        counts = np.full(len(rows), channels) if channels is not None else corpus.column("channels")[rows]
        cells = [corpus.column("dataset")[rows], corpus.column("modality")[rows]]
        _check_weights(corpus, config.weights)
        groups = sort_into_parts(rows, np.asarray(counts, np.int64), cells, config.weights)
        self._channels: list[int] = list(groups)
        self._groups: list[list[Part]] = list(groups.values())
        self._sizes = [sum(part.n_shown for part in parts) for parts in self._groups]
        self._batches = self._count_batches()
        self._epochs: dict[int, _Epoch] = {}

    def _count_batches(self) -> list[int]:
        """Micro-batches of each channel count: as few as the budget admits, more until M divides their sum."""
        m = self.config.micro_batches
        if sum(self._sizes) < m:
            raise UserError(
                f"{sum(self._sizes)} {self.split} segments an epoch in corpus {self.corpus.name} are fewer than"
                f" micro_batches={m}; lower micro_batches, or ingest more"
            )
        budget = self.config.budget_channel_seconds * self.corpus.sfreq
        shown = [min(c, self.config.max_channels or c) for c in self._channels]
        limits = [_segments_within(budget, c * self.n_samples) for c in shown]
        counts = [-(-n // limit) for n, limit in zip(self._sizes, limits, strict=True)]
        while sum(counts) % m:
            # split the costliest kind further: steps stay alike, and every segment is still seen exactly once
            cost = [n * c / k if k < n else 0.0 for n, c, k in zip(self._sizes, shown, counts, strict=True)]
            if not any(cost):
                break  # one segment each already: the epoch ends before its last, unfinished step
            counts[int(np.argmax(cost))] += 1
        return counts

    def n_steps(self, epoch: int = 0) -> int:
        """Count the steps of an epoch, the same for every epoch."""
        del epoch
        return sum(self._batches) // self.config.micro_batches

    @property
    def n_segments(self) -> int:
        """Segments that an epoch shows, repeats counted."""
        return sum(self._sizes)

    def locate(self, global_step: int) -> tuple[int, int]:
        """Turn a step counted from the start of training into (epoch, step)."""
        return divmod(global_step, self.n_steps())

    def state(self, global_step: int) -> SamplingState:
        """Say where a run is whose next step is `global_step`."""
        epoch, step = self.locate(global_step)
        return SamplingState(self.corpus.name, self.config.seed, epoch, step)

    def global_step(self, state: SamplingState) -> int:
        """Turn a state back into a step counted from the start of training.

        Raises
        ------
        UserError
            The state belongs to another corpus or seed.
        """
        if (state.corpus, state.seed) != (self.corpus.name, self.config.seed):
            raise UserError(
                f"this run reads corpus {self.corpus.name} with seed {self.config.seed}, its checkpoint corpus"
                f" {state.corpus} with seed {state.seed}; resume with those, or start a new run"
            )
        return state.epoch * self.n_steps() + state.step

    def micro_batches(self, epoch: int, step: int) -> list[MicroBatch]:
        """Give the M micro-batches of a step; rank r of R takes every R-th from the r-th."""
        return [self.micro_batch(epoch, step, number) for number in range(self.config.micro_batches)]

    def micro_batch(self, epoch: int, step: int, number: int) -> MicroBatch:
        """Give one micro-batch of a step."""
        if not 0 <= step < self.n_steps():
            raise UserError(f"epoch {epoch} has steps 0 to {self.n_steps() - 1}; there is no step {step}")
        order = self._order(epoch)
        first, last = order.batches[step, number]
        return self._cropped(order.items[first:last], ("crop", self.config.seed, epoch, step, number))

    def share(self, epoch: int, *, start: int = 0, stop: int | None = None, rank: int = 0, n_ranks: int = 1) -> Share:
        """Give what a rank reads in steps `start` to `stop` (None: all) of an epoch, in the order of `Loader`."""
        order = self._order(epoch)
        numbers = numbers_of(self.config.micro_batches, rank, n_ranks)
        batches = order.batches[start:stop, numbers].reshape(-1, 2)
        borders = np.concatenate([[0], np.cumsum(batches[:, 1] - batches[:, 0])])
        # item k of the share is the first item of its batch, and as many on as k is after its batch began
        which = np.repeat(batches[:, 0] - borders[:-1], np.diff(borders)) + np.arange(borders[-1])
        m = self.config.micro_batches
        lanes = np.tile(numbers, len(order.batches[start:stop]))
        blocks = order.blocks[which] * m + np.repeat(lanes, np.diff(borders))
        return Share(order.items[which], blocks, borders.astype(np.int64))

    def _cropped(self, segments: NDArray[np.int64], key: tuple[str | int, ...]) -> MicroBatch:
        places = self.corpus.n_samples - self.n_samples + 1
        starts = draws(len(segments), *key) % np.uint64(places) if places > 1 else np.zeros(len(segments), np.uint64)
        return MicroBatch(tuple(segments.tolist()), tuple(int(s) for s in starts), self.n_samples)

    def _order(self, epoch: int) -> _Epoch:
        """Lay out an epoch; kept for the epochs in use, since it depends on nothing else."""
        if epoch not in self._epochs:
            laid = self._lay_out(epoch)
            while len(self._epochs) > 1:
                self._epochs.pop(min(self._epochs))
            self._epochs[epoch] = laid
        return self._epochs[epoch]

    def _lay_out(self, epoch: int) -> _Epoch:
        seed, config = self.config.seed, self.config
        items, blocks, batches, labels = [], [], [], []
        n_items = n_blocks = 0
        for group, (channels, parts) in enumerate(zip(self._channels, self._groups, strict=True)):
            key = (seed, epoch, channels)
            shown = np.concatenate([part.items(seed, epoch) for part in parts])
            # repeats of a segment are neighbours here, and part when blocks are mixed
            shown = shown[np.argsort(shown, kind="stable")]
            n, k = len(shown), self._batches[group]
            order = (
                permutation(n, *key)
                if self._mixed
                else block_permutation(n, config.block_segments, config.window_blocks, *key)
            )
            items.append(shown[order])
            blocks.append(n_blocks + order // config.block_segments)
            borders = n_items + np.arange(k + 1) * n // max(k, 1)
            batches.append(np.stack([borders[:-1], borders[1:]], axis=1))
            labels.append(np.full(k, group))
            n_items, n_blocks = n_items + n, n_blocks + n // config.block_segments + 1
        # channel counts take turns at random, each in its own order; M lanes are M stretches of the whole
        turns = np.concatenate(labels)
        turns = turns[permutation(len(turns), "steps", seed, epoch)]
        arranged = np.empty((len(turns), 2), np.int64)
        arranged[np.argsort(turns, kind="stable")] = np.concatenate(batches)
        n_steps, m = self.n_steps(), config.micro_batches
        lanes = arranged[: n_steps * m].reshape(m, n_steps, 2)
        return _Epoch(np.concatenate(items), np.concatenate(blocks), lanes.swapaxes(0, 1))


def numbers_of(micro_batches: int, rank: int = 0, n_ranks: int = 1) -> list[int]:
    """Micro-batches of a step that a rank takes, in its order: r, r + R, …, the even ones of these first, then the odd.

    The halves are ordered so in turn, as long as they can be halved. One rank then adds up first what another of two
    ranks has, and floating-point sums that are taken in the same pairs are the same bit for bit; `n_in_pairs` says
    where the pairs are.
    """
    return [rank + n_ranks * k for k in _halves_first(micro_batches // n_ranks)]


def n_in_pairs(n: int) -> tuple[int, int]:
    """Split `n` micro-batches in the order of `numbers_of` into (groups, micro-batches of each).

    Groups are a power of two: neighbours among them are added, then neighbours of the sums. A group's own
    micro-batches are added one after another.
    """
    odd = n // (n & -n)
    per_group = odd if odd > 1 else min(n, 2)
    return n // per_group, per_group


def _halves_first(n: int) -> list[int]:
    if n % 2:
        return list(range(n))
    half = _halves_first(n // 2)
    return [2 * k for k in half] + [2 * k + 1 for k in half]


def fixed_batches(
    corpus: Plannable, budget_channel_seconds: float, split: str | None = None, *, channels: int | None = None
) -> list[MicroBatch]:
    """Give every segment of a split (None: of the corpus) once, whole, in corpus order: to validate, to write tokens.

    `channels` counts every segment as having that many, as in `SamplingPlan`.
    """
    rows = split_rows(corpus, split)
    counts = np.full(len(rows), channels) if channels is not None else corpus.column("channels")[rows]
    batches = []
    for count in np.unique(counts).tolist():
        members = rows[counts == count]
        size = _segments_within(budget_channel_seconds * corpus.sfreq, count * corpus.n_samples)
        for part in np.split(members, range(size, len(members), size)):
            zeros = (0,) * len(part)
            batches.append(MicroBatch(tuple(part.tolist()), zeros, corpus.n_samples))
    return batches


MODALITIES = frozenset({"eeg", "meg", "eeg+meg"})


def split_rows(corpus: Plannable, split: str | None) -> NDArray[np.int64]:
    """Rows of a split, in corpus order; None: all.

    Raises
    ------
    UserError
        There are none.
    """
    of_split = corpus.column("split")
    rows = np.arange(len(of_split)) if split is None else np.flatnonzero(of_split == split)
    if not len(rows):
        raise UserError(f"corpus {corpus.name} has no {split or ''} segments; shard with a share for that split")
    return rows.astype(np.int64)


def _segments_within(budget: float, cost: float) -> int:
    return max(1, int(budget / cost + 1e-9))


def _check_weights(corpus: Plannable, weights: Mapping[str, float]) -> None:
    known = {str(name) for column in ("dataset", "modality") for name in np.unique(corpus.column(column))}
    if unknown := sorted(set(weights) - known - MODALITIES):
        raise UserError(
            f"weights: corpus {corpus.name} has no dataset or modality called {', '.join(unknown)};"
            f" it has {', '.join(sorted(known))}"
        )
