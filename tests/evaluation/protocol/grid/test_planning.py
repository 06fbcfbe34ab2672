"""What a grid is made of: its name, its tasks, and the models that can run."""

import itertools
import json
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from tests.evaluation.conftest import add_person
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe
from tests.messages import refusal

from emeg.data.tasks.recipes import Kind, Rule
from emeg.errors import UserError
from emeg.evaluation.protocol.grid.planning import plan_grid
from emeg.models import BrainOmni, load_encoder
from emeg.store import Store, write_facts
from emeg.tokenizers.braintokenizer.pretrained import read_card


def test_the_name_depends_neither_on_folders_nor_on_the_order_of_tasks(root, tmp_path, monkeypatch):
    """The same command from another folder, or on a copy of the store, continues the same evaluation."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    paths = [write_recipe(folder, HANDS, id=name) for name in ("a", "b") for folder in (tmp_path, elsewhere)]
    store = Store.open(root)
    expected = plan_grid(store, config_of(root, paths[0], paths[2])).name
    assert plan_grid(store, config_of(root, paths[3], paths[1])).name == expected
    monkeypatch.chdir(tmp_path)
    assert plan_grid(store, config_of(root, "a.yaml", "./b.yaml")).name == expected
    Path(root).rename(elsewhere / "store")
    moved = str(elsewhere / "store")
    assert plan_grid(Store.open(moved), config_of(moved, paths[0], paths[2])).name == expected


def test_two_tasks_of_one_name_are_refused_unless_they_are_equal(root, tmp_path):
    (tmp_path / "other").mkdir()
    first = write_recipe(tmp_path, HANDS)
    same = write_recipe(tmp_path / "other", HANDS)
    assert list(plan_grid(Store.open(root), config_of(root, first, same)).tasks) == ["hands"]
    write_recipe(tmp_path / "other", HANDS, window={"length_s": 1})
    with refusal(UserError, "hands", action="another id"):
        plan_grid(Store.open(root), config_of(root, first, same))


def test_features_are_pooled_as_suits_the_network_unless_a_pooling_is_named(root, tmp_path):
    """Features of windows of 2 s have no phase: their standard deviation over a few windows says little."""
    store = Store.open(root)
    task = write_recipe(tmp_path, HANDS)
    network = load_encoder(store.local_copy("models", "omni"))
    windows = BrainOmni(network.config.model_copy(update={"token": "window", "overlap_ratio": 0.0}), network.tokenizer)
    with store.publishing("models", "windows") as folder:
        provenance = read_card(store.local_copy("models", "omni"), "encoder")["provenance"]
        windows.save_pretrained(folder, provenance=provenance)

    def poolings(model: str, **changes: str) -> set[str]:
        grid = plan_grid(store, config_of(root, task, model=model, **changes))
        return {one.spec.pooling for one in grid.by_cell.values() if one.spec is not None} | {grid.pooling}

    assert poolings("omni") == {"log_std"}
    assert poolings("windows") == {"mean"}
    assert poolings("windows", pooling="power") == {"power"}
    named = plan_grid(store, config_of(root, task, model="omni", pooling="log_std")).name
    assert plan_grid(store, config_of(root, task, model="omni")).name == named


def test_a_task_on_which_no_model_can_run_is_refused(tmp_path):
    """Without a network and without shared channels, models that read signals cannot run."""
    root = str(tmp_path / "store")
    store = Store.open(root, create=True)
    for k in range(4):
        add_person(store, f"{k:02d}", names=("C3", "C4", "Cz") if k % 2 else ("A", "B", "C"), seconds=20.0)
    task = write_recipe(tmp_path, HANDS)
    assert plan_grid(store, config_of(root, task)).cells, "chance can run"
    with refusal(UserError, "hands", "band_power", action="--rivals"):
        plan_grid(store, config_of(root, task, rivals=("band_power",)))
    Path(tmp_path / "s.csv").write_text("name,a,b\nleft,1,2\nright,2,1\nup,0,0\n")
    encoding = {"kind": "encoding", "id": "encode", "stimulus": {"table": "s.csv", "key": "name"}}
    changes = {key: value for key, value in HANDS.items() if key != "classes"} | encoding
    with refusal(UserError, "encode", action="device"):
        plan_grid(store, config_of(root, write_recipe(tmp_path, changes, split={"rule": "within_subject_blocks"})))


@pytest.mark.parametrize("field", ["seeds", "layers"])
def test_negative_numbers_are_refused(root, field):
    with pytest.raises(ValueError, match=field):
        config_of(root, "ssvep", **{field: (-1,)})


def test_checks_that_a_task_accepts_are_known(root, tmp_path):
    with refusal(UserError, "blocks_appart", action="blocks_apart"):
        plan_grid(Store.open(root), config_of(root, write_recipe(tmp_path, HANDS, accepted_checks=["blocks_appart"])))


def test_folds_of_the_release_that_divide_a_subject_need_an_accepted_check(tmp_path):
    """The recording of device z counts as a subject of its own; with six names the folds differ from those of five."""
    store = Store.open(tmp_path / "store", create=True)
    for subject in range(5):
        add_person(store, f"{subject:02d}", names=("C3", "C4", "Cz"))
    add_person(store, "04", names=("C3", "C4", "Cz"), device="z")
    paper = {"subject_names": [{"pattern": "d(04)z", "to": r"\1z"}]}
    fields = {key: value for key, value in HANDS.items() if key != "device"} | {"split": {"n_folds": 5}}
    task = write_recipe(tmp_path, fields | {"paper": paper})
    config = config_of(str(store.root), task, split_mode="paper_compat", rivals=("chance",), model=None)
    with refusal(UserError, "subjects_apart", "d/04", action="accepted_checks"):
        plan_grid(store, config)
    accepted = write_recipe(tmp_path, fields | {"paper": paper | {"accepted_checks": ["subjects_apart"]}})
    (manifest,) = plan_grid(store, config.model_copy(update={"tasks": (accepted,)})).tasks["hands"].manifests.values()
    assert manifest.notice.endswith("d/04")


STIMULI = tuple(f"s{k}" for k in range(6))
OF_KIND = {
    "classification": {"labels": {"source": "events"}, "classes": {"even": STIMULI[::2], "odd": STIMULI[1::2]}},
    "diagnosis": {"labels": {"source": "participants", "column": "group"}, "classes": {"a": ["A"], "b": ["B"]}},
    "regression": {"labels": {"source": "participants", "column": "age"}},
    "retrieval": {"labels": {"source": "events"}, "stimulus": {"table": "stimuli.csv", "key": "stimulus"}},
    "encoding": {"labels": {"source": "events"}, "stimulus": {"table": "stimuli.csv", "key": "stimulus"}},
}
"""Fields of a task of each kind."""
ONE_LABEL = {"within_subject_blocks", "cross_session", "few_shot", "unseen_stimuli"}
REFUSED = {
    "classification": {"unseen_stimuli"},
    "diagnosis": ONE_LABEL,
    "regression": ONE_LABEL,
    "retrieval": set(),
    "encoding": {"cross_subject", "leave_one_subject_out", "held_out_device", "few_shot", "calibration"},
}
"""Split rules without meaning for a kind of task."""


@pytest.fixture(scope="module")
def store_for_every_rule(tmp_path_factory):
    """Six subjects with two sessions on each of two devices; trials of six stimuli."""
    store = Store.open(tmp_path_factory.mktemp("every") / "store", create=True)
    for k in range(6):
        for device, session in itertools.product("xy", "ab"):
            names = ("C3", "C4", "Cz")
            own = {"device": device, "session": session, "conditions": STIMULI}
            add_person(store, f"{k:02d}", names=names, seconds=36.0, **own)
    facts = [{"dataset": "d", "subject": f"{k:02d}", "group": "AB"[k % 2], "age": 20.0 + k} for k in range(6)]
    write_facts(store, "subjects", "d", pa.Table.from_pylist(facts))
    return store


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_rule_is_planned_or_refused_by_name_before_anything_is_computed(kind, store_for_every_rule, tmp_path):
    store = store_for_every_rule
    features = "".join(f"{name},{k % 2},{k * k}\n" for k, name in enumerate(STIMULI))
    (tmp_path / "stimuli.csv").write_text(f"stimulus,a,b\n{features}")
    base = {"id": "every", "title": "t", "kind": kind, "dataset": "d", "window": {"length_s": 2}} | OF_KIND[kind]
    base = json.loads(json.dumps(base))  # lists, as YAML has them
    for rule in get_args(Rule):
        split = {"rule": rule, "n_folds": 3, "examples_per_class": [1], "calibration_s": 6}
        config = config_of(str(store.root), write_recipe(tmp_path, base, split=split), rivals=("chance",))
        if rule in REFUSED[kind]:
            with refusal(UserError, rule, action="use "):
                plan_grid(store, config)
        else:
            assert plan_grid(store, config).cells, rule
