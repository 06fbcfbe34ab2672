"""The grid on one small store: every kind of task, resuming, sharing, and figures over the complete grid only."""

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from tests.evaluation.conftest import add_person
from tests.messages import refusal

from emeg.curation.unfinished_runs import find_runs
from emeg.data.tasks.recipes import TaskRecipe, known_tasks
from emeg.errors import UserError
from emeg.evaluation import EvaluateConfig, evaluate
from emeg.evaluation.metrics import score
from emeg.evaluation.protocol.grid import execution, planning
from emeg.evaluation.protocol.grid.cells import check_not_running
from emeg.evaluation.protocol.grid.execution import compute_here
from emeg.evaluation.protocol.grid.planning import plan_grid
from emeg.evaluation.protocol.products import read_grid, read_results
from emeg.evaluation.protocol.rows import PREDICTIONS, RESULTS, SPLITS
from emeg.evaluation.rivals import RIVALS
from emeg.hashing import sha256_file
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.sensors import SensorType
from emeg.store import Store, model_config, write_facts
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

HANDS = {
    "id": "hands",
    "title": "Left or right",
    "dataset": "d",
    "device": "x",
    "kind": "classification",
    "labels": {"source": "events"},
    "window": {"length_s": 2},
    "classes": {"right": ["right"], "left": ["left"]},
    "split": {"n_folds": 3},
}


def write_recipe(folder: Path, recipe: dict, **changes) -> str:
    merged = recipe | changes
    path = folder / f"{merged['id']}.yaml"
    path.write_text(yaml.safe_dump(merged, sort_keys=False))
    return str(path)


def config_of(root: str, *tasks: str, **changes) -> EvaluateConfig:
    fields = {
        "seeds": (0,),
        "rivals": ("chance", "band_power"),
        "workers": 1,
        "device": "cpu",
        "budget": 2,
        "probes": False,
    }
    return EvaluateConfig(root=root, tasks=tasks, **(fields | changes))


def tables_of(root: str, evaluation: str) -> dict[str, pa.Table]:
    folder = Path(root) / "evaluations" / evaluation
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("results", "predictions", "splits")}


def test_classification_is_measured_as_its_predictions_say(root, tmp_path):
    result = evaluate(config_of(root, write_recipe(tmp_path, HANDS), seeds=(0, 1, 2)))
    summary = read_grid(Store.open(root), result.evaluation)
    tables = tables_of(root, result.evaluation)
    assert tables["results"].schema.equals(RESULTS)
    assert tables["predictions"].schema.equals(PREDICTIONS)
    assert tables["splits"].schema.equals(SPLITS)
    (task,) = summary.tasks
    assert task.classes == ("right", "left"), "classes keep the order of the recipe"
    assert (task.n_subjects, task.n_windows, task.n_seen) == (5, 100, 5), "subjects of pretraining are left out"
    assert len(task.splits) == 3
    models = {(s.key.model, s.key.weights, s.key.labels) for s in summary.scores}
    assert models == {
        ("omni", "pretrained", "real"), ("omni", "pretrained", "permuted"), ("omni", "random", "real"),
        ("chance", "", "real"), ("band_power", "", "real"),
    }  # fmt: skip
    results, predictions = tables["results"].to_pandas(), tables["predictions"].to_pandas()
    for keys, own in predictions.groupby(["model", "weights", "labels", "seed", "fold"]):
        expected = score(own.label.to_numpy().astype(int), np.stack(own.prediction))["balanced_accuracy"].value
        same = (results[["model", "weights", "labels", "seed", "fold"]] == list(keys)).all(axis=1)
        row = results[same & (results.subject == "") & (results.metric == "balanced_accuracy")]
        assert row.value.item() == expected
    for _, own in predictions.groupby(["model", "weights", "labels", "seed"]):
        assert len(own) == 100, "every window is tested once for each seed"
    band_power = next(s for s in summary.scores if s.key.model == "band_power")
    assert band_power.mean > 0.9
    assert next(s for s in summary.scores if s.key.model == "chance").mean == 0.5
    questions = {(c.question, c.rival.model) for c in summary.comparisons}
    assert questions == {
        ("chance", "chance"), ("random_weights", "omni"), ("permuted_labels", "omni"), ("best_rival", "band_power"),
    }  # fmt: skip
    best = next(c for c in summary.comparisons if c.question == "best_rival")
    assert best.difference.mean < 0
    assert best.passed is False
    assert best.p_corrected == best.p, "one task needs no correction"


