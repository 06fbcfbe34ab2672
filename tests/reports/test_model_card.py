"""The card states datasets, licences and figures as metadata that a YAML parser reads, and as text."""

import numpy as np
import yaml
from tests.evaluation.test_comparisons import model, summary

from emeg.reports.model_card import CardFacts, figures_of_evaluation, write_card
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
