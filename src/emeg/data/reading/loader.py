"""Load the micro-batches of one rank in an order that depends on no thread and no rank."""

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
    """Reader that a loader uses: `BatchReader` and, in training, readers of tensors or codes."""

    def follow(self, share: Share, *, ahead: int) -> ShareReader:
        """Start reading a rank's share of an epoch."""


class LoadedBatch(NamedTuple):
    """A batch with its step and micro-batch; draws inside a model are keyed with (seed, step, micro_batch)."""

    step: int
    """Step counted from the start of training."""
    micro_batch: int
    """Number inside the step, 0 to M - 1."""
    batch: Any
    """Result of the reader; a `StoredBatch` for a `BatchReader`."""


class Loader:
    """One rank's share of the micro-batches of global steps `start` to `stop`, step after step.

    Rank r of R gets micro-batches r, r + R, … of every step, so every rank has the same number, in the order of
    `numbers_of`. The state does not depend on the rank: it holds the next step, from which any number of ranks can
    continue.

    Parameters
    ----------
    plan : SamplingPlan
    reader : BatchReader
    rank, n_ranks : int
    start, stop : int
        Global steps; `stop` is excluded.
    workers : int
        Threads that read ahead; 0 reads in the calling thread. Reading and copying release the interpreter lock, and
        a batch read by a thread need not be moved between processes.
    prefetch : int
        Micro-batches that each worker reads ahead.

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
        """Micro-batches of this rank in a step."""
        return len(self._numbers)

    def __len__(self) -> int:
        """Return the number of batches from the next step on."""
        return max(self.stop - self._next_step, 0) * self.batches_per_step

    def __iter__(self) -> Iterator[LoadedBatch]:
        """Yield batches from the next step on; a step is done once its last batch was yielded."""
        followed: deque[ShareReader] = deque(maxlen=2)  # earlier readers have finished or are about to
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
        """Yield step, number and read function of every batch, epoch after epoch."""
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

    def _hand_out(self, step: int, number: int, batch: Any) -> LoadedBatch:  # noqa: ANN401 - result of the reader
        self._next_step = self.step_after(step, number)
        return LoadedBatch(step, number, batch)

    @property
    def next_step(self) -> int:
        """First step of which not every batch was yielded."""
        return self._next_step

    def step_after(self, step: int, micro_batch: int) -> int:
        """Return the next step for a consumer whose last batch was this one."""
        return step + (micro_batch == self._numbers[-1])

    def state_dict(self, next_step: int | None = None) -> dict[str, Any]:
        """Return the next step as corpus, seed, epoch and step.

        Parameters
        ----------
        next_step : int, optional
            Next step of a consumer that is behind this loader; default: that of the loader.
        """
        return self.plan.state(self._next_step if next_step is None else next_step).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Raises
        ------
        UserError
            The state belongs to another corpus or seed.
        """
        self._next_step = self.plan.global_step(SamplingState.from_dict(state))


def check_ranks(micro_batches: int, n_ranks: int) -> None:
    """Raise an error if the number of ranks does not divide the micro-batches of a step.

    Raises
    ------
    UserError
        It does not; the message lists numbers that do.
    """
    if micro_batches % n_ranks:
        divisors = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
        raise UserError(
            f"{n_ranks} ranks do not divide micro_batches={micro_batches}, but each needs the same number; use"
            f" {', '.join(divisors)}, or set micro_batches to {' or '.join(_multiples(micro_batches, n_ranks))}"
        )


def _multiples(micro_batches: int, n_ranks: int) -> list[str]:
    below = micro_batches // n_ranks * n_ranks
    return [str(m) for m in (below, below + n_ranks) if m]


def _awaited(ahead: tuple[int, int, Future[Any]]) -> tuple[int, int, Any]:
    step, number, future = ahead
    return step, number, future.result()