def test_an_encoder_of_channels_is_evaluated(root, tmp_path):
    """A causal network over samples has a row like any other, beside its random weights."""
    store = Store.open(root)
    provenance = model_config(store, "omni")["provenance"]
    torch.manual_seed(0)
    sizes = CausalConfig(width=16, n_head=2, depth=2, context_tokens=128, across_sources=False, linear_taps=4)
    with store.publishing("models", "causal") as folder:
        CausalTransformer(sizes, MuLaw(MuLawConfig(n_codes=16))).save_pretrained(folder, provenance=provenance)
    task = write_recipe(tmp_path, HANDS)
    result = evaluate(config_of(root, task, model="causal", rivals=("chance",), budget=1))
    scores = read_grid(store, result.evaluation).scores
    rows = {(s.key.model, s.key.weights): s.mean for s in scores if s.key.labels == "real"}
    assert {("causal", "pretrained"), ("causal", "random"), ("chance", "")} <= set(rows)
    assert all(0 <= value <= 1 for value in rows.values())


def test_splits_are_frozen_and_saved(root, tmp_path):
    task = write_recipe(tmp_path, HANDS)
    grid = plan_grid(Store.open(root), config_of(root, task))
    result = evaluate(config_of(root, task))
    splits = tables_of(root, result.evaluation)["splits"].to_pandas()
    predictions = tables_of(root, result.evaluation)["predictions"].to_pandas()
    summary = read_grid(Store.open(root), result.evaluation)
    assert list(summary.tasks[0].splits.values()) == [grid.tasks["hands"].manifests[0, None].identity]
    tested = splits[splits.side == "test"]
    keys = ["fold", "recording", "start"]
    one_model = predictions[predictions.model == "chance"]
    assert sorted(map(tuple, tested[keys].to_numpy())) == sorted(map(tuple, one_model[keys].to_numpy()))


def test_the_setting_is_chosen_on_validation(root, tmp_path):
    """The penalty that the results name is the one with the best validation score, fitted again here."""
    result = evaluate(config_of(root, write_recipe(tmp_path, HANDS), budget=6))
    store = Store.open(root)
    grid = plan_grid(store, config_of(root, write_recipe(tmp_path, HANDS), budget=6))
    data = grid.tasks["hands"]
    one = next(c for c in grid.compared["hands"] if (c.weights, c.labels) == ("pretrained", "real"))
    features = data.features(one.spec).astype(float)
    sides = data.manifests[0, None]
    train, validation = sides.rows(0, 0), sides.rows(0, 1)
    mean, sd = features[train].mean(axis=0), features[train].std(axis=0)
    scaled = (features - mean) / sd / np.sqrt(features.shape[1])
    scores = {}
    for penalty in (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0):
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000)
        model.fit(scaled[train], data.windows.labels[train])
        found = score(data.windows.labels[validation], model.predict_proba(scaled[validation]))
        scores[penalty] = found["balanced_accuracy"].value
    rows = read_results(store, result.evaluation).to_pandas()
    own = rows[(rows.weights == "pretrained") & (rows.labels == "real") & (rows.fold == 0) & (rows.subject == "")]
    (setting,) = json.loads(own.setting.iloc[0])
    assert scores[setting["penalty"]] == max(scores.values())


def test_a_second_call_finds_the_product_and_another_store_gets_equal_bytes(root, made_once, tmp_path):
    import shutil

    config = config_of(root, write_recipe(tmp_path, HANDS))
    first = evaluate(config)
    assert evaluate(config) == first.model_copy(update={"done_before": True})
    other = str(tmp_path / "other")
    shutil.copytree(made_once, other)
    second = evaluate(config.model_copy(update={"root": other}))
    assert second.evaluation == first.evaluation
    for name in ("figures.json", "results.parquet", "predictions.parquet", "splits.parquet"):
        one, two = (Path(r) / "evaluations" / first.evaluation / name for r in (root, other))
        assert sha256_file(one) == sha256_file(two), name


