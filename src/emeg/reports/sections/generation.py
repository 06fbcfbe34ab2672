"""Page on continuations of recordings: spectra, metrics against controls, controls over the length of the prompt."""

import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.generation.products import TITLES, GenerationSummary, PooledSpectrum, Source, SourceScore
from emeg.reports.plots import series, spectra, traces

METRICS = {
    "spectrum_db": "difference of power, 1–45 Hz, dB",
    "expected_db": "the same, expected by chance, dB",
    "within_1_db": "share of frequencies within 1 dB",
    "map_correlation": "correlation of band maps",
    "burst_rate_error": "error of the rate of alpha bursts",
    "burst_duration_error": "error of the length of alpha bursts",
    "covariance_distance": "distance of covariances",
}
"""Metrics that the page shows, with what they are."""
DRAWN = ("spectrum_db", "covariance_distance")
"""Metrics drawn over the length of the prompt."""


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
    freqs = arrays["spectra/freqs"]
    return {
        "title": f"Continuations of {len(summary.recordings)} recordings",
        "subtitle": f"{summary.continuation_s:g} s after a prompt of {summary.prompt_s:g} s, by model"
        f" {summary.provenance['model']}; evaluation {name}; emeg {summary.version}",
        "notes": summary.provenance["notes"],
        "pooled": [
            {
                "title": TITLES[one.source],
                "mean": _with_interval(one),
                "largest": f"{one.largest_db:.2f}",
                "within": f"{100 * one.within_1_db:.0f} %",
            }
            for one in summary.pooled
        ],
        "spectra": [
            spectra(freqs, _power(arrays["spectra/real"]), _power(arrays[f"spectra/{one.source}"]), TITLES[one.source])
            for one in summary.pooled
        ],
        "columns": [TITLES[source] for source in sources],
        "rows": [
            {
                "title": title,
                "cells": [_cell(summary.scores_of(source, summary.prompt_s).get(metric)) for source in sources],
            }
            for metric, title in METRICS.items()
        ],
        "curves": [_curve(summary, metric, sources) for metric in DRAWN],
        "examples": [
            {
                "title": f"{example['subject']}, recording {example['recording']}",
                "traces": traces(
                    arrays[f"examples/{k}/signal"],
                    arrays[f"examples/{k}/continuation"],
                    example["channels"],
                    summary.sfreq,
                ),
            }
            for k, example in enumerate(summary.examples)
        ],
        "provenance": json.dumps(summary.provenance, indent=1, ensure_ascii=False, sort_keys=True),
    }


def _with_interval(one: PooledSpectrum) -> str:
    if one.low_db is None or one.high_db is None:
        return f"{one.mean_db:.2f}"
    return f"{one.mean_db:.2f} [{one.low_db:.2f}, {one.high_db:.2f}]"


def _power(decibels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(10 ** (decibels / 10))


def _cell(one: SourceScore | None) -> str:
    if one is None:
        return "–"
    if one.low is None or one.high is None:
        return f"{one.mean:.2f} (n={one.n_recordings})"
    return f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}] (n={one.n_recordings})"


def _curve(summary: GenerationSummary, metric: str, sources: list[Source]) -> str:
    lengths: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for source in sources:
        own = sorted(
            (one.context_s, one.mean) for one in summary.scores if (one.source, one.metric) == (source, metric)
        )
        lengths[TITLES[source]], values[TITLES[source]] = [s for s, _ in own], [value for _, value in own]
    return series(lengths, values, METRICS[metric], "length of the prompt, s")
