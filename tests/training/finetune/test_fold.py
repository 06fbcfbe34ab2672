from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.data.batch import Sample
from emeg.errors import UserError
from emeg.metrics import balanced_accuracy
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.training import FinetuneRecipe, FoldIndices, embed_task, finetune_fold, in_memory
from emeg.training.finetune import window_batches
from emeg.training.finetune.classifier import Classifier
from emeg.training.finetune.labelled_windows import InMemoryWindows, class_weights
from emeg.training.finetune.probe import standardised_batches
from emeg.training.finetune.window_batches import WindowLoader, WindowReader
from emeg.training.loop import batches as batches_module
from emeg.training.loop.batches import SignalBatch, SpreadChannels, signal_batch, take_channels


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


@pytest.mark.parametrize("mode", ["probe", "full", "lora"])
@pytest.mark.parametrize("weights", ["trained", "random"])
def test_fold_is_learned_and_repeats_exactly(model, windows, mode, weights):
    # the rate of low-rank factors is a multiple of that of the recipe, the rate of the head is not
    rate, head_factor = (1e-4, 30.0) if mode == "lora" else (3e-3, 1.0)
    changes = {"backbone_learning_rates": (rate,), "head_factor": head_factor, "epochs": 12, "batch_size": 16}
    recipe = FinetuneRecipe.of(mode=mode, **changes)
    first, second = (finetune_fold(model, windows, FOLD, recipe, weights=weights, device="cpu") for _ in range(2))
    assert first.probabilities.shape == (24, 2)
    np.testing.assert_allclose(first.probabilities.sum(axis=1), 1.0)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert first.history == second.history
    score = balanced_accuracy(windows.labels[FOLD.test], first.probabilities.argmax(axis=1))
    assert score > 0.8
    best = max(row["validation_balanced_accuracy"] for row in first.history)
    assert first.validation_balanced_accuracy == best


def test_low_rank_factors_leave_tokenizer_norms_and_names_as_they_were(model, windows):
    rates = {"backbone_learning_rates": (1e-3,), "head_factor": 3.0, "epochs": 3, "batch_size": 16}
    state = finetune_fold(
        model, windows, FOLD, FinetuneRecipe.of(mode="lora", **rates), device="cpu", keep_state=True
    ).state
    before = BrainOmni.from_pretrained(model).state_dict()
    after = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert set(after) == set(before), "factors are merged into the weights"
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(name.startswith("blocks.") and name.endswith(".weight") and "norm" not in name for name in changed)


def test_a_probe_of_embedded_windows_embeds_nothing_again(model, windows, monkeypatch):
    recipe = FinetuneRecipe.of(mode="probe", layers=(0, 1))
    expected = finetune_fold(model, windows, FOLD, recipe, device="cpu")
    embedded = embed_task(model, windows, recipe, device="cpu")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the windows were embedded again")

    monkeypatch.setattr(BrainOmni, "embed", refuse)
    for fold in (FOLD, FoldIndices(FOLD.test, FOLD.validation, FOLD.train)):
        found = finetune_fold(model, windows, fold, recipe, device="cpu", embedded=embedded)
        if fold is FOLD:
            assert np.array_equal(found.probabilities, expected.probabilities)


def test_attention_needs_a_head_that_is_trained(model, windows):
    recipe = FinetuneRecipe.of(
        pooling="attention", layers=(0, 1), backbone_learning_rates=(3e-3,), head_factor=1.0, epochs=2
    )
    outcome = finetune_fold(model, windows, FOLD, recipe, device="cpu", keep_state=True)
    assert outcome.state is not None
    assert float(outcome.state["head.mix"].abs().sum()) > 0
    with refusal(UserError, "pooling: attention", action="mean, mean_std"):
        finetune_fold(model, windows, FOLD, recipe.model_copy(update={"mode": "probe"}), device="cpu")


