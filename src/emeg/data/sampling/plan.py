"""The sampling plan: what a step reads is a pure function of (manifest hash, seed, epoch, step).

segments of a split ──weights──▶ items of each channel count ──blocks, window──▶ order ──budget──▶ micro-batches
                                                                      └──M lanes, one micro-batch of each──▶ steps

Micro-batch m of every step comes from lane m, a stretch of the order of every channel count. A rank reads whole lanes,
so that two ranks read the same block only where their lanes meet.
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
    """Data of a training step: batch size, crop, mixture and order."""

    seed: int = Field(0, ge=0)
    """Seed of the order, mixture and crops."""
    step_channel_seconds: PositiveFloat | None = runtime_field(None, group="data")
    """Size of a training step over all ranks, channels × seconds × segments; default: micro_batches times
    budget_channel_seconds."""
    budget_channel_seconds: PositiveFloat = 10_000.0
    """Largest size of a micro-batch, channels × seconds × segments (10,000: 15 segments of 64 channels and 10 s)."""
    crop_s: PositiveFloat | None = None
    """Length of a random crop of each training segment, s; whole segments if not set."""
    max_channels: PositiveInt | None = None
    """Number of channels drawn at random for each training sample, counted in the budget; all if not set."""
    micro_batches: PositiveInt = 1
    """Least number of micro-batches of a step over all ranks; training uses a multiple of it where the ranks need
    one."""
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """How often an epoch shows each segment, by dataset or modality (eeg, meg, eeg+meg, ieeg); 1 where not given.

    A modality without segments in the corpus is ignored, so that one recipe works for all corpora.
    """
    block_segments: PositiveInt = 16
    """Neighbouring segments kept close in the order, for local reads."""
    window_blocks: PositiveInt = 16
    """Blocks among which segments are mixed.

    When reading from a bucket, this number of blocks is held in memory for each channel count and lane.
    """
    workers: int = runtime_field(1, ge=0)
    """Threads that read ahead of training; 0 reads in the training thread."""
    cache: str | None = runtime_field(None)
    """Local folder that caches shards of a bucket; without it each epoch reads the bucket again."""
    cache_gib: PositiveFloat = runtime_field(100.0)
    """Largest size of the cache, GiB."""


class MicroBatch(NamedTuple):
    """Segments that pass through the network together, all of one channel count."""

    segments: tuple[int, ...]
    """Rows of the corpus."""
    crop_start: tuple[int, ...]
    """First sample of each, counted from the segment's start."""
    n_samples: int
    """Samples of each."""


class Share(NamedTuple):
    """All that one rank reads in an epoch, in order, for readers that read ahead."""

    segments: NDArray[np.int64]
    """(n,): rows of the corpus, batch after batch."""
    blocks: NDArray[np.int64]
    """(n,): block of each segment. Segments of a block are neighbours in the corpus and due at about the same time. A
    block shared by two lanes counts as two: one lane needs it at the end of the epoch, the other at its start."""
    borders: NDArray[np.int64]
    """(batches + 1,): batch k holds segments ``borders[k]`` to ``borders[k + 1]``."""


