import numpy as np
import pytest
import torch

from emeg.data.batch import Sample
from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig
from emeg.training import FinetuneRecipe, FoldIndices, finetune_fold, in_memory
from emeg.training.task_windows import InMemoryWindows, WindowLoader, balanced_accuracy, class_weights

SMALL = {"n_filters": 2, "n_dim": 16, "n_neuro": 4, "n_head": 2, "codebook_dim": 16, "codebook_size": 16}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = BrainOmni(BrainOmniConfig(lm_dim=32, lm_head=4, lm_depth=2), BrainTokenizerConfig(**SMALL))
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder, provenance={})
    return folder


@pytest.fixture(scope="module")
def windows():
    """Two kinds of windows of 3 s: a slow or a fast rhythm, in 4 or in 6 channels."""
    generator = np.random.default_rng(0)
    samples, labels = [], []
    time = np.arange(768) / 256
    for i in range(96):
        label, n_channels = i % 2, 4 + 2 * (i % 3 == 0)
        rate = (2.0, 9.0)[label]
        rhythm = np.sin(2 * np.pi * (rate * time + generator.uniform(size=(n_channels, 1))))
        signal = 30e-6 * (rhythm + 0.5 * generator.normal(size=(n_channels, 768)))
        pos = np.random.default_rng(n_channels).normal(size=(n_channels, 6)) * 0.5
        types = np.zeros(n_channels, np.int8)
        samples.append(Sample(signal.astype(np.float32), pos.astype(np.float32), types, i))
        labels.append(label)
    return InMemoryWindows(samples, np.array(labels), ("slow", "fast"))


FOLD = FoldIndices(np.arange(0, 56), np.arange(56, 72), np.arange(72, 96))


@pytest.mark.parametrize("mode", ["probe", "full"])
@pytest.mark.parametrize("weights", ["trained", "random"])
def test_fold_is_learned_and_repeats_exactly(model, windows, mode, weights):
    recipe = FinetuneRecipe(mode=mode, backbone_learning_rates=(3e-3,), head_factor=1.0, epochs=12, batch_size=16)
    first, second = (finetune_fold(model, windows, FOLD, recipe, weights=weights, device="cpu") for _ in range(2))
    assert first.probabilities.shape == (24, 2)
    np.testing.assert_allclose(first.probabilities.sum(axis=1), 1.0)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert first.history == second.history
    score = balanced_accuracy(windows.labels[FOLD.test], first.probabilities.argmax(axis=1))
    assert score > 0.8
    best = max(row["validation_balanced_accuracy"] for row in first.history)
    assert first.validation_balanced_accuracy == best


def test_test_windows_choose_nothing(model, windows):
    """Other labels of the test windows change no probability."""
    recipe = FinetuneRecipe(mode="full", backbone_learning_rates=(1e-3, 3e-3), epochs=2, batch_size=16)
    labels = windows.labels.copy()
    labels[FOLD.test] = 1 - labels[FOLD.test]
    other = InMemoryWindows(windows._samples, labels, windows.classes)
    a = finetune_fold(model, windows, FOLD, recipe, device="cpu")
    b = finetune_fold(model, other, FOLD, recipe, device="cpu")
    assert np.array_equal(a.probabilities, b.probabilities)


def test_full_trains_the_encoder_and_leaves_the_quantiser_alone(model, windows):
    recipe = FinetuneRecipe(mode="full", backbone_learning_rates=(1e-3,), epochs=1, batch_size=16)
    outcome = finetune_fold(model, windows, FOLD, recipe, device="cpu", keep_state=True)
    before = BrainOmni.from_pretrained(model).state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, outcome.state[f"backbone.{name}"])}
    assert any(name.startswith("tokenizer.encoder.seanet") for name in changed)
    assert any(name.startswith("blocks.0") for name in changed)
    assert not any("quantizer" in name or "decoder" in name or "predict_head" in name for name in changed)


def test_random_weights_are_not_the_trained_ones_and_global_chance_is_left_alone(model, windows):
    recipe = FinetuneRecipe(mode="probe")
    state = torch.random.get_rng_state()
    trained = finetune_fold(model, windows, FOLD, recipe, device="cpu")
    fresh = finetune_fold(model, windows, FOLD, recipe.model_copy(update={"seed": 7}), weights="random", device="cpu")
    assert not np.array_equal(trained.probabilities, fresh.probabilities)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_faulty_folds_are_refused(model, windows):
    recipe = FinetuneRecipe(mode="probe")
    with pytest.raises(UserError, match="no validation windows"):
        finetune_fold(model, windows, FOLD._replace(validation=np.array([], int)), recipe)
    with pytest.raises(UserError, match="two of train, validation and test"):
        finetune_fold(model, windows, FOLD._replace(test=FOLD.train), recipe)
    with pytest.raises(UserError, match="no window of fast"):
        finetune_fold(model, windows, FOLD._replace(train=FOLD.train[::2]), recipe)


def test_windows_are_read_once_and_stay_the_same(windows):
    class Counting:
        labels, classes, reads = windows.labels, windows.classes, 0

        def read(self, indices):
            self.reads += 1
            return windows.read(indices)

    source = Counting()
    kept = in_memory(source)
    reads = source.reads
    for indices in ([0, 1], [5, 3]):
        for a, b in zip(kept.read(indices), windows.read(indices), strict=True):
            assert np.array_equal(a, b)
    assert source.reads == reads
    assert in_memory(source, limit_bytes=10) is source


def test_every_window_once_a_pass_in_another_order():
    loader = WindowLoader(np.arange(10, 30), batch_size=8, shuffle_seed=1)
    passes = [np.concatenate(list(loader)) for _ in range(2)]
    assert all(sorted(one) == list(range(10, 30)) for one in passes)
    assert not np.array_equal(*passes)
    assert len(loader) == 3


def test_class_weights_let_classes_count_alike():
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[0] * 30 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1.0)
