"""The page on continuations shows planted scores, differences paired by subject, and one picture for each source."""

import re

import numpy as np
import pytest

from emeg.evaluation.generation.products import GenerationSummary, PooledSpectrum, Source, score_of
from emeg.reports.render import render
from emeg.reports.sections.generation import METRICS, generation_context

SUBJECTS = [f"d/{k}" for k in range(6)]
OWN = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
"""Difference of power of the network by subject."""


def summary(contexts=(10.0,), *, subjects=SUBJECTS) -> GenerationSummary:
    """Return a generation whose linear model is .5 dB closer than the network in every subject."""
    values: dict[Source, list[float]] = {"model": OWN, "linear_model": [one - 0.5 for one in OWN]}
    scores = [
        score_of(source, length, metric, {name: [value] for name, value in zip(subjects, own, strict=False)})
        for source, own in values.items()
        for length in contexts
        for metric in METRICS
    ]
    return GenerationSummary(
        version="0",
        recordings=tuple("r" * (k + 1) for k in range(len(subjects))),
        subjects=tuple(subjects),
        devices=("cap",) * len(subjects),
        sfreq=256.0,
        prompt_s=10.0,
        continuation_s=10.0,
        pooled=tuple(PooledSpectrum(source=source, mean_db=1.5, largest_db=3.0, within_1_db=0.25) for source in values),
        scores=tuple(scores),
        examples=({"subject": "d/0", "recording": "r", "channels": ["A", "<B>"]},),
        provenance={"model": "mmmm", "notes": ["a note"]},
    )


@pytest.fixture
def arrays():
    freqs = np.arange(1.0, 46.0)
    found = {"spectra/freqs": freqs} | {f"spectra/{name}": -freqs for name in ("real", "model", "linear_model")}
    return found | {f"examples/0/{name}": np.zeros((2, 64), np.float32) for name in ("signal", "continuation")}


def cells(table):
    return [[cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row.cells] for row in table.rows]


def test_differences_are_paired_by_subject(arrays):
    """Subjects differ by 5 dB, and the difference of network and linear model is the same in all."""
    context = generation_context(summary(), arrays, "e1")
    assert cells(context["gains"]) == [["linear model", *["+0.50 [+0.50, +0.50]"] * 2]]
    (network, linear) = cells(context["scores"])
    assert network[:2] == ["network", "6"]
    assert network[2].startswith("3.50 [")
    assert linear[2].startswith("3.00 [")
    assert ("3.50 dB", "difference of power, network") in context["tiles"]


def test_few_subjects_have_no_intervals(arrays):
    context = generation_context(summary(subjects=SUBJECTS[:3]), arrays, "e1")
    assert cells(context["gains"]) == [["linear model", "+0.50", "+0.50"]]
    assert cells(context["scores"])[0][2] == "2.00"


@pytest.mark.parametrize(("contexts", "n_curves"), [((10.0,), 0), ((1.0, 10.0), 2)])
def test_every_picture_has_a_text_and_every_table_a_caption(arrays, contexts, n_curves):
    html = render(generation_context(summary(contexts), arrays, "e1"), "generation.html.j2")
    assert len(re.findall('role="img" aria-label="[^"]+"', html)) == html.count("<svg") == 2 + n_curves + 1
    assert html.count("<table>") == html.count("<caption>") == 3
    assert "a note" in html
    assert "<B>" not in html
