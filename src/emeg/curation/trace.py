"""The verb ``lineage``: from any product back to source files and licences, and from a subject to every product."""

import html
from collections import defaultdict
from collections.abc import Sequence

from emeg.config import Config, option, runtime_field
from emeg.curation.product_graph import Product, ProductGraph
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.store import CatalogRow, Store, open_recording, read_catalog
from emeg.uri import locate

SHOWN_SOURCES = 10
"""Source files that the text lists; the page lists all."""


class LineageConfig(Config):
    """What a product was made from, and what was made from it."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    of: str = option(group="data")
    """A product, a recording, a subject as dataset/subject, or a source file as in the catalogue."""
    html: str | None = runtime_field(None, group="options")
    """File for the result as an HTML page, a path or any fsspec URI."""


class Step(Config):
    """One product of a chain."""

    kind: str
    """recordings, corpora, tokens, models, evaluations or reports."""
    name: str
    """Name of the product."""
    made_from: tuple[str, ...] = ()
    """Its direct inputs, as kind/name."""


class Source(Config):
    """Recordings of one dataset that a product was made from."""

    dataset: str
    """Short name of the dataset."""
    licence: str
    """Licence as the dataset declares it; empty where it declares none."""
    subjects: tuple[str, ...]
    """Subjects."""
    files: tuple[str, ...]
    """Source files, as paths in the dataset."""


class LineageResult(Config):
    """The chain in both directions."""

    of: str
    """Name that was requested."""
    back: tuple[Step, ...]
    """Products that it was made from, the nearest first."""
    sources: tuple[Source, ...]
    """Datasets, licences and files at the start of the chain."""
    forward: tuple[Step, ...]
    """Products that were made from it."""

    def as_text(self) -> str:
        """Return the chain as text."""
        lines = [self.of]
        for title, steps in (("made from", self.back), ("used in", self.forward)):
            lines += ["", f"{title}:"]
            lines += [f"  {step.kind}/{step.name}{_arrow(step)}" for step in steps] or ["  nothing in this store"]
        lines += ["", "sources:"]
        for source in self.sources:
            n_subjects, n_files = len(source.subjects), len(source.files)
            licence = source.licence or "no licence declared"
            lines.append(f"  {source.dataset}: {licence}; {n_subjects} subjects, {n_files} files")
            lines += [f"    {file}" for file in source.files[:SHOWN_SOURCES]]
            lines += [f"    and {n_files - SHOWN_SOURCES} more"] if n_files > SHOWN_SOURCES else []
        return "\n".join(lines)


def _arrow(step: Step) -> str:
    return f" ← {', '.join(step.made_from)}" if step.made_from else ""


def lineage(config: LineageConfig, *, progress: Progress = silent) -> LineageResult:
    """Follow the names in the products of a store, back to source files and licences and forward to what uses them.

    Raises
    ------
    UserError
        The store contains nothing with that name.
    """
    store = Store.open(config.root)
    progress(0, 2, "read the products")
    graph, rows = ProductGraph(store), read_catalog(store)
    name = config.of.rstrip("/").removeprefix("subject ")
    product = next(((kind, one) for kind, one in graph.texts if name in (one, f"{kind}/{one}")), None)
    if product is not None:
        back = graph.ancestors(product)
        texts = graph.texts[product].union(*(graph.texts[one] for one in back))
        own = [row for row in rows if row.recording in texts]
        forward = graph.holders([product[1]])
    else:
        own = [row for row in rows if name in _names(row)]
        if not own:
            raise UserError(
                f"{store.root}: contains nothing called {config.of!r}; name a product, a recording, a source file,"
                " or a subject as dataset/subject"
            )
        back = set()
        forward = graph.holders({row.recording for row in own} | {name})
    progress(1, 2, "read the sources")
    result = LineageResult(
        of=config.of,
        back=_steps(graph, back),
        sources=_sources(store, own),
        forward=_steps(graph, forward),
    )
    if config.html is not None:
        locate(config.html).write_bytes(write_page(result).encode())
    return result


def _names(row: CatalogRow) -> set[str]:
    return {row.recording, f"recordings/{row.recording}", f"{row.dataset}/{row.subject}", row.source}


def _steps(graph: ProductGraph, products: set[Product]) -> tuple[Step, ...]:
    """Return the products, each before those that it was made from."""
    order = sorted(products, key=lambda one: (-len(graph.ancestors(one)), one))
    return tuple(
        Step(kind=kind, name=name, made_from=tuple("/".join(one) for one in graph.inputs((kind, name))))
        for kind, name in order
    )


def _sources(store: Store, rows: Sequence[CatalogRow]) -> tuple[Source, ...]:
    by_dataset: dict[str, list[CatalogRow]] = defaultdict(list)
    for row in rows:
        by_dataset[row.dataset].append(row)
    return tuple(
        Source(
            dataset=dataset,
            licence=open_recording(store, own[0].recording).attributes.licence,
            subjects=tuple(sorted({row.subject for row in own})),
            files=tuple(sorted({row.source for row in own})),
        )
        for dataset, own in sorted(by_dataset.items())
    )


def write_page(result: LineageResult) -> str:
    """Return the chain as a self-contained HTML page; names are escaped, as they come from archives."""
    parts = [f"<h1>Lineage of {html.escape(result.of)}</h1>"]
    for title, steps in (("Made from", result.back), ("Used in", result.forward)):
        rows = "".join(
            f"<tr><td>{html.escape(step.kind)}</td><td>{html.escape(step.name)}</td>"
            f"<td>{html.escape(', '.join(step.made_from))}</td></tr>"
            for step in steps
        )
        columns = "".join(f'<th scope="col">{name}</th>' for name in ("kind", "name", "made from"))
        table = f"<table><caption>Products</caption><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
        parts.append(f"<h2>{title}</h2>" + (table if rows else "<p>Nothing in this store.</p>"))
    parts.append("<h2>Sources</h2>")
    for source in result.sources:
        licence = html.escape(source.licence or "no licence declared")
        files = "".join(f"<li>{html.escape(file)}</li>" for file in source.files)
        parts.append(
            f"<h3>{html.escape(source.dataset)}</h3><p>{licence}; {len(source.subjects)} subjects</p><ul>{files}</ul>"
        )
    style = (
        "<style>body{font-family:sans-serif;margin:2em;max-width:70em;overflow-wrap:anywhere}"
        "td,th,caption{padding:.2em .8em;text-align:left}</style>"
    )
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Lineage</title>{style}"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"
