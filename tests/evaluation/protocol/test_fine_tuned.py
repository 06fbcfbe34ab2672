"""Networks trained on tasks as cells of the grid: what they learn, and that a killed grid resumes with them."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation import EvaluateConfig, evaluate
from emeg.evaluation.protocol.compute import compute_cell
from emeg.evaluation.protocol.fine_tuned import FineTunedNetwork
from emeg.evaluation.protocol.grid.planning import plan_grid
from emeg.evaluation.protocol.products import read_grid, read_results
from emeg.evaluation.protocol.splits import TEST, TRAIN
from emeg.models import load_encoder
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.models.lora import merge_lora
from emeg.store import Store, model_config
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig
from emeg.training import FinetuneRecipe

QUICK = FinetuneRecipe.of(epochs=1, backbone_learning_rates=(3e-3, 1e-3))


def modes_config(root: str, *tasks: str, **changes) -> EvaluateConfig:
    fields = {"modes": ("lora", "full"), "rivals": ("chance",), "fit": QUICK, "permuted_labels": False, "budget": 1}
    return config_of(root, *tasks, **(fields | changes))


def cell_of(root: str, task: str, **wanted):
    """Return grid, task, model and cell of the first cell with some fields."""
    config = wanted.pop("config", None) or modes_config(root, task)
    grid = plan_grid(Store.open(root), config)
    name = next(n for n, c in grid.cells.items() if wanted.items() <= c._asdict().items())
    cell = grid.cells[name]
    return grid.tasks[cell.task], grid.by_cell[name], cell


def test_training_finds_what_differs_and_permuted_labels_do_not(root, tmp_path):
    fit = FinetuneRecipe.of(epochs=12, backbone_learning_rates=(3e-3,), max_channels=None)
    config = modes_config(
        root, write_recipe(tmp_path, HANDS), modes=("full",), fit=fit, permuted_labels=True, seeds=(0,), budget=1
    )
    found = {}
    for labels in ("real", "permuted"):
        data, one, cell = cell_of(root, "", config=config, mode="full", weights="pretrained", labels=labels)
        rows = compute_cell(data, one, cell, budget=1, device="cpu").results
        found[labels] = next(
            r["value"]
            for r in rows
            if r["metric"] == "balanced_accuracy" and not r["subject"] and r["unit"] == "window"
        )
    assert found["real"] > 0.8
    assert found["permuted"] < 0.75


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_fit_is_repeatable_and_what_trains_depends_on_the_mode(root, tmp_path, mode):
    data, one, cell = cell_of(root, write_recipe(tmp_path, HANDS), mode=mode, weights="pretrained")
    rows = data.manifests[0, None].rows(0, TRAIN)
    predicted = []
    for _ in range(2):
        estimator = one.rival.estimator(
            {"learning_rate": 3e-3, "epochs": 1}, kind="classification", n_classes=2, channels=(), sfreq=256.0, seed=0
        )
        estimator.fit(rows, data.truth[rows])
        predicted.append(estimator.predict_proba(np.arange(len(data.windows))))
    np.testing.assert_array_equal(*predicted)
    state = estimator._fitted.classifier.state_dict()
    assert any("lora" in name for name in state) == (mode == "lora")
    assert cell.read_out == ""
    assert one.rival.settings(6)[0] == {"learning_rate": 3e-3, "epochs": 1}


def test_every_setting_of_the_budget_is_tried_by_rate_and_epochs(root, tmp_path):
    data, _, _ = cell_of(root, write_recipe(tmp_path, HANDS))
    recipe = FinetuneRecipe.of(epochs=9, backbone_learning_rates=(3e-3, 1e-3))
    rival = FineTunedNetwork("full", data, "omni", "pretrained", recipe, "cpu")
    settings = rival.settings(6)
    assert {(s["learning_rate"], s["epochs"]) for s in settings} == {(3e-3, 9), (1e-3, 9), (3e-3, 3), (1e-3, 3)}
    assert len(rival.settings(3)) == 3
    with refusal(UserError, "full", "encoding", action="frozen"):
        rival.estimator(settings[0], kind="encoding", n_classes=0, channels=(), sfreq=256.0, seed=0)


def test_networks_are_trained_on_targets_and_on_features_of_stimuli(root, tmp_path):
    """Numbers and features that follow the side of the hand are found again in windows that were not trained on."""
    data, _, _ = cell_of(root, write_recipe(tmp_path, HANDS), mode="full", weights="pretrained")
    rows, tested = (data.manifests[0, None].rows(0, side) for side in (TRAIN, TEST))
    table = np.array([[1.0, 0.0, -1.0], [-1.0, 1.0, 1.0]])
    side = data.truth
    found = {}
    for kind, wanted in (("regression", 30.0 + 10.0 * side), ("retrieval", table[side])):
        fit = FinetuneRecipe.of(max_channels=None)
        rival = FineTunedNetwork("full", data, "omni", "pretrained", fit, "cpu")
        setting = {"learning_rate": 3e-3, "epochs": 12}
        estimator = rival.estimator(setting, kind=kind, n_classes=0, channels=(), sfreq=256.0, seed=0)
        found[kind] = estimator.fit(rows, wanted[rows]).predict(tested)
    assert found["regression"].shape == (len(tested), 1)
    assert np.corrcoef(found["regression"][:, 0], side[tested])[0, 1] > 0.6
    assert 25.0 < found["regression"].mean() < 45.0, "in the unit of the target"
    nearest = (found["retrieval"] @ table.T).argmax(axis=1)
    assert np.mean(nearest == side[tested]) > 0.8


def evaluate_there(config: EvaluateConfig) -> None:
    evaluate(config)


def test_a_killed_grid_resumes_with_its_trained_networks(root, tmp_path):
    """Two tasks, two seeds, all modes; the first process is killed in the middle."""
    tasks = (
        write_recipe(tmp_path, HANDS, split={"n_folds": 2}),
        write_recipe(tmp_path, HANDS, id="early", window={"length_s": 1}, split={"n_folds": 2}),
    )
    config = modes_config(root, *tasks, modes=("frozen", "lora", "full"), seeds=(0, 1))
    store = Store.open(root)
    grid = plan_grid(store, config)
    folder = Path(root) / "runs" / grid.name / "cells"
    process = multiprocessing.get_context("spawn").Process(target=evaluate_there, args=(config,))
    process.start()
    deadline = time.monotonic() + 600
    while not list(folder.glob("*lora*fold*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert 0 < len(before) < 2 * len(grid.cells), "killed in the middle"
    assert not store.has("evaluations", grid.name)
    result = evaluate(config)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    finished = {name for name in before if name.replace(".predictions", "") in before}
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    rows = read_results(store, result.evaluation).to_pandas()
    pooled = rows[(rows.subject == "") & (rows.metric == "balanced_accuracy")]
    counts = pooled.groupby(["task", "weights", "mode", "read_out"]).size().to_dict()
    expected = {("", "", ""): 4} | {
        (weights, mode, "logistic" if mode == "frozen" else ""): 4
        for weights in ("pretrained", "random")
        for mode in ("frozen", "lora", "full")
    }
    assert counts == {(task, *key): n for task in ("hands", "early") for key, n in expected.items()}
    assert set(rows[rows.model == "omni"].family) == {"network"}
    assert set(rows[rows.model == "chance"].family) == {"reference"}
    summary = read_grid(store, result.evaluation)
    paired = {(c.key.mode, c.rival.mode) for c in summary.comparisons if c.question == "random_weights"}
    assert paired == {(mode, mode) for mode in ("frozen", "lora", "full")}, "each mode against its own random weights"
    titles = {s.title for s in summary.scores if s.key.mode == "lora"}
    assert titles == {"Pretrained, low-rank fine-tuning", "Random weights, low-rank fine-tuning"}


@pytest.mark.parametrize("tokens", ["channels", "latent sources"])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_causal_networks_are_trained(root, tmp_path, tokens, mode):
    """Codes are their input, so that their own weights change and those of the tokenizer do not."""
    store = Store.open(root)
    is_channels = tokens == "channels"
    tokenizer = (
        MuLaw(MuLawConfig(n_codes=16)) if is_channels else load_encoder(store.local_copy("models", "omni")).tokenizer
    )
    sizes = CausalConfig(
        width=16, n_head=2, depth=2, context_tokens=128, across_sources=not is_channels, linear_taps=4 * is_channels
    )
    torch.manual_seed(0)
    with store.publishing("models", "causal") as folder:
        CausalTransformer(sizes, tokenizer).save_pretrained(
            folder, provenance=model_config(store, "omni")["provenance"]
        )
    config = modes_config(root, write_recipe(tmp_path, HANDS), modes=(mode,), model="causal", seeds=(0,))
    data, one, cell = cell_of(root, "", config=config, mode=mode, weights="pretrained")
    rows = compute_cell(data, one, cell, budget=1, device="cpu").results
    assert {row["metric"] for row in rows} >= {"balanced_accuracy"}
    assert all(0 <= row["value"] <= 1 for row in rows if row["metric"] == "balanced_accuracy")
    estimator = one.rival.estimator(
        {"learning_rate": 3e-3, "epochs": 1}, kind="classification", n_classes=2, channels=(), sfreq=256.0, seed=0
    )
    trained = data.manifests[0, None].rows(0, TRAIN)
    estimator.fit(trained, data.truth[trained])
    before = load_encoder(store.local_copy("models", "causal")).state_dict()
    after = merge_lora(dict(estimator._fitted.classifier.backbone.state_dict()))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any(name.startswith("blocks.") for name in changed)
    assert not any(name.startswith("tokenizer.") for name in changed)


def test_what_cannot_be_trained_is_listed_with_the_reason(root, tmp_path):
    import pyarrow as pa

    from emeg.store import write_facts

    ages = [{"dataset": "d", "subject": f"{k:02d}", "age": 20 + k} for k in range(10)]
    write_facts(Store.open(root), "subjects", "d", pa.Table.from_pylist(ages))
    age = write_recipe(
        tmp_path, {k: v for k, v in HANDS.items() if k != "classes"}, id="age", kind="regression",
        labels={"source": "participants", "column": "age"}, window={"length_s": 4},
    )  # fmt: skip
    calibrated = write_recipe(tmp_path, HANDS, id="cal", split={"rule": "calibration", "n_folds": 3})
    grid = plan_grid(Store.open(root), modes_config(root, age, calibrated, modes=("full",)))
    reasons = {(task, name): reason for task, name, reason in grid.models_not_run}
    assert ("age", "full") not in reasons
    assert {cell.mode for cell in grid.cells.values() if cell.task == "age"} == {"", "full"}
    assert "unlabelled" in reasons["cal", "full calibrated"]
    assert {cell.mode for cell in grid.cells.values()} == {"", "full"}


def test_modes_need_a_network_and_nothing_counts_twice(tmp_path):
    store = Store.open(str(tmp_path / "empty"), create=True)
    config = config_of(str(store.root), write_recipe(tmp_path, HANDS), modes=("full", "full"), seeds=(1, 1, 0))
    assert (config.modes, config.seeds) == (("full",), (1, 0))
    with refusal(UserError, "modes full", str(store.root), action="emeg pretrain"):
        plan_grid(store, config)