def test_an_interrupted_grid_resumes_with_what_is_missing(root, tmp_path, monkeypatch):
    config = config_of(root, write_recipe(tmp_path, HANDS))
    store = Store.open(root)
    grid = plan_grid(store, config)
    computed = []

    def dying(data, one, cell, **settings):
        if len(computed) == 4:
            raise KeyboardInterrupt
        computed.append(cell.name)
        return original(data, one, cell, **settings)

    original = execution.compute_cell
    monkeypatch.setattr(execution, "compute_cell", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config)
    finished = sorted(computed)
    with refusal(UserError, "11 of 15", action="emeg evaluate --tasks") as refused:
        check_not_running(store, grid.name)
    assert sorted(set(grid.cells) - set(finished))[0] in str(refused.value) or "more" in str(refused.value)
    computed.clear()
    monkeypatch.setattr(execution, "compute_cell", lambda *a, **k: computed.append(a[2].name) or original(*a, **k))
    result = evaluate(config)
    assert sorted([*finished, *computed]) == sorted(grid.cells), "finished cells are not computed again"
    check_not_running(store, result.evaluation)


def test_embeddings_are_computed_once_for_each_recording(root, tmp_path, monkeypatch):
    from emeg.training.finetune import probe

    store = Store.open(root)
    evaluate(config_of(root, write_recipe(tmp_path, HANDS), seeds=(0, 1)))
    names = store.names("embeddings")
    assert len(names) == 5 * 3, "five recordings; trained weights, and random ones of two seeds"

    def refuse(*_, **__):
        raise AssertionError("embedded again")

    monkeypatch.setattr(probe, "embed_windows", refuse)
    other = write_recipe(tmp_path, HANDS, id="hands-loso", split={"rule": "leave_one_subject_out"})
    evaluate(config_of(root, other, seeds=(0, 1)))
    assert store.names("embeddings") == names


def compute_in_process(config: EvaluateConfig) -> None:
    store = Store.open(config.root)
    compute_here(store, config, plan_grid(store, config), lambda *_: None)


def test_two_processes_share_the_cells(root, tmp_path):
    config = config_of(root, write_recipe(tmp_path, HANDS), rivals=("chance",), random_weights=False)
    store = Store.open(root)
    grid = plan_grid(store, config)
    for data in grid.tasks.values():
        for one in grid.compared["hands"]:
            if one.spec is not None:
                data.features(one.spec)
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=compute_in_process, args=(config,))
    other.start()
    compute_in_process(config)
    other.join(120)
    assert other.exitcode == 0
    assert evaluate(config).evaluation == grid.name


def test_diagnosis_has_figures_by_window_and_by_person(root, tmp_path):
    groups = [{"dataset": "d", "subject": f"{k:02d}", "group": "AB"[k % 2], "age": 20 + k} for k in range(10)]
    write_facts(Store.open(root), "subjects", "d", pa.Table.from_pylist(groups))
    changes = {
        "id": "group", "kind": "diagnosis", "labels": {"source": "participants", "column": "group"},
        "classes": {"control": ["A"], "patient": ["B"]}, "split": {"n_folds": 3}, "window": {"length_s": 4},
    }  # fmt: skip
    task = write_recipe(tmp_path, HANDS, **changes)
    age = write_recipe(
        tmp_path, {k: v for k, v in HANDS.items() if k != "classes"}, id="age", kind="regression",
        labels={"source": "participants", "column": "age"}, window={"length_s": 4},
    )  # fmt: skip
    result = evaluate(config_of(root, task, age))
    rows = read_results(Store.open(root), result.evaluation).to_pandas()
    own = rows[(rows.task == "group") & (rows.model == "band_power")]
    assert set(own.unit) == {"window", "subject"}
    people = own[(own.unit == "subject") & (own.metric == "balanced_accuracy")]
    assert people.n.sum() == 5
    summary = read_grid(Store.open(root), result.evaluation)
    units = next(s for s in summary.scores if s.task == "group" and s.key.model == "band_power")
    predicted = tables_of(root, result.evaluation)["predictions"].to_pandas()
    predicted = predicted[(predicted.task == "group") & (predicted.model == "band_power")]
    means = predicted.groupby("subject").agg(label=("label", "first"), p=("prediction", lambda p: np.stack(p).mean(0)))
    guess = np.stack(means.p).argmax(axis=1)
    recalls = [np.mean(guess[means.label == k] == k) for k in (0, 1)]
    assert units.by_subject == np.mean(recalls)
    assert units.by_subject_interval.low <= units.by_subject <= units.by_subject_interval.high
    assert units.by_subject_interval.n_subjects == 5
    regression = rows[(rows.task == "age") & (rows.model == "omni") & (rows.weights == "pretrained")]
    assert set(regression.read_out) == {"ridge"}
    assert set(regression.metric) == {"pearson", "spearman", "r2", "mae"}
    per_person = regression[(regression.subject != "") & (regression.metric == "pearson")]
    assert per_person.value.isna().all()
    assert set(per_person.note) == {"the target does not vary"}
    score_of_age = next(s for s in summary.scores if s.task == "age" and s.key.weights == "pretrained")
    assert score_of_age.subject_metric == "mae"
    assert ("age", "band_power") not in {(t, m) for t, m, _ in summary.models_not_run}


