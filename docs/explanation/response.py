"""Draw the kernel's response and print the table of response.md: ``python docs/explanation/response.py``.

The response is measured: clicks at 64 positions are standardised, and their spectra are averaged.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from emeg.dsp.response import Band, design, half_length, plan_band
from emeg.dsp.standardise import standardise

RATES = (250.0, 300.3, 1000.0, 1017.25)
MAINS, SECONDS, CLICKS = 50.0, 120, 64


def measure_response(sfreq: float) -> tuple[Band, np.ndarray, np.ndarray]:
    """Return the band, frequencies (Hz) and complex gain, measured with clicks at positions between output samples."""
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=MAINS)
    n = round(SECONDS * sfreq)
    positions = n // 2 + np.arange(CLICKS)
    clicks = np.zeros((CLICKS, n), np.float32)
    clicks[np.arange(CLICKS), positions] = 1.0
    out = standardise(clicks, band, sfreq_in=sfreq, sfreq_out=256.0).astype(np.float64)
    frequencies = np.arange(0.0, 128.0, 1.0 / 64)
    spectrum = np.fft.rfft(out, n=1 << 17, axis=1)
    grid = np.fft.rfftfreq(1 << 17, 1 / 256)
    # the phase of each click's own time is removed: the response remains, and a time shift would show as a phase
    turned = spectrum * np.exp(2j * np.pi * grid * (positions / sfreq)[:, None]) * (sfreq / 256.0)
    gain = turned.mean(axis=0)
    return band, frequencies, np.interp(frequencies, grid, gain.real) + 1j * np.interp(frequencies, grid, gain.imag)


def crossing(frequencies: np.ndarray, gain: np.ndarray, low: float, high: float) -> float:
    """Return the frequency at which the gain is closest to one half.

    Parameters
    ----------
    frequencies : float64, shape (frequencies,)
        Hz.
    gain : float64, shape (frequencies,)
        Size of the gain, dimensionless.
    low, high : float
        Range that is searched, Hz.
    """
    inside = (frequencies >= low) & (frequencies <= high)
    return float(frequencies[inside][np.argmin(np.abs(gain[inside] - 0.5))])


def main() -> None:
    """Draw the figure and print the table."""
    mpl.rcParams.update({"svg.hashsalt": "emeg", "svg.fonttype": "none", "font.size": 8})
    figure = Figure((9.0, 5.4), layout="constrained")
    whole, edge, notch, click = figure.subplots(2, 2).ravel()
    print("| rate, Hz | band, Hz | notches, Hz | context, s | half gain at, Hz | ripple | gain at 50 Hz | turn |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for sfreq in RATES:
        band, f, response = measure_response(sfreq)
        size = np.abs(response)
        decibel = 20.0 * np.log10(np.maximum(size, 1e-6))
        whole.plot(f[::16], decibel[::16], lw=0.8, label=f"{sfreq:g} Hz")
        near = f <= 0.5
        edge.plot(f[near], size[near], lw=0.8)
        near = np.abs(f - MAINS) <= 2.5
        notch.plot(f[near], size[near], lw=0.8)
        flat = (f >= 0.3) & (f <= band.high - 0.5) & (np.abs(f - 50.0) > 2.0) & (np.abs(f - 100.0) > 2.0)
        ripple = float(np.abs(size[flat] - 1.0).max())
        turn = float(np.abs(np.angle(response[flat])).max())
        half = half_length(design(band, sfreq)) / sfreq
        ends = f"{crossing(f, size, 0.0, 0.2):.2f}, {crossing(f, size, band.high - 1, 127.9):.1f}"
        print(
            f"| {sfreq:g} | 0.1–{band.high:g} | {', '.join(f'{x:g}' for x in band.notches)} | {half:.1f} | {ends} |"
            f" {ripple:.1e} | {size[np.argmin(np.abs(f - MAINS))]:.1e} | {turn:.1e} |"
        )
    band = plan_band(sfreq=1000.0, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=MAINS)
    one = np.zeros((1, 120_000), np.float32)
    one[0, 60_000] = 1.0
    out = standardise(one, band, sfreq_in=1000.0, sfreq_out=256.0)[0]
    near = slice(15_360 - 52, 15_360 + 53)
    click.plot((np.arange(105) - 52) / 0.256, out[near], ".-", lw=0.6, ms=2)
    for axes, title, x, y in (
        (whole, "whole", "Hz", "dB"),
        (edge, "lower edge", "Hz", "gain"),
        (notch, "mains", "Hz", "gain"),
        (click, "a click at 1000 Hz", "ms", "amplitude"),
    ):
        axes.set(title=title, xlabel=x, ylabel=y)
    whole.set_ylim(-100, 5)
    whole.legend(fontsize=7)
    figure.savefig(Path(__file__).with_name("response.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
