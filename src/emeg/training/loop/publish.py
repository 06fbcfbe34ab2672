"""Write a finished model's folder: weights, configuration with provenance, metrics, card; no time, no host name."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from emeg.data import Corpus
from emeg.plugins import ROLE_OF_KIND
from emeg.store import Store, read_catalog
from emeg.training.configs import TrainingConfig, TrainResult
from emeg.training.dataset_use import (
    FIELD,
    DatasetUse,
    Stage,
    datasets_of_corpus,
    declared_datasets,
    inherited_datasets,
)
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.rank import RunContext
from emeg.uri import locate
from emeg.version import __version__

STAGES: dict[str, Stage] = {"train-tokenizer": "tokenizer", "pretrain": "pretraining"}
"""Stage of each verb that trains."""
METRICS_FILE = "metrics.parquet"
"""Metrics of the training: columns step, split, name, value."""


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """Count what each split holds: segments, hours, people, and segments by device and channel count."""
    splits = corpus.column("split")
    hours = corpus.n_samples / corpus.sfreq / 3600
    described: dict[str, Any] = {}
    for split in sorted(set(splits.tolist())):
        rows = np.flatnonzero(splits == split)
        devices = Counter(
            f"{d}/{c}" for d, c in zip(*(corpus.column(n)[rows] for n in ("device", "channels")), strict=True)
        )
        described[split] = {
            "segments": len(rows),
            "hours": round(len(rows) * hours, 4),
            "people": len(set(corpus.column("subject")[rows].tolist())),
            "segments_by_device": dict(sorted(devices.items())),
        }
    return described


def licences(store: Store, corpus: Corpus) -> dict[str, list[str]]:
    """List the licences of the recordings of each dataset, as the catalogue has them."""
    used = set(corpus.column("recording").tolist())
    found: dict[str, set[str]] = defaultdict(set)
    for row in read_catalog(store):
        if row.recording in used:
            found[row.dataset].add(row.licence or "not stated")
    return {dataset: sorted(names) for dataset, names in sorted(found.items())}


def name_recordings(corpus: Corpus, segments: Sequence[int]) -> str:
    """Name the recordings of segments, for an error."""
    names = sorted({f"{corpus.column('subject')[i]} recording {corpus.column('recording')[i]}" for i in segments})
    return f"segments {', '.join(map(str, list(segments)[:8]))}{' …' if len(segments) > 8 else ''} of " + "; ".join(
        names[:8]
    )


def publish(
    store: Store,
    name: str,
    trainer: Trainer,
    module: Training,
    run: RunContext,
    *,
    corpus: Corpus,
    config: TrainingConfig,
    by_split: dict[str, dict[str, float]],
    inputs: dict[str, str],
) -> TrainResult:
    """Write the model's folder, from the first rank; the others wait."""
    metrics = {f"{split}/{name}": value for split, values in by_split.items() for name, value in values.items()}
    provenance = {
        "verb": module.verb,
        "recipe": config.product_fields(),
        "corpus": corpus.name,
        **inputs,
        "data": describe_corpus(corpus),
        "licences": licences(store, corpus),
        FIELD: [use.model_dump(mode="json") for use in _datasets(store, corpus, module, inputs)],
        "steps": trainer.global_step,
        "precision": str(trainer.precision),
        "metrics": metrics,
    }
    if module.lineage:
        provenance["started_from"] = module.lineage
    if run.is_first:
        with store.publishing("models", name) as folder:
            module.save(folder, provenance)
            module.history.write_table(folder / METRICS_FILE)
            locate(folder / "README.md").write_bytes(
                card(
                    f"{module.title} {name}",
                    provenance,
                    released=module.network.kind in ROLE_OF_KIND,
                    intracranial=corpus.has_intracranial,
                ).encode()
            )
    trainer.strategy.barrier("published")
    return TrainResult(
        model=name,
        run=name,
        steps=trainer.global_step,
        seconds=module.history.seconds,
        metrics=metrics,
        done_before=False,
    )


def _datasets(store: Store, corpus: Corpus, module: Training, inputs: dict[str, str]) -> list[DatasetUse]:
    """List the datasets of this training, of its tokenizer, and of the model that it began from."""
    earlier = inherited_datasets(store, [inputs["tokenizer"]] if "tokenizer" in inputs else [])
    earlier += [use for use in declared_datasets(module.lineage or {}) if use not in earlier]
    own = datasets_of_corpus(store, corpus, STAGES[module.verb])
    return earlier + [use for use in own if use not in earlier]


def card(title: str, provenance: dict[str, Any], *, released: bool = True, intracranial: bool = False) -> str:
    """Write the model card; `released` networks are those of arXiv 2505.18185."""
    signals = "EEG, MEG or intracranial EEG" if intracranial else "EEG or MEG"
    origin = " (architecture and losses: arXiv 2505.18185)" if released else ""
    data, metrics = provenance["data"], provenance["metrics"]
    lines = [
        f"# {title}",
        "",
        f"Trained by emeg {__version__}{origin}. Weights: `model.safetensors`;"
        " sizes, recipe and provenance: `config.json`; metrics of every step: `metrics.parquet`.",
        "",
        f"Input: {signals} at 256 Hz, 0.1–96 Hz, in V, T or T/m, normalised by segment and sensor type, with sensor"
        " positions and types.",
        "",
        "## Data",
        "",
        "| split | segments | hours | subjects |",
        "| --- | --- | --- | --- |",
        *(f"| {s} | {d['segments']} | {d['hours']:.2f} | {d['people']} |" for s, d in data.items()),
        "",
        "No subject is in two splits. Held-out subjects were used for no choice; their metrics are of the final model.",
        "",
        "## Metrics",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items())),
        "",
        "## Datasets trained on",
        "",
        "| dataset | stage | subjects | hours | licences | DOI |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {use['id']} | {use['stage']} | {use['subjects']} | {use['hours']:.2f} |"
            f" {', '.join(use['licences'])} | {use['doi'] or 'not known'} |"
            for use in provenance[FIELD]
        ),
        "",
        "Check that they admit what you do with the weights. Not a medical device.",
        "",
    ]
    return "\n".join(lines)