def plant_stimuli(root: str, folder: Path) -> str:
    """Write a recording in which the amplitude at two channels follows two features of twelve stimuli."""
    from emeg.sensors import Sensors
    from emeg.store import CatalogRow, Event, RecordingAttributes, publish_row, write_recording

    generator = np.random.default_rng(0)
    features = generator.normal(size=(12, 2))
    lines = ["stimulus,a,b,loudness", *(f"s{k},{a},{b},{generator.normal()}" for k, (a, b) in enumerate(features))]
    (folder / "stimuli.csv").write_text("\n".join(lines) + "\n")
    store = Store.open(root)
    names = ("C3", "C4", "Cz")
    directions = generator.normal(size=(3, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sensors = Sensors(
        names=names, types=np.zeros(3, np.int8), units=("V",) * 3, positions=directions * 0.09,
        orientations=np.zeros((3, 3)), coils=np.ones(3, np.int32),
    )  # fmt: skip
    for subject in ("s1", "s2"):
        order = np.concatenate([generator.permutation(12) for _ in range(6)])
        onsets = np.cumsum(generator.uniform(2.0, 3.5, len(order)).round(1))  # other times for every subject
        signal = 2e-6 * generator.normal(size=(3, 256 * int(onsets[-1] + 4)))
        for onset, k in zip(onsets, order, strict=True):
            first = round(256 * onset) + 128
            signal[:2, first : first + 128] += 1e-5 * features[k][:, None]
        events = [Event(float(onset), 0.5, f"s{k}", "") for onset, k in zip(onsets, order, strict=True)]
        shared = {"device": "z", "dataset": "stim", "subject": subject, "config_hash": "c", "version": "0"}
        shared |= {"layout": sensors.layout_id, "source": f"{subject}.edf", "licence": "CC0"}
        seconds = signal.shape[1] / 256
        write_recording(
            store, f"stim{subject}", signal.astype(np.float32), sensors=sensors,
            attributes=RecordingAttributes(sfreq=256.0, pass_band=(0.1, 96.0), **shared),
            bad=np.zeros((3, int(seconds)), np.uint8),
        )  # fmt: skip
        row = CatalogRow(
            recording=f"stim{subject}", modality="eeg", n_channels=3, n_eeg=3, n_magnetometers=0, n_gradiometers=0,
            sfreq_source=256.0, duration_s=seconds, pass_band_low=0.1, pass_band_high=96.0, n_events=len(events),
            **shared,
        )  # fmt: skip
        publish_row(store, row, events)
    return str(folder / "stimuli.csv")


def test_encoding_and_retrieval_find_planted_stimuli(root, tmp_path):
    plant_stimuli(root, tmp_path)
    base = {
        "dataset": "stim",
        "labels": {"source": "events"},
        "window": {"length_s": 2},
        "stimulus": {"table": "stimuli.csv", "key": "stimulus", "low_level": ["loudness"]},
        "split": {"rule": "unseen_stimuli", "n_folds": 3},
    }
    encoding = write_recipe(tmp_path, base | {"id": "encode", "title": "Encoding", "kind": "encoding"})
    retrieval = write_recipe(tmp_path, base | {"id": "retrieve", "title": "Retrieval", "kind": "retrieval"})
    result = evaluate(config_of(root, encoding, retrieval, rivals=("chance", "band_power", "tangent_space", "eegnet")))
    summary = read_grid(Store.open(root), result.evaluation)
    by_labels = {s.key.labels: s for s in summary.scores if s.key.model == "stimulus_features"}
    assert by_labels["real"].mean > by_labels["permuted"].mean + 0.1
    rows = read_results(Store.open(root), result.evaluation).to_pandas()
    own = rows[(rows.model == "stimulus_features") & (rows.labels == "real") & (rows.subject == "stim/s1")]
    assert set(own.metric) == {"correlation", "noise_ceiling", "share_of_ceiling"}
    means = {s.key.model: s.mean for s in summary.scores if s.task == "encode" and s.key.labels == "real"}
    assert set(means) == {"stimulus_features", "chance", "low_level", "previous_stimulus", "time"}
    assert means["chance"] == 0.0, "the mean response does not vary"
    assert max(value for name, value in means.items() if name != "stimulus_features") < by_labels["real"].mean - 0.1
    settings = rows[(rows.task == "encode") & (rows.model == "time") & (rows.subject != "")].setting
    assert all("penalty" in json.loads(text) for text in settings)
    asked = {c.question for c in summary.comparisons if c.task == "encode"}
    assert asked == {"chance", "permuted_labels", "best_rival"}
    found = rows[(rows.task == "retrieve") & (rows.subject == "")]
    assert set(found.read_out) == {"contrastive", "ridge", ""}
    assert set(found[found.read_out == ""].model) == {"chance", "band_power", "tangent_space"}
    top1 = found[found.metric == "top1"].groupby(["model", "weights", "labels", "read_out"]).value.mean()
    assert top1["chance", "", "real", ""] == pytest.approx(1 / 4), "one constant guess among four stimuli"
    reasons = {(task, name): reason for task, name, reason in summary.models_not_run}
    assert "retrieval" in reasons["retrieve", "eegnet"]
    assert set(found.metric) == {"top1", "top5", "mean_rank"}
    assert set(found.note) == {"among 4 unseen stimuli"}
    assert ((found[found.metric == "mean_rank"].value >= 0) & (found[found.metric == "mean_rank"].value <= 1)).all()


def test_few_shot_and_calibration_run(root, tmp_path):
    shots = write_recipe(
        tmp_path, HANDS, id="shots", split={"rule": "few_shot", "n_folds": 3, "examples_per_class": [1, 4]}
    )
    calibrated = write_recipe(
        tmp_path, HANDS, id="calibrated", split={"rule": "calibration", "n_folds": 3, "calibration_s": 10}
    )
    result = evaluate(config_of(root, shots, calibrated))
    rows = read_results(Store.open(root), result.evaluation).to_pandas()
    assert set(rows[rows.task == "shots"].examples_per_class) == {1, 4}
    own = rows[(rows.task == "shots") & (rows.model == "band_power") & (rows.subject == "")]
    means = own[own.metric == "balanced_accuracy"].groupby("examples_per_class").value.mean()
    assert means[4] > 0.55
    assert set(rows[rows.task == "calibrated"].condition) == {"", "calibrated"}
    pairs = rows[(rows.task == "calibrated") & (rows.subject == "") & (rows.metric == "balanced_accuracy")]
    assert len(pairs[pairs.condition == ""]) == len(pairs[pairs.condition == "calibrated"]) == 5 * 3


def test_sessions_and_blocks_run_without_a_network(tmp_path):
    root = str(tmp_path / "store")
    store = Store.open(root, create=True)
    for k in range(3):
        add_person(store, f"{k:02d}", names=("C3", "C4", "Cz"))
    blocks = write_recipe(tmp_path, HANDS, id="blocks", split={"rule": "within_subject_blocks", "n_folds": 4})
    result = evaluate(config_of(root, blocks))
    summary = read_grid(store, result.evaluation)
    assert {s.key.model for s in summary.scores} == {"chance", "band_power"}
    assert "no pretrained network" in summary.provenance["notes"][1]
    assert summary.provenance["config"]["tasks"] == ["blocks"], "the name of the task, not the path of its file"
    assert summary.provenance["config"]["pooling"], "what is chosen by default is recorded"
    band_power = next(s for s in summary.scores if s.key.model == "band_power")
    assert band_power.mean > 0.9
    assert band_power.interval is None, "three subjects are too few for an interval"
    assert find_runs(store, {"d01x"}, set()).runs == (result.evaluation,), "a withdrawal finds its files"


def test_implanted_subjects_are_scored_as_if_each_were_alone(tmp_path):
    """Electrodes A and B are elsewhere in the second subject, who has more of them: nothing is shared."""
    root = str(tmp_path / "store")
    store = Store.open(root, create=True)
    add_person(store, "00", names=("A1", "B1", "C1"), kind=SensorType.SEEG)
    add_person(store, "01", names=("B1", "A1", "D1", "D2", "E1"), kind=SensorType.SEEG)
    own = {"modality": "ieeg", "split": {"rule": "within_subject_blocks", "n_folds": 4}}
    tasks = [write_recipe(tmp_path, HANDS, id="both", **own)]
    tasks += [write_recipe(tmp_path, HANDS, id=f"only{k}", subjects=[f"d/{k}"], **own) for k in ("00", "01")]
    result = evaluate(config_of(root, *tasks, rivals=("band_power",)))
    rows = tables_of(root, result.evaluation)["results"].to_pylist()
    own_rows = [row for row in rows if row["subject"] and row["metric"] == "balanced_accuracy"]
    together = {(row["subject"], row["fold"]): row["value"] for row in own_rows if row["task"] == "both"}
    alone = {(row["subject"], row["fold"]): row["value"] for row in own_rows if row["task"] != "both"}
    assert together == alone
    assert {subject for subject, _ in together} == {"d/00", "d/01"}
    assert np.mean(list(together.values())) > 0.8


def test_chance_is_not_below_chance_where_one_subject_is_left_out(root, tmp_path):
    """Of five subjects with one label each, those who remain for training are mostly of the other class."""
    store = Store.open(root)
    facts = [{"dataset": "d", "subject": f"{k:02d}", "group": "AB"[k % 2]} for k in range(10)]
    write_facts(store, "subjects", "d", pa.Table.from_pylist(facts))
    fields = {"kind": "diagnosis", "labels": {"source": "participants", "column": "group"}}
    subjects = [f"d/{k:02d}" for k in range(6)]
    task = write_recipe(
        tmp_path, HANDS | fields, classes={"a": ["A"], "b": ["B"]}, subjects=subjects,
        split={"rule": "leave_one_subject_out"},
    )  # fmt: skip
    shutil.rmtree(tmp_path / "store" / "models")
    result = evaluate(config_of(root, task, rivals=("chance",)))
    (chance,) = read_grid(store, result.evaluation).scores
    assert sorted(chance.subjects.values()) == [0, 0, 0, 1, 1, 1]


def test_paper_compat_uses_the_folds_of_the_release(root, tmp_path):
    task = write_recipe(tmp_path, HANDS, split={"n_folds": 5})
    result = evaluate(config_of(root, task, split_mode="paper_compat", rivals=("chance",), random_weights=False))
    summary = read_grid(Store.open(root), result.evaluation)
    assert summary.tasks[0].split_rule == "paper_compat"
    assert summary.tasks[0].n_folds == 5


def test_all_runs_what_can_run_and_lists_the_rest(root, tmp_path, monkeypatch):
    recipes = {"hands": TaskRecipe.model_validate(HANDS), "pd31": known_tasks()["pd31"]}
    monkeypatch.setattr(planning, "known_tasks", lambda: recipes)
    result = evaluate(config_of(root, "all", rivals=("chance",), random_weights=False))
    summary = read_grid(Store.open(root), result.evaluation)
    assert [task.id for task in summary.tasks] == ["hands"]
    assert "ds002778" in summary.tasks_not_run["pd31"]


def test_published_weights_are_not_tested_on_what_they_were_trained_on(root, tmp_path, monkeypatch):
    from dataclasses import replace

    rival = replace(RIVALS["band_power"], name="seen", pretraining_datasets=("openneuro:D@1.0", "tuab"))
    monkeypatch.setitem(RIVALS, "seen", rival)
    grid = plan_grid(Store.open(root), config_of(root, write_recipe(tmp_path, HANDS), rivals=("seen", "chance")))
    ((task, name, reason),) = grid.models_not_run
    assert (task, name) == ("hands", "seen")
    assert "openneuro:D@1.0" in reason
    assert "seen" not in {cell.model for cell in grid.cells.values()}


@pytest.mark.parametrize(
    ("changes", "named", "action"),
    [
        ({"tasks": ("pd32",)}, "pd32", "pd31"),
        ({"tasks": ("nowhere.yaml",)}, "nowhere.yaml", "YAML"),
        ({"rivals": ("deep_thought",)}, "deep_thought", "band_power"),
        ({"tasks": ("pd31",)}, "ds002778", "ingest"),
    ],
)
def test_what_cannot_run_is_refused_with_the_next_action(root, tmp_path, changes, named, action):
    fields = {"tasks": (write_recipe(tmp_path, HANDS),)} | changes
    with refusal(UserError, named, action=action):
        evaluate(config_of(root, *fields.pop("tasks"), **fields))
