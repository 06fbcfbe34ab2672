"""A subject is withdrawn at each stage of a grid: nothing of the subject is left, and the message names the subject."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe
from tests.messages import refusal

from emeg.curation import WithdrawConfig, withdraw
from emeg.data import Corpus
from emeg.errors import UserError
from emeg.evaluation import EvaluateConfig, evaluate
from emeg.evaluation.protocol import run, task_data
from emeg.evaluation.protocol.grid import execution, planning, publication, withdrawals
from emeg.evaluation.protocol.grid.planning import plan_grid
from emeg.evaluation.protocol.products import read_results
from emeg.ingest.dataset_records import Withdrawn, note_withdrawn
from emeg.store import Store

STAGES = {
    "planning": (planning, "make_task_data"),
    "checks": (run, "check_task"),
    "embedding": (task_data, "embed"),
    "cells": (execution, "compute_cell"),
    "publishing": (publication, "write_grid"),
}
"""Function during which the withdrawal happens: after its work, before what follows."""


def files_about(root: str, recording: str) -> list[str]:
    """Return the files of a store that name a recording or are named after it."""
    return [
        str(path.relative_to(root))
        for path in sorted(Path(root).rglob("*"))
        if recording in path.name or (path.is_file() and recording.encode() in path.read_bytes())
    ]


def once_after(monkeypatch: pytest.MonkeyPatch, stage: str, action: Callable[[], object]) -> None:
    module, name = STAGES[stage]
    original, done = getattr(module, name), []

    def with_action(*given: object, **named: object) -> object:
        result = original(*given, **named)
        if not done:
            done.append(action())
        return result

    monkeypatch.setattr(module, name, with_action)


def of_subject(config: EvaluateConfig, name: str) -> WithdrawConfig:
    dataset, subject = name.split("/")
    return WithdrawConfig(root=config.root, dataset=dataset, subject=subject)


def small_config(root: str, folder: Path) -> EvaluateConfig:
    task = write_recipe(folder, HANDS)
    return config_of(root, task, rivals=("chance",), random_weights=False, permuted_labels=False)


@pytest.mark.parametrize("stage", STAGES)
def test_a_subject_withdrawn_while_the_grid_runs_is_nowhere_afterwards(root, tmp_path, monkeypatch, stage):
    config = small_config(root, tmp_path)
    store = Store.open(root)
    grid = plan_grid(store, config)
    subject = grid.tasks["hands"].windows.subjects[0]
    (recording,) = [name for name in grid.recordings_of[subject] if name.endswith("x")]
    assert len(files_about(root, recording)) > 2
    once_after(monkeypatch, stage, lambda: withdraw(of_subject(config, subject)))
    with refusal(UserError, subject, action="same command"):
        evaluate(config)
    monkeypatch.undo()
    assert not store.has("evaluations", grid.name)
    assert not store.exists("runs", grid.name)
    assert files_about(root, recording) == []
    assert withdraw(of_subject(config, subject)).done_before, "nothing about the subject is left"
    again = evaluate(config)
    assert subject not in set(read_results(store, again.evaluation)["subject"].to_pylist())


def test_a_subject_of_pretraining_who_is_withdrawn_stops_the_grid(root, tmp_path, monkeypatch):
    """The network and the work in progress on it name the subject's corpus, so that `withdraw` removes them."""
    config = small_config(root, tmp_path)
    store = Store.open(root)
    splits = Corpus.open(store, None).subjects
    trained = next(name for name, split in sorted(splits.items()) if split == "train")
    once_after(monkeypatch, "cells", lambda: withdraw(of_subject(config, trained)))
    with refusal(UserError, trained, action="same command"):
        evaluate(config)
    assert store.names("evaluations") == []
    assert files_about(root, f"d{trained[2:]}x") == []


