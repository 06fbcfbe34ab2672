"""Tables by task have one row for each model, its own values in the column of each task, and dashes elsewhere."""

from tests.reports.grids import SUBJECTS, grid, score

from emeg.reports.sections.by_task import MOST_TASKS, tables_by_task
from emeg.reports.sections.comparison import Shown, unique


def evaluation(model, means, *, random=0.5, gain=0.1):
    """Return an evaluation of one network with its random weights, whose means differ by task."""
    scores, comparisons = [], []
    for name, mean in means.items():
        own = score(name, model, mean, weights="pretrained", title="Pretrained")
        other = score(name, model, random, weights="random", title="Random weights")
        scores += [score(name, "band_power", 0.61), other, own]
        comparisons.append(
            {
                "task": name,
                "key": own["key"],
                "rival": other["key"],
                "question": "random_weights",
                "difference": {"mean": gain, "low": gain - 0.05, "high": gain + 0.05, "n_subjects": len(SUBJECTS)},
                "p": 0.01,
                "p_corrected": 0.02,
                "passed": gain > 0.05,
            }
        )
    return grid(model, 0.7, tasks=tuple(means), scores=scores, comparisons=comparisons)


def tables(**evaluations):
    tasks = {one.id: one for each in evaluations.values() for one in each.tasks}
    shown = unique(Shown(name, one) for name, each in evaluations.items() for one in each.scores)
    networks = {"aaaaaaaa11": "network A", "bbbbbbbb22": "network B"}
    return tables_by_task(evaluations, shown, tasks, networks)


def texts(table):
    return [tuple(cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row.cells) for row in table.rows]


def test_each_model_has_one_row_with_networks_first():
    """Two networks in two evaluations, of which one lacks a task: rivals are there once, random weights come second."""
    models, _ = tables(
        e1=evaluation("aaaaaaaa11", {"t1": 0.7, "<t2>": 0.8}), e2=evaluation("bbbbbbbb22", {"t1": 0.6}, random=0.4)
    )
    assert [column.title for column in models.columns] == ["model", "network", "t1 (6)", "<t2> (6)"]
    assert texts(models) == [
        ("Pretrained (aaaaaaaa)", "network A", "0.700 [0.650, 0.750]", "0.800 [0.750, 0.850]"),
        ("Random weights (aaaaaaaa)", "network A", "0.500 [0.450, 0.550]", "0.500 [0.450, 0.550]"),
        ("Pretrained (bbbbbbbb)", "network B", "0.600 [0.550, 0.650]", "–"),
        ("Random weights (bbbbbbbb)", "network B", "0.400 [0.350, 0.450]", "–"),
        ("band_power", "–", "0.610 [0.560, 0.660]", "0.610 [0.560, 0.660]"),
    ]


def test_gains_over_random_weights_say_whether_they_passed():
    _, gains = tables(
        e1=evaluation("aaaaaaaa11", {"t1": 0.7, "<t2>": 0.8}), e2=evaluation("bbbbbbbb22", {"<t2>": 0.6}, gain=0.02)
    )
    assert texts(gains) == [
        ("Pretrained (aaaaaaaa)", "network A", *["+0.100 [+0.050, +0.150], passed"] * 2),
        ("Pretrained (bbbbbbbb)", "network B", "–", "+0.020 [-0.030, +0.070]"),
    ]


def test_a_single_task_has_its_own_table_only():
    assert tables(e1=evaluation("aaaaaaaa11", {"t1": 0.7})) == []


def test_a_store_without_networks_has_no_gains():
    whole = evaluation("aaaaaaaa11", {"t1": 0.7, "<t2>": 0.8})
    rivals = whole.model_copy(update={"comparisons": (), "scores": whole.scores[::3]})
    (models,) = tables(e1=rivals)
    assert texts(models) == [("band_power", "–", *["0.610 [0.560, 0.660]"] * 2)]


def test_many_tasks_have_tables_that_fit_on_a_sheet():
    names = [f"t{k}" for k in range(MOST_TASKS + 1)]
    found = tables(e1=evaluation("aaaaaaaa11", dict.fromkeys(names, 0.7)))
    headings = [[column.title.split()[0] for column in table.columns[2:]] for table in found]
    assert headings == [names[:4], names[4:]] * 2
    assert all(len(table.rows) == (3 if k < 2 else 1) for k, table in enumerate(found))


def test_models_have_one_order_in_all_tables():
    """The second network comes first in an evaluation of the later tasks."""
    names = [f"t{k}" for k in range(MOST_TASKS + 1)]
    early, late = dict.fromkeys(names[:1], 0.7), dict.fromkeys(names[1:], 0.7)
    found = tables(
        e1=evaluation("aaaaaaaa11", early),
        e2=evaluation("bbbbbbbb22", late),
        e3=evaluation("aaaaaaaa11", dict.fromkeys(names, 0.7)),
    )
    order = [[text[0] for text in texts(table) if "bbbbbbbb" in text[0] or "aaaaaaaa" in text[0]] for table in found]
    assert order[1] == [
        "Pretrained (aaaaaaaa)", "Random weights (aaaaaaaa)", "Pretrained (bbbbbbbb)", "Random weights (bbbbbbbb)",
    ]  # fmt: skip
    assert order[3] == ["Pretrained (aaaaaaaa)", "Pretrained (bbbbbbbb)"]
