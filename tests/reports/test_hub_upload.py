"""`push-to-hub` uploads a card from the store, and refuses what a licence of any training dataset forbids."""

import json
from pathlib import Path

import pytest
import yaml
from tests.messages import refusal
from tests.reports.grids import publish

from emeg.errors import UserError
from emeg.reports import PushToHubConfig, hub_upload, push_to_hub
from emeg.store import Store
from emeg.training.dataset_use import FIELD

FREE = {"id": "free", "stage": "tokenizer", "subjects": 3, "hours": 1.0, "licences": ["CC0-1.0"]}
CLOSED = {"id": "closed", "stage": "pretraining", "subjects": 3, "hours": 1.0, "licences": ["CC-BY-ND-4.0"]}
PAID = {"id": "paid", "stage": "finetuning", "subjects": 3, "hours": 1.0, "licences": ["CC-BY-NC-4.0"]}


def add_model(store, name, declared, **provenance):
    with store.publishing("models", name) as folder:
        card = {"kind": "brainomni", "provenance": {FIELD: declared} | provenance}
        (folder / "config.json").write_text(json.dumps(card))
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "README.md").write_text("# Model\n")


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def uploaded(monkeypatch):
    """Cards that would have been uploaded."""
    cards = []

    def upload(folder: Path, repo: str, **_: object) -> str:
        cards.append((folder / "README.md").read_text(encoding="utf-8"))
        return "commit"

    monkeypatch.setattr(hub_upload, "upload", upload)
    return cards


def push(store, model="m", **options):
    return push_to_hub(PushToHubConfig(root=str(store.root), model=model, repo="lab/m", **options))


@pytest.mark.parametrize("declared", [[FREE, CLOSED], [CLOSED, FREE]], ids=["free first", "closed first"])
def test_one_forbidden_dataset_of_two_refuses_in_any_order(store, uploaded, declared):
    add_model(store, "m", declared)
    with refusal(UserError, "closed", "CC-BY-ND-4.0", action="train without"):
        push(store)
    assert not uploaded


@pytest.mark.parametrize("declared", [[FREE, PAID], [PAID, FREE]], ids=["free first", "paid first"])
def test_a_licence_of_the_weights_that_fits_both_is_accepted_in_any_order(store, uploaded, declared):
    add_model(store, "m", declared)
    with refusal(UserError, "paid", action="--licence"):
        push(store, licence="mit")
    assert push(store, licence="cc-by-nc-4.0").repo == "lab/m"
    assert {entry["id"] for entry in yaml.safe_load(uploaded[0].split("---\n")[1])[FIELD]} == {"free", "paid"}


def test_a_licence_below_a_fine_tuned_model_counts_too(store, uploaded):
    add_model(store, "base", [CLOSED])
    add_model(store, "m", [FREE], model="base")
    with refusal(UserError, "closed", action="train without"):
        push(store)
    assert not uploaded


def test_the_card_has_the_figures_of_evaluations_over_tasks(store, uploaded):
    add_model(store, "m", [FREE])
    publish(store, "e1", "m", 0.7)
    push(store, licence="mit")
    head = yaml.safe_load(uploaded[0].split("---\n")[1])
    assert {one["task"]["name"] for one in head["model-index"][0]["results"]} == {"t1", "<t2>"}


def test_imported_weights_that_declare_ids_alone_are_judged_by_the_registry(store, uploaded):
    add_model(store, "m", ["openneuro:ds004504", "nowhere"])
    with refusal(UserError, "nowhere", action="--unknown-licences-checked"):
        push(store, licence="mit")
    push(store, licence="mit", unknown_licences_checked=True)
    declared = yaml.safe_load(uploaded[0].split("---\n")[1])[FIELD]
    assert declared[0] == {"id": "openneuro:ds004504", "stage": "pretraining", "subjects": None, "hours": None,
                           "licences": [], "doi": None, "corpus": None}  # fmt: skip
