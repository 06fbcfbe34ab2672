"""How a verb reports progress: one callable, provided by the caller (terminal, flow, test)."""

from typing import Protocol


class Progress(Protocol):
    """Receives the state of the work while it runs."""

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report that `done` of `total` units are finished; `message` names the unit of work."""


def silent(done: int, total: int, message: str) -> None:
    """Ignore progress."""
