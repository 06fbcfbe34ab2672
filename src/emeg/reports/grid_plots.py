"""Figures of evaluations over many tasks, as SVG."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from emeg.reports.plots import LINE, QUIET, SERIES, STYLE, as_svg


class Estimate(NamedTuple):
    """A mean with its interval; `low` and `high` are None for too few subjects."""

    mean: float
    low: float | None
    high: float | None


def forest(
    groups: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], zero: Sequence[float], label: str
) -> str:
    """Draw means with their intervals: a row for each group, a colour for each series, a tick at chance.

    Parameters
    ----------
    groups : sequence of str
        Names of the rows, such as tasks.
    series : mapping of str to sequence of Estimate or None
        One estimate for each group; None is not drawn.
    zero : sequence of float
        Value of chance for each group.
    label : str
        Label of the axis.
    """
    with mpl.rc_context(STYLE):
        step = 0.8 / max(len(series), 1)
        figure = Figure(figsize=(7.2, (0.3 + 0.16 * len(series)) * len(groups) + 0.9 + 0.12 * len(series)))
        axes = figure.subplots()
        for (name, estimates), colour in zip(series.items(), SERIES * 8, strict=False):
            offset = step * (list(series).index(name) - (len(series) - 1) / 2)
            drawn = [(row, one) for row, one in enumerate(estimates) if one is not None]
            axes.plot(
                [one.mean for _, one in drawn],
                [row + offset for row, _ in drawn],
                "o",
                ms=4,
                color=colour,
                label=name,
            )
            for row, one in drawn:
                if one.low is not None and one.high is not None:
                    axes.plot([one.low, one.high], [row + offset] * 2, color=colour, lw=1.4)
        for row, chance in enumerate(zero):
            axes.plot([chance] * 2, [row - 0.45, row + 0.45], color=QUIET, lw=0.8, ls=":")
        axes.set(yticks=np.arange(len(groups)), ylim=(len(groups) - 0.5, -0.5), xlabel=label)
        axes.set_yticklabels(groups)
        axes.grid(axis="x", color=LINE, lw=0.5)
        axes.legend(fontsize=7, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return as_svg(figure)


def budgets(examples: Sequence[int], series: Mapping[str, Sequence[Estimate | None]], chance: float, label: str) -> str:
    """Draw a metric over the number of labelled examples of each class and subject, with intervals.

    Parameters
    ----------
    examples : sequence of int
        Numbers of examples, ascending.
    series : mapping of str to sequence of Estimate or None
        One estimate for each number; None is not drawn.
    chance : float
        Value of chance.
    label : str
        Label of the axis.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.6))
        axes = figure.subplots()
        axes.axhline(chance, color=QUIET, lw=0.8, ls=":")
        for (name, estimates), colour in zip(series.items(), SERIES * 8, strict=False):
            drawn = [(n, one) for n, one in zip(examples, estimates, strict=True) if one is not None]
            axes.plot(
                [n for n, _ in drawn], [one.mean for _, one in drawn], "o-", ms=3, lw=1.1, color=colour, label=name
            )
            for n, one in drawn:
                if one.low is not None and one.high is not None:
                    axes.plot([n, n], [one.low, one.high], color=colour, lw=1)
        axes.set(xlabel="labelled examples of each class and subject", ylabel=label, xscale="log")
        axes.set_xticks(list(examples), [str(n) for n in examples])
        axes.minorticks_off()
        axes.legend(fontsize=7)
        return as_svg(figure)
