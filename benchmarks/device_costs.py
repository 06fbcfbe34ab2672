"""Count what a training step costs on a GPU, without a GPU: kernels, waits, uploads, arithmetic, graph breaks.

Every stage runs on fake CUDA tensors under bf16 autocast: loss, gradients, clipping, fused AdamW, codebooks, monitor,
checkpoint, and the state restored from it. ``device_costs.json`` holds the budgets; a cost above its budget is an
error.
"""

from benchmarks._fake_cuda import Costs, costs_of, counting, enable, fake_gpu

if __name__ == "__main__":
    enable()

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from emeg.models import PRESETS, BrainOmni, BrainOmniConfig, parameter_groups
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.braintokenizer import parameter_groups as tokenizer_groups
from emeg.training import PretrainConfig, TrainTokenizerConfig
from emeg.training.loop.batches import SignalBatch, TokenBatch
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.stages.pretraining import BrainOmniTraining
from emeg.training.stages.tokenizer_metrics import Group, ReconstructionMetrics
from emeg.training.stages.tokenizer_training import TokenizerTraining

BUDGETS = Path(__file__).with_name("device_costs.json")
DEVICE = "cuda"
N_SAMPLES, N_STEPS = 2560, 160


class _LSTM(torch.autograd.Function):
    """Substitute for cuDNN's LSTM, which fake tensors lack: one kernel forward and one backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(x, weight)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - autograd's own
        _, weight = ctx.saved_tensors
        return gradient.clone(), torch.zeros_like(weight)


def _lstm_forward(self: nn.LSTM, x: Tensor) -> tuple[Tensor, None]:
    if x.dtype != torch.float32 or torch.is_autocast_enabled(DEVICE):
        raise RuntimeError(f"an LSTM got {x.dtype} under autocast; CUDA would run it in float16 without a loss scale")
    return _LSTM.apply(x, next(self.parameters())), None  # type: ignore[no-untyped-call]


class _FusedRMSNorm(torch.autograd.Function):
    """Substitute for CUDA's fused RMS norm, which a build without CUDA lacks: one kernel forward and one backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(x, weight, x.new_empty(*x.shape[:-1], 1))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - autograd's own
        _, weight, _ = ctx.saved_tensors
        return gradient.clone(), torch.empty_like(weight)


def _rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:  # noqa: ANN401
    """Use the fused kernel, as PyTorch does on CUDA if input and weight have one dtype; autocast makes it float32."""
    del shape, eps
    if weight is None:
        raise RuntimeError("an RMS norm without weights: add the case to this substitute")
    out: Tensor = _FusedRMSNorm.apply(x.float(), weight)  # type: ignore[no-untyped-call]
    return out


_decomposed = nn.functional.scaled_dot_product_attention


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Use FlashAttention, as a GPU does for bf16 without a mask; fake tensors would decompose attention."""
    if attn_mask is not None or not torch.is_autocast_enabled(DEVICE):
        return _decomposed(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p)
    given = (tensor.to(torch.bfloat16) for tensor in (query, key, value))
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(*given, dropout_p)[0]
    return out


_count_steps = BrainOmni.overlapped_steps


def _overlapped_steps(self: BrainOmni, n_steps: int, device: torch.device | None = None) -> Tensor:
    if device is not None:
        return _count_steps(self, n_steps, device)
    with _disable_current_modes():  # the host computes these from values that it has
        return _count_steps(self, n_steps)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Replace what fake tensors lack: cuDNN's LSTM, device generators, values on the host, normal draws."""
    with (
        mock.patch.object(nn.LSTM, "forward", _lstm_forward),
        mock.patch.object(Training, "draw", return_value=None),
        mock.patch.object(nn.init, "trunc_normal_", lambda tensor, **_: tensor),
        mock.patch.object(nn.functional, "rms_norm", _rms_norm),
        mock.patch.object(nn.functional, "scaled_dot_product_attention", _attention),
        mock.patch.object(BrainOmni, "overlapped_steps", _overlapped_steps),
    ):
        yield


def tokenizer_module(preset: str, channels: int) -> tuple[Training, SignalBatch]:
    """Return the tokenizer's training and a batch of 10-s segments."""
    config = TrainTokenizerConfig(root="", recipe="braintokenizer")
    with torch.device(DEVICE):
        network = BrainTokenizer(TOKENIZERS[preset]).train()
        signal = torch.randn(2, channels, N_SAMPLES)
        pos, kind = torch.randn(2, channels, 6), torch.zeros(2, channels, dtype=torch.long)
    for codebook in network.quantizer.codebooks:
        codebook._placed = True  # k-means waits for the device once in a run, not in each step
    sizes, rates = network.config, config.optimiser
    module = TokenizerTraining(
        network,
        reconstruction=ReconstructionMetrics(
            [Group("x", channels)], n_quantizers=sizes.num_quantizers, n_codes=sizes.codebook_size, n_dim=sizes.n_dim
        ),
        group_of=[Group("x", channels)] * 2,
        ramp_steps=0,
        max_channels=None,
        groups=tokenizer_groups(
            network,
            learning_rate=rates.learning_rate,
            quantizer_learning_rate=rates.quantizer_learning_rate,
            weight_decay=rates.weight_decay,
        ),
        **_shared(config.optimiser),
    )
    return module, SignalBatch(0, 0, signal, pos, kind, None, (0, 1))


