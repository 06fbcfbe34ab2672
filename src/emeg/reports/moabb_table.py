"""Results of an evaluation over tasks with the columns of MOABB, for its statistics and plots."""

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("score", "time", "samples", "subject", "session", "channels", "n_sessions", "dataset", "pipeline")
"""Columns of a table of MOABB's evaluations; its column of seconds is empty, since products hold no clock times."""


def moabb_table(results: pa.Table, metrics: dict[str, str], n_channels: dict[str, int | None]) -> pa.Table:
    """Return one row for each task, subject and compared model: the mean over seeds and folds.

    Parameters
    ----------
    results : pyarrow.Table
        ``results.parquet`` of an evaluation.
    metrics : dict
        Primary metric of each task.
    n_channels : dict
        Channels of each task, None if unknown.
    """
    rows = [
        row
        for row in results.filter(pc.field("unit") == "window").to_pylist()
        if row["subject"] and row["value"] is not None and row["metric"] == metrics.get(row["task"])
    ]
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["subject"], pipeline_name(row)), []).append((row["value"], row["n"]))
    records = [
        {
            "score": sum(value for value, _ in values) / len(values),
            "time": None,
            "samples": max(n for _, n in values),
            "subject": subject,
            "session": "all",
            "channels": n_channels.get(task),
            "n_sessions": 1,
            "dataset": task,
            "pipeline": pipeline,
        }
        for (task, subject, pipeline), values in sorted(found.items())
    ]
    types = (pa.float64(), pa.float64(), pa.int64(), pa.string(), pa.string(), pa.int64(), pa.int64(), pa.string())
    schema = pa.schema([*zip(COLUMNS, types, strict=False), (COLUMNS[-1], pa.string())])
    return pa.Table.from_pylist(records, schema=schema)


def pipeline_name(row: dict[str, object]) -> str:
    """Return a name of the compared model with all that distinguishes it."""
    parts = [row["model"], row["weights"], row["mode"], row["read_out"], row["condition"]]
    if row["labels"] == "permuted":
        parts.append("permuted")
    if row["examples_per_class"] is not None:
        parts.append(f"{row['examples_per_class']} examples")
    return "/".join(str(part) for part in parts if part)