@dataclass(frozen=True)
class SamplingState:
    """Position of a run in its sampling plan; all the state that a loader has."""

    corpus: str
    """Manifest hash."""
    seed: int
    epoch: int
    step: int
    """Next step inside the epoch."""

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Create a state from the result of `to_dict`."""
        return cls(str(values["corpus"]), int(values["seed"]), int(values["epoch"]), int(values["step"]))


class Plannable(Protocol):
    """Attributes of a corpus that the plan needs; `Corpus` has them."""

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
        """Return one column of the segments table: ``split``, ``channels``, ``dataset``, ``modality``."""


class _Epoch(NamedTuple):
    """Order of an epoch: items and their blocks, groups concatenated, and micro-batches as (first, last)."""

    items: NDArray[np.int64]
    blocks: NDArray[np.int64]
    batches: NDArray[np.int64]
    """(step, micro-batch, 2)."""


class SamplingPlan:
    """Segments of every micro-batch of every step.

    Parameters
    ----------
    corpus : Corpus
    config : SamplingConfig
    split : str
        ``"train"``, ``"validation"`` or ``"held_out"``.
    channels : int, optional
        Treat every segment as having this many channels, and mix all of them. Used for token sets, whose segments
        have the same latent sources whatever the channels of the recording.

    Raises
    ------
    UserError
        The split is empty, a weight matches no dataset or modality, the crop is longer than a segment, or there are
        fewer segments than micro-batches in a step.
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
        """Count the micro-batches of each channel count: as few as the budget admits, more until M divides the sum."""
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
            # split the costliest channel count further: steps stay alike, and every segment is still read exactly once
            cost = [n * c / k if k < n else 0.0 for n, c, k in zip(self._sizes, shown, counts, strict=True)]
            if not any(cost):
                break  # one segment each already: the epoch ends before its last, incomplete step
            counts[int(np.argmax(cost))] += 1
        return counts

    def n_steps(self, epoch: int = 0) -> int:
        """Count the steps of an epoch, the same for every epoch."""
        del epoch
        return sum(self._batches) // self.config.micro_batches

    @property
    def n_segments(self) -> int:
        """Segments that an epoch shows, repeats included."""
        return sum(self._sizes)

    def locate(self, global_step: int) -> tuple[int, int]:
        """Convert a step counted from the start of training to (epoch, step)."""
        return divmod(global_step, self.n_steps())

    def state(self, global_step: int) -> SamplingState:
        """Return the state of a run whose next step is `global_step`."""
        epoch, step = self.locate(global_step)
        return SamplingState(self.corpus.name, self.config.seed, epoch, step)

    def global_step(self, state: SamplingState) -> int:
        """Convert a state to a step counted from the start of training.

        Raises
        ------
        UserError
            The state belongs to another corpus or seed.
        """
        if (state.corpus, state.seed) != (self.corpus.name, self.config.seed):
            raise UserError(
                f"this run reads corpus {self.corpus.name} with seed {self.config.seed}, its checkpoint read corpus"
                f" {state.corpus} with seed {state.seed}; resume with those, or start a new run"
            )
        return state.epoch * self.n_steps() + state.step

    def micro_batches(self, epoch: int, step: int) -> list[MicroBatch]:
        """Return the M micro-batches of a step; rank r of R takes every R-th from the r-th on."""
        return [self.micro_batch(epoch, step, number) for number in range(self.config.micro_batches)]

    def micro_batch(self, epoch: int, step: int, number: int) -> MicroBatch:
        """Return one micro-batch of a step."""
        if not 0 <= step < self.n_steps():
            raise UserError(
                f"epoch {epoch} has steps 0 to {self.n_steps() - 1}; there is no step {step}: choose one of those"
            )
        order = self._order(epoch)
        first, last = order.batches[step, number]
        return self._cropped(order.items[first:last], ("crop", self.config.seed, epoch, step, number))

    def share(self, epoch: int, *, start: int = 0, stop: int | None = None, rank: int = 0, n_ranks: int = 1) -> Share:
        """Return all that a rank reads in steps `start` to `stop` of an epoch, in the order of `Loader`."""
        order = self._order(epoch)
        numbers = numbers_of(self.config.micro_batches, rank, n_ranks)
        batches = order.batches[start:stop, numbers].reshape(-1, 2)
        borders = np.concatenate([[0], np.cumsum(batches[:, 1] - batches[:, 0])])
        # item k of the share = first item of its batch + distance of k from the start of that batch
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
        """Return the order of an epoch, cached: it depends on nothing but the epoch."""
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
            # repeats of a segment are neighbours here; mixing the blocks separates them
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
    """Return the micro-batches of a rank in a step, in order: r, r + R, …, the even ones of these first, then the odd.

    Each half is ordered in the same way as long as it can be halved. One rank then first adds the micro-batches that
    one of two ranks would have: floating-point sums over the same pairs are equal bit for bit. `n_in_pairs` returns
    the pairs.
    """
    return [rank + n_ranks * k for k in _halves_first(micro_batches // n_ranks)]


def n_in_pairs(n: int) -> tuple[int, int]:
    """Split `n` micro-batches in the order of `numbers_of` into (groups, micro-batches of each).

    The number of groups is a power of two: neighbouring groups are added, then neighbouring sums. The micro-batches of
    one group are added one after another.
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
    """Yield every segment of a split (None: of the corpus) once, uncropped, in corpus order.

    With `channels`, every segment is treated as having that many, as in `SamplingPlan`.
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


MODALITIES = frozenset({"eeg", "meg", "eeg+meg", "ieeg"})


def split_rows(corpus: Plannable, split: str | None) -> NDArray[np.int64]:
    """Return the rows of a split in corpus order; all rows if no split is given.

    Raises
    ------
    UserError
        There are no such rows.
    """
    of_split = corpus.column("split")
    rows = np.arange(len(of_split)) if split is None else np.flatnonzero(of_split == split)
    if not len(rows):
        raise UserError(
            f"corpus {corpus.name} has no {split or ''} segments; run `emeg shard` with a share for that split"
        )
    return rows.astype(np.int64)


def _segments_within(budget: float, cost: float) -> int:
    return max(1, int(budget / cost + 1e-9))


def _check_weights(corpus: Plannable, weights: Mapping[str, float]) -> None:
    known = {str(name) for column in ("dataset", "modality") for name in np.unique(corpus.column(column))}
    if unknown := sorted(set(weights) - known - MODALITIES):
        raise UserError(
            f"weights: corpus {corpus.name} has no dataset or modality called {', '.join(unknown)};"
            f" choose from {', '.join(sorted(known))}"
        )