def test_the_head_sees_training_windows_with_mean_zero_and_spread_one(model, windows):
    recipe = FinetuneRecipe.of(backbone_learning_rates=(1e-3,), epochs=1, pooling="mean")
    state = finetune_fold(model, windows, FOLD, recipe, device="cpu", keep_state=True).state
    network = BrainOmni.from_pretrained(model)
    batch = signal_batch(windows.read(FOLD.train.tolist()))
    x = normalise_signal(batch.signal, batch.sensor_type, batch.channel_mask)
    with torch.no_grad():
        latents = network.tokenizer.encode_latents(
            x, batch.pos, batch.sensor_type, overlap=network.config.overlap_ratio, channel_mask=batch.channel_mask
        )
        features = network.embed_latents(latents).mean(dim=2).flatten(1).numpy()
    np.testing.assert_allclose(state["head.mean"], features.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(state["head.scale"], features.std(axis=0), rtol=1e-2, atol=1e-5)


def test_windows_are_cut_and_pooled_as_the_encoder_was_pretrained(model, windows, tmp_path):
    """Models of windows of 2 s were once read with another overlap than their own, by a pooling made for latents."""
    torch.manual_seed(0)
    tokenizer = BrainOmni.from_pretrained(model).tokenizer
    network = BrainOmni(BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2, token="window", overlap_ratio=0.0), tokenizer)
    network.save_pretrained(tmp_path, provenance={})
    recipe = FinetuneRecipe.of(backbone_learning_rates=(1e-3,), epochs=1)
    state = finetune_fold(tmp_path, windows, FOLD, recipe, device="cpu", keep_state=True).state
    found = embed_task(tmp_path, windows, recipe, device="cpu")
    x, pos, types, mask = next(standardised_batches(windows, len(windows.labels), torch.device("cpu")))
    network = BrainOmni.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected = network.embed(x, pos, types, channel_mask=mask).mean(dim=2).flatten(1)
        latents = network.tokenizer.encode_latents(x, pos, types, overlap=0.0, channel_mask=mask)[FOLD.train]
        trained = network.embed_latents(latents).mean(dim=2).flatten(1)  # without codes, which have no gradient
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["head.mean"], trained.mean(0), rtol=1e-3, atol=1e-4)


def test_channels_kept_lie_evenly_and_are_real():
    places = torch.zeros(2, 11, 6)
    places[..., 0] = torch.arange(11.0)
    real = torch.ones(2, 11, dtype=torch.bool)
    real[1, 8:] = False
    signal = torch.arange(11.0).repeat(2, 1)[..., None]
    batch = SignalBatch(0, 0, signal, places, torch.zeros(2, 11, dtype=torch.int64), real, (0, 1))

    def spread_channels(batch, n):
        kept = SpreadChannels(n).choose(batch.pos, batch.channel_mask)
        return batch if kept is None else take_channels(batch, kept)

    kept = spread_channels(batch, 3)
    assert kept.signal[0, :, 0].tolist() == [0, 5, 10]
    assert kept.signal[1, :, 0].tolist() == [0, 3, 7]  # real ones end at 7, their middle is 3.5
    assert torch.equal(kept.pos[..., 0], kept.signal[..., 0])
    assert kept.channel_mask.all()
    assert spread_channels(batch, 11) is batch
    few = spread_channels(batch._replace(channel_mask=real & (torch.arange(11) < 2)), 3)
    assert few.channel_mask.sum(dim=1).tolist() == [2, 2]


def test_channels_are_chosen_once_a_geometry(windows, monkeypatch):
    chosen = []
    choose = batches_module._farthest
    monkeypatch.setattr(batches_module, "_farthest", lambda *given: chosen.append(given) or choose(*given))
    reader = WindowReader(windows, SpreadChannels(3), pinned=False)
    everything = np.arange(len(windows.labels))
    for _ in range(2):
        for batch in WindowLoader(everything, reader, batch_size=96):
            assert batch.kept.shape == (96, 3)
            assert torch.equal(batch.labels, torch.from_numpy(windows.labels))
            for window, kept in enumerate(batch.kept):
                expected = choose(batch.pos[window, :, :3], batch.channel_mask[window], 3)
                assert torch.equal(kept, expected)
    assert len(chosen) == 2  # windows with four and with six channels


