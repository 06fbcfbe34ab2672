"""Plots of the report as SVG text. Equal arrays give equal text, without dates or random ids."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, QUIET, LINE = "#1b2733", "#7b8794", "#d9dfe5"
SIGNAL, MODEL, BAD = "#41505f", "#d1495b", "#d1495b"
TYPE_COLOURS = ("#00798c", "#edae49", "#6a4c93", "#d1495b", "#5c8001", "#30638e")
"""Colours of EEG, magnetometer, gradiometer, SEEG, ECOG and DBS, distinct for colour-blind readers."""
TYPE_NAMES = ("EEG", "magnetometer", "gradiometer", "SEEG", "ECOG", "DBS")
SERIES = ("#00798c", "#d1495b", "#edae49", "#30638e", "#6a4c93", "#5c8001", "#7b8794", "#003d5b")

STYLE: Any = {
    "svg.hashsalt": "emeg",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def as_svg(figure: Figure) -> str:
    """Write a figure as SVG text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    # Hundredths of a point are finer than any screen and halve the size of the page.
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text[text.index("<svg") :])


def sensor_map(xy: NDArray[np.float64], types: NDArray[np.int8], marked: NDArray[np.bool_]) -> str:
    """Draw the sensors seen from above, nose up.

    Parameters
    ----------
    xy : float, shape (channels, 2)
        Flattened positions, any unit.
    types : int, shape (channels,)
        Codes of `SensorType`.
    marked : bool, shape (channels,)
        Drawn as crosses: channels found bad.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.5, 1.5))
        axes = figure.subplots()
        extent = float(np.abs(xy).max()) if len(xy) else 1.0
        extent = extent or 1.0
        turn = np.linspace(0, 2 * np.pi, 100)
        axes.plot(1.12 * np.sin(turn), 1.12 * np.cos(turn), color=LINE, lw=1)
        axes.plot([-0.12, 0, 0.12], [1.11, 1.26, 1.11], color=LINE, lw=1)
        for code in np.unique([0, 1, 2, *types.tolist()]).tolist():
            colour = TYPE_COLOURS[code]
            for chosen, marker, size in ((~marked, "o", 6), (marked, "x", 14)):
                points = xy[(types == code) & chosen] / extent
                axes.scatter(
                    points[:, 0], points[:, 1], s=size, c=colour, marker=marker, lw=0.8 if marker == "x" else 0
                )
        axes.set(xlim=(-1.3, 1.3), ylim=(-1.2, 1.35), aspect="equal")
        axes.axis("off")
        return as_svg(figure)


def traces(signal: NDArray[np.float32], model: NDArray[np.float32], names: Sequence[str], sfreq: float) -> str:
    """Draw signals and their reconstructions on top of each other, one row per channel.

    Parameters
    ----------
    signal, model : float, shape (channels, samples)
        In any unit, the same for both; each row is scaled by the spread of its signal.
    names : sequence of str, length channels
    sfreq : float
        Hz.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.45 * len(signal) + 0.7))
        axes = figure.subplots()
        time_s = np.arange(signal.shape[1]) / sfreq
        for row, (measured, made) in enumerate(zip(signal, model, strict=True)):
            scale = 3.5 * float(measured.std()) or 1.0
            axes.plot(time_s, (measured - measured.mean()) / scale - row, color=SIGNAL, lw=0.7)
            axes.plot(time_s, (made - made.mean()) / scale - row, color=MODEL, lw=0.9, alpha=0.85)
        axes.set(xlabel="s", yticks=-np.arange(len(signal)), xlim=(0, time_s[-1]), ylim=(-len(signal) + 0.2, 0.8))
        axes.set_yticklabels(names)
        axes.tick_params(length=0)
        return as_svg(figure)


def spectra(
    freqs: NDArray[np.float64],
    signal: NDArray[np.float64],
    model: NDArray[np.float64],
    title: str,
    names: tuple[str, str] = ("signal", "reconstruction"),
) -> str:
    """Draw the power spectrum of signals and of their reconstructions.

    Parameters
    ----------
    freqs : float, shape (frequencies,)
        Hz.
    signal, model : float, shape (frequencies,)
        Power per Hz, in one unit.
    title : str
    names : tuple of str
        Names of both curves.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6, 2.0))
        axes = figure.subplots()
        shown = freqs > 0
        axes.loglog(freqs[shown], signal[shown], color=SIGNAL, lw=1.1, label=names[0])
        axes.loglog(freqs[shown], model[shown], color=MODEL, lw=1.1, label=names[1])
        axes.set(xlabel="Hz", title=title, xticks=[1, 4, 8, 13, 30, 90])
        axes.set_xticklabels(["1", "4", "8", "13", "30", "90"])
        axes.minorticks_off()
        axes.legend(fontsize=7)
        return as_svg(figure)


def curves(steps: Mapping[str, Sequence[float]], values: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw metrics over training steps; each series has its own steps."""
    return series(steps, values, label, "step")


