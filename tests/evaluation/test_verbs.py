import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tests.evaluation.conftest import add_model, add_person
from tests.messages import check_message, refusal

from emeg.data import Corpus, ShardConfig, TaskConfig, shard
from emeg.errors import UserError
from emeg.evaluation import (
    EvaluateConfig,
    FinetuneConfig,
    evaluate,
    finetune,
    make_task,
    missing_task,
    read_arrays,
    read_predictions,
    read_summary,
    try_task,
)
from emeg.evaluation.classical import baselines as baselines_module
from emeg.evaluation.fold_fitting import affordable
from emeg.evaluation.metrics import METRICS, score
from emeg.evaluation.task import ancestry, check_unseen
from emeg.hashing import sha256_file
from emeg.store import Store, write_facts
from emeg.training import FinetuneRecipe

RECIPE = FinetuneRecipe.of(epochs=2, backbone_learning_rates=(3e-3,), penalties=(0.1,))


def finetune_config(root, **changes) -> FinetuneConfig:
    fields = {"root": root, "fit": RECIPE, "n_folds": 3, "threads": 1, "device": "cpu"} | changes
    return FinetuneConfig(**fields)


def evaluate_config(root, **changes) -> EvaluateConfig:
    return EvaluateConfig(**({"root": root, "threads": 1, "device": "cpu", "segments_per_device": 6} | changes))


def hashes(folder) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def evaluated(made_once, tmp_path_factory) -> tuple[str, str, str]:
    """Store, fine-tuned model and evaluation, every stage run, with all models."""
    root = str(tmp_path_factory.mktemp("evaluated") / "store")
    shutil.copytree(made_once, root)
    tuned = finetune(finetune_config(root))
    return root, tuned.model, evaluate(evaluate_config(root)).evaluation


