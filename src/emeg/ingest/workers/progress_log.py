"""Write the progress of an ingest for other programs: a line of JSON for each recording, and gauges for a scraper.

``runs/ingest-<time>-<random>/log.jsonl`` has a line for each recording as it ends. ``runs/ingest-<dataset>.prom``
holds the gauges of the latest run in Prometheus' text format and is replaced as a whole, as node_exporter's textfile
collector requires. Neither is a product: both hold times, and emeg reads neither.
"""

import json
import re
import secrets
import time
from collections import Counter
from datetime import UTC, datetime

from emeg.ingest.outcome import Outcome
from emeg.store import Store

_EVERY_S = 10.0
"""Time between two writes of the gauges, and of the log in a bucket, where a file cannot be appended to, s."""


class ProgressLog:
    """Log, count and estimate one run of ingest.

    Parameters
    ----------
    store : Store
    dataset : str
    total : int
        Recordings to work on in this run.
    known : int
        Recordings that earlier runs had settled.
    """

    def __init__(self, store: Store, dataset: str, total: int, known: int) -> None:
        self._store, self._dataset, self._total, self._known = store, dataset, total, known
        self._counts: Counter[str] = Counter(ready=0, quarantined=0, failed=0)
        self._bytes = 0
        self._lines: list[str] = []
        self._began = self._written = time.monotonic()
        self._run = f"ingest-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

    @property
    def done(self) -> int:
        """Recordings that have ended in this run."""
        return self._counts.total()

    def note(self, source: str, size: int, outcome: Outcome) -> str:
        """Record how the work on a recording ended; return rate and time left for a progress message."""
        self._counts[outcome.state] += 1
        self._bytes += size
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "dataset": self._dataset,
            "source": source,
            "recording": outcome.recording,
            "state": outcome.state,
            "reason": outcome.reason,
            "made": outcome.made,
            "bytes": size,
            "done": self.done,
            "total": self._total,
            "seconds_since_start": round(time.monotonic() - self._began, 3),
        }
        self._lines.append(json.dumps(line, ensure_ascii=False))
        if self._store.root.is_local or time.monotonic() - self._written > _EVERY_S:
            self._write_log()
        if time.monotonic() - self._written > _EVERY_S:
            self._written = time.monotonic()
            self._write_gauges()
        return self._pace()

    def close(self) -> None:
        """Write what is not yet written."""
        if self._lines:
            self._write_log()
        self._write_gauges()

    def _pace(self) -> str:
        rate = self.done / max(time.monotonic() - self._began, 1e-3)
        left = (self._total - self.done) / rate
        pace = f"{rate:.1f}/s" if rate >= 1.0 else f"{60 * rate:.1f}/min"
        return f"{pace}, {left / 60:.0f} min left" if left >= 120.0 else f"{pace}, {left:.0f} s left"

    def _write_log(self) -> None:
        data = "".join(f"{line}\n" for line in self._lines)
        if not self._store.root.is_local:
            self._store.write_bytes(data.encode(), "runs", self._run, "log.jsonl")
            return
        path = self._store.location("runs", self._run, "log.jsonl").local_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(data)
        self._lines.clear()

    def _write_gauges(self) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", self._dataset)
        self._store.write_bytes(self.gauges(), "runs", f"ingest-{name}.prom")

    def gauges(self) -> bytes:
        """Return the run's gauges in Prometheus' text exposition format, UTF-8."""
        from prometheus_client import CollectorRegistry, Gauge, generate_latest

        registry = CollectorRegistry()
        by_state = Gauge(
            "emeg_ingest_recordings", "Recordings by how they ended in the latest run.", ("dataset", "state"),
            registry=registry,
        )  # fmt: skip
        for state, count in sorted({**self._counts, "known": self._known}.items()):
            by_state.labels(self._dataset, state).set(count)
        values = {
            "emeg_ingest_remaining": ("Recordings that are still to be worked on.", self._total - self.done),
            "emeg_ingest_source_bytes": ("Bytes of the sources that were worked on.", self._bytes),
            "emeg_ingest_seconds": ("Time since the run began, s.", round(time.monotonic() - self._began, 3)),
            "emeg_ingest_updated_timestamp_seconds": ("When this file was written, Unix time.", round(time.time(), 3)),
        }
        for name, (meaning, value) in values.items():
            Gauge(name, meaning, ("dataset",), registry=registry).labels(self._dataset).set(value)
        return generate_latest(registry)
