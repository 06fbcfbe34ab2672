"""Find the products behind an evaluation, each with what it was made from."""

from typing import Any, NamedTuple

import pyarrow as pa

from emeg.evaluation.products import EvaluationSummary
from emeg.plugins import title_of_model
from emeg.store import Store
from emeg.store.catalog.parquet import table_of


class Product(NamedTuple):
    """One row of the provenance table."""

    kind: str
    name: str
    source: str


class Lineage(NamedTuple):
    """Products behind an evaluation."""

    version: str
    corpus: dict[str, Any]
    """Manifest of the corpus."""
    histories: dict[str, pa.Table]
    """Metrics over steps (step, split, name, value) of the tokenizer and of the model."""
    titles: dict[str, str]
    """Names of these models for readers."""
    products: tuple[Product, ...]
    parts: tuple[tuple[str, dict[str, Any]], ...]
    """Configurations as stored with the products."""


def find_lineage(store: Store, figures: EvaluationSummary) -> Lineage:
    """Return the products behind an evaluation; removed products are listed without their configuration."""
    names = {
        kind: str(figures.provenance.get(kind) or "")
        for kind in ("corpus", "tokenizer", "tokens", "model", "finetuned")
    }
    corpus = _json(store, "corpora", names["corpus"], "manifest.json")
    models = {kind: _json(store, "models", names[kind], "config.json") for kind in ("tokenizer", "model", "finetuned")}
    histories = {
        kind: table for kind in ("tokenizer", "model") if (table := metrics_over_steps(store, names[kind])) is not None
    }
    made_from = {
        "corpus": f"{len(corpus.get('recordings', []))} recordings",
        "tokenizer": f"corpus {names['corpus']}",
        "tokens": f"corpus {names['corpus']}, tokenizer {names['tokenizer']}",
        "model": f"tokens {names['tokens']}",
        "finetuned": f"model {names['model']}, task windows of the held-out subjects",
    }
    titles = {
        "corpus": "corpus",
        "tokenizer": title_of_model(models["tokenizer"]) or "BrainTokenizer",
        "tokens": "tokens",
        "model": title_of_model(models["model"]) or "BrainOmni",
        "finetuned": "fine-tuned",
    }
    parts = [("Corpus", {key: corpus.get(key) for key in ("config", "split_rule", "subjects")})] if corpus else []
    parts += [(titles[kind], config) for kind, config in models.items() if config]
    return Lineage(
        version=figures.version,
        corpus=corpus,
        histories=histories,
        titles={kind: titles[kind] for kind in histories},
        products=tuple(Product(titles[kind], name, made_from[kind]) for kind, name in names.items() if name),
        parts=tuple(parts),
    )


def _json(store: Store, kind: str, name: str, file: str) -> dict[str, Any]:
    if not name or not store.has(kind, name):
        return {}
    value: dict[str, Any] = store.location(kind, name, file).read_json()
    return value


def metrics_over_steps(store: Store, model: str) -> pa.Table | None:
    """Return the metrics of a training over its steps; None if the model keeps none or is not in the store."""
    location = store.location("models", model, "metrics.parquet") if model else None
    if location is None or not location.exists():
        return None
    return table_of(location.read_bytes())
