"""The verb ``quality``: one page per dataset, from catalogue, marks and measures."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.reports.quality_plots import kind_name
from emeg.reports.render import PAGE_VERSION, render
from emeg.reports.sections.archive import quarantine_section
from emeg.reports.sections.quality import (
    REASON_WORDS,
    SHOWN_REASONS,
    Judged,
    Spectra,
    judge,
    measure_spectra,
    overview,
    spectra_section,
    table,
    worst,
)
from emeg.store import CatalogRow, QuarantineRecord, Store, read_catalog, read_quarantine
from emeg.version import __version__

logger = logging.getLogger(__name__)

COLUMNS = (
    "channels", "s", "bad channels", "bad %", *(f"{REASON_WORDS[r].split(' in ')[0]} %" for r in SHOWN_REASONS),
    "mains ratio", "> 50 Hz", "neighbours",
)  # fmt: skip
"""Numeric columns of the table of recordings."""


class QualityConfig(Config):
    """Write one self-contained HTML page on the quality of each dataset."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    dataset: str | None = None
    """Dataset to report on; default: one page for each dataset."""
    thumbnails: int = Field(12, ge=0, le=200)
    """Number of worst recordings and of refused sources drawn; each takes about 0.1 MB."""


class QualityResult(Config):
    """Locations of the pages."""

    pages: dict[str, str]
    """Path or URI of the page, by dataset."""
    done_before: bool
    """Whether all pages existed before."""
    path: str
    """First page."""


def quality(config: QualityConfig, *, progress: Progress = silent) -> QualityResult:
    """Write ``reports/quality-<hash>/`` for each dataset: ``index.html`` and ``figures.json``.

    The name covers the dataset's rows and refused sources, so that a dataset that has grown gets a new page.

    Raises
    ------
    UserError
        The catalogue has no such dataset, or none at all.
    """
    store = Store.open(config.root)
    rows, refused = read_catalog(store), read_quarantine(store)
    datasets = sorted({row.dataset for row in rows})
    if (config.dataset is not None and config.dataset not in datasets) or not datasets:
        listed = f"choose from {', '.join(datasets[:8])}" if datasets else "run `emeg ingest`"
        raise UserError(f"{store.root}: no recordings of dataset {config.dataset!r}; {listed}")
    pages: dict[str, str] = {}
    fresh = False
    for dataset in datasets if config.dataset is None else [config.dataset]:
        own = [row for row in rows if row.dataset == dataset]
        name = _name(config, own, turned_away := [record for record in refused if record.dataset == dataset])
        pages[dataset] = str(store.location("reports", name, "index.html"))
        if not store.has("reports", name):
            _write(store, name, own, turned_away, config, progress)
            fresh = True
    return QualityResult(pages=pages, done_before=not fresh, path=next(iter(pages.values())))


def _name(config: QualityConfig, rows: Sequence[CatalogRow], refused: Sequence[QuarantineRecord]) -> str:
    known = {
        "rows": [row.model_dump(mode="json") for row in rows],
        "quarantine": [record.model_dump(mode="json") for record in refused],
        "thumbnails": config.thumbnails,
        "version": __version__,
        "page": PAGE_VERSION,
    }
    return f"quality-{hash_json(known)}"


def _write(
    store: Store,
    name: str,
    rows: Sequence[CatalogRow],
    refused: Sequence[QuarantineRecord],
    config: QualityConfig,
    progress: Progress,
) -> None:
    judged = judge(store, rows, progress)
    spectra = measure_spectra(store, rows)
    progress(len(rows) + len(rows) // 2, 2 * len(rows), "drawing")
    html = render(_context(store, judged, refused, spectra, config), "quality.html.j2")
    figures = _figures(judged, refused, spectra)
    with store.publishing("reports", name) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8")
        (folder / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False), encoding="utf-8")
    progress(2 * len(rows), 2 * len(rows), "written")
    logger.info("wrote reports/%s: %d recordings, %d kB", name, len(rows), len(html) // 1000)


def _context(
    store: Store,
    judged: Sequence[Judged],
    refused: Sequence[QuarantineRecord],
    spectra: Spectra,
    config: QualityConfig,
) -> dict[str, object]:
    rows = [one.row for one in judged]
    hours = sum(row.duration_s for row in rows) / 3600.0
    unmeasured = sum(row.bad_share is None for row in rows)
    return {
        "title": f"Quality of {rows[0].dataset}",
        "subtitle": f"{len({row.subject for row in rows})} subjects, {hours:.2f} hours; emeg {__version__}",
        "tiles": _tiles(judged, refused),
        "unmeasured": unmeasured,
        "overview": overview(judged),
        "spectra": spectra_section(spectra, rows),
        "columns": COLUMNS,
        "recordings": table(judged),
        "worst": worst(store, judged, config.thumbnails),
        "quarantined": quarantine_section(refused, config.thumbnails),
    }


def _tiles(judged: Sequence[Judged], refused: Sequence[QuarantineRecord]) -> list[tuple[str, str]]:
    rows = [one.row for one in judged]
    channel_s = sum(row.n_channels * row.duration_s for row in rows)
    bad_s = sum(one.bad_share * one.row.n_channels * one.row.duration_s for one in judged)
    return [
        (str(len(rows)), "recordings ready"),
        (str(len(refused)), "quarantined"),
        (str(sum(bool(row.bad_channels) for row in rows)), "with bad channels"),
        (f"{sum(len(row.bad_channels) for row in rows)} of {sum(row.n_channels for row in rows)}", "channels bad"),
        (f"{100.0 * bad_s / channel_s:.2f} %", "of channel-seconds marked"),
    ]


def _figures(judged: Sequence[Judged], refused: Sequence[QuarantineRecord], spectra: Spectra) -> dict[str, Any]:
    """Return all numbers of the page, with recordings and subjects by name so that `emeg withdraw` finds the page."""
    dataset = judged[0].row.dataset
    people = {f"{dataset}/{one.row.subject}" for one in judged}
    people |= {f"{dataset}/{part}" for r in refused for part in r.source.split("/") if part.startswith("sub-")}
    return {
        "dataset": dataset,
        "version": __version__,
        "people": sorted(people),
        "recordings": {
            one.row.recording: {
                "source": one.row.source,
                "bad_share": one.bad_share,
                "shares": {REASON_WORDS[reason]: share for reason, share in one.shares.items() if share},
                "mains_ratio": one.row.mains_ratio,
                "high_frequency_ratio": one.row.high_frequency_ratio,
                "neighbour_correlation": one.row.neighbour_correlation,
            }
            for one in judged
        },
        "quarantined": [record.source for record in refused],
        "spectra": {
            "freqs": spectra.freqs.tolist(),
            "median": {kind_name(kind): np.median(power, axis=0).tolist() for kind, power in spectra.power.items()},
        },
    }
