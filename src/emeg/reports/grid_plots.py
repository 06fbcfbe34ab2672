"""Plots of evaluations over tasks, as SVG text.

Shape letters: C channels.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emeg.reports.plots import LINE, QUIET, SERIES, STYLE, as_svg

MARKERS = "os^D"
"""Marks of a forest plot: the next one where the colours begin again."""
LOWEST_SHOWN_TO_HZ = 45.0
"""Frequency up to which spectra are drawn down to their lowest level."""


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
        for number, ((name, estimates), colour) in enumerate(zip(series.items(), SERIES * 8, strict=False)):
            offset = step * (list(series).index(name) - (len(series) - 1) / 2)
            drawn = [(row, one) for row, one in enumerate(estimates) if one is not None]
            axes.plot(
                [one.mean for _, one in drawn],
                [row + offset for row, _ in drawn],
                MARKERS[number // len(SERIES) % len(MARKERS)],
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
        figure = Figure(figsize=(5.6, 2.4 + 0.16 * len(series)))
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
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return as_svg(figure)


def targets(truth: NDArray[np.float64], predicted: NDArray[np.float64], unit: str) -> str:
    """Draw predicted over true targets, with the line of equality.

    Parameters
    ----------
    truth, predicted : float64, shape (points,)
        Targets in any unit, the same for both.
    unit : str
        What a point stands for, such as subjects.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9, 2.7))
        axes = figure.subplots()
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        axes.plot([low, high], [low, high], color=QUIET, lw=0.8, ls=":")
        axes.scatter(truth, predicted, s=14, color=SERIES[0], alpha=0.6, lw=0)
        axes.set(xlabel=f"target (dots: {unit})", ylabel="prediction")
        return as_svg(figure)