def series(
    positions: Mapping[str, Sequence[float]], values: Mapping[str, Sequence[float]], label: str, xlabel: str
) -> str:
    """Draw values over positions; each series has its own positions."""
    with mpl.rc_context(STYLE):
        is_wide = len(values) > 3
        figure = Figure(figsize=(4.9 if is_wide else 3.5, 2.1))
        axes = figure.subplots()
        for (name, row), colour in zip(values.items(), SERIES * 4, strict=False):
            marker = "." if len(row) < 30 else None
            axes.plot(positions[name], row, lw=1.1, color=colour, label=name, marker=marker)
        axes.set(xlabel=xlabel, title=label)
        axes.grid(axis="y", color=LINE, lw=0.5)
        if is_wide:
            axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        else:
            axes.legend(fontsize=7)
        return as_svg(figure)


def codebook_use(counts: NDArray[np.int64]) -> str:
    """Draw how often each code was used, sorted, one curve per quantizer level.

    Parameters
    ----------
    counts : int, shape (quantizer levels, codes)
        Uses of each code.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.1))
        axes = figure.subplots()
        for level, row in enumerate(counts):
            share = np.sort(row)[::-1] / max(int(row.sum()), 1)
            axes.semilogy(
                np.arange(1, len(share) + 1),
                np.where(share > 0, share, np.nan),
                lw=1.1,
                color=SERIES[level % len(SERIES)],
                label=f"quantizer {level + 1}" if level < len(SERIES) else None,
            )
        axes.axhline(1 / counts.shape[1], color=QUIET, lw=0.8, ls=":", label="uniform")
        axes.set(xlabel="codes, most used first", title="share of tokens")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return as_svg(figure)


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw a confusion matrix with rows of true classes, normalised to sum to one.

    Parameters
    ----------
    matrix : int, shape (classes, classes)
        Number of windows by true (row) and predicted (column) class; no unit.
    """
    with mpl.rc_context(STYLE):
        size = 1.2 + 0.5 * len(classes)
        figure = Figure(figsize=(size + 0.6, size))
        axes = figure.subplots()
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape):
            colour = "white" if share[row, column] > 0.55 else INK
            text = f"{share[row, column]:.2f}\n{matrix[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        ticks = np.arange(len(classes))
        axes.set(xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="true")
        axes.set_xticklabels(classes, rotation=30, ha="right")
        axes.set_yticklabels(classes)
        axes.tick_params(length=0)
        _hide_spines(axes)
        return as_svg(figure)


def scores(names: Sequence[str], folds: Sequence[Sequence[float]], chance: float | None, label: str) -> str:
    """Draw one row per model: a dot for each fold or subject, a bar at their mean, a line at chance if it is known.

    The axis goes from 0 to 1 if all values do.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 + 0.065 * max(map(len, names), default=0), 0.32 * len(names) + 0.75))
        axes = figure.subplots()
        if chance is not None:
            axes.axvline(chance, color=QUIET, lw=0.8, ls=":")
        everything = []
        for row, values in enumerate(folds):
            finite = [value for value in values if np.isfinite(value)]
            if not finite:
                continue
            everything += finite
            axes.scatter(finite, np.full(len(finite), -row), s=14, color=SERIES[0], alpha=0.5, lw=0)
            axes.plot([float(np.mean(finite))] * 2, [-row - 0.28, -row + 0.28], color=MODEL, lw=2)
        axes.set(yticks=-np.arange(len(names)), xlabel=label)
        if everything and min(everything) >= 0.0 and max(everything) <= 1.0:
            axes.set_xlim(0, 1.02)
        axes.set_yticklabels(names)
        axes.tick_params(length=0)
        axes.grid(axis="x", color=LINE, lw=0.5)
        return as_svg(figure)


def _hide_spines(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
