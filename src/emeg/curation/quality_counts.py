"""Count how much of a dataset is bad and why, for the page of an ingest."""

from collections import Counter
from collections.abc import Iterator

from emeg.config import Config
from emeg.store import BadReason, CatalogRow, Store, read_catalog, read_quarantine

COUNTED = {
    BadReason.FLAT: "flat_s",
    BadReason.NOISY: "noisy_s",
    BadReason.CLIPPED: "clipped_s",
    BadReason.BEYOND_GATE: "beyond_gate_s",
    BadReason.UNCORRELATED: "uncorrelated_s",
}
"""Reasons whose channel-seconds are in the catalogue, and their columns."""


class QualityCount(Config):
    """One row: a reason, the number of recordings, and the duration."""

    what: str
    """``ready``, ``bad channels``, a reason by which seconds are marked, or ``quarantined`` with the stage."""
    recordings: int
    """Recordings, or refused sources."""
    channel_hours: float | None = None
    """Hours of single channels; of all channels for ``ready``; null where it is not a matter of time."""
    share: float | None = None
    """Share of the channel-hours measured."""


def count_quality(root: str, dataset: str) -> tuple[QualityCount, ...]:
    """Count good and bad data of a dataset's recordings from the catalogue, over all runs.

    Recordings that an older version ingested only count as ready.
    """
    store = Store.open(root)
    rows = [row for row in read_catalog(store) if row.dataset == dataset]
    return (*_ready(rows), *_refused(store, dataset))


def _ready(rows: list[CatalogRow]) -> Iterator[QualityCount]:
    measured_h = sum(_hours(row) for row in rows if row.bad_share is not None)
    yield QualityCount(what="ready", recordings=len(rows), channel_hours=round(sum(map(_hours, rows)), 4))
    marked_h = sum(row.bad_share * _hours(row) for row in rows if row.bad_share is not None)
    yield _count("marked", sum(bool(row.bad_share) for row in rows), marked_h, measured_h)
    for reason, column in COUNTED.items():
        seconds = [getattr(row, column) or 0.0 for row in rows]
        name = (reason.name or "").lower().replace("_", " ")
        yield _count(name, sum(value > 0.0 for value in seconds), sum(seconds) / 3600.0, measured_h)
    yield QualityCount(what="bad channels", recordings=sum(bool(row.bad_channels) for row in rows))


def _count(what: str, recordings: int, hours: float, of_hours: float) -> QualityCount:
    share = round(hours / of_hours, 6) if of_hours else None
    return QualityCount(what=what, recordings=recordings, channel_hours=round(hours, 4), share=share)


def _hours(row: CatalogRow) -> float:
    return row.n_channels * row.duration_s / 3600.0


def _refused(store: Store, dataset: str) -> Iterator[QualityCount]:
    stages = Counter(record.stage for record in read_quarantine(store) if record.dataset == dataset)
    for stage, count in sorted(stages.items()):
        yield QualityCount(what=f"quarantined: {stage}", recordings=count)
