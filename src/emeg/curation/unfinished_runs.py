"""Find work in progress that holds data of a subject: trainings, tokenising, and the log of ingest."""

import json
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from emeg.store import Store
from emeg.store.runs import read_run

_RUN = re.compile(r"[0-9a-f]{16}")
_LOG = "log.jsonl"


class HeldRuns(NamedTuple):
    """Runs that hold data of a subject, or may hold it."""

    runs: tuple[str, ...]
    """Runs made from a product that holds the subject."""
    runs_elsewhere: tuple[str, ...]
    """Folders and URIs outside the store with files of these runs."""
    runs_unknown: tuple[str, ...]
    """Runs without a record of their inputs, whose name is that of no product."""


def find_runs(store: Store, held: Collection[str], others: Collection[str]) -> HeldRuns:
    """Find the runs that hold data of a subject.

    Parameters
    ----------
    held : collection of str
        Names of the products that hold the subject.
    others : collection of str
        Names of all other products.
    """
    found, elsewhere, unknown = [], [], []
    inside = str(store.root).rstrip("/") + "/"
    for run in (location.name for location in store.children("runs")):
        if not _RUN.fullmatch(run):
            continue
        note = read_run(store, run)
        if run in held or (note is not None and not set(held).isdisjoint(note.inputs.values())):
            found.append(run)
            elsewhere += [
                location for location in (note.places if note is not None else ()) if not location.startswith(inside)
            ]
        elif note is None and run not in others:
            unknown.append(run)
    return HeldRuns(tuple(found), tuple(elsewhere), tuple(unknown))


def forget_in_logs(
    store: Store, recordings: Iterable[str], sources: Iterable[str], dataset: str, *, only_count: bool = False
) -> int:
    """Remove the lines about some recordings and sources of a dataset from ingest's logs; return how many."""
    gone, named, taken = set(recordings), set(sources), 0
    for location in store.children("runs"):
        parts = ("runs", location.name, _LOG)
        if not location.name.startswith("ingest-") or not store.exists(*parts):
            continue
        lines = store.read_bytes(*parts).decode().splitlines()
        kept = [line for line in lines if not _is_about(json.loads(line), gone, named, dataset)]
        if len(kept) < len(lines):
            if not only_count:
                store.write_bytes("".join(f"{line}\n" for line in kept).encode(), *parts)
            taken += len(lines) - len(kept)
    return taken


def _is_about(line: dict[str, object], recordings: set[str], sources: set[str], dataset: str) -> bool:
    return line["recording"] in recordings or (line["dataset"] == dataset and line["source"] in sources)
