"""Models by their role."""

import json
from pathlib import Path

import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import Store
from emeg.store.models import find_model


@pytest.mark.parametrize(
    ("role", "verb", "option"),
    [
        ("tokenizer", "emeg train-tokenizer", "--tokenizer"),
        ("encoder", "emeg pretrain", "--model"),
        ("finetuned", "emeg finetune", "--finetuned"),
    ],
)
def test_a_missing_model_names_its_verb_and_a_choice_its_option(tmp_path: Path, role: str, verb: str, option: str):
    store = Store.open(tmp_path, create=True)
    with refusal(UserError, role, action=f"`{verb}`"):
        find_model(store, role, None)
    for name in ("a", "b"):
        with store.publishing("models", name) as folder:
            (folder / "config.json").write_text(json.dumps({"role": role}))
    with refusal(UserError, role, action=f"a, b with {option}"):
        find_model(store, role, None)
    assert find_model(store, role, "b") == "b"
