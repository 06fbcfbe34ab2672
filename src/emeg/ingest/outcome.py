"""The result of the work on one source, the same class for this process, child processes, a cluster and task runs."""

from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["ready", "quarantined", "claimed", "failed", "died"]
"""State in which the work on a source ended.

``ready``
    Its recording is in the store.
``quarantined``
    It was refused, and the store holds the reason.
``claimed``
    Another worker is working on it and may still be.
``failed``
    A temporary fault, such as a broken connection; the next run tries again.
``died``
    The worker process ended while it worked on the source.
"""


@dataclass(frozen=True)
class Outcome:
    """Result of the work on one source.

    Parameters
    ----------
    source : str
        Path of the source as products and messages show it.
    recording : str
        Recording id; empty where the work did not get so far.
    state : State
    reason : str
        Why the source is not ready.
    made : bool
        Whether this call did the work; `False` if another worker had done it.

    Raises
    ------
    ValueError
        There is no such state.
    """

    source: str
    recording: str
    state: State
    reason: str = ""
    made: bool = True

    def __post_init__(self) -> None:
        if self.state not in get_args(State):
            raise ValueError(f"{self.source}: a source's outcome is one of {get_args(State)}, not {self.state!r}")

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for the source: it is ready or quarantined."""
        return self.state in {"ready", "quarantined"}
