"""Read the files of an evaluation over tasks; those that older versions did not write are None."""

from typing import Any, NamedTuple

import pyarrow as pa

from emeg.evaluation.protocol.products import GridSummary, read_grid, read_results
from emeg.store import Store
from emeg.store.catalog.parquet import table_of


class Evaluated(NamedTuple):
    """An evaluation over tasks with all its files."""

    name: str
    summary: GridSummary
    results: pa.Table
    """`emeg.evaluation.protocol.rows.RESULTS`."""
    predictions: pa.Table | None
    """`emeg.evaluation.protocol.rows.PREDICTIONS`; None if the file is missing."""
    checks: list[dict[str, Any]] | None
    """Leak checks of every task; None if the file is missing."""
    probes: dict[str, Any] | None
    """What the network's features hold, by task; None if the file is missing."""


def read_evaluated(store: Store, name: str) -> Evaluated:
    """Read an evaluation over tasks.

    Raises
    ------
    UserError
        The evaluation is of another kind.
    """
    folder = ("evaluations", name)
    summary = read_grid(store, name)
    has_predictions = store.exists(*folder, "predictions.parquet")
    return Evaluated(
        name,
        summary,
        read_results(store, name),
        table_of(store.read_bytes(*folder, "predictions.parquet")) if has_predictions else None,
        store.read_json(*folder, "checks.json") if store.exists(*folder, "checks.json") else None,
        store.read_json(*folder, "probes.json") if store.exists(*folder, "probes.json") else None,
    )
