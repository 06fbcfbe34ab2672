"""Sections on the networks: reconstruction of unseen subjects, training curves, codebook use."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emeg import metrics
from emeg.evaluation.products import EvaluationSummary
from emeg.reports.lineage import Lineage
from emeg.reports.markup import Picture
from emeg.reports.plots import codebook_use, curves, spectra, traces

BANDS = ("delta", "theta", "alpha", "beta", "gamma", "high")
DRAWINGS: dict[str, tuple[tuple[str, str, Callable[[str], bool]], ...]] = {
    "tokenizer": (
        ("loss", "train", lambda name: name in {metrics.LOSS, *metrics.TOKENIZER_LOSSES}),
        ("correlation with the signal, validation subjects", "validation", lambda name: name == metrics.PCC),
        ("codes in use, validation subjects", "validation", metrics.is_codes_in_use),
    ),
    "model": (
        ("cross-entropy of predicted tokens", "train", lambda name: name == metrics.LOSS),
        ("cross-entropy, validation subjects", "validation", lambda name: name == metrics.LOSS),
        ("accuracy on predicted tokens, validation subjects", "validation", metrics.is_accuracy),
    ),
}
CURVE_TITLES = {
    metrics.PCC: "correlation",
    metrics.ACCURACY: "all tokens",
    f"{metrics.ACCURACY}_overlapped": "overlapping steps",
    f"{metrics.ACCURACY}_other": "other steps",
}
"""Names of logged metrics for readers."""


def reconstruction_section(figures: EvaluationSummary, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return correlations by device, examples and spectra.

    Parameters
    ----------
    figures : EvaluationSummary
    arrays : mapping of str to array, any shape and dtype
        Arrays of the evaluation, normalised units.
    """
    spectra_of: dict[str, list[Picture]] = {}
    for index, device in enumerate(figures.reconstruction):
        if f"spectra/{index}/freqs" in arrays:
            title = f"{device.device}, {device.sensor_type}"
            svg = spectra(
                arrays[f"spectra/{index}/freqs"],
                arrays[f"spectra/{index}/signal"],
                arrays[f"spectra/{index}/reconstruction"],
                title,
            )
            bands = ", ".join(f"{band} {_number(device.bands.get(band))}" for band in BANDS)
            alt = f"Median spectra of signal and reconstruction, {title}; correlation by band: {bands}."
            spectra_of.setdefault(device.device, []).append(Picture(svg, alt))
    examples = []
    for index, example in enumerate(figures.examples):
        drawn = traces(
            arrays[f"examples/{index}/signal"],
            arrays[f"examples/{index}/reconstruction"],
            example.channels,
            example.sfreq,
        )
        examples.append(
            {
                "title": f"{example.device}, {example.subject}, from {example.start_s:g} s",
                "traces": Picture(
                    drawn,
                    f"Signal and reconstruction of {', '.join(example.channels)}; correlation {_number(example.pcc)}.",
                    f"Grey: signal; red: reconstruction from codes. PCC here {_number(example.pcc)}.",
                ),
                "spectra": spectra_of.pop(example.device, []),
            }
        )
    return {
        "note": (
            "Pearson correlation (PCC) of every channel and 2-s window with its reconstruction from codes, averaged"
            " over held-out subjects, without masking or noise. By band: the correlation inside the band."
        ),
        "bands": BANDS,
        "rows": [
            {
                "device": device.device,
                "sensors": f"{device.n_channels} {device.sensor_type}",
                "subjects": device.n_subjects,
                "segments": device.n_segments,
                "pcc": _number(device.pcc),
                "sd": _number(device.pcc_subjects_sd),
                "bands": [_number(device.bands.get(band)) for band in BANDS],
            }
            for device in figures.reconstruction
        ],
        "examples": examples,
    }


def training_section(
    lineage: Lineage, figures: EvaluationSummary, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return training curves of both stages and the codebook use of unseen subjects.

    Parameters
    ----------
    lineage : Lineage
    figures : EvaluationSummary
    arrays : mapping of str to array, any shape and dtype
        Arrays of the evaluation, normalised units.
    """
    stages = [
        {"title": lineage.titles[stage], "pictures": training_pictures(stage, table, lineage.titles[stage])}
        for stage, table in lineage.histories.items()
    ]
    rows = [
        {
            "quantizer": level + 1,
            "used": codebook.n_used,
            "size": codebook.n_codes,
            "perplexity": f"{codebook.perplexity:.0f}",
        }
        for level, codebook in enumerate(figures.codebook)
    ]
    return {
        "note": "metrics.parquet in the folder of each model holds all metrics over steps.",
        "stages": stages,
        "codebook": _codebook(arrays["codebook/counts"]) if "codebook/counts" in arrays else None,
        "codebook_rows": rows,
        "codebook_note": (
            "Codes that held-out subjects use. Perplexity is the number of equally used codes with the same entropy; a"
            " collapsed codebook uses few codes and has a perplexity near one."
        ),
    }


def _codebook(counts: NDArray[np.int64]) -> Picture:
    used = ", ".join(str(int((row > 0).sum())) for row in counts)
    alt = f"Share of tokens of each code, most used first; codes in use by quantizer: {used} of {counts.shape[1]}."
    return Picture(codebook_use(counts), alt)


def training_pictures(stage: str, table: pa.Table, title: str = "") -> list[Picture]:
    """Draw the metrics of a training over its steps.

    Parameters
    ----------
    stage : str
        One of `DRAWINGS`.
    table : pyarrow.Table
        ``metrics.parquet`` of a model.
    title : str
        Name of the network for readers; default: the stage.
    """
    drawn = []
    for label, split, wanted in DRAWINGS[stage]:
        steps, values = _series(table, split, wanted)
        if values:
            last = ", ".join(f"{name} {series[-1]:.3g}" for name, series in values.items())
            alt = f"{title or stage}, {label}, over {max(map(max, steps.values())):.0f} steps; at the end: {last}."
            drawn.append(Picture(curves(steps, values, label), alt))
    return drawn


def _series(
    table: pa.Table, split: str, wanted: Callable[[str], bool]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return steps and values of the metrics of a split that are wanted, by name."""
    steps: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for row in table.to_pylist():
        if row["split"] == split and wanted(row["name"]) and np.isfinite(row["value"]):
            name = _curve_title(row["name"])
            steps.setdefault(name, []).append(row["step"])
            values.setdefault(name, []).append(row["value"])
    return steps, values


def _curve_title(name: str) -> str:
    """Return the name of a logged metric for the legend of its plot; levels are counted from 1."""
    if (level := re.fullmatch(r".*?[_/](\d+)", name)) is not None:
        return f"quantizer {int(level[1]) + 1}"
    return CURVE_TITLES.get(name, name)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
