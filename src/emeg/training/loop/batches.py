"""Read the micro-batches of a sampling plan as tensors, for Lightning; their state is part of checkpoints.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, Q quantizer levels.

The state is the plan's four values (corpus, seed, epoch, step) and does not depend on the rank. Lightning gives every
rank the state of rank 0, so a run can continue with another number of ranks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emeg.data import (
    Batch,
    BatchReader,
    Corpus,
    Loader,
    MicroBatch,
    SamplingConfig,
    SamplingPlan,
    Share,
    ShareReader,
    StoredBatch,
    TokenSet,
)
from emeg.training.loop.device_queue import move, on_device, pin
from emeg.training.loop.rank import RunContext

CPU = torch.device("cpu")


class SignalBatch(NamedTuple):
    """Signals of one micro-batch, as the network reads them."""

    step: int
    """Optimiser step that this micro-batch is part of."""
    micro_batch: int
    """Number of the micro-batch in its step, over all ranks."""
    signal: Tensor
    """float32 (B, C, N), V, T or T/m."""
    pos: Tensor
    """float32 (B, C, 6)."""
    sensor_type: Tensor
    """int64 (B, C)."""
    channel_mask: Tensor | None
    """bool (B, C); `None` where all channels are real."""
    segments: tuple[int, ...]
    """Rows of the corpus."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "SignalBatch":
        """Move all tensors to a device."""
        return move(self, device, non_blocking=non_blocking)


