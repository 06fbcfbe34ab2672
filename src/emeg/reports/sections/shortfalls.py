"""Sentences on where the pretrained model does not beat its rivals, and what the evaluation shows about the reason."""

from collections.abc import Iterator

from emeg.evaluation.comparisons import best_baseline, paired_interval
from emeg.evaluation.products import EvaluationSummary, ModelSummary

WELL_KEPT = 0.9
"""Correlation of signal and reconstruction in a band from which on the codes are said to hold the band."""
TASK_BANDS = {"theta": "4–8 Hz", "alpha": "8–13 Hz", "beta": "13–30 Hz"}
"""Bands of the summary that the classical baselines rely on."""


def shortfalls(figures: EvaluationSummary) -> list[str]:
    """Return a sentence for each rival that a pretrained model does not beat, and sentences on the reason.

    Empty if the pretrained models beat the best baseline and random weights, or nothing was compared.
    """
    by_name = {model.name: model for model in figures.models if model.subjects}
    best = best_baseline(by_name)
    found: list[str] = []
    for mode in ("full", "lora", "probe"):
        own = by_name.get(f"pretrained_{mode}")
        for rival in (best, by_name.get(f"random_{mode}")):
            if own is not None and rival is not None:
                found += _comparison(own, rival)
    return [*found, *_reasons(figures)] if found else []


def _comparison(own: ModelSummary, rival: ModelSummary) -> Iterator[str]:
    difference = paired_interval(own, rival)
    if difference is None or difference.low > 0:
        return
    by_subject = {
        subject: value - other
        for subject, value in own.subjects.items()
        if value is not None and (other := rival.subjects.get(subject)) is not None
    }
    lower = [subject for subject, value in by_subject.items() if value < 0]
    verdict = "worse than" if difference.high < 0 else "not reliably better than"
    text = f"{own.title} is {verdict} {rival.title}: {difference}, lower in {len(lower)} of {len(by_subject)} subjects"
    if lower:
        worst = min(lower, key=lambda subject: by_subject[subject])
        text += f", most in {worst.partition('/')[2]} ({by_subject[worst]:+.2f})"
    yield f"{text}."


def _reasons(figures: EvaluationSummary) -> Iterator[str]:
    """Separate losses of the tokenizer from those of the embedding, and name the amount of labelled data."""
    task = figures.task
    if task is None:
        return
    device = task.definition.get("device")
    rows = [row for row in figures.reconstruction if row.bands and (device is None or row.device == device)]
    if rows:
        row = max(rows, key=lambda row: row.n_segments)
        kept = {name: row.bands[name] for name in TASK_BANDS if name in row.bands}
        values = ", ".join(f"{value:.2f} at {TASK_BANDS[name]}" for name, value in kept.items())
        if kept and min(kept.values()) >= WELL_KEPT:
            yield (
                f"The codes hold the bands that the baselines use (correlation on {row.device} {values}), so the"
                " difference arises after the tokenizer: in the embedding, its read-out, or its training."
            )
        elif kept:
            yield f"The codes lose a part of the bands that the baselines use (correlation on {row.device} {values})."
    n_train = [len(fold.train) for fold in task.folds]
    if n_train:
        yield (
            f"A fold is fitted to {min(n_train)} to {max(n_train)} subjects, {task.n_windows / task.n_subjects:.0f}"
            " windows each; see the study for larger numbers of subjects and labels."
        )
