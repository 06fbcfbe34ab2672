"""From micro-batches to arrays, for one rank, in an order that no thread or rank changes."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

from emeg.data.reading.batch_reader import ShareReader
from emeg.data.sampling.plan import SamplingPlan, SamplingState, Share, numbers_of
from emeg.errors import UserError


class Reader(Protocol):
    """What a loader reads with: `BatchReader` and, in training, those that give tensors or codes."""

    def follow(self, share: Share, *, ahead: int) -> ShareReader:
        """Start on a rank's share of an epoch."""


class LoadedBatch(NamedTuple):
    """A batch and where it belongs; draws inside a model are keyed with (seed, step, micro_batch)."""

    step: int
    """Step counted from the start of training."""
    micro_batch: int
    """0 to M - 1 inside the step."""
    batch: Any
    """What the reader gives: of a `BatchReader`, a `StoredBatch`."""


class Loader:
    """One rank's share of the micro-batches of global steps `start` to `stop`, step after step.

    Rank r of R gets micro-batches r, r + R, … of every step, so every rank has the same number, in the order of
    `numbers_of`. The state is free of the rank: it names the step that comes next, and any number of ranks may go on
    from it.

    Parameters
    ----------
    plan : SamplingPlan
    reader : BatchReader
    rank, n_ranks : int
    start, stop : int
        Global steps; `stop` is excluded.
    workers : int
        Threads that read ahead; 0 reads when asked. Reading waits and copies outside Python's lock, and a batch that a
        thread read is there, while one of a process has to be moved.
    prefetch : int
        Micro-batches that each worker is ahead.

    Raises
    ------
    UserError
        The ranks do not divide the micro-batches of a step.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        reader: Reader,
        *,
        stop: int,
        start: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
        workers: int = 1,
        prefetch: int = 2,
    ) -> None:
        check_ranks(plan.config.micro_batches, n_ranks)
        self.plan = plan
        self.reader = reader
        self.stop = stop
        self.rank = rank
        self.n_ranks = n_ranks
        self.workers = workers
        self.prefetch = prefetch
        self._next_step = start
        self._numbers = numbers_of(plan.config.micro_batches, rank, n_ranks)

    @property
    def batches_per_step(self) -> int:
        """Micro-batches that this rank gets in a step."""
        return len(self._numbers)

    def __len__(self) -> int:
        """Batches from the next step on."""
        return max(self.stop - self._next_step, 0) * self.batches_per_step

    def __iter__(self) -> Iterator[LoadedBatch]:
        """Go on from the next step; a step counts as done when its last batch has been handed out."""
        followed: deque[ShareReader] = deque(maxlen=2)  # those before are read to their end, or soon will be
        try:
            if self.workers < 1:
                for step, number, read in self._reads(followed, ahead=0):
                    yield self._hand_out(step, number, read())
            else:
                with ThreadPoolExecutor(self.workers, thread_name_prefix="emeg-loader") as pool:
                    yield from self._read_ahead(pool, followed)
        finally:
            for following in followed:
                following.close()

    def _read_ahead(self, pool: ThreadPoolExecutor, followed: deque[ShareReader]) -> Iterator[LoadedBatch]:
        n_ahead = self.workers * max(self.prefetch, 1)
        waiting: deque[tuple[int, int, Future[Any]]] = deque()
        try:
            for step, number, read in self._reads(followed, ahead=n_ahead):
                waiting.append((step, number, pool.submit(read)))
                if len(waiting) > n_ahead:
                    yield self._hand_out(*_awaited(waiting.popleft()))
            while waiting:
                yield self._hand_out(*_awaited(waiting.popleft()))
        finally:
            for _, _, future in waiting:
                future.cancel()

    def _reads(self, followed: deque[ShareReader], *, ahead: int) -> Iterator[tuple[int, int, Callable[[], Any]]]:
        """Give step, number and what reads it, for every batch to come, epoch after epoch."""
        step = self._next_step
        while step < self.stop:
            epoch, first = self.plan.locate(step)
            last = min(self.plan.n_steps(epoch), first + self.stop - step)
            share = self.plan.share(epoch, start=first, stop=last, rank=self.rank, n_ranks=self.n_ranks)
            following = self.reader.follow(share, ahead=ahead)
            followed.append(following)
            for k, (inside, number) in enumerate(itertools.product(range(first, last), self._numbers)):
                micro_batch = self.plan.micro_batch(epoch, inside, number)
                yield step + inside - first, number, partial(following.read, k, micro_batch)
            step += last - first

    def _hand_out(self, step: int, number: int, batch: Any) -> LoadedBatch:  # noqa: ANN401 - what the reader gives
        self._next_step = step + (number == self._numbers[-1])
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


def check_ranks(micro_batches: int, n_ranks: int) -> None:
    """Refuse a number of processes that does not divide the micro-batches of a step.

    Raises
    ------
    UserError
        It does not; the message names those that would.
    """
    if micro_batches % n_ranks:
        divisors = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
        raise UserError(
            f"{n_ranks} processes do not divide micro_batches={micro_batches}: each needs the same number; run with"
            f" {', '.join(divisors)}, or set micro_batches to {' or '.join(_multiples(micro_batches, n_ranks))}"
        )


def _multiples(micro_batches: int, n_ranks: int) -> list[str]:
    below = micro_batches // n_ranks * n_ranks
    return [str(m) for m in (below, below + n_ranks) if m]


def _awaited(ahead: tuple[int, int, Future[Any]]) -> tuple[int, int, Any]:
    step, number, future = ahead
    return step, number, future.result()