def test_every_window_is_tested_once_by_every_network_on_people_never_seen(evaluated):
    root, model, _ = evaluated
    store = Store.open(root)
    corpus = Corpus.open(store)
    table = read_predictions(store, "models", model).to_pandas()
    held_out = {s for s, split in corpus.subjects.items() if split == "held_out"}
    assert set(table.model) == {"pretrained_full", "pretrained_probe", "random_full", "random_probe"}
    assert set(table.subject) == held_out
    for _, own in table.groupby("model"):
        assert len(own) == own.window.nunique() == 20 * len(held_out)
    provenance = json.loads((Path(root) / "models" / model / "config.json").read_text())["provenance"]
    for number, fold in enumerate(provenance["folds"]):
        sides = [set(fold[side]) for side in ("train", "validation", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(held_out)
        assert set(table[table.fold == number].subject) == sides[2]
    assert provenance["task_inferred"]
    assert sorted(provenance["classes"]) == ["left", "right"]


def test_kept_weights_are_those_of_the_best_fold_of_the_pretrained_network(evaluated):
    root, model, _ = evaluated
    folder = Path(root) / "models" / model
    provenance = json.loads((folder / "config.json").read_text())["provenance"]
    kept = provenance["weights_of"]
    histories = pq.read_table(folder / "histories.parquet").to_pandas()
    own = histories[(histories.model == "pretrained_full") & (histories.name == "validation_balanced_accuracy")]
    best = own.groupby("fold").value.max()
    assert (kept["weights"], kept["mode"]) == ("pretrained", "full")
    assert kept["validation_balanced_accuracy"] == best.max() == best[kept["fold"]]
    state = load_file(folder / "model.safetensors")
    assert any(name.startswith("head.") for name in state)
    assert any(name.startswith("backbone.tokenizer.") for name in state)


def test_figures_are_those_of_the_stored_predictions(evaluated):
    root, _, evaluation = evaluated
    store = Store.open(root)
    figures = read_summary(store, evaluation)
    table = read_predictions(store, "evaluations", evaluation).to_pandas()
    assert [c.name for c in figures.models] == [
        "pretrained_full", "pretrained_probe", "random_full", "random_probe", "band_power", "tangent_space", "chance",
    ]  # fmt: skip
    for model in figures.models:
        own = table[table.model == model.name]
        assert set(model.metrics) == set(METRICS)
        folds = [
            score(part.label.to_numpy(), np.stack(part.probabilities))["balanced_accuracy"].value
            for _, part in own.groupby("fold")
        ]
        assert model.metrics["balanced_accuracy"].folds == pytest.approx(folds)
        assert model.metrics["balanced_accuracy"].mean == pytest.approx(np.mean(folds))
        assert np.sum(model.confusion) == len(own)
        assert len(model.subjects) == own.subject.nunique()
    long = pq.read_table(Path(root) / "evaluations" / evaluation / "figures.parquet").to_pandas()
    row = long[(long.model == "band_power") & (long.scope == "mean") & (long.metric == "balanced_accuracy")]
    assert row.value.item() == figures.models[4].metrics["balanced_accuracy"].mean


def test_classical_baselines_tell_lateralised_alpha_and_chance_does_not(evaluated):
    figures = read_summary(Store.open(evaluated[0]), evaluated[2])
    found = {c.name: c.metrics["balanced_accuracy"].mean for c in figures.models}
    assert found["band_power"] > 0.9
    assert found["tangent_space"] > 0.9
    assert found["chance"] == figures.task.chance == 0.5
    assert figures.task.baseline_channels == ("C3", "C4", "Cz", "Pz", "O1")
    assert figures.task.windows_per_class == {"left": 50, "right": 50}


def test_reconstruction_covers_unseen_people_of_every_device(evaluated):
    root, _, evaluation = evaluated
    store = Store.open(root)
    figures, arrays = read_summary(store, evaluation), read_arrays(store, evaluation)
    corpus = Corpus.open(store)
    held_out = corpus.column("split") == "held_out"
    devices = sorted(set(corpus.column("device")[held_out].tolist()))
    assert [d.device for d in figures.reconstruction] == devices
    for place, device in enumerate(figures.reconstruction):
        assert device.sensor_type == "eeg"
        assert -1 <= device.pcc <= 1
        assert set(device.bands) == {"delta", "theta", "alpha", "beta", "gamma", "high"}
        signal = arrays[f"spectra/{place}/signal"]
        assert signal.shape == arrays[f"spectra/{place}/freqs"].shape == arrays[f"spectra/{place}/reconstruction"].shape
    assert len(figures.examples) == 6
    for e, example in enumerate(figures.examples):
        assert corpus.subjects[example.subject] == "held_out"
        shape = (len(example.channels), 1024)
        assert arrays[f"examples/{e}/signal"].shape == arrays[f"examples/{e}/reconstruction"].shape == shape
    # counts are of all held-out tokens: windows · steps · sources of each segment
    counts = arrays["codebook/counts"]
    assert counts.sum(axis=1).tolist() == [c.n_tokens for c in figures.codebook]
    assert figures.codebook[0].n_tokens % int(held_out.sum()) == 0
    assert figures.provenance["codebook_counts_of"] == "tokens"


def test_a_second_call_finds_the_product_and_a_second_store_gets_the_same_bytes(evaluated, root):
    first, model, evaluation = evaluated
    again = finetune(finetune_config(first))
    assert again.done_before
    assert again.model == model
    assert evaluate(evaluate_config(first)).done_before
    other = finetune(finetune_config(root, workers=2))  # the number of processes changes nothing
    assert not other.done_before
    assert other == again.model_copy(update={"done_before": False})
    assert evaluate(evaluate_config(root)).evaluation == evaluation
    for room, name in (("models", model), ("evaluations", evaluation)):
        assert hashes(Path(first) / room / name) == hashes(Path(root) / room / name)


def test_a_model_from_a_folder_is_fitted_like_the_one_it_was_copied_from(root, tmp_path):
    probe = {"modes": ("probe",), "random_weights": False}
    own = finetune(finetune_config(root, **probe))
    shutil.move(Path(root) / "models" / "omni", tmp_path / "omni")
    copied = finetune(finetune_config(root, model=str(tmp_path / "omni"), **probe))
    assert copied.metrics == own.metrics
    again = finetune(finetune_config(root, model=str(tmp_path / "omni"), **probe))
    assert again == copied.model_copy(update={"done_before": True})
    kinds = [json.loads(path.read_text())["kind"] for path in (Path(root) / "models").glob("*/config.json")]
    assert sorted(kinds) == ["brainomni", "braintokenizer", "finetuned", "finetuned"]
    with refusal(UserError, "config.json", "'braintokenizer'", action="'brainomni'"):
        finetune(finetune_config(root, model=str(Path(root) / "models" / "tokenizer"), **probe))


def test_without_a_task_evaluate_measures_the_tokenizer_and_states_why(root):
    for file in (Path(root) / "catalog" / "events").iterdir():
        file.unlink()
    reason = missing_task(root)
    check_message(reason, "dataset d", action="--task.classes")
    with refusal(UserError, "dataset d", "0 subjects", action="--task.classes"):
        finetune(finetune_config(root))
    result = evaluate(evaluate_config(root))
    figures = read_summary(Store.open(root), result.evaluation)
    assert result.task_missing_reason == figures.task_missing_reason == reason
    assert figures.task is None
    assert figures.models == ()
    assert figures.reconstruction
    assert figures.codebook


def test_evaluate_before_finetune_names_the_command_to_run(root):
    result = evaluate(evaluate_config(root, n_examples=1))
    assert "emeg finetune" in result.task_missing_reason
    assert missing_task(root) == ""


def test_people_of_pretraining_are_refused(root):
    store = Store.open(root)
    own = Corpus.open(store)
    other = shard(ShardConfig(root=root, held_out=0.5, seed=3)).corpus
    assert Corpus.open(store, other).subjects != own.subjects
    with refusal(UserError, "(train)", own.name, action="holds out"):
        finetune(finetune_config(root, corpus=other, model="omni"))
    with refusal(UserError, "d/1 (train)", "corpus a", action="holds out"):
        check_unseen({"d/1", "d/2", "new/9"}, {"a": {"d/1": "train", "d/2": "held_out"}})
    assert set(ancestry(store, "omni").corpora) == {own.name}


def test_people_of_the_tokenizers_corpus_are_refused_too(root):
    store = Store.open(root)
    own = Corpus.open(store)
    other = shard(ShardConfig(root=root, held_out=0.5, seed=3)).corpus
    card = Path(root) / "models" / "tokenizer" / "config.json"
    card.write_text(card.read_text().replace(own.name, other))
    with refusal(UserError, f"corpus {other}", action="holds out"):
        finetune(finetune_config(root, corpus=own.name))


def test_a_task_may_be_described_and_others_fail_with_the_reason(root):
    store = Store.open(root)
    corpus = Corpus.open(store)
    described = TaskConfig(name="own", classes={"a": ("left",), "b": ("right",)}, window_s=1.0, offset_s=0.5)
    task = make_task(store, corpus, described, n_folds=3)
    assert not task.inferred
    assert set(task.windows.channels.tolist()) == {5}
    lost = try_task(store, corpus, described.model_copy(update={"classes": {"a": ("left",), "b": ("up",)}}))
    assert isinstance(lost, str)


def test_an_inferred_task_keeps_to_the_device_that_most_people_share(root):
    store = Store.open(root)
    corpus = Corpus.open(store)
    people = sorted(s for s, split in corpus.subjects.items() if split == "held_out")
    add_person(store, people[0].split("/")[1], names=("M1", "M2"), device="z")
    task = make_task(store, corpus)
    assert task.config.device == "x"
    assert set(task.windows.channels.tolist()) == {5}


def test_baselines_that_cannot_run_state_why_and_the_others_run(root, monkeypatch):
    store = Store.open(root)
    corpus = Corpus.open(store)
    person = next(s for s, split in sorted(corpus.subjects.items()) if split == "held_out")
    add_person(store, person.split("/")[1], names=("M1", "M2"), device="z")
    described = TaskConfig(name="two", classes={"a": ("left",), "b": ("right",)}, window_s=2.0)
    tuned = finetune(finetune_config(root, task=described, modes=("probe",), random_weights=False))
    monkeypatch.setattr(baselines_module, "missing_package", lambda name: "")
    result = evaluate(evaluate_config(root, finetuned=tuned.model, n_examples=0))
    found = {c.name: c for c in read_summary(store, result.evaluation).models}
    assert found["band_power"].status == "not applicable"
    assert "same name" in found["band_power"].reason
    assert found["chance"].metrics["balanced_accuracy"].mean == 0.5
    assert found["pretrained_probe"].status == "done"


def test_recordings_that_changed_after_fine_tuning_are_noticed(root):
    tuned = finetune(finetune_config(root, modes=("probe",), random_weights=False))
    store = Store.open(root)
    person = next(s for s, split in sorted(Corpus.open(store).subjects.items()) if split == "held_out")
    add_person(store, person.split("/")[1], names=("C3", "C4", "Cz", "Pz", "O1"), device="x2")
    with refusal(UserError, f"model {tuned.model}", action="`emeg finetune`"):
        evaluate(evaluate_config(root, finetuned=tuned.model, n_examples=0))
    # the inferred task keeps to the device that all have, so that fine-tuning anew asks what was asked before
    second = finetune(finetune_config(root, modes=("probe",), random_weights=False))
    assert not second.done_before
    assert second.n_windows == tuned.n_windows


def test_one_of_several_models_must_be_named(root):
    store = Store.open(root)
    add_model(store, Corpus.open(store).name, name="second", seed=1)
    with refusal(UserError, "models/", action="omni, second"):
        finetune(finetune_config(root))
    with refusal(UserError, "model tokenizer", "braintokenizer", action="brainomni"):
        finetune(finetune_config(root, model="tokenizer"))


def test_a_budget_cuts_epochs_then_learning_rates():
    recipe = FinetuneRecipe.of(epochs=12, backbone_learning_rates=(1e-4, 3e-4))
    assert affordable(recipe, 1000.0, None) == recipe
    assert affordable(recipe, 1000.0, 1e6) == recipe
    cut = affordable(recipe, 1000.0, 16_000.0)
    assert (cut.epochs, cut.backbone_learning_rates) == (8, (1e-4, 3e-4))
    poor = affordable(recipe, 1000.0, 5_000.0)
    assert (poor.epochs, poor.backbone_learning_rates) == (5, (3e-4,))
    assert affordable(recipe, 1e9, 1.0).epochs == 2
    assert affordable(recipe.model_copy(update={"mode": "probe"}), 1e9, 1.0).epochs == 12


def test_a_diagnosis_from_the_table_of_subjects_is_a_task_from_end_to_end(root):
    """Two groups by a column of participants.tsv; fine-tuned, evaluated, and another product when a label changes."""
    store = Store.open(root)
    held_out = sorted(s.split("/")[1] for s, split in Corpus.open(store).subjects.items() if split == "held_out")
    groups = {subject: ("MDD", "HC")[i % 2] for i, subject in enumerate(held_out)}

    def label(found: dict[str, str]) -> None:
        columns = {"dataset": ["d"] * len(found), "subject": list(found), "group": list(found.values())}
        write_facts(store, "subjects", "d", pa.table(columns))

    label(groups)
    classes = {"patient": ("MDD",), "control": ("HC",)}
    task = TaskConfig(name="depression", label="group", classes=classes, window_s=5.0, device="x")
    config = finetune_config(root, task=task, modes=("probe",), random_weights=False, n_folds=5)
    tuned = finetune(config)
    table = read_predictions(store, "models", tuned.model).to_pandas()
    assert {f"d/{subject}" for subject in groups} == set(table.subject)
    label_of = {subject: set(own.label) for subject, own in table.groupby("subject")}
    assert label_of == {f"d/{subject}": {("HC", "MDD").index(group)} for subject, group in groups.items()}
    assert finetune(config).done_before
    figures = read_summary(store, evaluate(evaluate_config(root, baselines=())).evaluation)
    assert figures.task.definition["label"] == "group"
    corpora = store.names("corpora")
    label({**groups, held_out[0]: "HC"})
    assert finetune(config).model != tuned.model
    assert store.names("corpora") == corpora
