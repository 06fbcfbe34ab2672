"""Turn the products of a store into the values that the report template shows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.products import EvaluationSummary
from emeg.reports.lineage import Lineage, find_lineage
from emeg.reports.sections.archive import corpus_section, ingested_section, quarantine_section
from emeg.reports.sections.networks import reconstruction_section, training_section
from emeg.reports.sections.task import task_section
from emeg.store import CatalogRow, QuarantineRecord, Store

SECTIONS = (
    ("ingested", "Ingested"),
    ("corpus", "Corpus"),
    ("reconstruction", "Reconstruction"),
    ("training", "Training"),
    ("task", "Task"),
    ("provenance", "Provenance"),
)


def page_context(
    store: Store,
    rows: Sequence[CatalogRow],
    refused: Sequence[QuarantineRecord],
    figures: EvaluationSummary,
    arrays: Mapping[str, NDArray[Any]],
) -> dict[str, object]:
    """Return all values that the template needs.

    Parameters
    ----------
    rows, refused : sequence
        The whole catalogue and quarantine of the store.
    figures : EvaluationSummary
    arrays : mapping of str to array, any shape and dtype
        ``arrays.npz`` of the same evaluation, normalised units.
    """
    lineage = find_lineage(store, figures)
    datasets = sorted({row.dataset for row in rows})
    return {
        "title": f"What was learned from {', '.join(datasets)}",
        "subtitle": _subtitle(rows, lineage),
        "sections": SECTIONS,
        "tiles": _tiles(rows, refused, figures),
        "ingested": ingested_section(store, rows),
        "quarantined": quarantine_section(refused),
        "corpus": corpus_section(lineage.corpus),
        "reconstruction": reconstruction_section(figures, arrays),
        "training": training_section(lineage, figures, arrays),
        "task": task_section(figures),
        "task_missing": figures.task_missing_reason,
        "provenance": _provenance(lineage, figures),
    }


def _subtitle(rows: Sequence[CatalogRow], lineage: Lineage) -> str:
    devices = Counter(row.device for row in rows)
    n_subjects = len({(row.dataset, row.subject) for row in rows})
    return (
        f"{n_subjects} {'subject' if n_subjects == 1 else 'subjects'},"
        f" {len(devices)} {'device' if len(devices) == 1 else 'devices'}, "
        f"{sum(row.duration_s for row in rows) / 3600:.2f} hours; "
        f"emeg {lineage.version}"
    )


def _tiles(
    rows: Sequence[CatalogRow], refused: Sequence[QuarantineRecord], figures: EvaluationSummary
) -> list[tuple[str, str]]:
    correlations = [device.pcc for device in figures.reconstruction if device.pcc is not None]
    tiles = [
        (str(len(rows)), "recordings ready"),
        (str(len(refused)), "quarantined"),
        (f"{np.mean(correlations):.2f}" if correlations else "–", "PCC on unseen subjects, mean over devices"),
        (
            f"{min(c.n_used for c in figures.codebook)}" if figures.codebook else "–",
            "codes used, lowest of the quantizer levels",
        ),
    ]
    scored = {c.name: c.metrics["balanced_accuracy"].mean for c in figures.models if c.metrics}
    for name, label in (("pretrained_full", "fine-tuned"), ("random_full", "from random weights")):
        if scored.get(name) is not None:
            tiles.append((f"{scored[name]:.2f}", f"balanced accuracy, {label}"))
    if figures.task is not None:
        tiles.append((f"{figures.task.chance:.2f}", "chance"))
    return tiles


def _provenance(lineage: Lineage, figures: EvaluationSummary) -> dict[str, object]:
    parts = [
        {"title": title, "text": json.dumps(value, indent=1, ensure_ascii=False)} for title, value in lineage.parts
    ]
    parts.append(
        {"title": "Evaluation", "text": json.dumps(figures.provenance, indent=1, ensure_ascii=False, sort_keys=True)}
    )
    return {"products": [product._asdict() for product in lineage.products], "parts": parts}
