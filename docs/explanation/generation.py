"""Draw how far continuations are from recordings: ``python docs/explanation/generation.py STORE``.

For each generation of the store on held-out subjects: the difference of spectra by source, with its interval over
subjects, over the length of the prompt.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from emeg.errors import UserError
from emeg.evaluation.generation import read_generation
from emeg.evaluation.generation.products import TITLES, GenerationSummary
from emeg.store import Store

COLOURS = {
    "model": "C0",
    "linear_model": "C1",
    "prompt": "C2",
    "elsewhere": "C7",
    "prompt_swap": "C3",
    "target_swap": "C4",
}


def read_all(store: Store) -> list[GenerationSummary]:
    """Return the generations of a store that continue held-out subjects after several lengths of the prompt."""
    found = []
    for name in sorted(store.names("evaluations")):
        try:
            summary = read_generation(store, name)
        except UserError:
            continue  # an evaluation of another kind
        config = summary.provenance["config"]
        if config.get("split", "held_out") == "held_out" and len({one.context_s for one in summary.scores}) > 1:
            found.append(summary)
    return sorted(found, key=lambda one: one.subjects[0])


def draw(axes: plt.Axes, summary: GenerationSummary) -> None:
    """Draw one generation."""
    contexts = sorted({one.context_s for one in summary.scores})
    for k, (source, colour) in enumerate(COLOURS.items()):
        scores = [summary.scores_of(source, context).get("spectrum_db") for context in contexts]
        shown = [(context * 1.03 ** (k - 2), one) for context, one in zip(contexts, scores, strict=True) if one]
        errors = [
            [0 if one.low is None else one.mean - one.low for _, one in shown],
            [0 if one.high is None else one.high - one.mean for _, one in shown],
        ]
        x, y = [context for context, _ in shown], [one.mean for _, one in shown]
        axes.errorbar(x, y, errors, color=colour, marker="o", ms=3, lw=1, label=TITLES[source])
    expected = [summary.scores_of("model", context).get("expected_db") for context in contexts]
    if all(expected):
        axes.plot(contexts, [one.mean for one in expected if one], "k--", lw=0.8, label="expected by chance")
    axes.axhline(1, color="0.7", lw=0.8)
    axes.set(xscale="log", xticks=contexts, xlabel="prompt, s", title=summary.subjects[0].split("/")[0], ylim=(0, None))
    axes.set_xticklabels([f"{context:g}" for context in contexts])


def main(root: str) -> None:
    """Draw all generations of a store side by side."""
    summaries = read_all(Store.open(root))
    figure, axes = plt.subplots(1, len(summaries), figsize=(3 * len(summaries), 3.2), squeeze=False)
    for one, summary in zip(axes[0], summaries, strict=True):
        draw(one, summary)
    axes[0, 0].set_ylabel(f"difference of power, 1–45 Hz, dB, {summaries[0].continuation_s:g} s")
    axes[0, -1].legend(fontsize=6)
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "emeg"
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
