"""Cells of the grid: one model on one task, seed and fold, and the files that hold their results while a run lasts.

``runs/<evaluation>/cells.json``                     names of all cells of the grid
``runs/<evaluation>/cells/<cell>.parquet``           `rows.RESULTS`; a cell is finished if and only if this file exists
``runs/<evaluation>/cells/<cell>.predictions.parquet``  `rows.PREDICTIONS`
``runs/<evaluation>/cells/<cell>.json``              seconds that the cell took
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from emeg.errors import UserError
from emeg.evaluation.protocol.rows import PREDICTIONS, RESULTS
from emeg.evaluation.sharing import share_work
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.store.catalog.parquet import parquet_bytes, table_of


class Cell(NamedTuple):
    """One model on one task, seed and fold."""

    task: str
    model: str
    """Product of a network, or name of a rival."""
    weights: str
    """pretrained, random, or empty."""
    mode: str
    """frozen, lora, full, or empty for rivals."""
    read_out: str
    """logistic, ridge, contrastive, or empty where a network is trained."""
    labels: str
    """real or permuted."""
    condition: str
    """Empty, or calibrated."""
    examples_per_class: int | None
    """Labelled examples of each class and subject; None for all."""
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Name of the cell's files."""
        shots = "" if self.examples_per_class is None else f"{self.examples_per_class}-examples"
        permuted = "" if self.labels == "real" else self.labels
        parts = (self.model, self.weights, self.mode, self.read_out, permuted, self.condition, shots)
        return f"{self.task}--{'-'.join(filter(None, parts))}--seed{self.seed}-fold{self.fold}"

    def fields(self) -> dict[str, Any]:
        """Return the columns that results and predictions share."""
        return self._asdict()


class CellOutcome(NamedTuple):
    """What a cell gave."""

    results: list[dict[str, Any]]
    """Rows of `rows.RESULTS`."""
    predictions: list[dict[str, Any]]
    """Rows of `rows.PREDICTIONS`."""


def has_cell(store: Store, evaluation: str, cell: str) -> bool:
    """Return whether a cell is finished."""
    return store.exists("runs", evaluation, "cells", f"{cell}.parquet")


def write_cell(store: Store, evaluation: str, cell: str, outcome: CellOutcome, seconds: float) -> None:
    """Write what a cell gave; the results come last, since they mark the cell as finished."""
    folder = ("runs", evaluation, "cells")
    predictions = pa.Table.from_pylist(outcome.predictions, schema=PREDICTIONS)
    store.write_bytes(parquet_bytes(predictions), *folder, f"{cell}.predictions.parquet")
    store.write_json({"seconds": round(seconds, 3)}, *folder, f"{cell}.json")
    store.write_bytes(parquet_bytes(pa.Table.from_pylist(outcome.results, schema=RESULTS)), *folder, f"{cell}.parquet")


def read_cells(store: Store, evaluation: str, cells: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Read results and predictions of all cells, in the order given.

    Raises
    ------
    UserError
        A cell is not finished; the message names the missing ones.
    """
    check_complete(store, evaluation, cells)
    folder = ("runs", evaluation, "cells")
    results = [table_of(store.read_bytes(*folder, f"{cell}.parquet")) for cell in cells]
    predictions = [table_of(store.read_bytes(*folder, f"{cell}.predictions.parquet")) for cell in cells]
    return (
        pa.concat_tables([RESULTS.empty_table(), *results]).combine_chunks(),
        pa.concat_tables([PREDICTIONS.empty_table(), *predictions]).combine_chunks(),
    )


def missing_cells(store: Store, evaluation: str, cells: Sequence[str]) -> list[str]:
    """Return the names of the cells that are not finished."""
    there = {location.name for location in store.children("runs", evaluation, "cells")}
    return [cell for cell in cells if f"{cell}.parquet" not in there]


def check_complete(store: Store, evaluation: str, cells: Sequence[str]) -> None:
    """Raise an error if cells of a grid are missing; figures over part of a grid would not be those of the protocol.

    Raises
    ------
    UserError
        The message names the missing cells and the next action.
    """
    missing = missing_cells(store, evaluation, cells)
    if missing:
        listed = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise UserError(
            f"evaluation {evaluation}: {len(missing)} of {len(cells)} cells are missing ({listed}); figures over a part"
            " of the grid are not shown. Run the same `emeg evaluate --tasks …` again to finish it"
        )


def check_not_running(store: Store, evaluation: str | None) -> None:
    """Raise an error if a named evaluation is a grid that was begun and not finished.

    Raises
    ------
    UserError
        The message names the missing cells.
    """
    if evaluation is None or store.has("evaluations", evaluation):
        return
    if store.exists("runs", evaluation, "cells.json"):
        check_complete(store, evaluation, store.read_json("runs", evaluation, "cells.json"))


def work_through(
    store: Store,
    evaluation: str,
    cells: Mapping[str, Cell],
    compute: Callable[[Cell], CellOutcome],
    progress: Progress = silent,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Compute all cells that are not finished, sharing them with other processes; return when all are done.

    Parameters
    ----------
    store : Store
    evaluation : str
        Name of the evaluation.
    cells : mapping of str to Cell
        All cells of the grid by name.
    compute : callable
    progress : Progress
        Receives the number of finished cells.
    check : callable
        Called after each cell; an error that it raises ends the work.
    """
    claims = {f"{evaluation}-{name}": name for name in cells}

    def make(claim: str) -> None:
        began = time.monotonic()
        outcome = compute(cells[claims[claim]])
        write_cell(store, evaluation, claims[claim], outcome, time.monotonic() - began)
        check()
        n_done = len(cells) - len(missing_cells(store, evaluation, list(cells)))
        progress(n_done, len(cells), claims[claim])

    missing = set(missing_cells(store, evaluation, list(cells)))
    todo = [claim for claim, name in claims.items() if name in missing]
    share_work(store, todo, lambda claim: has_cell(store, evaluation, claims[claim]), make)
