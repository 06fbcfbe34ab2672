"""Probes during a training: a task of training and validation subjects, scored without disturbing the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks._tiny import NETWORK
from scipy.stats import entropy
from tests.training.conftest import add_recording

from emeg import metrics
from emeg.data import Corpus, ShardConfig, shard
from emeg.store import Store
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig, pretrain, tokenize, train_tokenizer
from emeg.training.tracking.probe import LinearProbe, find_task, make_probes, undisturbed


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight subjects with events: during "strong" the first channel is four times as large."""
    folder = tmp_path_factory.mktemp("probed") / "store"
    store = Store.open(folder, create=True)
    events = tuple((float(4 * i), 2.0, ("strong", "weak")[i % 2], "") for i in range(10))
    for i in range(8):
        add_recording(store, f"{i:02d}", device="x", n_channels=5, seconds=40, events=events)
    shard(ShardConfig(root=str(folder), held_out=0.25, validation=0.25))
    return str(folder)


def config_of(root: str, run_dir: Path, **changes: object) -> TrainTokenizerConfig:
    values = {"root": root, "run_dir": str(run_dir), "steps": 8, "ramp_steps": 2, "log_every": 2, "launched": False}
    values |= {"validate_every": 4, "validation_segments": 2, "final_segments": 2, "device": "cpu", "threads": 1}
    values |= {"overrides": NETWORK, "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
    return TrainTokenizerConfig.checked(values | changes, source="test")


def rows(run: Path, split: str) -> list[tuple[int, str, float]]:
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [(int(line[0]), line[2], float(line[3])) for line in lines if line[1] == split]


def test_the_task_uses_no_held_out_subject(store):
    corpus = Corpus.open(Store.open(store), None)
    task = find_task(Store.open(store), corpus)
    windows = task.windows._windows
    used = {str(windows.subjects[row]): split for row, split in zip(task.windows._rows, _sides(task), strict=True)}
    assert {split for subject, split in corpus.subjects.items() if subject in used} == {"train", "validation"}
    assert all(corpus.subjects[subject] == split for subject, split in used.items())
    assert sorted(task.windows.classes) == ["strong", "weak"]


def _sides(task) -> list[str]:
    n = len(task.windows.labels)
    return ["train"] * task.n_train + ["validation"] * (n - task.n_train)


def test_probes_score_validation_subjects_and_leave_the_weights_bit_for_bit(store, tmp_path):
    weights = {}
    for every in (0, 4):
        result = train_tokenizer(config_of(store, tmp_path / str(every), probe_every=every))
        run = tmp_path / str(every) / result.model
        weights[every] = (Path(store) / "models" / result.model / "model.safetensors").read_bytes()
        found = rows(run, "probe")
        Store.open(store).remove("models", result.model)
    assert weights[0] == weights[4]
    assert [(step, name) for step, name, _ in found] == [
        (step, name) for step in (4, 8) for name in (metrics.BALANCED_ACCURACY, metrics.EFFECTIVE_RANK)
    ]
    assert rows(tmp_path / "0" / result.model, "train") == rows(tmp_path / "4" / result.model, "train")


def test_a_pretraining_is_probed_with_its_tokenizer_and_keeps_its_weights(store, tmp_path):
    tokenizer = train_tokenizer(config_of(store, tmp_path / "tokenizer", steps=2)).model
    tokenize(TokenizeConfig(root=store, tokenizer=tokenizer, device="cpu", run_dir=str(tmp_path)))
    values = {"root": store, "overrides": {"lm_dim": 32, "lm_head": 4, "lm_depth": 2}, "steps": 4, "batch_segments": 4}
    values |= {"micro_batches": 2, "validate_every": 4, "device": "cpu", "threads": 1, "launched": False}
    weights = {}
    for every in (0, 2):
        run_dir = tmp_path / str(every)
        config = PretrainConfig.checked(values | {"run_dir": str(run_dir), "probe_every": every}, source="test")
        model = pretrain(config).model
        weights[every] = (Path(store) / "models" / model / "model.safetensors").read_bytes()
        Store.open(store).remove("models", model)
    assert weights[0] == weights[2]
    assert rows(tmp_path / "0" / model, "probe") == []
    found = rows(tmp_path / "2" / model, "probe")
    assert [(step, name) for step, name, _ in found] == [
        (step, name) for step in (2, 4) for name in (metrics.BALANCED_ACCURACY, metrics.EFFECTIVE_RANK)
    ]
    assert all(value > 0 for _, _, value in found)


def test_a_network_that_shows_the_condition_scores_one_and_a_blind_one_chance(store, monkeypatch):
    task = find_task(Store.open(store), Corpus.open(Store.open(store), None))
    probe = LinearProbe(task, every_n_steps=1)
    n = len(task.windows.labels)
    noise = np.random.default_rng(0).normal(size=(n, 3))
    shown = np.concatenate([noise, task.windows.labels[:, None] + 0.01 * noise[:, :1]], axis=1)
    for features, low, high in ((shown, 1.0, 1.0), (np.ones((n, 2)), 0.5, 0.5)):
        monkeypatch.setattr(probe, "_embed", lambda network, device, features=features: features)
        score = probe.measure(torch.nn.Identity(), torch.device("cpu"))[metrics.BALANCED_ACCURACY]
        assert low <= score <= high


def test_modes_and_generators_are_restored():
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2).eval())
    before = torch.get_rng_state()
    with undisturbed(network):
        network.eval()
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert [network.training, network[0].training, network[1].training] == [True, True, False]


def test_a_corpus_without_events_is_trained_without_probes_and_the_log_states_why(root, tmp_path, caplog):
    config = config_of(root, tmp_path, probe_every=1)
    corpus = Corpus.open(Store.open(root), None)
    with caplog.at_level("WARNING", logger="emeg"):
        assert make_probes(config, Store.open(root), corpus) == []
    assert "dataset d: no task can be inferred" in caplog.text


def test_effective_rank_is_the_exponential_of_the_entropy_of_singular_values():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(40, 6)) * np.array([5.0, 3.0, 1.0, 0.1, 0.0, 0.0])
    values = np.linalg.svd(features - features.mean(axis=0))[1]
    assert metrics.effective_rank(features) == pytest.approx(np.exp(entropy(values)))
    assert metrics.effective_rank(np.outer(np.arange(5.0), [1.0, 2.0])) == pytest.approx(1.0)
    assert metrics.effective_rank(np.ones((4, 3))) == 0.0
