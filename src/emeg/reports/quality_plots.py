"""Plots of the quality page: images of bounded size for many curves and cells, SVG text for spectra.

Shape letters: C channels, N samples, S seconds.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from emeg.reports.plots import INK, LINE, QUIET, SIGNAL, STYLE, TYPE_COLOURS, TYPE_NAMES, as_svg
from emeg.store import BadReason

REASON_COLOURS = {
    BadReason.FLAT: "#5c8001",
    BadReason.NAN: "#5c8001",
    BadReason.CLIPPED: "#edae49",
    BadReason.BEYOND_GATE: "#6a4c93",
    BadReason.NOISY: "#d1495b",
    BadReason.UNCORRELATED: "#00798c",
    BadReason.MARKED: "#7b8794",
    BadReason.INTERPOLATED: "#d9dfe5",
}
"""Colours of the reasons, by rank: the first reason that applies is drawn."""

PIXELS_PER_INCH, SHADES = 110, 7
"""Shades towards white of each colour of the page; images use no other colours, which saves two thirds of the bytes."""
MOST_BARS = 80
"""Most recordings drawn as single bars; more are drawn as one outline per reason, which is much faster."""
MOST_COLUMNS = 400
"""Most columns of a heat map; in longer recordings a column covers more than a second."""


def first_reason(bad_CS: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the number in `REASON_COLOURS`, from 1, of the first reason of every second; 0 for none.

    Parameters
    ----------
    bad_CS : uint8, shape (channels, seconds)
        Bits of `BadReason`, dimensionless.
    """
    rank = np.zeros(256, np.uint8)
    for place, reason in reversed(list(enumerate(REASON_COLOURS, 1))):
        rank[(np.arange(256) & int(reason)) != 0] = place
    return rank[bad_CS]


def heat_map(bad_CS: NDArray[np.uint8], duration_s: float) -> str:
    """Draw reasons over channels and time as an image in a ``data:`` URI.

    Parameters
    ----------
    bad_CS : uint8, shape (channels, seconds)
        Bits of `BadReason`, dimensionless. If seconds share a column, the first reason by rank is drawn.
    """
    place_CS = first_reason(bad_CS).astype(int)
    place_CS[place_CS == 0] = len(REASON_COLOURS) + 1
    n_columns = min(place_CS.shape[1], MOST_COLUMNS)
    edges = np.linspace(0, place_CS.shape[1], n_columns + 1).astype(int)
    columns = np.stack([place_CS[:, a:b].min(axis=1) for a, b in pairwise(edges)], axis=1)
    colours = ListedColormap([*REASON_COLOURS.values(), "#ffffff"])
    with mpl.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=(4.6, 2.3))
        axes = figure.subplots()
        extent = (0.0, duration_s, len(columns) + 0.5, 0.5)
        norm = BoundaryNorm(np.arange(0.5, colours.N + 1), colours.N)
        axes.imshow(columns, cmap=colours, norm=norm, aspect="auto", interpolation="nearest", extent=extent)
        axes.set(xlabel="s", ylabel="channel")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        for spine in axes.spines.values():
            spine.set_visible(True)
        return _as_uri(figure)


def thumbnail(
    signal_CN: NDArray[np.float32], names: Sequence[str], colours: Sequence[str | None], start_s: float, sfreq: float
) -> str:
    """Draw some seconds of some channels as an image in a ``data:`` URI.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Any unit; rows are three standard deviations of the median channel apart.
    names : sequence of str
    colours : sequence of str or None
        Colour of each channel; None for the default.
    start_s : float
        Time of the first sample.
    sfreq : float
        Hz.
    """
    with mpl.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=(4.6, max(2.3, 0.145 * len(names) + 0.5)))
        axes = figure.subplots()
        centred = signal_CN.astype(np.float64) - np.median(signal_CN, axis=1, keepdims=True)
        scale = 4.0 * float(np.median(centred.std(axis=1))) or 1.0
        time_s = start_s + np.arange(signal_CN.shape[1]) / sfreq
        for row, (values, colour) in enumerate(zip(centred / scale, colours, strict=True)):
            axes.plot(time_s, np.clip(values, -1.5, 1.5) - row, color=colour or SIGNAL, lw=0.9 if colour else 0.6)
        axes.set(xlabel="s", yticks=-np.arange(len(names)), xlim=(time_s[0], time_s[-1]), ylim=(-len(names), 1))
        axes.set_yticklabels(names, fontsize=6)
        for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
            label.set_color(colour or QUIET)
        axes.tick_params(axis="y", length=0)
        return _as_uri(figure)


