"""Copy batches to a GPU while the previous batch is computed.

loader's threads ──pinned batches──▶ one thread, copies on a stream of its own ──▶ one batch ahead ──▶ training step

On other devices batches pass through unchanged, in the calling thread.
"""

import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor


class Movable(Protocol):
    """A named tuple with tensors that moves to a device as a whole."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Any:  # noqa: ANN401 - a named tuple
        """Move all tensors."""


M = TypeVar("M", bound=tuple[Any, ...])


def tensors_of(batch: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors among the fields of a batch."""
    return [value for value in batch if isinstance(value, Tensor)]


def move(batch: M, device: torch.device | str, *, non_blocking: bool = False) -> M:
    """Move the tensors of a batch to a device."""
    return type(batch)(*(v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v for v in batch))


def pin(batch: M) -> M:
    """Copy the tensors of a batch into page-locked memory, from which a GPU copies without waiting.

    PyTorch reuses this memory once the copies from it are complete.
    """
    return type(batch)(*(v.pin_memory() if isinstance(v, Tensor) else v for v in batch))


class SideStream:
    """Copies to a GPU on a stream beside that of the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, batch: Movable) -> tuple[Any, Any]:
        """Start to copy a batch; return it and the event at which it is complete."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            moved = batch.to(self._device, non_blocking=True)
            return moved, self._stream.record_event()

    def hand_over(self, moved: Any, complete: Any) -> None:  # noqa: ANN401 - what `copy` returned
        """Make the device wait for a batch before it computes; the host does not wait."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(complete)
        for tensor in tensors_of(moved):
            tensor.record_stream(computing)  # its memory is not reused before the computation is done with it


class _End(NamedTuple):
    """End of the batches."""

    error: BaseException | None


def on_device(batches: Iterable[Any], device: torch.device) -> Generator[Any, None, None]:
    """Yield batches on a device; on a GPU the next one is copied while the caller computes.

    Parameters
    ----------
    batches : iterable of Movable
        On a GPU another thread iterates over them, and closes a generator at the end.
    device : torch.device
    """
    if device.type != "cuda":
        yield from batches
        return
    with closing(_one_ahead(batches, SideStream(device))) as ahead:
        yield from ahead


def _one_ahead(batches: Iterable[Any], side: SideStream) -> Generator[Any, None, None]:
    """Yield batches that another thread copies, one ahead of the caller."""
    free = threading.Semaphore(1)
    stopped = threading.Event()
    copied: SimpleQueue[tuple[Any, Any] | _End] = SimpleQueue()

    def fill() -> None:
        source = iter(batches)
        error: BaseException | None = None
        try:
            while free.acquire() and not stopped.is_set():
                batch = next(source, None)
                if batch is None:
                    break
                copied.put(side.copy(batch))
        except BaseException as caught:  # noqa: BLE001 - raised again in the caller's thread
            error = caught
        finally:
            if isinstance(source, Generator):
                source.close()
            copied.put(_End(error))

    thread = threading.Thread(target=fill, name="emeg-to-device", daemon=True)
    thread.start()
    try:
        while not isinstance(found := copied.get(), _End):
            free.release()
            side.hand_over(*found)
            yield found[0]
        if found.error is not None:
            raise found.error
    finally:
        stopped.set()
        free.release()
        thread.join()