class TokenBatch(NamedTuple):
    """Codes of one micro-batch."""

    step: int
    micro_batch: int
    codes: Tensor
    """int64 (B, S, T, Q)."""
    segments: tuple[int, ...]
    pos: Tensor | None = None
    """float32 (B, S, 6): sensors of the sources, if each channel is one."""
    sensor_type: Tensor | None = None
    """int64 (B, S)."""
    source_mask: Tensor | None = None
    """bool (B, S): True for channels that are there."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "TokenBatch":
        """Move the codes to a device."""
        return move(self, device, non_blocking=non_blocking)


def signal_batch(batch: Batch, *, step: int = 0, micro_batch: int = 0) -> SignalBatch:
    """Convert arrays to tensors, without copying the signal."""
    return SignalBatch(
        step,
        micro_batch,
        torch.from_numpy(batch.signal),
        torch.from_numpy(batch.pos),
        torch.from_numpy(batch.sensor_type.astype(np.int64)),
        None if batch.channel_mask.all() else torch.from_numpy(batch.channel_mask),
        tuple(batch.segments.tolist()),
    )


class StoredSignalBatch(NamedTuple):
    """Signals of one micro-batch as stored; `to` moves them to a device and converts them to floats there."""

    step: int
    micro_batch: int
    stored: Tensor
    """int16 (B, C, N)."""
    scale: Tensor
    """float32 (B, C, K): scale of each chunk, V, T or T/m."""
    edges: Tensor
    """int64 (B, K): first sample after each chunk."""
    pos: Tensor
    sensor_type: Tensor
    """int8 (B, C)."""
    channel_mask: Tensor | None
    segments: tuple[int, ...]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> SignalBatch:
        """Move the stored integers to a device and convert them to physical units there.

        This moves half the bytes of floats. Lightning calls it for every batch. The values equal those of
        `StoredBatch.values` bit for bit.
        """
        mask = self.channel_mask
        tensors = (self.stored, self.scale, self.edges, self.pos, self.sensor_type)
        stored, scale, edges, pos, sensor_type = (t.to(device, non_blocking=non_blocking) for t in tensors)
        return SignalBatch(
            self.step,
            self.micro_batch,
            stored.float().mul_(_scale_of_samples(scale, edges, stored.shape[2])),
            pos,
            sensor_type.long(),
            None if mask is None else mask.to(device, non_blocking=non_blocking),
            self.segments,
        )


def _scale_of_samples(scale: Tensor, edges: Tensor, n: int) -> Tensor:
    """Return the scale of every sample, (B, C, N), or (B, C, 1) if a crop lies in one chunk."""
    if scale.shape[2] == 1:
        return scale
    times = torch.arange(n, device=scale.device).expand(len(scale), n).contiguous()
    chunk_BN = torch.searchsorted(edges, times, right=True)
    return scale.gather(2, chunk_BN[:, None, :].expand(-1, scale.shape[1], -1))


def stored_signal_batch(batch: StoredBatch, *, step: int, micro_batch: int) -> StoredSignalBatch:
    """Convert arrays to tensors, without a copy."""
    return StoredSignalBatch(
        step,
        micro_batch,
        torch.from_numpy(batch.signal),
        torch.from_numpy(batch.scale),
        torch.from_numpy(batch.edges),
        torch.from_numpy(batch.pos),
        torch.from_numpy(batch.sensor_type),
        None if batch.channel_mask.all() else torch.from_numpy(batch.channel_mask),
        tuple(batch.segments.tolist()),
    )


def keep_channels(batch: SignalBatch, n: int, generator: torch.Generator) -> SignalBatch:
    """Select `n` real channels of every sample at random, or all if there are no more.

    A step then holds more windows. A random choice of channels also has a mean to learn from, unlike all channels of a
    referenced signal. With a linear loss ramp, 19 to 306 simulated channels and 200 steps, the correlation was .58 with
    16 channels kept and 0 with 32 or all; the network trained on 16 channels reached .42 on 306.
    """
    if batch.sensor_type.shape[1] <= n:
        return batch
    rank_BC = torch.rand(batch.sensor_type.shape, generator=generator, device=batch.signal.device)
    if batch.channel_mask is not None:
        rank_BC = rank_BC.masked_fill(~batch.channel_mask, -1.0)
    return take_channels(batch, rank_BC.topk(n, dim=1).indices)


def widen(batch: SignalBatch, n: int, late: int) -> SignalBatch:
    """Select the first samples of a batch, so many that `late` channels of each cost at most as much as `n` of all.

    Parameters
    ----------
    batch : SignalBatch
        At least one sample, with all of its channels.
    n, late : int
        Channels of a sample before and after, where it has so many.
    """
    channels, size = batch.sensor_type.shape[1], len(batch.segments)
    kept = max(1, size * min(channels, n) // min(channels, late))
    if kept >= size:
        return batch
    return batch._replace(
        signal=batch.signal[:kept],
        pos=batch.pos[:kept],
        sensor_type=batch.sensor_type[:kept],
        channel_mask=None if batch.channel_mask is None else batch.channel_mask[:kept],
        segments=batch.segments[:kept],
    )


class SpreadChannels:
    """Choose channels of every sample that lie evenly over the head; once for each geometry, on the CPU.

    The first is the channel nearest to the mean position, each further one the channel farthest from those chosen
    (Gonzalez 1985, farthest-point clustering). Channels keep their order.

    Parameters
    ----------
    n : int
        Channels to choose.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._chosen: dict[tuple[bytes, bytes], Tensor] = {}

    def choose(self, pos: Tensor, channel_mask: Tensor | None) -> Tensor | None:
        """Return the indices of channels, int64 of shape (batch, n); None where there are no more than `n`.

        Parameters
        ----------
        pos : float32, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless, on the CPU.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels, which are chosen first.
        """
        if pos.shape[1] <= self._n:
            return None
        real_BC = torch.ones(pos.shape[:2], dtype=torch.bool) if channel_mask is None else channel_mask
        return torch.stack([self._of_sample(one, real) for one, real in zip(pos, real_BC, strict=True)])

    def _of_sample(self, pos: Tensor, real: Tensor) -> Tensor:
        key = pos.numpy().tobytes(), real.numpy().tobytes()
        if key not in self._chosen:
            self._chosen[key] = _farthest(pos[:, :3], real, self._n)
        return self._chosen[key]


def _farthest(pos_C3: Tensor, real_C: Tensor, n: int) -> Tensor:
    """Choose the indices of `n` positions, ascending; those of absent channels come last."""
    middle = pos_C3[real_C].mean(dim=0)
    start = (pos_C3 - middle).norm(dim=-1).masked_fill(~real_C, torch.inf).argmin()
    taken = [start]
    distance_C = (pos_C3 - pos_C3[start]).norm(dim=-1).masked_fill(~real_C, -1.0)
    for _ in range(n - 1):
        distance_C[taken[-1]] = -2.0
        taken.append(distance_C.argmax())
        distance_C = torch.minimum(distance_C, (pos_C3 - pos_C3[taken[-1]]).norm(dim=-1))
    return torch.stack(taken).sort().values