def test_windows_for_a_gpu_are_pinned_where_they_are_read(windows, monkeypatch):
    pinned = []
    monkeypatch.setattr(window_batches, "pin", lambda batch: pinned.append(batch) or batch)
    for is_pinned in (False, True):
        list(WindowLoader(np.arange(4), WindowReader(windows, None, pinned=is_pinned), batch_size=2))
        assert len(pinned) == (2 if is_pinned else 0)


def test_dropout_of_the_backbone_is_off_by_default(model):
    for asked in (False, True):
        classifier = Classifier(BrainOmni.from_pretrained(model), 2, FinetuneRecipe.of(backbone_dropout=asked)).train()
        assert classifier.head.training
        assert all(part.training == asked for part in classifier.backbone.modules())


def test_test_windows_choose_nothing(model, windows):
    """Other labels of the test windows change no probability."""
    recipe = FinetuneRecipe.of(mode="full", backbone_learning_rates=(1e-3, 3e-3), epochs=2, batch_size=16)
    labels = windows.labels.copy()
    labels[FOLD.test] = 1 - labels[FOLD.test]
    other = InMemoryWindows(windows._samples, labels, windows.classes)
    a = finetune_fold(model, windows, FOLD, recipe, device="cpu")
    b = finetune_fold(model, other, FOLD, recipe, device="cpu")
    assert np.array_equal(a.probabilities, b.probabilities)


def test_full_trains_the_encoder_and_leaves_the_quantiser_alone(model, windows):
    recipe = FinetuneRecipe.of(mode="full", backbone_learning_rates=(1e-3,), epochs=1, batch_size=16)
    outcome = finetune_fold(model, windows, FOLD, recipe, device="cpu", keep_state=True)
    before = BrainOmni.from_pretrained(model).state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, outcome.state[f"backbone.{name}"])}
    assert any(name.startswith("tokenizer.encoder.seanet") for name in changed)
    assert any(name.startswith("blocks.0") for name in changed)
    assert not any("quantizer" in name or "decoder" in name or "predict_head" in name for name in changed)


def test_random_weights_are_not_the_trained_ones_and_global_chance_is_left_alone(model, windows):
    recipe = FinetuneRecipe.of(mode="probe")
    state = torch.random.get_rng_state()
    trained = finetune_fold(model, windows, FOLD, recipe, device="cpu")
    fresh = finetune_fold(model, windows, FOLD, recipe.model_copy(update={"seed": 7}), weights="random", device="cpu")
    assert not np.array_equal(trained.probabilities, fresh.probabilities)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_faulty_folds_are_refused(model, windows):
    recipe = FinetuneRecipe.of(mode="probe")
    with refusal(UserError, "validation", action="fewer folds"):
        finetune_fold(model, windows, replace(FOLD, validation=np.array([], int)), recipe)
    with refusal(UserError, "train, validation", action="subject"):
        finetune_fold(model, windows, replace(FOLD, test=FOLD.train), recipe)
    with refusal(UserError, "fast", action="fewer folds"):
        finetune_fold(model, windows, replace(FOLD, train=FOLD.train[::2]), recipe)


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


def test_every_window_once_a_pass_in_another_order(windows):
    reader = WindowReader(windows, None, pinned=False)
    loader = WindowLoader(np.arange(10, 30), reader, batch_size=8, shuffle_seed=1)
    passes = [np.concatenate([batch.indices for batch in loader]) for _ in range(2)]
    assert all(sorted(one) == list(range(10, 30)) for one in passes)
    assert not np.array_equal(*passes)
    assert len(loader) == 3


def test_class_weights_make_classes_count_equally():
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[0] * 30 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1.0)
