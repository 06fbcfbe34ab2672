"""How a verb tells what it is doing: one callable, whoever listens (terminal, flow, test)."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on."""

    def __call__(self, done: int, total: int, message: str) -> None:
        """Say that `done` of `total` units are finished; `message` names the unit of work."""


def silent(done: int, total: int, message: str) -> None:
    """Listen to nothing."""
