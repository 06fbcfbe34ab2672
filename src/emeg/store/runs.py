"""What a run in progress is made from, noted in ``runs/<run>/made_from.json`` before anything is computed.

A run's name is a hash: without the note nobody could tell whose data its checkpoints were trained on.
"""

from pydantic import Field

from emeg.config import Config
from emeg.store.products import Store

_NOTE = "made_from.json"


class RunNote(Config):
    """Inputs of a run, and where its files are."""

    inputs: dict[str, str] = Field(default_factory=dict)
    """Kind of product -> name: corpus, tokens, tokenizer."""
    places: tuple[str, ...] = ()
    """Folders and URIs with files of the run: logs, checkpoints, parts."""


def note_run(store: Store, run: str, note: RunNote) -> None:
    """Note what a run is made from, where that is not noted already."""
    if read_run(store, run) != note:
        store.write_json(note.model_dump(mode="json"), "runs", run, _NOTE)


def read_run(store: Store, run: str) -> RunNote | None:
    """Read the note of a run; `None` where an earlier version began it, or where it is no training."""
    parts = ("runs", run, _NOTE)
    if not store.exists(*parts):
        return None
    return RunNote.checked(store.read_json(*parts), source="/".join(parts))
