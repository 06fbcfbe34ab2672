import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.messages import refusal
from tests.small_models import SMALL

from emeg.data import BatchReader, Corpus, MicroBatch, SamplingConfig, SamplingPlan
from emeg.errors import UserError
from emeg.hashing import sha256_file
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, TokenizerLosses, normalise_signal
from emeg.training import TokenizeConfig, TrainTokenizerConfig, tokenize, train_tokenizer
from emeg.training.configs import TrainResult
from emeg.training.loop.batches import SignalBatch, SignalReader, StepLoader, keep_channels, stored_signal_batch, widen
from emeg.training.loop.history import History
from emeg.training.loop.rank import RunContext
from emeg.training.loop.stop_signal import InterruptedRunError
from emeg.training.stages.tokenizer_training import tokenizer_training


def config_in(root: str, runs: Path) -> TrainTokenizerConfig:
    return TrainTokenizerConfig(
        root=root,
        overrides=SMALL,
        steps=12,
        ramp_steps=4,
        sampling=SamplingConfig(budget_channel_seconds=60, crop_s=2.0, micro_batches=2),
        validate_every=4,
        checkpoint_every=3,
        log_every=2,
        run_dir=str(runs),
        device="cpu",
        launched=False,
    )


@pytest.fixture
def small_config(root, tmp_path) -> TrainTokenizerConfig:
    return config_in(root, tmp_path / "runs")


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> tuple[TrainTokenizerConfig, TrainResult]:
    """Configuration and result of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    config, train = train_elsewhere(config_in(root, folder), folder, "store")
    return config, train()


def train_elsewhere(config, tmp_path, name, **changes):
    """Train the same model into a store of its own, which shares the corpus."""
    root = tmp_path / name
    shutil.copytree(config.root, root, ignore=shutil.ignore_patterns("models", "runs", "tokens"))
    config = config.model_copy(update={"root": str(root), "run_dir": str(tmp_path / f"{name}-runs"), **changes})
    return config, lambda: train_tokenizer(config)


def folder_of(config, result) -> Path:
    return Path(config.root) / "models" / result.model


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("checkpoints", ["disk", "bucket"])
def test_resumed_equals_uninterrupted_bit_for_bit(small_config, trained, tmp_path, monkeypatch, checkpoints, request):
    whole, expected = trained
    uri = request.getfixturevalue("bucket") if checkpoints == "bucket" else None
    cut, train_cut = train_elsewhere(small_config, tmp_path, "cut", checkpoints=uri)
    from emeg.training.loop import stop_signal

    started = stop_signal.StopOnSignal.on_train_batch_end

    def stop_after_step_5(self, trainer, *rest):
        if trainer.global_step == 5:
            signal.raise_signal(signal.SIGTERM)
        started(self, trainer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(stop_signal.StopOnSignal, "on_train_batch_end", stop_after_step_5)
        with refusal(InterruptedRunError, "step 5", action="same command"):
            train_cut()
    resumed = train_cut()

    assert resumed.model == expected.model
    assert hashes(folder_of(cut, resumed)) == hashes(folder_of(whole, expected))
    assert resumed.metrics == expected.metrics
    runs = [next(Path(config.run_dir).iterdir()) / "metrics.csv" for config in (whole, cut)]
    figures = [[line.rsplit(",", 1)[0] for line in run.read_text().splitlines()] for run in runs]
    assert figures[0] == figures[1]


def test_a_warm_start_that_is_stopped_resumes_and_keeps_its_lineage(small_config, trained, tmp_path, monkeypatch):
    source = folder_of(*trained)
    whole, train_whole = train_elsewhere(small_config, tmp_path, "whole", from_model=str(source), steps=6)
    expected = train_whole()
    cut, train_cut = train_elsewhere(small_config, tmp_path, "cut", from_model=str(source), steps=6)
    from emeg.training.loop import stop_signal

    started = stop_signal.StopOnSignal.on_train_batch_end

    def stop_after_step_3(self, trainer, *rest):
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGTERM)
        started(self, trainer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(stop_signal.StopOnSignal, "on_train_batch_end", stop_after_step_3)
        with pytest.raises(InterruptedRunError):
            train_cut()
    resumed = train_cut()
    assert hashes(folder_of(cut, resumed)) == hashes(folder_of(whole, expected))
    card = json.loads((folder_of(cut, resumed) / "config.json").read_text())
    assert card["provenance"]["started_from"]["weights_sha256"] == sha256_file(source / "model.safetensors")


def test_the_product_is_described_and_a_second_call_finds_it(trained):
    config, result = trained
    folder = folder_of(config, result)
    card = json.loads((folder / "config.json").read_text())
    assert card["kind"] == "braintokenizer"
    assert card["config"]["n_dim"] == 16
    assert card["provenance"]["corpus"] == Store.open(config.root).only("corpora", None)
    assert card["provenance"]["data"]["held_out"]["people"] == 2
    assert card["provenance"]["licences"] == {"d": ["CC0"]}
    assert "CC0" in (folder / "README.md").read_text()
    table = pq.read_table(folder / "metrics.parquet").to_pandas()
    at_end = table[(table["split"] == "final_held_out") & (table["name"] == "pcc")]["value"]
    assert at_end.tolist() == [result.metrics["held_out/pcc"]]
    assert set(table[table["split"] == "train"]["step"]) == {2, 4, 6, 8, 10, 12}
    assert set(table[table["split"] == "validation"]["step"]) == {4, 8, 12}
    BrainTokenizer.from_pretrained(folder)
    again = train_tokenizer(config)
    assert again.done_before
    assert again.metrics == result.metrics


def test_accumulating_micro_batches_is_one_big_batch(root):
    """Gradients of the mean over micro-batches equal the mean of their gradients, draws included."""
    corpus = Corpus.open(Store.open(root))
    plan = SamplingPlan(corpus, SamplingConfig(budget_channel_seconds=30, crop_s=2.0, micro_batches=4))
    config = TrainTokenizerConfig(root=root, overrides=SMALL, steps=1, sampling=plan.config, corpus=corpus.name)
    loader = StepLoader(plan, SignalReader(BatchReader(corpus)), n_steps=1, run=RunContext(Path(), 0, 1))
    batches = [batch.to("cpu") for batch in loader]
    assert [batch.micro_batch for batch in batches] == [0, 2, 1, 3]

    def gradients(groups):
        module = tokenizer_training(config, corpus, 1, History())
        module.train()
        for group in groups:
            sum(module.training_step(batch, 0) / 4 for batch in group).backward()
        module.follow()
        codebook = module.network.quantizer.codebooks[0].embed
        return [p.grad for p in module.network.parameters()], codebook

    one_by_one, codebook_a = gradients([[batch] for batch in batches])
    together, codebook_b = gradients([batches])
    for a, b in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(codebook_a, codebook_b)


def test_floats_are_made_on_the_device_as_the_reader_makes_them(root):
    corpus = Corpus.open(Store.open(root))
    rows = np.flatnonzero(corpus.column("channels") == corpus.column("channels")[0])[:3]
    reader = BatchReader(corpus)
    stored = reader.read_stored(MicroBatch(tuple(rows.tolist()), (0, 5, 700), 512))
    # three chunks that end at other places in every sample
    rng = np.random.default_rng(0)
    scale = rng.random((3, stored.scale.shape[1], 3), np.float32)
    for one in (stored, stored._replace(scale=scale, edges=np.array([[9, 500, 600], [1, 2, 512], [512, 900, 999]]))):
        moved = stored_signal_batch(one, step=4, micro_batch=2).to("cpu")
        assert moved.signal.dtype == torch.float32
        assert np.array_equal(moved.signal.numpy(), one.values().signal)
        assert moved.sensor_type.dtype == torch.int64
        assert moved.channel_mask is None
        assert (moved.step, moved.micro_batch, moved.segments) == (4, 2, tuple(rows.tolist()))


def test_ranks_share_a_step_and_draw_equal_numbers(root):
    corpus = Corpus.open(Store.open(root))
    plan = SamplingPlan(corpus, SamplingConfig(budget_channel_seconds=30, crop_s=2.0, micro_batches=4))
    reader = SignalReader(BatchReader(corpus))

    def order(rank, world):
        return [
            (b.step, b.micro_batch, b.segments)
            for b in StepLoader(plan, reader, n_steps=3, run=RunContext(Path(), rank, world))
        ]

    alone = sorted(order(0, 1))
    assert sorted(order(0, 2) + order(1, 2)) == alone
    with refusal(UserError, "3 ranks", "micro_batches=4", action="micro_batches to 3"):
        StepLoader(plan, reader, n_steps=3, run=RunContext(Path(), 0, 3))


def test_a_loss_that_is_no_number_names_the_recordings(small_config, tmp_path, monkeypatch):
    config, train = train_elsewhere(small_config, tmp_path, "nan")
    original = BrainTokenizer.training_loss

    def poisoned(self, x, *args, **kwargs):
        losses = original(self, x, *args, **kwargs)
        return losses._replace(total=losses.total * float("nan"))

    monkeypatch.setattr(BrainTokenizer, "training_loss", poisoned)
    with refusal(UserError, "step 0", "loss", "recording d0", action="learning rate"):
        train()
    assert not (Path(config.root) / "models").exists()


def test_refused_signals_name_the_recordings(small_config, tmp_path, monkeypatch):
    _, train = train_elsewhere(small_config, tmp_path, "inf")
    monkeypatch.setattr(
        "emeg.training.stages.tokenizer_training.normalise_signal", lambda x, *rest, **options: x * float("inf")
    )
    with refusal(UserError, "step 0", "recording d0", "NaN", action="repair"):
        train()


def test_codes_are_those_of_tokenizing_on_the_fly(trained):
    config, product = trained
    result = tokenize(TokenizeConfig(root=config.root, batch_channel_seconds=120.0))
    assert result.tokenizer == product.model
    from emeg.data import TokenSet

    store = Store.open(config.root)
    tokens, corpus = TokenSet.open(store, result.tokens), Corpus.open(store)
    tokenizer = BrainTokenizer.from_pretrained(folder_of(*trained))
    for row in (0, len(corpus) - 1):
        (sample,) = corpus.samples([row])
        types = torch.from_numpy(sample.sensor_type.astype(np.int64))[None]
        x = normalise_signal(torch.from_numpy(sample.signal)[None], types)
        features, codes = tokenizer.tokenize(x, torch.from_numpy(sample.pos)[None], types, overlap=0.25)
        assert np.array_equal(codes[0].numpy(), tokens.codes[row])
        stored = torch.from_numpy(tokens.codes[row].astype(np.int64))
        assert torch.equal(tokenizer.features_from_codes(stored)[None], features)
    assert tokenize(TokenizeConfig(root=config.root)).done_before


def test_groups_decay_matrices_only(root):
    corpus = Corpus.open(Store.open(root))
    config = TrainTokenizerConfig(root=root, overrides={**SMALL, "codebook_dim": 8}, corpus=corpus.name)
    module = tokenizer_training(config, corpus, 1, History())
    groups = {group["name"]: group for group in module._groups}
    assert groups["plain"]["weight_decay"] == 0.0
    assert groups["decayed"]["weight_decay"] == config.optimiser.weight_decay
    assert groups["quantizer"]["lr"] == config.optimiser.quantizer_learning_rate
    grouped = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in module.network.parameters())


def test_a_restored_monitor_moves_to_the_device_with_the_module(root):
    """A checkpoint is read while the module is on the CPU; the meta device stands for a GPU."""
    corpus = Corpus.open(Store.open(root))
    config = TrainTokenizerConfig(root=root, overrides={**SMALL, "num_quantizers": 4}, corpus=corpus.name)
    module = tokenizer_training(config, corpus, 1, History())
    n, size = module.network.config.num_quantizers, module.network.config.codebook_size
    watched = {"used": torch.ones(n, size), "replaced": torch.ones(n), "latents": torch.ones(17, dtype=torch.int64)}
    state = {"history": History().state(), "sums": {"loss": torch.ones(())}, "n_sums": 1, "n_summed_steps": 1}
    module.on_load_checkpoint({"emeg": {**state, "watched": watched}})
    module.to("meta")
    strategy = SimpleNamespace(model=module)
    module._trainer = SimpleNamespace(precision="32-true", accumulate_grad_batches=1, strategy=strategy)
    module.on_train_start()
    restored = [*module.network.quantizer.watched().values(), *module._sums.values()]
    assert {value.device.type for value in restored} == {"meta"}


def test_kept_channels_are_real_ones_and_go_together():
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(7.0).expand(40, 7)
    mask = torch.ones(40, 7, dtype=torch.bool)
    mask[:20, 4:] = False
    batch = SignalBatch(0, 0, number[..., None], number[..., None].expand(-1, -1, 6), number.long() % 3, mask, ())
    kept = keep_channels(batch, 5, generator)
    assert kept.signal.shape == (40, 5, 1)
    for x, pos, kind, real in zip(kept.signal, kept.pos, kept.sensor_type, kept.channel_mask, strict=True):
        channels = x[:, 0]
        assert len(set(channels.tolist())) == 5
        assert torch.equal(pos[:, 5], channels)
        assert torch.equal(kind, channels.long() % 3)
        assert set(range(4)) <= set(channels.tolist()) if not real.all() else True
    drawn = {tuple(sorted(row.tolist())) for row in kept.signal[20:, :, 0]}
    assert len(drawn) > 5
    assert keep_channels(batch, 7, generator) is batch


def test_later_steps_show_more_channels_of_fewer_windows(root):
    config = TrainTokenizerConfig(
        root=root,
        overrides=SMALL,
        steps=4,
        late_channels=6,
        late_from=0.5,
        sampling=SamplingConfig(budget_channel_seconds=60, crop_s=2.0, max_channels=3),
    )
    module = tokenizer_training(config, Corpus.open(Store.open(root)), 4, History())
    shown = []
    module.network.training_loss = lambda x, *rest, **more: (
        shown.append(x.shape[:2]) or TokenizerLosses(*[torch.zeros((), requires_grad=True)] * 6)
    )
    for step in range(4):
        signal, pos = torch.randn(5, 8, 512), torch.randn(5, 8, 6)
        module.training_step(SignalBatch(step, 0, signal, pos, torch.zeros(5, 8).long(), None, (0, 1, 2, 3, 4)), 0)
    assert shown == [(5, 3), (5, 3), (2, 6), (2, 6)]
    few = SignalBatch(
        3, 0, torch.randn(5, 3, 512), torch.randn(5, 3, 6), torch.zeros(5, 3).long(), None, (0, 1, 2, 3, 4)
    )
    assert widen(few, 3, 6) is few
    shown.clear()
    earlier = TrainTokenizerConfig(**{**config.model_dump(), "late_from": 0.25})
    module = tokenizer_training(earlier, Corpus.open(Store.open(root)), 4, History())
    module.network.training_loss = lambda x, *rest, **more: (
        shown.append(x.shape[:2]) or TokenizerLosses(*[torch.zeros((), requires_grad=True)] * 6)
    )
    for step in range(4):
        module.training_step(SignalBatch(step, 0, signal, pos, torch.zeros(5, 8).long(), None, (0, 1, 2, 3, 4)), 0)
    assert shown == [(5, 3), (2, 6), (2, 6), (2, 6)]
    shown.clear()
    unchanged = TrainTokenizerConfig(**{**config.model_dump(), "late_channels": 2})
    module = tokenizer_training(unchanged, Corpus.open(Store.open(root)), 4, History())
    module.network.training_loss = lambda x, *rest, **more: (
        shown.append(x.shape[:2]) or TokenizerLosses(*[torch.zeros((), requires_grad=True)] * 6)
    )
    module.training_step(SignalBatch(3, 0, signal, pos, torch.zeros(5, 8).long(), None, (0, 1, 2, 3, 4)), 0)
    assert shown == [(5, 3)], "fewer channels than before change nothing"


def test_budget_counts_the_channels_that_are_shown(root):
    corpus = Corpus.open(Store.open(root))
    sampling = SamplingConfig(budget_channel_seconds=40, crop_s=2.0, max_channels=5)
    plan = SamplingPlan(corpus, sampling)
    sizes = {len(b.segments) for step in range(plan.n_steps()) for b in plan.micro_batches(0, step)}
    assert max(sizes) == 4
