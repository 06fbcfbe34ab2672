"""The card states datasets, licences and figures as metadata that a YAML parser reads, and as text."""

import numpy as np
import pytest
import yaml
from tests.evaluation.test_comparisons import model, summary
from tests.reports.grids import grid, publish

from emeg.reports.model_card import (
    FIGURES,
    CardFacts,
    CardFigure,
    figures_of_evaluation,
    figures_of_grid,
    figures_of_model,
    write_card,
)
from emeg.store import Store
from emeg.training.dataset_use import FIELD, DatasetUse

DATASETS = [
    DatasetUse(id="ds1", stage="tokenizer", subjects=4, hours=2.5, licences=("CC0-1.0",), doi="10.1/x"),
    DatasetUse(id="ds1", stage="pretraining", subjects=4, hours=2.5, licences=("CC0-1.0",), doi="10.1/x"),
    DatasetUse(id="ds2", stage="pretraining", subjects=7, hours=1.0, licences=("CC-BY-SA-4.0",)),
]


def split(card):
    empty, head, text = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(head), text


def test_metadata_hold_every_dataset_and_stage():
    head, text = split(write_card("# Model\n\nText.\n", CardFacts("m1", "brainomni", "mit", DATASETS, [])))
    assert head["datasets"] == ["ds1", "ds2"]
    assert [DatasetUse(**entry) for entry in head[FIELD]] == DATASETS
    assert head["license"] == "mit"
    assert "model-index" not in head
    assert text.lstrip().startswith("# Model\n\nText.")
    assert "Not a medical device" in text
    assert "ds2: share alike" in text


def test_metadata_at_the_head_are_replaced():
    once = write_card("# Model\n", CardFacts("m1", "brainomni", "mit", DATASETS, []))
    twice = write_card("---\nlicense: other\n---\n\n# Model\n", CardFacts("m1", "brainomni", "mit", DATASETS, []))
    assert once == twice


def test_every_figure_has_its_interval_or_says_that_there_are_too_few_subjects():
    values = list(np.random.default_rng(0).uniform(0.4, 0.9, 12))
    figures = figures_of_evaluation(summary(model("pretrained_probe", values), model("few", [0.5, 0.7])), "e1")
    by_model = {one.model: one for one in figures}
    full = by_model["pretrained_probe"]
    assert full.value == np.mean(values)
    assert full.low < full.value < full.high
    assert full.n_subjects == 12
    assert "few" not in by_model, "neither subjects enough for an interval nor a mean over folds"

    head, text = split(write_card("# M\n", CardFacts("m1", "brainomni", "mit", DATASETS, figures)))
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["args"]["interval_95"] == [round(full.low, 4), round(full.high, 4)]
    assert f"{full.low:.3f} to {full.high:.3f}" in text


def test_figures_of_tasks_are_on_the_card_with_interval_and_n(tmp_path):
    """Two evaluations over tasks, one of this model and one of another, beside none of the single-task kind."""
    store = Store.open(tmp_path / "store", create=True)
    publish(store, "e1", "aaaaaaaa11", 0.7)
    publish(store, "e2", "bbbbbbbb22", 0.55)
    figures = figures_of_model(store, "aaaaaaaa11")
    assert {one.evaluation for one in figures} == {"e1"}
    head, text = split(write_card("# M\n", CardFacts("m1", "brainomni", "mit", DATASETS, figures)))
    assert [CardFigure(**entry) for entry in head[FIGURES]] == figures
    rival = next(one for one in figures if one.model == "band_power")
    assert (rival.value, rival.low, rival.high) == pytest.approx((0.61, 0.56, 0.66))
    assert (rival.n_subjects, rival.is_own) == (6, False)
    results = head["model-index"][0]["results"]
    assert {one["metrics"][0]["name"].partition(",")[0] for one in results} == {"BrainOmni"}, "rivals are no results"
    full = next(one for one in results if one["metrics"][0]["name"] == "BrainOmni, logistic (aaaaaaaa)")
    assert full["metrics"][0]["args"] == {"subjects": 6, "evaluation": "e1", "interval_95": [0.65, 0.75]}
    assert full["dataset"]["type"] == "d"
    assert "0.650 to 0.750 | 6 |" in text


def test_a_metric_with_subjects_as_units_is_a_figure_of_its_own():
    fields = grid("m", 0.7, tasks=("t1",)).model_dump(mode="json")
    whole = {"mean": 0.8, "low": 0.6, "high": 0.9, "n_subjects": 6}
    fields["scores"] = [fields["scores"][2] | {"by_subject": 0.8, "by_subject_interval": whole}]
    figures = figures_of_grid(type(grid("m", 0.7)).checked(fields, source="test"), "e1")
    assert [one.metric for one in figures] == ["balanced_accuracy", "balanced_accuracy, subjects as units"]
    assert [one.value for one in figures] == pytest.approx([0.7, 0.8])
    assert figures[0].low == pytest.approx(0.65)
    assert (figures[1].low, figures[1].high) == (0.6, 0.9)