def cumulative_ranks(series: Mapping[str, NDArray[np.float64]]) -> str:
    """Draw the share of windows whose stimulus is among the first k candidates.

    Parameters
    ----------
    series : mapping of str to float64, shape (candidates,)
        Share for k = 1, 2, …, dimensionless; one entry for each model.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.6))
        axes = figure.subplots()
        for (name, share), colour in zip(series.items(), SERIES * 8, strict=False):
            axes.plot(np.arange(1, len(share) + 1), share, lw=1.2, color=colour, label=name)
        most = max(len(share) for share in series.values())
        axes.plot([1, most], [1 / most, 1], color=QUIET, lw=0.8, ls=":")
        axes.set(xlabel="first k candidates", ylabel="share of windows", ylim=(0, 1.02))
        axes.legend(fontsize=7)
        return as_svg(figure)


class Curve(NamedTuple):
    """Mean over subjects at each point, with an interval; `low` and `high` are NaN for too few subjects."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def class_spectra(freqs: NDArray[np.float64], curves: Mapping[str, Curve], title: str, unit: str) -> str:
    """Draw the mean spectrum of every class with its interval over subjects.

    Parameters
    ----------
    freqs : float64, shape (frequencies,)
        Hz, all above 0.
    curves : mapping of str to Curve
        Level in dB of the power density of every class.
    title : str
    unit : str
        Unit of the level, for the label of the axis.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.6))
        axes = figure.subplots()
        for (name, curve), colour in zip(curves.items(), SERIES * 8, strict=False):
            axes.semilogx(freqs, curve.mean, lw=1.2, color=colour, label=name)
            axes.fill_between(freqs, curve.low, curve.high, color=colour, alpha=0.18, lw=0)
        shown = [tick for tick in (1, 4, 8, 13, 30, 45, 90) if freqs[0] <= tick <= freqs[-1]]
        lower = [curve.mean[freqs <= LOWEST_SHOWN_TO_HZ].min() for curve in curves.values()]
        axes.set(xlabel="Hz", ylabel=unit, title=title)
        axes.set_ylim(bottom=min(lower) - 6.0)  # a low-pass above these frequencies would set the scale
        axes.set_xticks(shown, [str(tick) for tick in shown])
        axes.minorticks_off()
        axes.legend(fontsize=7)
        return as_svg(figure)


def topographies(
    xy: NDArray[np.float64],
    maps: Mapping[str, Mapping[str, NDArray[np.float64]]],
    label: str,
    limit: float,
    *,
    as_dots: bool = False,
) -> str:
    """Draw values over the head: a row for each contrast, a column for each band, one colour scale.

    Parameters
    ----------
    xy : float64, shape (channels, 2)
        Positions seen from above, nose up; dimensionless, see `emeg.sensors.topographic_xy`.
    maps : mapping of str to mapping of str to float64, shape (channels,)
        Values by contrast and band, in any unit; `label` names it.
    label : str
        Label of the colour scale.
    limit : float
        Value at the ends of the colour scale.
    as_dots : bool
        Draw a dot for each sensor, without contours between them, as for electrodes in the brain.
    """
    with mpl.rc_context(STYLE):
        bands = list(next(iter(maps.values())))
        figure = Figure(figsize=(1.1 * len(bands) + 0.9, 1.35 * len(maps) + 0.15))
        grid = figure.subplots(len(maps), len(bands), squeeze=False)
        points, owner = np.unique(np.round(xy, 3), axis=0, return_inverse=True)
        counts = np.bincount(owner.ravel())
        for row, (contrast, by_band) in enumerate(maps.items()):
            for column, band in enumerate(bands):
                values = np.bincount(owner.ravel(), by_band[band]) / counts
                _head(grid[row, column], points, values, limit, as_dots)
                if row == 0:
                    grid[row, column].set_title(band, fontsize=8)
            grid[row, 0].text(
                -0.08, 0.5, contrast, transform=grid[row, 0].transAxes, rotation=90, ha="right", va="center", fontsize=7
            )
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(-limit, limit), "RdBu_r")
        bar = figure.colorbar(scale, ax=grid, shrink=0.8, aspect=18, pad=0.02)
        bar.set_label(label, fontsize=7)
        bar.ax.tick_params(labelsize=7)
        return as_svg(figure)


def _head(axes: Axes, points: NDArray[np.float64], values: NDArray[np.float64], limit: float, as_dots: bool) -> None:
    """Draw one map with the outline of the head."""
    extent = float(np.abs(points).max()) or 1.0
    x, y = (points / extent).T
    turn = np.linspace(0, 2 * np.pi, 60)
    axes.plot(1.15 * np.sin(turn), 1.15 * np.cos(turn), color=LINE, lw=1)
    axes.plot([-0.12, 0, 0.12], [1.14, 1.29, 1.14], color=LINE, lw=1)
    if not as_dots and len(points) > 3 and np.linalg.matrix_rank(points - points.mean(axis=0)) > 1:
        levels = np.linspace(-limit, limit, 12)
        axes.tricontourf(x, y, np.clip(values, -limit, limit), levels=levels, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.scatter(x, y, s=1.5, color=QUIET, lw=0)
    else:
        axes.scatter(x, y, s=26, c=values, cmap="RdBu_r", vmin=-limit, vmax=limit, lw=0.5, edgecolors=QUIET)
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.25, 1.38), aspect="equal")
    axes.axis("off")


def bars(estimates: Mapping[str, Estimate | None], zero: float, label: str) -> str:
    """Draw one row for each name: a mean with its interval, and a line at chance.

    Parameters
    ----------
    estimates : mapping of str to Estimate or None
        None is not drawn.
    zero : float
        Value of chance.
    label : str
        Label of the axis.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.24 * len(estimates) + 0.7))
        axes = figure.subplots()
        axes.axvline(zero, color=QUIET, lw=0.8, ls=":")
        for row, one in enumerate(estimates.values()):
            if one is None:
                continue
            axes.plot([one.mean], [row], "o", ms=4, color=SERIES[0])
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [row, row], color=SERIES[0], lw=1.4)
        axes.set(yticks=np.arange(len(estimates)), ylim=(len(estimates) - 0.5, -0.5), xlabel=label)
        axes.set_yticklabels(list(estimates))
        axes.tick_params(length=0)
        axes.grid(axis="x", color=LINE, lw=0.5)
        return as_svg(figure)


def by_layer(estimates: Mapping[str, Estimate | None], zero: float, label: str) -> str:
    """Draw a metric over the layers of a network, with intervals, and a line at chance.

    Parameters
    ----------
    estimates : mapping of str to Estimate or None
        By layer, in the order of the network; None is not drawn.
    zero : float
        Value of chance.
    label : str
        Label of the axis.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2, 2.4))
        axes = figure.subplots()
        axes.axhline(zero, color=QUIET, lw=0.8, ls=":")
        drawn = [(index, one) for index, one in enumerate(estimates.values()) if one is not None]
        axes.plot([index for index, _ in drawn], [one.mean for _, one in drawn], "o-", ms=3, lw=1.1, color=SERIES[0])
        for index, one in drawn:
            if one.low is not None and one.high is not None:
                axes.plot([index, index], [one.low, one.high], color=SERIES[0], lw=1)
        axes.set(xlabel="layer", ylabel=label)
        axes.set_xticks(np.arange(len(estimates)), list(estimates))
        return as_svg(figure)