def brainomni_module(size: str) -> tuple[Training, TokenBatch]:
    """Return BrainOmni's training and a batch of 30-s segments."""
    config = PretrainConfig(root="", recipe="brainomni-base")
    sizes: BrainOmniConfig = PRESETS[size]
    with torch.device(DEVICE):
        tokenizer = BrainTokenizer(TOKENIZERS["nano" if size == "nano" else "paper"]).requires_grad_(False)
        network = BrainOmni(sizes, tokenizer).train()
        codes = torch.zeros(2, tokenizer.config.n_neuro, N_STEPS, tokenizer.config.num_quantizers, dtype=torch.long)
    network.tokenizer.eval()
    rates = config.optimiser
    groups = parameter_groups(network, learning_rate=rates.learning_rate, weight_decay=rates.weight_decay)
    return BrainOmniTraining(network, groups=groups, **_shared(rates)), TokenBatch(0, 0, codes, (0, 1))


def _shared(optimiser: Any) -> dict[str, Any]:  # noqa: ANN401 - of either training
    described: Callable[[Any], str] = str
    return {
        "optimiser": optimiser,
        "n_steps": 10,
        "seed": 0,
        "log_every": 10,
        "history": History(),
        "describe": described,
    }


def costs(module: Training, batch: Any) -> dict[str, Costs]:  # noqa: ANN401 - of either training
    """Return the costs of one micro-batch, of the end of a step, and of the work after every few steps."""
    module._device = torch.device(DEVICE, 0)  # the parameters are on this device already
    module._trainer = SimpleNamespace(world_size=1, global_step=0, precision="bf16-mixed")
    optimiser = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    module.training_step(batch, 0).backward()
    optimiser.step()  # creates the optimiser's state, once in a run
    optimiser.zero_grad()
    module.follow()
    found = {}
    with counting() as counts:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = module.training_step(batch, 0)
        loss.backward()
    found["micro_batch"] = costs_of(counts)
    with counting() as counts:
        module.configure_gradient_clipping(optimiser)
        optimiser.step()
        optimiser.zero_grad()
        module.follow()
    found["step"] = costs_of(counts)
    with counting() as counts:
        checkpoint: dict[str, Any] = {}
        with mock.patch.object(type(module), "_check_numbers", return_value=None):
            module.on_save_checkpoint(checkpoint)
        module.on_load_checkpoint(checkpoint)
        module.move_state()
    found["checkpoint"] = costs_of(counts)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):  # after a resume, the sums continue on one device
        module.training_step(batch, 0).backward()
    module.follow()
    return found


def graph_breaks(size: str) -> int:
    """Return the number of graph breaks of BrainOmni's compiled blocks in a training step, on the CPU."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    sizes = PRESETS[size].model_copy(update={"lm_dropout": 0.1, "lm_depth": 2})
    network = BrainOmni(sizes, TOKENIZERS["nano"]).train()
    network.tokenizer.eval().requires_grad_(False)
    network.compile_layers(backend="eager")
    codes = torch.zeros(1, network.tokenizer.config.n_neuro, 8, network.tokenizer.config.num_quantizers).long()
    features = network.tokenizer.features_from_codes(codes)
    network.pretraining_loss(features, codes).total.backward()  # dropout uses the default generator, as on a GPU
    return sum(counters["graph_break"].values())


def measure(*, large: bool) -> Mapping[str, Mapping[str, Any]]:
    """Return the costs of every stage; `large` adds the paper's network sizes."""
    works: dict[str, Callable[[], tuple[Training, Any]]] = {
        "tokenizer nano 16 channels": lambda: tokenizer_module("nano", 16),
        "brainomni nano": lambda: brainomni_module("nano"),
    }
    if large:
        works |= {
            "tokenizer paper 64 channels": lambda: tokenizer_module("paper", 64),
            "brainomni tiny": lambda: brainomni_module("tiny"),
            "brainomni base": lambda: brainomni_module("base"),
        }
    found: dict[str, Mapping[str, Any]] = {}
    with stand_ins():
        for name, make in works.items():
            with fake_gpu():
                module, batch = make()
                found[name] = {part: cost._asdict() for part, cost in costs(module, batch).items()}
    return found


def over_budget(found: Mapping[str, Mapping[str, Any]], budgets: Mapping[str, Any]) -> list[str]:
    """Return a description of every cost that exceeds its budget."""
    return [
        f"{stage}, {part}: {value} {name}, budget {budgets[stage][part][name]}"
        for stage, parts in found.items()
        for part, cost in parts.items()
        for name, value in cost.items()
        if value > budgets[stage][part][name]
    ]


def main() -> None:
    """Print the costs; with ``--write``, store them as the new budgets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="the paper's sizes too")
    parser.add_argument("--write", action="store_true", help="write the budgets")
    arguments = parser.parse_args()
    found = measure(large=arguments.large)
    breaks = graph_breaks("nano")
    sys.stdout.write(json.dumps({"costs": found, "graph_breaks": breaks}, indent=1) + "\n")
    if arguments.write:
        BUDGETS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return
    faults = over_budget(found, json.loads(BUDGETS.read_bytes()))
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
