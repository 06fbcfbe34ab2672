"""Fit and draw how the gain of pretraining over random weights grows with steps and with hours of recordings.

`python -m benchmarks.study.curves FOLDER PICTURE VARIANT RANDOM` reads FOLDER/results.jsonl. All runs whose name is
VARIANT or begins with VARIANT and a hyphen are points; RANDOM names the random weights. The gain of a run is its
balanced accuracy minus that of the mean of the random seeds, by task and subject. A line in the logarithm of the
amount is fitted to the mean over tasks. Its interval comes from a bootstrap that draws subjects within each task, and
runs. Prints one JSON line for each axis.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.study.report import best_read_out, read_results
from matplotlib.axes import Axes
from numpy.typing import NDArray

RESAMPLES = 2000
LEVELS = (2.5, 97.5)


def scores(run: dict[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Return task → subject → balanced accuracy of one read-out."""
    return {task: by_key[key] for task, by_key in run["by_subject"].items()}


def gains(
    run: dict[str, Any], key: str, random: Sequence[dict[str, dict[str, float]]]
) -> list[NDArray[np.floating[Any]]]:
    """Return the gains of the subjects of each task."""
    found = []
    for task, own in scores(run, key).items():
        base = {subject: float(np.mean([one[task][subject] for one in random])) for subject in own}
        found.append(np.array([own[subject] - base[subject] for subject in sorted(own)]))
    return found


def line(amounts: NDArray[Any], values: NDArray[Any]) -> tuple[float, float]:
    """Return slope for each factor of ten, and value at amount 1."""
    slope, offset = np.polyfit(np.log10(amounts), values, 1)
    return float(slope), float(offset)


def fit(amounts: Sequence[float], by_run: Sequence[list[NDArray[Any]]]) -> dict[str, Any]:
    """Fit the line, with its interval and the amount at which the lower bound of the gain would pass 0."""
    x = np.array(amounts)
    rng = np.random.default_rng(0)
    mean = [float(np.mean([task.mean() for task in run])) for run in by_run]
    slope, offset = line(x, np.array(mean))
    drawn = []
    for _ in range(RESAMPLES):
        chosen = [rng.integers(0, len(task), len(task)) for task in by_run[0]]
        runs = rng.integers(0, len(by_run), len(by_run))
        if len(set(x[runs])) < 2:
            continue
        values = [np.mean([task[own].mean() for task, own in zip(by_run[i], chosen, strict=True)]) for i in runs]
        drawn.append(line(x[runs], np.array(values)))
    slopes, offsets = np.array(drawn).T
    grid = 10.0 ** np.linspace(np.log10(x.min()) - 0.5, np.log10(x.max()) + 3, 50)
    low, high = np.percentile(offsets[:, None] + slopes[:, None] * np.log10(grid), LEVELS, axis=0)
    reached = grid[low > 0]
    interval = np.percentile(slopes, LEVELS).round(4).tolist()
    return {
        "amounts": list(amounts),
        "gain": [round(one, 4) for one in mean],
        "slope_per_decade": round(slope, 4),
        "slope_interval": interval,
        "lower_bound_above_0_from": round(float(reached[0]), 2) if len(reached) else None,
        "grid": grid.tolist(),
        "line": (offset + slope * np.log10(grid)).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def draw(panel: Axes, found: dict[str, Any]) -> None:
    """Draw a fitted line with its interval and the runs."""
    amounts = found["amounts"]
    panel.fill_between(found["grid"], found["low"], found["high"], alpha=0.2, linewidth=0)
    panel.plot(found["grid"], found["line"])
    panel.plot(amounts, found["gain"], "o", color="black")
    panel.axhline(0, color="grey", linewidth=0.8)
    panel.set(xscale="log", xlim=(min(amounts) / 2, max(amounts) * 30))


def main() -> None:
    """Fit both axes and draw them."""
    folder, picture, variant, base = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    results = read_results(folder)
    random_key = best_read_out(results[base])
    random = [scores(run, random_key) for run in results[base]]
    own = [run for name, runs in results.items() if name == variant or name.startswith(f"{variant}-") for run in runs]
    key = best_read_out(results[variant])
    usual = results[variant][0]
    plt.rcParams["svg.hashsalt"] = "study"
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for axis, label, panel in (("steps", "optimiser steps", panels[0]), ("hours", "hours of recordings", panels[1])):
        fixed = "hours" if axis == "steps" else "steps"
        value = {"steps": lambda run: run["variant"]["steps"], "hours": lambda run: run["hours"]}
        chosen = [run for run in own if abs(value[fixed](run) - value[fixed](usual)) < 1e-6]
        amounts = [float(value[axis](run)) for run in chosen]
        if len(set(amounts)) < 2:
            continue
        found = fit(amounts, [gains(run, key, random) for run in chosen])
        draw(panel, found)
        panel.set(xlabel=label, ylim=(-0.1, 0.25))
        print(json.dumps({"axis": axis} | {k: v for k, v in found.items() if k not in ("grid", "line", "low", "high")}))
    panels[0].set_ylabel("balanced accuracy minus random weights")
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