def take_channels(batch: SignalBatch, kept_Bn: Tensor) -> SignalBatch:
    """Select channels of every sample.

    Parameters
    ----------
    batch : SignalBatch
    kept_Bn : int64, shape (batch, channels to keep)
        Indices of channels.
    """
    rows_B1 = torch.arange(len(kept_Bn), device=kept_Bn.device)[:, None]
    return batch._replace(
        signal=batch.signal[rows_B1, kept_Bn],
        pos=batch.pos[rows_B1, kept_Bn],
        sensor_type=batch.sensor_type[rows_B1, kept_Bn],
        channel_mask=None if batch.channel_mask is None else batch.channel_mask[rows_B1, kept_Bn],
    )


class SignalReader:
    """Reads micro-batches of a corpus as tensors.

    Parameters
    ----------
    reader : BatchReader
    pinned : bool
        Put the tensors into page-locked memory, for a GPU; the threads that read do it.
    """

    def __init__(self, reader: BatchReader, *, pinned: bool = False) -> None:
        self._reader = reader
        self._pinned = pinned

    def read(self, micro_batch: MicroBatch) -> StoredSignalBatch:
        """Read one micro-batch."""
        return self.tensors(self._reader.read_stored(micro_batch))

    def follow(self, share: Share, *, ahead: int) -> ShareReader:
        """Start on a rank's share of an epoch."""
        return _SignalShare(self._reader.follow(share, ahead=ahead), self.tensors)

    def tensors(self, read: StoredBatch) -> StoredSignalBatch:
        """Turn arrays into tensors."""
        batch = stored_signal_batch(read, step=0, micro_batch=0)
        return pin(batch) if self._pinned else batch


class _SignalShare:
    def __init__(self, share: ShareReader, tensors: Callable[[StoredBatch], StoredSignalBatch]) -> None:
        self._share = share
        self._tensors = tensors

    def read(self, number: int, micro_batch: MicroBatch) -> StoredSignalBatch:
        return self._tensors(self._share.read(number, micro_batch))

    def close(self) -> None:
        self._share.close()


class TokenReader:
    """Reads micro-batches of a token set; a segment's codes are read whole.

    Parameters
    ----------
    tokens : TokenSet
    corpus : Corpus, optional
        Its layouts have the sensors of tokens whose sources are channels, which need it.
    pinned : bool
        Put the tensors into page-locked memory, for a GPU; the threads that read do it.
    """

    def __init__(self, tokens: TokenSet, corpus: Corpus | None = None, *, pinned: bool = False) -> None:
        self._codes = tokens.codes
        self._corpus = None if corpus is None or not tokens.by_channel else corpus
        self._pinned = pinned

    def read(self, micro_batch: MicroBatch) -> TokenBatch:
        """Read one micro-batch."""
        codes = torch.from_numpy(self._codes[list(micro_batch.segments)].astype(np.int64))
        batch = TokenBatch(0, 0, codes, micro_batch.segments)
        if self._corpus is not None:
            batch = self._with_sensors(batch, self._corpus)
        return pin(batch) if self._pinned else batch

    def _with_sensors(self, batch: TokenBatch, corpus: Corpus) -> TokenBatch:
        """Add the sensors of every segment; absent channels are masked."""
        shape = batch.codes.shape[:2]
        n_columns = next(iter(corpus.layouts.values()))[0].shape[1]
        pos, types = torch.zeros(*shape, n_columns), torch.zeros(shape, dtype=torch.int64)
        mask = torch.zeros(shape, dtype=torch.bool)
        for index, row in enumerate(batch.segments):
            n = int(corpus.column("channels")[row])
            own_pos, own_types = corpus.sensors_of(np.array([row], np.int64), n)
            pos[index, :n] = torch.from_numpy(own_pos[0])
            types[index, :n] = torch.from_numpy(own_types[0].astype(np.int64))
            mask[index, :n] = True
        return batch._replace(pos=pos, sensor_type=types, source_mask=mask)

    def follow(self, share: Share, *, ahead: int) -> ShareReader:
        """Start on a rank's share of an epoch; the file is mapped, so nothing is read ahead."""
        del share, ahead
        return _TokenShare(self)


class _TokenShare:
    def __init__(self, reader: TokenReader) -> None:
        self._reader = reader

    def read(self, number: int, micro_batch: MicroBatch) -> TokenBatch:
        del number
        return self._reader.read(micro_batch)

    def close(self) -> None:
        pass


