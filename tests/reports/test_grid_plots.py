"""Plots draw a mark for every estimate, and intervals only where there are any."""

import re

from emeg.reports.grid_plots import Estimate, budgets, forest


def test_a_forest_plot_has_every_name_and_reference():
    one = {"model a": [Estimate(0.7, 0.6, 0.8), None], "model b": [Estimate(0.5, None, None), Estimate(0.6, 0.5, 0.7)]}
    svg = forest(["task 1", "task 2"], one, [0.5, 0.25], "accuracy")
    for text in ("task 1", "task 2", "model a", "model b", "accuracy"):
        assert f">{text}<" in svg
    drawn = len(re.findall(r"<path|<use", svg))
    without = forest(
        ["task 1", "task 2"], one | {"model b": [Estimate(0.5, None, None), None]}, [0.5, 0.25], "accuracy"
    )
    assert len(re.findall(r"<path|<use", without)) == drawn - 2, "a dot and an interval less"


def test_label_budgets_show_every_number():
    svg = budgets([1, 5, 20], {"m": [Estimate(0.5, 0.4, 0.6), Estimate(0.6, 0.5, 0.7), None]}, 0.5, "accuracy")
    assert [text for text in re.findall(r">(\d+)<", svg) if text in {"1", "5", "20"}] == ["1", "5", "20"]
