"""From micro-batches to arrays, for one rank, in an order that no thread or rank changes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from emeg.data.batch import Batch, collate
from emeg.data.corpus import Corpus
from emeg.data.plan import MicroBatch, SamplingPlan, SamplingState
from emeg.errors import UserError


class BatchReader:
    """Reads micro-batches of a corpus: ranges of shards, then physical units."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def read(self, micro_batch: MicroBatch) -> Batch:
        """Give a micro-batch as arrays; ``signal`` is float32 in V, T or T/m, cropped, not normalised."""
        return collate(self.corpus.samples(micro_batch.segments, micro_batch.crop_start, micro_batch.n_samples))


class LoadedBatch(NamedTuple):
    """A batch and where it belongs; draws inside a model are keyed with (seed, step, micro_batch)."""

    step: int
    """Step counted from the start of training."""
    micro_batch: int
    """0 to M - 1 inside the step."""
    batch: Batch


class Loader:
    """One rank's share of the micro-batches of global steps `start` to `stop`, step after step.

    Rank r of R gets micro-batches r, r + R, … of every step, so every rank has the same number. The state is free of
    the rank: it names the step that comes next, and any number of ranks may go on from it.

    Parameters
    ----------
    plan : SamplingPlan
    reader : BatchReader
    rank, n_ranks : int
    start, stop : int
        Global steps; `stop` is excluded.
    prefetch : int
        Micro-batches read ahead by one background thread; 0 reads when asked.

    Raises
    ------
    UserError
        The ranks do not divide the micro-batches of a step.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        reader: BatchReader,
        *,
        stop: int,
        start: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
        prefetch: int = 2,
    ) -> None:
        m = plan.config.micro_batches
        if m % n_ranks:
            raise UserError(
                f"{n_ranks} processes do not divide micro_batches={m}: each needs the same number;"
                f" set micro_batches to a multiple of {n_ranks}, or run with a number of processes that divides it"
            )
        self.plan = plan
        self.reader = reader
        self.stop = stop
        self.rank = rank
        self.n_ranks = n_ranks
        self.prefetch = prefetch
        self._next_step = start

    @property
    def batches_per_step(self) -> int:
        """Micro-batches that this rank gets in a step."""
        return self.plan.config.micro_batches // self.n_ranks

    def __len__(self) -> int:
        """Batches from the next step on."""
        return max(self.stop - self._next_step, 0) * self.batches_per_step

    def __iter__(self) -> Iterator[LoadedBatch]:
        """Go on from the next step; a step counts as done when its last batch has been handed out."""
        wanted = self._positions()
        if self.prefetch < 1:
            for step, number, micro_batch in wanted:
                yield self._hand_out(step, number, self.reader.read(micro_batch))
            return
        with ThreadPoolExecutor(1, thread_name_prefix="emeg-loader") as pool:
            ahead: deque[tuple[int, int, Future[Batch]]] = deque()
            try:
                for step, number, micro_batch in wanted:
                    ahead.append((step, number, pool.submit(self.reader.read, micro_batch)))
                    if len(ahead) > self.prefetch:
                        yield self._hand_out(*_awaited(ahead.popleft()))
                while ahead:
                    yield self._hand_out(*_awaited(ahead.popleft()))
            finally:
                for _, _, future in ahead:
                    future.cancel()

    def _positions(self) -> Iterator[tuple[int, int, MicroBatch]]:
        for step in range(self._next_step, self.stop):
            batches = self.plan.micro_batches(*self.plan.locate(step))
            for number in range(self.rank, len(batches), self.n_ranks):
                yield step, number, batches[number]

    def _hand_out(self, step: int, number: int, batch: Batch) -> LoadedBatch:
        last = number + self.n_ranks >= self.plan.config.micro_batches
        self._next_step = step + last
        return LoadedBatch(step, number, batch)

    def state_dict(self) -> dict[str, Any]:
        """Name the step that comes next: corpus, seed, epoch, step."""
        return self.plan.state(self._next_step).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        UserError
            The state belongs to another corpus or seed.
        """
        self._next_step = self.plan.global_step(SamplingState.from_dict(state))


def _awaited(ahead: tuple[int, int, Future[Batch]]) -> tuple[int, int, Batch]:
    step, number, future = ahead
    return step, number, future.result()