class StepLoader:
    """Micro-batches of the steps from the present one to `n_steps`, this rank's share of each, as tensors.

    Its length counts the whole run, a resumed one too, since Lightning counts batches from the run's start.

    Parameters
    ----------
    plan : SamplingPlan
    reader : SignalReader or TokenReader
    n_steps : int
        Steps of the whole run.
    run : RunContext
    device : torch.device, optional
        A GPU gets the next batch while it computes; on other devices Lightning moves the batches.
    waiting : callable, optional
        Returns a context; entered while the training step waits for a batch.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        reader: SignalReader | TokenReader,
        *,
        n_steps: int,
        run: RunContext,
        device: torch.device = CPU,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        workers = plan.config.workers
        self._loader = Loader(plan, reader, stop=n_steps, rank=run.rank, n_ranks=run.world, workers=workers)
        self._n_batches = n_steps * self._loader.batches_per_step
        self._device = device
        self._waiting = waiting
        self._next_step = self._loader.next_step

    def __len__(self) -> int:
        """Return the number of micro-batches of this rank in the whole run."""
        return self._n_batches

    def __iter__(self) -> Iterator[Any]:
        loaded = (batch._replace(step=step, micro_batch=number) for step, number, batch in self._loader)
        with closing(on_device(loaded, self._device)) as batches:
            while True:
                with self._waiting():
                    batch = next(batches, None)
                if batch is None:
                    return
                # the loader itself may be ahead of what the training step has got
                self._next_step = self._loader.step_after(batch.step, batch.micro_batch)
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the run, the same on every rank."""
        return self._loader.state_dict(self._next_step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position of a checkpoint.

        Raises
        ------
        UserError
            It belongs to another corpus or seed.
        """
        self._loader.load_state_dict(state)
        self._next_step = self._loader.next_step


class Filler(NamedTuple):
    """A batch that a rank repeats while another rank still has one left: computed, but not counted.

    A sharded network gathers its weights from all ranks in every call, so that all ranks must make the same calls.
    """

    batch: Any


class FixedLoader:
    """Given micro-batches, each read once: validation, divided over the ranks so that each counts once.

    All ranks must have the same number of batches, or they would wait for each other. A rank that has none left gets
    the first batch again as a `Filler`.
    """

    def __init__(self, micro_batches: list[MicroBatch], reader: SignalReader | TokenReader, run: RunContext) -> None:
        self._micro_batches = micro_batches
        self._share = list(enumerate(micro_batches))[run.rank :: run.world]
        self._n_turns = -(-len(micro_batches) // run.world)
        self._reader = reader

    @property
    def is_empty(self) -> bool:
        """Whether no rank has a batch."""
        return self._n_turns == 0

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return self._n_turns

    def __iter__(self) -> Iterator[Any]:
        for number, micro_batch in self._share:
            yield self._reader.read(micro_batch)._replace(micro_batch=number)
        for _ in range(self._n_turns - len(self._share)):
            yield Filler(self._reader.read(self._micro_batches[0]))


def fixed_batches(corpus: Corpus, split: str, sampling: SamplingConfig, limit: int) -> list[MicroBatch]:
    """Choose up to `limit` segments of each device and channel count, evenly spread, one channel count a batch."""
    by_channels: dict[int, list[int]] = defaultdict(list)
    for row in spread(corpus, split, limit):
        by_channels[int(corpus.column("channels")[row])].append(row)
    batches = []
    for channels, rows in sorted(by_channels.items()):
        # no gradients are kept, so that four times the training's budget fits
        size = max(1, int(4 * sampling.budget_channel_seconds * corpus.sfreq / (channels * corpus.n_samples)))
        batches += _batches_of(rows, size, corpus.n_samples)
    return batches


def token_batches(corpus: Corpus, split: str, limit: int, size: int) -> list[MicroBatch]:
    """Choose up to `limit` segments of each device and channel count, evenly spread, `size` a batch."""
    return _batches_of(spread(corpus, split, limit), size, corpus.n_samples)


def spread(corpus: Corpus, split: str, limit: int) -> list[int]:
    """Choose rows of a split, at most `limit` of each device and channel count, in corpus order."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row in np.flatnonzero(corpus.column("split") == split).tolist():
        groups[int(corpus.column("channels")[row]), str(corpus.column("device")[row])].append(row)
    taken: list[int] = []
    for members in groups.values():
        n = min(limit, len(members))
        taken += [members[i * len(members) // n] for i in range(n)]
    return sorted(taken)


def _batches_of(rows: list[int], size: int, n_samples: int) -> list[MicroBatch]:
    chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [MicroBatch(tuple(chunk), (0,) * len(chunk), n_samples) for chunk in chunks]
