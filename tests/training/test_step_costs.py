"""Costs of a step: no waiting for the device, activation checkpointing, compiled layers; all with equal numbers."""

import copy
import importlib
import sys
from typing import Any

import pytest
import torch
from tests.small_models import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import BrainTokenizer

BRAINOMNI = BrainOmniConfig(lm_dim=32, lm_head=4, lm_depth=3, lm_dropout=0.1, num_quantizers_used=3)
WAITING = {"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.bincount", "aten.equal"}


class Waits(TorchDispatchMode):
    """Lists operations whose result's shape or value the host must know: on a GPU each of them waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        by_mask = name in {"aten.index", "aten.index_put", "aten.index_put_"} and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITING or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> None:
    """Values cannot be read without waiting."""
    for name in ("models.objectives.masked", "tokenizers.braintokenizer.model", "tokenizers.braintokenizer.normalise"):
        importlib.import_module(f"emeg.{name}")
    modules = {name: module for name, module in sys.modules.items() if name.startswith("emeg.")}
    users = [name for name, module in modules.items() if "values_at_hand" in vars(module)]
    for name in users:
        monkeypatch.setattr(f"{name}.values_at_hand", lambda device: False)


def tokenizer() -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(TINY).train()


def brainomni() -> BrainOmni:
    torch.manual_seed(1)
    model = BrainOmni(BRAINOMNI, TINY).train()
    model.tokenizer.eval().requires_grad_(requires_grad=False)
    return model


def signal() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, pos = (torch.randn(2, 6, n, generator=generator) for n in (256, 6))
    return x, pos, torch.randint(3, (2, 6), generator=generator)


def tokens(model: BrainOmni) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.randint(32, (2, 5, 24, 3), generator=torch.Generator().manual_seed(0))
    return model.tokenizer.features_from_codes(codes), codes


def stage_1(model: BrainTokenizer) -> torch.Tensor:
    return model.training_loss(*signal(), generator=torch.Generator().manual_seed(3)).total


def stage_2(model: BrainOmni) -> torch.Tensor:
    return model.pretraining_loss(*tokens(model), generator=torch.Generator().manual_seed(3)).total


def loss_and_gradients(model: Any, step: Any) -> list[torch.Tensor]:
    loss = step(model)
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize(("make", "step"), [(tokenizer, stage_1), (brainomni, stage_2)])
def test_a_step_waits_for_the_device_only_once_in_a_run(make, step, as_on_a_gpu):
    model = make()
    step(model).backward()  # places the codebooks, once
    with Waits() as waits:
        step(model).backward()
    assert waits.found == []


def test_the_watch_sees_waits(monkeypatch):
    model = brainomni()
    with Waits() as waits:
        stage_2(model)
        tokenizer().quantizer.codebooks[0].inited.item()
    assert {"aten.index", "aten._local_scalar_dense"} <= set(waits.found)


def test_asking_the_head_everywhere_gives_the_same_step(request):
    model = brainomni()
    at_masked = model.pretraining_loss(*tokens(model), generator=torch.Generator().manual_seed(3))
    first = loss_and_gradients(brainomni(), stage_2)
    request.getfixturevalue("as_on_a_gpu")
    everywhere = model.pretraining_loss(*tokens(model), generator=torch.Generator().manual_seed(3))
    assert set(at_masked.figures) == set(everywhere.figures)
    for name, value in at_masked.figures.items():
        torch.testing.assert_close(value, everywhere.figures[name])
    for one, other in zip(first, loss_and_gradients(brainomni(), stage_2), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("make", "step"), [(tokenizer, stage_1), (brainomni, stage_2)])
def test_checkpointed_activations_give_the_same_numbers_with_dropout_and_keep_less(make, step):
    def kept(model: Any) -> int:
        stored: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = step(model)
        del loss
        return sum(stored.values())

    plain, saving = make(), make()
    saving.checkpoint_activations()
    for one, other in zip(loss_and_gradients(plain, step), loss_and_gradients(saving, step), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert kept(saving) < 0.5 * kept(plain)


@pytest.mark.parametrize(("make", "step"), [(tokenizer, stage_1), (brainomni, stage_2)])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo looks at it
def test_layers_can_be_compiled(make, step):
    """Traced as one graph for the tokenizer, and run by the eager backend, since generating code takes minutes.

    In float64: the gradient of the keys' bias, which is only rounding error, is 0.
    """
    plain, compiled = make().double(), make().double()
    compiled.compile_layers(backend="eager")
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for one, other in zip(loss_and_gradients(plain, step), loss_and_gradients(compiled, step), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("make", "step"), [(tokenizer, stage_1), (brainomni, stage_2)])
def test_a_copy_of_a_compiled_network_has_weights_of_its_own(make, step):
    original = make()
    original.compile_layers(backend="eager")
    copied = copy.deepcopy(original)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(step(copied), step(make()))


def test_under_autocast_codebooks_and_losses_stay_in_float32():
    model = tokenizer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.training_loss(*signal(), generator=torch.Generator().manual_seed(3))
    assert all(term.dtype == torch.float32 for term in losses)
    for codebook in model.quantizer.codebooks:
        assert {buffer.dtype for buffer in codebook.buffers()} == {torch.float32}
        # not rounded to the eight bits of bfloat16 on the way
        assert not torch.equal(codebook.embed_avg, codebook.embed_avg.bfloat16().float())
