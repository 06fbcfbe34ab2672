"""Inputs of a run in progress, written to ``runs/<run>/made_from.json`` before anything is computed.

A run's name is a hash, so this file is the only record of the data that its checkpoints were trained on.
"""

from pydantic import Field

from emeg.config import Config
from emeg.store.products import Store

_NOTE = "made_from.json"


class RunNote(Config):
    """Inputs of a run, and the locations of its files."""

    inputs: dict[str, str] = Field(default_factory=dict)
    """Kind of product -> name: corpus, tokens, tokenizer."""
    places: tuple[str, ...] = ()
    """Folders and URIs with files of the run: logs, checkpoints, parts."""


def note_run(store: Store, run: str, note: RunNote) -> None:
    """Write the inputs of a run if they are not recorded yet."""
    if read_run(store, run) != note:
        store.write_json(note.model_dump(mode="json"), "runs", run, _NOTE)


def read_run(store: Store, run: str) -> RunNote | None:
    """Read the inputs of a run; `None` if an earlier version started it, or if it is no training."""
    parts = ("runs", run, _NOTE)
    if not store.exists(*parts):
        return None
    return RunNote.checked(store.read_json(*parts), source="/".join(parts))
