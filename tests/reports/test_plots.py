"""Drawings: equal arrays give equal text, nothing is downloaded, and every drawn element can be counted."""

import re

import numpy as np
import pytest

from emeg.reports import plots
from emeg.reports.write_report import render


def drawings() -> list[str]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 512)).astype(np.float32)
    freqs = np.arange(1.0, 97.0)
    return [
        plots.sensor_map(rng.normal(size=(9, 2)), np.zeros(9, np.int8), np.arange(9) < 2),
        plots.traces(noise, noise * 0.5, ("Fp1", "Cz", "O2"), 256.0),
        plots.spectra(freqs, 1 / freqs, 0.5 / freqs, "cap"),
        plots.curves({"loss": [1, 2, 3]}, {"loss": [3.0, 2.0, 1.5]}, "loss"),
        plots.codebook_use(rng.integers(0, 9, size=(4, 256))),
        plots.confusion(np.array([[5, 2], [1, 9]]), ("left", "right")),
        plots.scores(["ours", "none"], [[0.6, float("nan")], [float("nan")]], 0.5, "accuracy"),
    ]


def test_equal_arrays_give_equal_text():
    assert drawings() == drawings()


@pytest.mark.parametrize("number", range(7))
def test_a_drawing_asks_for_nothing_outside_itself(number: int):
    text = drawings()[number]
    assert not re.findall(r"""href=["'](?!#|data:)""", text)
    assert "http://" not in re.sub(r"http://www\.w3\.org/[^\"']*", "", text)


def test_a_confusion_matrix_shows_counts_and_shares():
    text = plots.confusion(np.array([[5, 2], [1, 9]]), ("left", "right"))
    for word in ("0.71", "0.29", "0.10", "0.90", "left", "right"):
        assert word in text


def test_a_value_that_is_missing_is_an_error_not_a_blank():
    with pytest.raises(Exception, match="undefined"):
        render({"title": "only a title"})
