"""Page on continuations of recordings: metrics against controls, spectra, controls over the length of the prompt."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.comparisons import interval
from emeg.evaluation.generation.products import TITLES, GenerationSummary, Source, SourceScore
from emeg.reports.markup import Cell, Column, Picture, Row, Table
from emeg.reports.plots import series, spectra, traces

METRICS = {
    "spectrum_db": "difference of power, dB",
    "expected_db": "the same, by chance, dB",
    "level_db": "level, dB",
    "within_1_db": "frequencies within 1 dB",
    "map_correlation": "correlation of band maps",
    "burst_rate_error": "rate of alpha bursts, error",
    "burst_duration_error": "length of alpha bursts, error",
    "covariance_distance": "distance of covariances",
}
"""Metrics that the page shows, with what they are."""
DRAWN = ("spectrum_db", "covariance_distance")
"""Metrics drawn over the length of the prompt."""
CONTROLS: tuple[Source, ...] = ("elsewhere", "prompt", "linear_model", "linear_other", "target_swap", "prompt_swap")
"""Sources that the network is compared with, by subject."""


def generation_context(summary: GenerationSummary, arrays: Mapping[str, NDArray[Any]], name: str) -> dict[str, object]:
    """Return all values that the template ``generation.html.j2`` needs.

    Parameters
    ----------
    summary : GenerationSummary
    arrays : mapping of str to array, any shape and dtype
        Arrays of the product: dB, V, T or T/m.
    name : str
        Name of the evaluation.
    """
    sources = [source for source in get_args(Source) if summary.scores_of(source, summary.prompt_s)]
    n, several = len(summary.recordings), len({one.context_s for one in summary.scores}) > 1
    return {
        "title": f"Continuations of {n} recording{'' if n == 1 else 's'}",
        "subtitle": f"{summary.continuation_s:g} s after a prompt of {summary.prompt_s:g} s, by model"
        f" {summary.provenance['model']}; evaluation {name}; emeg {summary.version}",
        "notes": summary.provenance["notes"],
        "tiles": _tiles(summary),
        "scores": _scores(summary, sources),
        "gains": _gains(summary),
        "pooled": _pooled(summary),
        "spectra": _spectra(summary, arrays),
        "curves": [_curve(summary, metric, sources) for metric in DRAWN] if several else [],
        "examples": _examples(summary, arrays),
        "provenance": json.dumps(summary.provenance, indent=1, ensure_ascii=False, sort_keys=True),
    }


def _tiles(summary: GenerationSummary) -> list[tuple[str, str]]:
    shown: tuple[tuple[Source, str, str], ...] = (
        ("model", "spectrum_db", "difference of power, network"),
        ("linear_model", "spectrum_db", "linear model of the prompt"),
        ("elsewhere", "spectrum_db", "another stretch of the recording"),
        ("model", "expected_db", "by chance alone"),
    )
    found = [(summary.scores_of(source, summary.prompt_s).get(metric), title) for source, metric, title in shown]
    return [(f"{one.mean:.2f} dB", title) for one, title in found if one is not None]


def _scores(summary: GenerationSummary, sources: Sequence[Source]) -> Table:
    """Return a row for each source and a column for each metric."""
    rows = []
    for source in sources:
        found = summary.scores_of(source, summary.prompt_s)
        n = max(one.n_recordings for one in found.values())
        cells = [Cell(TITLES[source]), Cell(str(n)), *(Cell(_value(found.get(metric))) for metric in METRICS)]
        rows.append(Row(tuple(cells), strong=source == "model"))
    columns = [Column("source"), Column("recordings", is_number=True)]
    columns += [Column(title, is_number=True, wraps=True) for title in METRICS.values()]
    return Table("Continuations against the recorded ones", tuple(columns), tuple(rows))


def _gains(summary: GenerationSummary) -> Table:
    """Return how much farther from the recorded continuation the network is than each control, by subject."""
    own = summary.scores_of("model", summary.prompt_s)
    rows = []
    for source in CONTROLS:
        found = summary.scores_of(source, summary.prompt_s)
        if found:
            cells = (Cell(_difference(own.get(metric), found.get(metric))) for metric in DRAWN)
            rows.append(Row((Cell(TITLES[source]), *cells)))
    columns = (Column("compared with"), *(Column(METRICS[metric], is_number=True) for metric in DRAWN))
    caption = "Network minus each control, paired by subject: mean and 95 % interval; below 0: the network is closer"
    return Table(caption, columns, tuple(rows), "No subject has both.")


def _difference(own: SourceScore | None, other: SourceScore | None) -> str:
    if own is None or other is None:
        return "–"
    subjects = [name for name in own.by_subject if name in other.by_subject]
    if not subjects:
        return "–"
    values = [own.by_subject[name] - other.by_subject[name] for name in subjects]
    found = interval(values)
    if found is None:
        return f"{np.mean(values):+.2f}"
    return f"{found.mean:+.2f} {_range(found.low, found.high, sign='+')}"


def _pooled(summary: GenerationSummary) -> Table:
    rows = [
        Row(
            (
                Cell(TITLES[one.source]),
                Cell(f"{one.mean_db:.2f}{_interval(one.low_db, one.high_db)}"),
                Cell(f"{one.largest_db:.2f}"),
                Cell(f"{100 * one.within_1_db:.0f} %"),
            ),
            strong=one.source == "model",
        )
        for one in summary.pooled
    ]
    names = ("mean difference, dB", "largest, dB", "frequencies within 1 dB")
    columns = (Column("source"), *(Column(name, is_number=True) for name in names))
    return Table("Spectra averaged over recordings against the recorded ones", columns, tuple(rows))


def _spectra(summary: GenerationSummary, arrays: Mapping[str, NDArray[Any]]) -> list[Picture]:
    real, freqs = _power(arrays["spectra/real"]), arrays["spectra/freqs"]
    return [
        Picture(
            spectra(freqs, real, _power(arrays[f"spectra/{one.source}"]), TITLES[one.source], ("recorded", "compared")),
            f"Power over frequency, recorded and {TITLES[one.source]}; the table above has the differences.",
            "Mean power a Hz over channels and recordings, V² or T².",
        )
        for one in summary.pooled
    ]


def _examples(summary: GenerationSummary, arrays: Mapping[str, NDArray[Any]]) -> list[Picture]:
    return [
        Picture(
            traces(
                arrays[f"examples/{k}/signal"],
                arrays[f"examples/{k}/continuation"],
                example["channels"],
                summary.sfreq,
            ),
            f"Signals of {len(example['channels'])} channels, recorded and continued by the network.",
            f"{example['subject']}, recording {example['recording']}. Grey: recorded; red: continued by the network.",
        )
        for k, example in enumerate(summary.examples)
    ]


def _power(decibels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(10 ** (decibels / 10))


def _value(one: SourceScore | None) -> str:
    return "–" if one is None else f"{one.mean:.2f}{_interval(one.low, one.high)}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" {_range(low, high)}"


def _range(low: float, high: float, sign: str = "") -> str:
    """Return an interval that stays on one line."""
    return f"[{low:{sign}.2f},\N{NO-BREAK SPACE}{high:{sign}.2f}]"


def _curve(summary: GenerationSummary, metric: str, sources: Sequence[Source]) -> Picture:
    lengths: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for source in sources:
        own = sorted(
            (one.context_s, one.mean) for one in summary.scores if (one.source, one.metric) == (source, metric)
        )
        lengths[TITLES[source]], values[TITLES[source]] = [s for s, _ in own], [value for _, value in own]
    svg = series(lengths, values, METRICS[metric], "length of the prompt, s")
    return Picture(svg, f"{METRICS[metric]} over the length of the prompt, of {len(sources)} sources.")