def test_a_network_whose_corpus_went_with_a_subject_is_tested_on_the_subjects_held_out_from_it(root, tmp_path):
    config = small_config(root, tmp_path)
    store = Store.open(root)
    corpus = Corpus.open(store, None)
    trained, held_out = (
        sorted(name for name, split in corpus.subjects.items() if (split == "held_out") == wanted)
        for wanted in (False, True)
    )
    card = store.read_json("models", "omni", "config.json")
    declared = {"pretraining_datasets": [{"id": "d", "stage": "pretraining", "corpus": corpus.name}]}
    store.write_json(card | declared, "models", "omni", "config.json")
    withdraw(of_subject(config, trained[0]))
    assert not store.has("corpora", corpus.name)
    result = evaluate(config)
    tested = set(read_results(store, result.evaluation)["subject"].to_pylist()) - {""}
    assert tested == set(held_out), "those of the training are left out, although the corpus is gone"
    assert withdraw(of_subject(config, trained[1])).models == ("omni", "tokenizer")
    assert store.read_json("models", "omni", "withdrawn.json") == {"people": trained[:2]}
    assert files_about(root, trained[1]) == [
        "models/omni/withdrawn.json",
        "models/tokenizer/withdrawn.json",
    ]


def test_a_process_that_joins_after_a_withdrawal_computes_nothing_of_another_grid(root, tmp_path):
    config = small_config(root, tmp_path)
    store = Store.open(root)
    grid = plan_grid(store, config)
    subject = grid.tasks["hands"].windows.subjects[0]
    withdraw(of_subject(config, subject))
    runs = [location.name for location in store.children("runs")]
    with refusal(UserError, grid.name, action="same command"):
        execution._work(config, 1, grid.name)
    assert [location.name for location in store.children("runs")] == runs
    with refusal(UserError, subject, action="same command"):
        execution.stop_on_withdrawal(store, config, grid)


def test_a_withdrawal_that_was_interrupted_leaves_the_subject_out(root, tmp_path):
    config = small_config(root, tmp_path)
    store = Store.open(root)
    subject = plan_grid(store, config).tasks["hands"].windows.subjects[0]
    note_withdrawn(store, [Withdrawn(dataset="d", subject=subject[2:])])
    result = evaluate(config)
    assert subject not in set(read_results(store, result.evaluation)["subject"].to_pylist())
    withdraw(of_subject(config, subject))
    assert files_about(root, f"d{subject[2:]}x") == []


def test_a_task_of_withdrawn_subjects_only_is_refused(root, tmp_path):
    config = config_of(root, write_recipe(tmp_path, HANDS, subjects=["d/00"]))
    note_withdrawn(Store.open(root), [Withdrawn(dataset="d", subject="00")])
    with refusal(UserError, "hands", action="ingest"):
        evaluate(config)


def test_a_folder_into_which_others_still_write_is_removed(root, monkeypatch):
    store = Store.open(root)
    store.write_json({}, "runs", "a", "cells.json")
    note_withdrawn(store, [Withdrawn(dataset="d", subject="00")])
    remove, tried = Store.remove, []

    def disturbed(self: Store, *parts: str) -> bool:
        tried.append(parts)
        if len(tried) in (2, 3):
            raise OSError(39, "Directory not empty")
        return remove(self, *parts)

    monkeypatch.setattr(Store, "remove", disturbed)
    monkeypatch.setattr(withdrawals, "PAUSE_S", 0.0)
    with refusal(UserError, "d/00", action="same command"):
        withdrawals.stop_if_withdrawn(store, "a", {"d/00": ("d00x",)}, lambda recordings: [])
    assert not store.exists("runs", "a")


def test_a_run_that_was_removed_meanwhile_is_named(root, tmp_path, monkeypatch):
    config = small_config(root, tmp_path)
    store = Store.open(root)
    name = plan_grid(store, config).name
    once_after(monkeypatch, "embedding", lambda: store.remove("runs", name))
    with refusal(UserError, name, "runs/", action="same command"):
        evaluate(config)


def test_a_withdrawal_that_breaks_planning_is_named(root, tmp_path, monkeypatch):
    """What the withdrawal removed is missing in the middle of planning."""
    store = Store.open(root)

    def fail(*_: object, **__: object) -> None:
        note_withdrawn(store, [Withdrawn(dataset="d", subject="07")])
        raise FileNotFoundError("corpora/c/manifest.json")

    monkeypatch.setattr(planning, "make_task_data", fail)
    with refusal(UserError, "d/07", action="same command"):
        evaluate(small_config(root, tmp_path))
