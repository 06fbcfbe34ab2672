"""BrainOmni against numbers that the reference release computed, and parameter names of that release."""

import json

import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.errors import UserError
from emeg.models import (
    PRESETS,
    BrainOmni,
    ImportReferenceConfig,
    PretrainingDraws,
    import_reference,
    parameter_groups,
)
from emeg.models.reference import our_name
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.training import PretrainConfig

CASES = ("eeg", "meg", "both", "short")


def relative(ours, theirs):
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def parity(shared):
    return shared / "parity"


@pytest.fixture(scope="module")
def config(parity):
    return json.loads((parity / "small.json").read_text())["config"]


@pytest.fixture(scope="module")
def stored(parity):
    return torch.load(parity / "small.pt", weights_only=True)


@pytest.fixture(scope="module")
def cosines(parity, stored, tmp_path_factory):
    path = tmp_path_factory.mktemp("cosine") / "small.pt"
    torch.save({**stored, **torch.load(parity / "rotary_cosine.pt", weights_only=True)}, path)
    return path


@pytest.fixture(scope="module")
def evaluated(parity):
    with np.load(parity / "eval.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.parametrize("rotary", ["complex", "cosine"])
def test_embedding_and_logits_are_the_references(parity, config, cosines, evaluated, rotary):
    weights, suffix = (parity / "small.pt", "") if rotary == "complex" else (cosines, "_cosine")
    model = BrainOmni.from_reference(weights, config)
    assert (model.config.rotary, model.training) == (rotary, False)
    for case in CASES:
        given = [evaluated[f"{case}/{name}"] for name in ("x", "pos", "sensor_type")]
        assert relative(model.embed(*given), evaluated[f"{case}/embedding{suffix}"]) < 1e-4
        assert relative(model.logits(*given), evaluated[f"{case}/logits{suffix}"]) < 1e-4


def test_tables_whose_imaginary_part_is_zero_or_rounded_are_cosines_too(stored, config, evaluated, tmp_path):
    given = [evaluated[f"short/{name}"] for name in ("x", "pos", "sensor_type")]
    for change in (lambda table: torch.complex(table.real, torch.zeros_like(table.real)), lambda t: t.real.bfloat16()):
        state = {name: change(v) if name.endswith(".rotate") else v for name, v in stored.items()}
        torch.save(state, tmp_path / "w.pt")
        model = BrainOmni.from_reference(tmp_path / "w.pt", config)
        assert model.config.rotary == "cosine"
        assert relative(model.embed(*given), evaluated["short/embedding_cosine"]) < 1e-4


@pytest.fixture(scope="module")
def step(parity, config):
    with np.load(parity / "pretrain_step.npz") as arrays:
        theirs = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    model = BrainOmni.from_reference(parity / "small.pt", config)
    tokens = model.tokenizer.tokenize(
        theirs["x"], theirs["pos"], theirs["sensor_type"], overlap=model.config.overlap_ratio
    )
    assert torch.equal(tokens.codes, theirs["codes"])
    draws = PretrainingDraws(theirs["uniform_mask"], theirs["uniform_mask_token"], theirs["shuffle"])
    model.train()
    features = model.tokenizer.features_from_codes(tokens.codes)
    losses = model.pretraining_loss(features, tokens.codes, draws=draws)
    losses.total.backward()
    return model, losses, theirs


def test_pretraining_step(step):
    model, losses, theirs = step
    assert abs(losses.total.item() - theirs["out/loss"].item()) < 1e-5
    assert abs(losses.figures["accuracy"] - theirs["out/acc_all"]) < 1e-6
    for level in range(4):
        assert abs(losses.figures[f"accuracy_{level}"] - theirs[f"out/acc_{level}"]) < 1e-6
    parameters = dict(model.named_parameters())
    for name, value in theirs.items():
        kind, _, parameter = name.partition("/")
        if kind == "grad":
            assert relative(parameters[our_name(parameter)].grad, value) < 1e-3, name
        elif kind == "grad_norm":
            assert abs(parameters[our_name(parameter)].grad.norm() - value) < 1e-3 * value, name
    assert all(parameter.grad is None for parameter in model.tokenizer.parameters())


def test_optimiser_step_with_the_recipes_groups(step):
    model, _, theirs = step
    recipe = PretrainConfig(root="", recipe="brainomni-tiny").optimiser
    groups = parameter_groups(model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
    moved = {name for name, _ in model.named_parameters() if not name.startswith("tokenizer.")}
    assert sum(len(group["params"]) for group in groups) == len(moved)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    torch.optim.AdamW(groups, betas=recipe.betas, eps=recipe.eps).step()
    seen = set()
    for name, value in theirs.items():
        if name.startswith("adamw_delta_norm/"):
            ours = our_name(name.removeprefix("adamw_delta_norm/"))
            move = (dict(model.named_parameters())[ours].detach() - before[ours]).norm()
            assert abs(move - value) < 1e-4 * value, name
            seen.add(ours)
    assert seen == moved
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(before[name])


@pytest.mark.parametrize(("preset", "count"), [("tiny", 8_424_704), ("base", 32_707_328)])
def test_every_released_name_is_loaded_or_derived(parity, preset, count):
    released = json.loads((parity / f"brainomni_{preset}.keys.json").read_text())
    model = BrainOmni(PRESETS[preset], TOKENIZERS["paper"])
    beside = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("tokenizer."))
    assert beside == count
    loaded = {our_name(name): tuple(entry["shape"]) for name, entry in released.items() if our_name(name)}
    assert loaded == {name: tuple(value.shape) for name, value in model.state_dict().items()}
    derived = [name for name in released if our_name(name) is None]
    assert len(loaded) + len(derived) == len(released)
    assert sorted(derived) == sorted(
        f"blocks.{block}.time_attn.rope_embedding_layer.{name}" for block in range(12) for name in ("freqs", "rotate")
    )


@pytest.mark.parametrize("whole_file", [True, False])
def test_import_gives_a_folder_with_the_same_embeddings(parity, config, cosines, evaluated, tmp_path, whole_file):
    settings = parity / "small.json"
    if not whole_file:
        settings = tmp_path / "config.json"
        settings.write_text(json.dumps(config))
    request = ImportReferenceConfig(weights=str(cosines), release_config=str(settings), out=str(tmp_path / "model"))
    result = import_reference(request)
    assert (result.rotary, result.n_derived, result.done_before) == ("cosine", 6, False)
    loaded = BrainOmni.from_pretrained(tmp_path / "model")
    direct = BrainOmni.from_reference(cosines, config)
    for case in CASES:
        given = [evaluated[f"{case}/{name}"] for name in ("x", "pos", "sensor_type")]
        assert torch.equal(loaded.embed(*given), direct.embed(*given))
    stamp = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert import_reference(request).done_before
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == stamp


def test_safetensors_are_read_too(parity, config, stored, evaluated, tmp_path):
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in stored.items()}, tmp_path / "small.safetensors")
    given = [evaluated[f"short/{name}"] for name in ("x", "pos", "sensor_type")]
    one, other = (
        BrainOmni.from_reference(path, config) for path in (parity / "small.pt", tmp_path / "small.safetensors")
    )
    assert torch.equal(one.embed(*given), other.embed(*given))


