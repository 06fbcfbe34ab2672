"""Publish a grid: its scores, comparisons, probes and tables, once every cell is finished."""

import pyarrow as pa

from emeg.evaluation.configs import EvaluateConfig
from emeg.evaluation.package_versions import package_versions
from emeg.evaluation.protocol.grid.cells import read_cells
from emeg.evaluation.protocol.grid.planning import Grid, grid_fields
from emeg.evaluation.protocol.products import GridSummary, write_grid
from emeg.evaluation.protocol.rows import SPLITS
from emeg.evaluation.protocol.splits import split_rows
from emeg.evaluation.protocol.summarise import compare, scores_of, summarise_task
from emeg.evaluation.task import ancestry
from emeg.store import Store
from emeg.uri import locate
from emeg.version import __version__

FEWEST_SEEDS = 3
"""Seeds that the protocol asks for; with fewer the summary has a note."""


def publish_grid(store: Store, config: EvaluateConfig, grid: Grid) -> None:
    """Publish the evaluation of a complete grid.

    Raises
    ------
    UserError
        A cell is missing.
    """
    results, predictions = read_cells(store, grid.name, list(grid.cells))
    scores = scores_of(grid.tasks, grid.compared, results, predictions)
    notes = []
    if len(config.seeds) < FEWEST_SEEDS:
        notes.append(f"fewer seeds ({len(config.seeds)}) than the {FEWEST_SEEDS} of the protocol")
    if grid.model is None:
        notes.append("the store holds no pretrained network; only other models were compared")
    elif not ancestry(store, grid.model).corpora:
        notes.append("the training subjects of the network are not recorded")
    uses_signal = {
        name: any(one.rival.input == "signal" for one in own) or grid.tasks[name].recipe.kind == "encoding"
        for name, own in grid.compared.items()
    }
    summary = GridSummary(
        version=__version__,
        seeds=config.seeds,
        split_mode=config.split_mode,
        tasks=tuple(summarise_task(data, uses_signal=uses_signal[name]) for name, data in grid.tasks.items()),
        tasks_not_run=grid.tasks_not_run,
        models_not_run=grid.models_not_run,
        scores=tuple(scores),
        comparisons=tuple(compare(scores)),
        provenance={
            "model": grid.model,
            "trained_on": [] if grid.model is None else sorted(ancestry(store, grid.model).corpora),
            "config": grid_fields(config, (*grid.tasks, *grid.tasks_not_run)) | {"pooling": grid.pooling},
            "recordings": sorted({one for data in grid.tasks.values() for one in data.windows.recordings.tolist()}),
            "versions": {"emeg": __version__} | package_versions(),
            "notes": notes,
        },
    )
    probes = {}
    if grid.model is not None and config.probes:
        probes = {name: store.read_json("runs", grid.name, "probes", f"{name}.json") for name in grid.tasks}
    with store.publishing("evaluations", grid.name) as folder:
        if probes:
            (locate(folder) / "probes.json").write_json(probes)
        (locate(folder) / "checks.json").write_json(store.read_json("runs", grid.name, "checks.json"))
        write_grid(folder, summary, results, predictions, _splits(grid))


def _splits(grid: Grid) -> pa.Table:
    rows = [
        row
        for name, data in grid.tasks.items()
        for (seed, examples), manifest in data.manifests.items()
        for row in split_rows(name if examples is None else f"{name}/{examples}", seed, data.windows, manifest)
    ]
    return pa.Table.from_pylist(rows, schema=SPLITS)
