"""Record the metrics of a run at every step: in a CSV while it runs, in a table in the model's folder afterwards."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Metric(NamedTuple):
    """One value of one metric at one step."""

    step: int
    split: str
    name: str
    value: float


_SCHEMA = pa.schema([("step", pa.int64()), ("split", pa.string()), ("name", pa.string()), ("value", pa.float64())])
_COLUMNS = ("step", "split", "name", "value", "seconds")


@dataclass
class History:
    """Metrics in the order of their addition; each is also a line in `file`, if given, with the seconds so far."""

    file: Path | None = None

    def __post_init__(self) -> None:
        self.metrics: list[Metric] = []
        self.seconds_before = 0.0
        self._began = time.monotonic()
        self._lines = 0

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds_before + time.monotonic() - self._began

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append one row for each value."""
        rows = [Metric(step, split, name, float(value)) for name, value in values.items()]
        self.metrics += rows
        if self.file is None:
            return
        if self._lines == 0:
            self._rewrite()
            return
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((*row, f"{self.seconds:.2f}") for row in rows)

    def latest(self, split: str) -> dict[str, float]:
        """Return the last value of each name in `split`."""
        return {metric.name: metric.value for metric in self.metrics if metric.split == split}

    def state(self) -> dict[str, list[float] | list[int] | list[str] | float]:
        """Return plain lists, so that a checkpoint with them loads without running code."""
        return {
            "step": [metric.step for metric in self.metrics],
            "split": [metric.split for metric in self.metrics],
            "name": [metric.name for metric in self.metrics],
            "value": [metric.value for metric in self.metrics],
            "seconds": self.seconds,
        }

    def load(self, state: Mapping[str, Sequence[object]]) -> None:
        """Restore the metrics of a checkpoint; later rows of its run are removed from the CSV."""
        columns = zip(state["step"], state["split"], state["name"], state["value"], strict=True)
        self.metrics = [
            Metric(int(str(step)), str(split), str(name), float(str(value))) for step, split, name, value in columns
        ]
        self.seconds_before = float(str(state["seconds"]))
        self._began = time.monotonic()
        self._lines = 0

    def write_table(self, path: Path) -> None:
        """Write step, split, name and value as parquet; the same metrics give the same bytes."""
        columns = list(zip(*self.metrics, strict=True)) or [(), (), (), ()]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        pq.write_table(pa.table(arrays, schema=_SCHEMA), path, compression="zstd")

    def _rewrite(self) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows((*row, f"{self.seconds:.2f}") for row in self.metrics)
        self._lines = 1