def test_checkpoints_that_do_not_fit_are_refused(stored, config, tmp_path):
    path = tmp_path / "w.pt"

    def refuses(state, *names, action, settings=config):
        torch.save(state, path)
        with refusal(UserError, *names, action=action):
            BrainOmni.from_reference(path, settings)

    refuses({k: v for k, v in stored.items() if k != "mask_token"}, "missing: mask_token", action="one model")
    refuses({**stored, "extra.weight": torch.zeros(2)}, "unknown: extra.weight", action="one model")
    refuses({**stored, "mask_token": torch.zeros(33)}, "another shape: mask_token", action="one model")
    refuses(stored, "lm_wide", action="update emeg", settings={**config, "lm_wide": 3})
    refuses(stored, "lm_dim", action="release", settings={k: v for k, v in config.items() if k != "lm_dim"})
    method = {"quantize_optimize_method": "sgd"}
    refuses(stored, *method, "'sgd'", action="'ema'", settings={**config, **method})
    refuses({"model": stored}, path, action="state_dict()")
    table = "blocks.1.time_attn.rope_embedding_layer.rotate"
    refuses({**stored, table: stored[table].real}, path, "rotary tables", action="again")
    refuses({**stored, table: stored[table].flip(0)}, table, action="config")
    path.write_bytes(b"no weights")
    with refusal(UserError, path, "UnpicklingError", action="again"):
        BrainOmni.from_reference(path, config)
    with refusal(UserError, "absent.pt", action="path"):
        BrainOmni.from_reference(tmp_path / "absent.pt", config)


def test_a_checkpoint_cannot_run_code(config, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"mask_token": Payload()}, tmp_path / "w.pt")
    with refusal(UserError, "w.pt", "UnpicklingError", action="again"):
        BrainOmni.from_reference(tmp_path / "w.pt", config)
    assert not (tmp_path / "ran").exists()
