"""What a run leaves for machines to read: a line of JSON for each recording, and counters for a scraper.

``runs/ingest-<time>-<random>/log.jsonl`` has a line for each recording as it ends; ``runs/ingest-<dataset>.prom`` the
counters of the latest run in Prometheus' text format, replaced whole, as node_exporter's textfile collector wants it.
Neither is a product: both bear times, and nothing reads them back.
"""

import json
import re
import secrets
import time
from collections import Counter
from datetime import UTC, datetime

from emeg.ingest.recording import Outcome
from emeg.store import Store

_EVERY_S = 10.0
"""Between two writes of the counters, and of the log in a bucket, which cannot be added to."""

_LABEL = re.compile(r'[\\"\n]')


class Ledger:
    """Counts, logs and estimates one run of ingest.

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

    def note(self, source: str, size: int, outcome: Outcome | str) -> str:
        """Record how a recording ended; returns rate and time left, for people."""
        state = "failed" if isinstance(outcome, str) else outcome.state
        reason = outcome if isinstance(outcome, str) else outcome.reason
        self._counts[state] += 1
        self._bytes += size
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "dataset": self._dataset,
            "source": source,
            "recording": "" if isinstance(outcome, str) else outcome.recording,
            "state": state,
            "reason": reason,
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
            self._write_counters()
        return self._pace()

    def close(self) -> None:
        """Write what is not yet written; a run that had nothing to do leaves its counters alone."""
        if self._lines:
            self._write_log()
        self._write_counters()

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

    def _write_counters(self) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", self._dataset)
        self._store.write_bytes(self.counters().encode(), "runs", f"ingest-{name}.prom")

    def counters(self) -> str:
        """Counters in Prometheus' text exposition format, version 0.0.4."""
        dataset = _LABEL.sub("_", self._dataset)
        seconds = time.monotonic() - self._began
        lines = [
            "# HELP emeg_ingest_recordings Recordings by how they ended in the latest run.",
            "# TYPE emeg_ingest_recordings gauge",
            *(
                f'emeg_ingest_recordings{{dataset="{dataset}",state="{state}"}} {count}'
                for state, count in sorted({**self._counts, "known": self._known}.items())
            ),
        ]
        gauges = {
            "emeg_ingest_remaining": ("Recordings not yet worked on.", self._total - self.done),
            "emeg_ingest_source_bytes": ("Bytes of sources worked on.", self._bytes),
            "emeg_ingest_seconds": ("Time since the run began.", round(seconds, 3)),
            "emeg_ingest_updated_timestamp_seconds": ("When this was written.", round(time.time(), 3)),
        }
        for name, (meaning, value) in gauges.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", f'{name}{{dataset="{dataset}"}} {value}']
        return "\n".join(lines) + "\n"
