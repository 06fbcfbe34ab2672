"""Draw spectra of continuations and their distance from recordings: ``python docs/explanation/generation.py STORE``.

Upper row: spectra of the recorded continuations, of the network, of the linear model and of other stretches of the
recordings, averaged over channels and held-out subjects. Lower row: difference of the spectra of each recording, with
its interval over subjects, over the length of the prompt. The generations are those of the store on held-out subjects.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.evaluation import read_arrays
from emeg.evaluation.generation import read_generation
from emeg.evaluation.generation.products import TITLES, GenerationSummary, Source
from emeg.store import Store

COLOURS: dict[Source, str] = {
    "model": "C0",
    "linear_model": "C1",
    "linear_other": "C5",
    "prompt": "C2",
    "elsewhere": "C7",
    "target_swap": "C4",
    "prompt_swap": "C3",
}
CLOSE_DB = 1.0
LAST_HZ = 45.0


def read_all(store: Store) -> dict[str, list[tuple[str, GenerationSummary]]]:
    """Return the generations on held-out subjects by dataset: few prompts first, then high `top_p`."""
    found: dict[str, list[tuple[str, GenerationSummary]]] = {}
    for name in sorted(store.names("evaluations")):
        try:
            summary = read_generation(store, name)
        except UserError:
            continue  # an evaluation of another kind
        if summary.provenance["config"].get("split", "held_out") == "held_out":
            found.setdefault(summary.subjects[0].split("/")[0], []).append((name, summary))
    return {dataset: sorted(rows, key=_order) for dataset, rows in sorted(found.items())}


def _order(row: tuple[str, GenerationSummary]) -> tuple[int, float]:
    return len(contexts_of(row[1])), -float(row[1].provenance["config"]["top_p"])


def contexts_of(summary: GenerationSummary) -> list[float]:
    """Return the lengths of the prompts, s."""
    return sorted({one.context_s for one in summary.scores})


def draw_spectra(axes: Axes, arrays: dict[str, NDArray[Any]], summary: GenerationSummary) -> None:
    """Draw the mean spectra of one generation."""
    freqs = arrays["spectra/freqs"]
    shown = (freqs >= 1.0) & (freqs <= LAST_HZ)
    real = arrays["spectra/real"][shown]
    axes.plot(freqs[shown], real, color="black", lw=1.2, label="recorded")
    axes.fill_between(freqs[shown], real - CLOSE_DB, real + CLOSE_DB, color="black", alpha=0.12, lw=0)
    for source in ("elsewhere", "linear_model", "model"):
        if f"spectra/{source}" in arrays:
            axes.plot(
                freqs[shown], arrays[f"spectra/{source}"][shown], color=COLOURS[source], lw=0.9, label=TITLES[source]
            )
    top_p = summary.provenance["config"]["top_p"]
    dataset = summary.subjects[0].split("/")[0]
    axes.set(
        xlabel="Hz",
        title=f"{dataset}: {summary.continuation_s:g} s after {summary.prompt_s:g} s, top_p {top_p:g}",
    )


def draw_contexts(axes: Axes, summary: GenerationSummary) -> None:
    """Draw the difference of spectra over the length of the prompt."""
    contexts = contexts_of(summary)
    for k, (source, colour) in enumerate(COLOURS.items()):
        scores = [(at, summary.scores_of(source, at).get("spectrum_db")) for at in contexts]
        rows = [(at * 1.04 ** (k - 3), one) for at, one in scores if one is not None]
        errors = [
            [0.0 if one.low is None else one.mean - one.low for _, one in rows],
            [0.0 if one.high is None else one.high - one.mean for _, one in rows],
        ]
        x, y = [at for at, _ in rows], [one.mean for _, one in rows]
        axes.errorbar(x, y, errors, color=colour, marker="o", ms=2.5, lw=0.9, label=TITLES[source])
    expected = [(at, summary.scores_of("model", at).get("expected_db")) for at in contexts]
    drawn = [(at, one.mean) for at, one in expected if one is not None]
    axes.plot([at for at, _ in drawn], [mean for _, mean in drawn], "k--", lw=0.8, label="by chance")
    axes.axhline(CLOSE_DB, color="0.7", lw=0.8)
    axes.set(xscale="log", xticks=contexts, xlabel="prompt, s", ylim=(0, 11))
    axes.set_xticklabels([f"{at:g}" for at in contexts])
    axes.minorticks_off()
    axes.set_title(f"continuations of {summary.continuation_s:g} s")


def main(root: str) -> None:
    """Draw the figure."""
    mpl.rcParams.update({"svg.hashsalt": "emeg", "svg.fonttype": "none", "font.size": 7})
    store = Store.open(root)
    found = read_all(store)
    figure = Figure((3.0 * len(found), 5.0), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, rows in zip(axes.T, found.values(), strict=True):
        name, summary = rows[0]
        draw_spectra(column[0], read_arrays(store, name), summary)
        draw_contexts(column[1], max(rows, key=lambda row: len(contexts_of(row[1])))[1])
    axes[0, 0].set_ylabel("power, dB")
    axes[1, 0].set_ylabel("difference of power by recording, 1–45 Hz, dB")
    axes[0, -1].legend(fontsize=6)
    last = max(axes[1], key=lambda one: len(one.get_legend_handles_labels()[0]))
    figure.legend(*last.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=6)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