Kind = tuple[int, str]
"""`SensorType` and unit; planar and axial gradiometers have no common scale."""


def kind_name(kind: Kind) -> str:
    """Return the name of a sensor type in a unit."""
    name = TYPE_NAMES[kind[0]]
    return {"T/m": f"planar {name}", "T": f"axial {name}"}[kind[1]] if name == "gradiometer" else name


def type_spectra(
    freqs: NDArray[np.float64], power: Mapping[Kind, NDArray[np.float64]], notches: Sequence[float]
) -> str:
    """Draw amplitude spectra by sensor type: the median recording and the range of 5 to 95 %.

    Parameters
    ----------
    freqs : float, shape (frequencies,)
        Hz.
    power : mapping of `Kind` to float, shape (recordings, frequencies)
        Power density in the squared unit (V, T or T/m) per Hz.
    notches : sequence of float
        Drawn as lines, Hz.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(3.6 * len(power), 12.0), 2.8))
        shown = freqs > 0
        for axes, (kind, spectra) in zip(np.atleast_1d(figure.subplots(1, len(power))), power.items(), strict=True):
            amplitude = np.sqrt(spectra[:, shown])
            colour = TYPE_COLOURS[kind[0]]
            low, middle, high = np.quantile(amplitude, [0.05, 0.5, 0.95], axis=0)
            axes.fill_between(freqs[shown], low, high, color=colour, alpha=0.2, lw=0)
            axes.loglog(freqs[shown], middle, color=colour, lw=1.1)
            for notch in notches:
                axes.axvline(notch, color=QUIET, lw=0.9, ls=":", zorder=0)
            axes.set(xlabel="Hz", title=f"{kind_name(kind)}, {kind[1]}/√Hz", xticks=[1, 4, 8, 13, 30, 50, 90])
            axes.set_xticklabels(["1", "4", "8", "13", "30", "50", "90"])
            axes.minorticks_off()
        return as_svg(figure)


def reasons_over_recordings(shares: Mapping[str, Sequence[float]], colours: Sequence[str]) -> str:
    """Draw stacked shares of channel-seconds by reason, one bar per recording, as an image in a ``data:`` URI.

    Parameters
    ----------
    shares : mapping of str to sequence of float
        Shares in percent by reason, each of the same length.
    colours : sequence of str
        One for each reason.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 1.9))
        axes = figure.subplots()
        count = len(next(iter(shares.values())))
        below = np.zeros(count)
        for values, colour in zip(shares.values(), colours, strict=True):
            above = below + np.asarray(values)
            if count < MOST_BARS:
                axes.bar(np.arange(1, count + 1), values, bottom=below, color=colour, width=0.9, lw=0)
            else:
                axes.stairs(above, np.arange(count + 1) + 0.5, baseline=below, color=colour, fill=True, lw=0)
            below = above
        axes.set(xlabel="recording, worst first", ylabel="% of channel-seconds", xlim=(0.4, max(count, 12) + 0.6))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _as_uri(figure)


def _palette() -> Image.Image:
    strong = [colour for colour in (*REASON_COLOURS.values(), SIGNAL, QUIET, INK) if colour != LINE]
    colours = np.array([mpl.colors.to_rgb(colour) for colour in strong])
    shades = np.linspace(0.0, 0.8, SHADES)[:, None, None]
    # No colour near white except white, because Pillow picks a nearly nearest colour.
    palette = [*(shades + (1.0 - shades) * colours).reshape(-1, 3), mpl.colors.to_rgb(LINE), (1.0, 1.0, 1.0)]
    image = Image.new("P", (1, 1))
    image.putpalette(np.rint(255 * np.array(palette)).astype(np.uint8).ravel().tolist())
    return image


def _as_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
    drawn = Image.open(buffer).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    drawn.save(buffer, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
