"""What the features of the evaluated network hold: probes, changed windows, layers, and agreement of tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emeg.evaluation.comparisons import interval
from emeg.evaluation.probes.perturbations import PERTURBATIONS
from emeg.evaluation.protocol.products import GridTask
from emeg.reports.grid_plots import Estimate, bars, by_layer
from emeg.reports.markup import Cell, Column, Figure, Picture, Row, Table, number, span

MISSING = "This evaluation holds no probes (probes.json): it was made without a network, with --no-probes, or by an" \
    " older version; run `emeg evaluate --tasks …` again to have them."  # fmt: skip
TITLES = {
    "intact": "Unchanged",
    "known_subjects": "Later windows of subjects that the read-out knows",
    "permuted": "Permuted labels",
    "erased": "Subject erased from the features",
}
"""Scores of the task under each condition; those of changed windows have the titles of `PERTURBATIONS`."""


class Probes(NamedTuple):
    """Pictures and tables of the probes of one task, and their numbers."""

    pictures: list[Picture]
    tables: list[Table]
    figures: list[Figure]
    missing: str = ""
    """Why there are none."""


def probes_of(task: GridTask, evaluation: str, probes: Mapping[str, Any] | None) -> Probes:
    """Draw the probes of one task.

    Parameters
    ----------
    task : GridTask
    evaluation : str
        Name of the evaluation.
    probes : mapping or None
        ``probes.json`` of the evaluation: `emeg.evaluation.probes.Probed` by task, or the reason why there are none.
    """
    if not probes or task.id not in probes:
        return Probes([], [], [], MISSING)
    own = probes[task.id]
    if own.get("reason"):
        tokens = _agreement_figures(task, evaluation, own)
        return Probes([], _agreement(task, own), tokens, f"No probes: {own['reason']}.")
    chance = 1.0 / max(len(task.classes), 1)
    conditions = {title: own[name] for name, title in TITLES.items() if name in own}
    changed = own.get("conditions", {})
    in_order = [name for name in PERTURBATIONS if name in changed] + sorted(changed.keys() - PERTURBATIONS.keys())
    conditions |= {_title(name): changed[name] for name in in_order}
    layers = dict(own.get("layers", {}))
    pictures = [_conditions(task, conditions, chance)]
    if layers:
        pictures.append(_layers(task, layers, chance))
    tables = [_scores(task, conditions | {f"Layer {name}": value for name, value in layers.items()})]
    tables += [_identity(task, own), _variance(task, own), *_agreement(task, own)]
    figures = [
        one
        for name, score in (conditions | {f"layer {name}": value for name, value in layers.items()}).items()
        for one in _figures(task, evaluation, name, score)
    ]
    figures += [*_identity_figures(task, evaluation, own), *_agreement_figures(task, evaluation, own)]
    return Probes(pictures, tables, figures)


def _agreement(task: GridTask, own: Mapping[str, Any]) -> list[Table]:
    """Return a row for each pair of devices that recorded the same sources; no table without such pairs."""
    columns = (
        Column("devices"),
        Column("equal codes, first level", is_number=True),
        Column("other windows", is_number=True),
        Column("chance", is_number=True),
        Column("cosine of latents", is_number=True),
        Column("windows", is_number=True),
        Column("subjects", is_number=True),
    )
    rows = []
    for one in own.get("device_tokens") or ():
        first = [number(one[name][0]) for name in ("agreement", "shifted", "chance")]
        counts = (str(one["n_windows"]), str(one.get("n_subjects", "–")))
        texts = (" and ".join(one["devices"]), *first, number(one["latent_cosine"]), *counts)
        rows.append(Row(tuple(Cell(text) for text in texts)))
    caption = f"Agreement of the tokens of devices that recorded the same sources at the same time, {task.id}"
    return [Table(caption, columns, tuple(rows))] if rows else []


def _agreement_figures(task: GridTask, evaluation: str, own: Mapping[str, Any]) -> list[Figure]:
    return [
        Figure("tokens", evaluation, task.id, " and ".join(one["devices"]), f"level {level}", name, value,
               n=one["n_windows"])
        for one in own.get("device_tokens") or ()
        for name in ("agreement", "shifted", "chance")
        for level, value in enumerate(one[name])
    ]  # fmt: skip


def _title(name: str) -> str:
    return PERTURBATIONS[name].title if name in PERTURBATIONS else name.replace("_", " ")


def _estimate(score: Mapping[str, Any]) -> Estimate | None:
    """Return the mean over subjects with its interval."""
    if score["mean"] is None:
        return None
    over = interval(list(score["subjects"].values()))
    return Estimate(score["mean"], None if over is None else over.low, None if over is None else over.high)


def _conditions(task: GridTask, conditions: Mapping[str, Mapping[str, Any]], chance: float) -> Picture:
    svg = bars({name: _estimate(score) for name, score in conditions.items()}, chance, "balanced accuracy")
    alt = f"Balanced accuracy of a linear read-out on {task.id} under {len(conditions)} conditions; the table below has"
    return Picture(
        svg,
        f"{alt} the same numbers.",
        "A linear read-out of the frozen features: mean and 95 % interval over subjects; dotted: chance.",
    )


def _layers(task: GridTask, layers: Mapping[str, Mapping[str, Any]], chance: float) -> Picture:
    svg = by_layer({name: _estimate(score) for name, score in layers.items()}, chance, "balanced accuracy")
    means = ", ".join(f"{name} {number(score['mean'])}" for name, score in layers.items())
    return Picture(
        svg, f"Balanced accuracy on {task.id} by layer: {means}.", "By layer of the network; 0: the encoder."
    )


def _scores(task: GridTask, scores: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = (
        Column("features or windows"),
        Column("balanced accuracy", is_number=True),
        Column("95 % interval", is_number=True),
        Column("subjects", is_number=True),
        Column("note"),
    )
    rows = []
    for name, score in scores.items():
        found = _estimate(score)
        low, high = (None, None) if found is None else (found.low, found.high)
        texts = (name, number(score["mean"]), span(low, high), str(len(score["subjects"])), score.get("note", ""))
        rows.append(Row(tuple(Cell(text) for text in texts)))
    return Table(f"Task {task.id} from the features of the network, by condition", columns, tuple(rows))


def _identity(task: GridTask, own: Mapping[str, Any]) -> Table:
    columns = (
        Column("property"),
        Column("balanced accuracy", is_number=True),
        Column("chance", is_number=True),
        Column("values", is_number=True),
        Column("windows tested", is_number=True),
        Column("note"),
    )
    rows = []
    for name, probe in _identity_probes(own):
        texts = (
            name, number(probe["accuracy"]), number(probe["chance"]), str(probe["n_values"]), str(probe["n_windows"]),
            probe.get("note", ""),
        )  # fmt: skip
        rows.append(Row(tuple(Cell(text) for text in texts)))
    return Table(f"What a linear probe reads from the features besides the label, {task.id}", columns, tuple(rows))


def _identity_probes(own: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    found = list(own.get("identity", {}).items())
    if "subject_after_erasure" in own:
        found.append(("subject, after its linear erasure", own["subject_after_erasure"]))
    return found


def _identity_figures(task: GridTask, evaluation: str, own: Mapping[str, Any]) -> list[Figure]:
    found = [
        Figure("probes", evaluation, task.id, "identity", name, "balanced accuracy", probe["accuracy"],
               n=probe["n_windows"])
        for name, probe in _identity_probes(own)
    ]  # fmt: skip
    for name, share in own.get("variance", {}).items():
        found.append(Figure("probes", evaluation, task.id, "variance", name, "share", share["share"]))
    for name, bits in own.get("information_bits", {}).items():
        found.append(Figure("probes", evaluation, task.id, "information", name, "bits", bits))
    if "entropy_bits" in own:
        found.append(Figure("probes", evaluation, task.id, "information", "features", "bits", own["entropy_bits"]))
    return found


def _variance(task: GridTask, own: Mapping[str, Any]) -> Table:
    columns = (
        Column("groups"),
        Column("share of variance", is_number=True),
        Column("shuffled", is_number=True),
        Column("ratio", is_number=True),
        Column("p", is_number=True),
        Column("diffusion information, bits", is_number=True),
        Column("windows", is_number=True),
    )
    bits = own.get("information_bits", {})
    rows = []
    for name, one in own.get("variance", {}).items():
        values = [number(one[field]) for field in ("share", "null", "ratio", "p")]
        texts = (name, *values, number(bits.get(name)), str(own.get("n_windows", "–")))
        rows.append(Row(tuple(Cell(text) for text in texts)))
    entropy = own.get("entropy_bits")
    about = f"; diffusion entropy of the features {number(entropy)} bits" if entropy is not None else ""
    return Table(f"Variance of the features by subject and by label, {task.id}{about}", columns, tuple(rows))


def _figures(task: GridTask, evaluation: str, name: str, score: Mapping[str, Any]) -> list[Figure]:
    found = _estimate(score)
    low, high = (None, None) if found is None else (found.low, found.high)
    own = ("probes", evaluation, task.id, name)
    n = len(score["subjects"])
    mean = Figure(*own, "subjects", "balanced accuracy", score["mean"], low, high, n)
    return [mean, *(Figure(*own, subject, "balanced accuracy", value) for subject, value in score["subjects"].items())]
