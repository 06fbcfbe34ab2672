"""Batches for a GPU: copied one batch ahead by another thread, in order, without waiting; on a CPU nothing changes."""

import threading
import time
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor

from emeg.data import BatchReader, Corpus, SamplingConfig, SamplingPlan, TokenSet
from emeg.store import Store
from emeg.training.loop import batches as batches_module
from emeg.training.loop import device_queue
from emeg.training.loop.batches import SignalReader, StepLoader, TokenReader
from emeg.training.loop.device_queue import SideStream, on_device
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.rank import RunContext
from emeg.training.loop.speed import SpeedMeter

GPU = torch.device("cuda", 0)


class Item(NamedTuple):
    number: int
    value: Tensor = torch.zeros(2)

    def to(self, device, *, non_blocking=False):
        return self._replace(number=-self.number)


class Side:
    """Side stream without a GPU: records which thread copied which batch, and when it was handed over."""

    def __init__(self, device=None):
        self.copied, self.threads, self.handed = [], set(), []

    def copy(self, batch):
        self.threads.add(threading.current_thread())
        self.copied.append(batch)
        return batch.to("cpu", non_blocking=True), len(self.copied)

    def hand_over(self, moved, complete):
        self.handed.append((moved, complete))


@pytest.fixture
def side(monkeypatch):
    side = Side()
    monkeypatch.setattr(device_queue, "SideStream", lambda device: side)
    return side


def settle(side, n):
    for _ in range(200):
        if len(side.copied) >= n:
            break
        time.sleep(0.005)
    time.sleep(0.05)
    return len(side.copied)


def test_one_batch_is_copied_ahead_by_another_thread(side):
    numbers = []
    for n, item in enumerate(on_device([Item(i) for i in range(1, 6)], GPU), start=1):
        numbers.append(item.number)
        assert settle(side, min(n + 1, 5)) == min(n + 1, 5)  # while this one is computed, the next is there
    assert numbers == [-1, -2, -3, -4, -5]
    assert [(moved.number, complete) for moved, complete in side.handed] == [(-i, i) for i in range(1, 6)]
    assert threading.current_thread() not in side.threads
    assert not any(thread.is_alive() for thread in side.threads)


def test_an_error_of_the_loader_reaches_the_training(side):
    def broken():
        yield Item(1)
        raise OSError("the bucket is gone")

    with pytest.raises(OSError, match="bucket"):
        list(on_device(broken(), GPU))


def test_a_training_that_stops_ends_the_thread_and_closes_the_loader(side):
    closed = []

    def endless():
        try:
            while True:
                yield Item(1)
        finally:
            closed.append(threading.current_thread())

    ahead = on_device(endless(), GPU)
    next(ahead)
    ahead.close()
    assert closed == list(side.threads)
    assert not any(thread.is_alive() for thread in side.threads)


def test_a_cpu_gets_the_very_batches():
    items = [Item(1), Item(2)]
    assert all(a is b for a, b in zip(on_device(items, torch.device("cpu")), items, strict=True))


def test_the_computation_waits_for_the_copy_and_the_host_does_not():
    batch = mock.Mock()
    with mock.patch.object(torch, "cuda") as cuda:
        side = SideStream(GPU)
        moved, complete = side.copy(batch)
        batch.to.assert_called_once_with(GPU, non_blocking=True)
        assert cuda.stream.call_args.args == (cuda.Stream.return_value,)
        assert complete is cuda.Stream.return_value.record_event.return_value
        moved = Item(1, mock.Mock(spec=Tensor))
        side.hand_over(moved, complete)
        computing = cuda.current_stream.return_value
        computing.wait_event.assert_called_once_with(complete)
        moved.value.record_stream.assert_called_once_with(computing)
        for wait in ("synchronize", "wait"):
            assert not getattr(complete, wait).called
            assert not getattr(cuda.Stream.return_value, wait).called


def plan_of(root, **sampling):
    corpus = Corpus.open(Store.open(root))
    config = SamplingConfig(budget_channel_seconds=30, crop_s=2.0, micro_batches=2, **sampling)
    return corpus, SamplingPlan(corpus, config)


def test_the_loaders_threads_pin_what_they_read(root, monkeypatch):
    by = []

    def pinned(batch):
        by.append(threading.current_thread().name)
        return batch

    monkeypatch.setattr(batches_module, "pin", pinned)
    corpus, plan = plan_of(root)
    for is_pinned in (False, True):
        reader = SignalReader(BatchReader(corpus), pinned=is_pinned)
        list(StepLoader(plan, reader, n_steps=2, run=RunContext(None, 0, 1)))
        assert len(by) == (4 if is_pinned else 0)
    assert all(name.startswith("emeg-loader") for name in by)
    codes = torch.zeros(len(corpus), 1, 2, 1).to(torch.uint16).numpy()
    tokens = TokenReader(TokenSet("t", {}, codes), pinned=True)
    list(StepLoader(plan, tokens, n_steps=1, run=RunContext(None, 0, 1)))
    assert len(by) == 6
    assert all(name.startswith("emeg-loader") for name in by)


def test_a_checkpoint_knows_the_batch_in_training_not_the_one_ahead(root, side):
    corpus, plan = plan_of(root)
    reader = SignalReader(BatchReader(corpus))

    def steps(device):
        loader = StepLoader(plan, reader, n_steps=4, run=RunContext(None, 0, 1), device=device)
        found = []
        for n, batch in enumerate(loader, start=1):
            if device.type == "cuda":
                settle(side, min(n + 1, 8))
            found.append((batch.step, batch.micro_batch, batch.segments, loader.state_dict()["step"]))
        return found

    ahead = steps(GPU)
    assert ahead == steps(torch.device("cpu"))
    assert [step for *_, step in ahead] == [0, 1, 1, 2, 2, 3, 3, 0]  # an epoch has four steps


def test_the_wait_for_data_is_that_for_the_loaders_queue(root):
    """A slow computation or callback between two batches does not count as waiting for data; a slow loader is."""
    corpus, plan = plan_of(root, workers=0)
    clock = mock.Mock(return_value=0.0)

    class Slow(SignalReader):
        def tensors(self, read):
            clock.return_value += 3.0
            return super().tensors(read)

    module = mock.Mock(meter=SpeedMeter(clock=clock))
    reader = Slow(BatchReader(corpus))
    loader = StepLoader(plan, reader, n_steps=2, run=RunContext(None, 0, 1), waiting=lambda: Training.waiting(module))
    for _ in loader:
        clock.return_value += 5.0
    assert module.meter.metrics()["data_wait"] == pytest.approx(3.0 / 8.0)
