"""Count what work costs on a GPU, without a GPU: kernels, waits, uploads, arithmetic, memory, graph breaks.

Every stage of training runs on fake CUDA tensors under bf16 autocast: loss, gradients, clipping, fused AdamW,
codebooks, monitor, checkpoint, the state restored from it, and validation; tokenizing runs in float32.
``device_costs.json`` holds the budgets; a cost above its budget is an error. ``--large --write`` also writes the counts
that `emeg plan` forecasts from, ``emeg/training/gpu_counts.json``.
"""

from benchmarks._fake_cuda import Costs, add_kernel, add_operations, costs_of, counting, enable, fake_gpu

if __name__ == "__main__":
    enable()

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from benchmarks._training_modules import N_SAMPLES, attach, brainomni_module, tokenizer_module
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from emeg.models import PRESETS, BrainOmni
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer, checks
from emeg.training import FinetuneRecipe
from emeg.training.finetune.classifier import Classifier, FineTuning
from emeg.training.finetune.window_batches import WindowBatch
from emeg.training.loop.batches import SignalBatch
from emeg.training.loop.lightning_module import Training
from emeg.training.stages.corpus_tokens import PartWriter
from emeg.training.stages.tokenizer_training import TokenizerTraining

BUDGETS = Path(__file__).with_name("device_costs.json")
COUNTS = Path(__file__).parents[1] / "src/emeg/training/gpu_counts.json"
DEVICE = "cuda"
SHAPES = ((1, 8), (2, 8), (3, 8), (1, 16))
"""Batches and steps of `recompiles`."""
FINE_TUNING = "finetuning nano"
"""Stage of the fine-tuned classifier."""


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
    per_layer = 2 * 4 * self.hidden_size * (self.input_size + self.hidden_size)  # both layers have one size here
    add_operations(3 * self.num_layers * per_layer * prod(x.shape[:-1]))  # the backward pass costs twice the forward
    return _LSTM.apply(x, next(self.parameters())), None  # type: ignore[no-untyped-call]


PARTIAL_ROWS = 64 * 1024
"""Rows above which CUDA sums the gradient of a norm's weight in two kernels, the second over partial sums."""


class _FusedRMSNorm(torch.autograd.Function):
    """Substitute for CUDA's fused RMS norm, which a build without CUDA lacks (decision 0080).

    One kernel forward. Backward one for the input and one for the weight, each of which reads gradient and input, and a
    third above `PARTIAL_ROWS`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(x, weight, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - autograd's own
        x, weight, _ = ctx.saved_tensors
        add_kernel("rms_norm_weight_backward", [gradient, x])
        if x[..., 0].numel() > PARTIAL_ROWS:
            add_kernel("rms_norm_weight_sum", [weight])
        return gradient + x, torch.empty_like(weight)


def _rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:  # noqa: ANN401
    """Use the fused kernel, as PyTorch does on CUDA if input and weight have one dtype."""
    del shape, eps
    if weight is None or weight.dtype != x.dtype or torch.is_autocast_enabled(DEVICE):
        raise RuntimeError("an RMS norm that CUDA would split or convert: add the case to this substitute")
    out: Tensor = _FusedRMSNorm.apply(x, weight)  # type: ignore[no-untyped-call]
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


def _check_values(x: Tensor, *_: Tensor) -> None:
    x.isfinite().all().cpu()  # one wait; on a GPU the host would look at the value


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
        mock.patch.object(checks, "_check_values", _check_values),
    ):
        yield


def costs(module: Training, batch: Any) -> dict[str, Costs]:  # noqa: ANN401 - of either training
    """Return the costs of a micro-batch, of the end of a step, of a checkpoint and of a batch of validation."""
    optimiser = attach(module, torch.device(DEVICE, 0))
    module.training_step(batch, 0).backward()
    optimiser.step()  # creates the optimiser's state, once in a run
    optimiser.zero_grad()
    module.follow()
    found = {"micro_batch": micro_batch_costs(module, batch)}
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
    module.eval()
    with counting() as counts, torch.no_grad(), torch.autocast(DEVICE, dtype=torch.bfloat16):
        module.validation_step(batch, 0)  # type: ignore[call-arg]
    found["validation"] = costs_of(counts)
    if isinstance(module, TokenizerTraining):
        with counting() as counts:
            tokenize(module.network, batch)
        found["tokenizing"] = costs_of(counts)
    return found


def finetuning_costs(preset: str) -> dict[str, Costs]:
    """Return the costs of a training step, the optimiser's step and a validation step of fine-tuning."""
    recipe = FinetuneRecipe.of("finetune-nano")
    n_windows, channels, classes = 4, 32, ("a", "b")
    with torch.device(DEVICE):
        classifier = Classifier(BrainOmni(PRESETS[preset], TOKENIZERS["nano"]), len(classes), recipe).train()
        signal, pos = torch.randn(n_windows, channels, 1024), torch.randn(n_windows, channels, 6)
        kind = torch.zeros(n_windows, channels, dtype=torch.long)
        kept = torch.zeros(n_windows, 16, dtype=torch.long)
        labels, weights = torch.zeros(n_windows, dtype=torch.long), torch.ones(len(classes))
    module = FineTuning(classifier, SimpleNamespace(classes=classes), recipe, learning_rate=1e-5, n_steps=10)
    module._weights = weights
    module._device = torch.device(DEVICE, 0)
    module._trainer = SimpleNamespace(global_step=0)
    batch = WindowBatch(np.arange(n_windows), signal, pos, kind, None, kept, labels)
    optimiser = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    module.training_step(batch, 0).backward()
    optimiser.step()  # creates the optimiser's state, once in a run
    optimiser.zero_grad()
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
    found["step"] = costs_of(counts)
    with counting() as counts, torch.no_grad(), torch.autocast(DEVICE, dtype=torch.bfloat16):
        module.eval()
        module.validation_step(batch, 0)
    found["validation"] = costs_of(counts)
    return found


def micro_batch_costs(module: Training, batch: Any) -> Costs:  # noqa: ANN401 - of either training
    """Return the costs of a micro-batch; on a second one, count what is saved for the backward pass."""
    with counting() as counts:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = module.training_step(batch, 0)
        loss.backward()
    with counting(saved_tensors=True) as saved, torch.autocast(DEVICE, dtype=torch.bfloat16):
        module.training_step(batch, 0)
    counts["saved"] = saved["saved"]
    return costs_of(counts)


def tokenize(network: BrainTokenizer, batch: SignalBatch) -> None:
    """Compute the codes of a batch as the verb tokenize does: signals from the host, codes to the host."""
    signal, pos = torch.empty(batch.signal.shape, device="cpu"), torch.empty(batch.pos.shape, device="cpu")
    kind = torch.zeros(batch.sensor_type.shape, dtype=torch.long, device="cpu")
    writer = PartWriter.__new__(PartWriter)
    writer.__dict__ |= {"_tokenizer": network, "_device": torch.device(DEVICE, 0)}
    writer.codes_of(batch._replace(signal=signal, pos=pos, sensor_type=kind), overlap=0.25)


def attention_memory(size: str) -> dict[str, float]:
    """Return what a micro-batch saves for the backward pass, MiB: with fused attention, and with explicit weights."""
    found = {}
    for name, attend in (("fused", _attention), ("explicit", _explicit_attention)):
        replaced = mock.patch.object(nn.functional, "scaled_dot_product_attention", attend)
        with stand_ins(), replaced, fake_gpu():
            module, batch = brainomni_module(size)
            attach(module, torch.device(DEVICE, 0))
            with counting(saved_tensors=True) as counts, torch.autocast(DEVICE, dtype=torch.bfloat16):
                module.training_step(batch, 0)
        found[name] = costs_of(counts).saved_mib
    return found


def _explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Compute and drop attention weights one after another, as with a generator of draws."""
    if attn_mask is not None:
        return _decomposed(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p)
    weights = (query @ key.transpose(-2, -1) / sqrt(query.shape[-1])).softmax(dim=-1)
    kept = torch.rand(weights.shape, device=weights.device) >= dropout_p
    return (weights * kept.to(weights.dtype) / (1.0 - dropout_p)) @ value


def scaling_counts() -> dict[str, dict[str, dict[str, float]]]:
    """Return the counts that `emeg.training.scaling` forecasts from: differences of two sizes of a micro-batch."""
    found: dict[str, dict[str, dict[str, float]]] = {"braintokenizer": {}, "brainomni": {}}
    with stand_ins():
        for preset in TOKENIZERS:
            makes = partial(tokenizer_module, preset, 64)
            found["braintokenizer"][preset] = _scaling_counts(makes, (2, 16), 64 * N_SAMPLES / 256)
        for size in PRESETS:
            found["brainomni"][size] = _scaling_counts(partial(brainomni_module, size), (2, 16), 1.0)
    return found


def _scaling_counts(
    make: Callable[[int], tuple[Training, Any]], sizes: tuple[int, int], units: float
) -> dict[str, float]:
    by_size, operations, parameters, codebooks, at_the_end = [], 0.0, 0, 0, 0
    for n in sizes:
        with fake_gpu():
            module, batch = make(n)
            parts = costs(module, batch)
            by_size.append(parts["micro_batch"])
            at_the_end = parts["step"].kernels
            operations = module.operations(batch) / n
            parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
            if isinstance(module, TokenizerTraining):
                codebooks = module.network.quantizer.exchanged_numbers
    few, many = by_size
    n_few, n_more = sizes[0] * units, (sizes[1] - sizes[0]) * units

    def slope(name: str) -> float:
        return (getattr(many, name) - getattr(few, name)) / n_more

    values = {
        "parameters": parameters,
        "codebook_numbers": codebooks,
        "kernels": many.kernels,
        "kernels_step": at_the_end,
        "fixed_ms": few.device_ms - slope("device_ms") * n_few,
        "unit_ms": slope("device_ms"),
        "unit_fused_ms": slope("fused_ms"),
        "unit_gflop": operations / 1e9 / units,
        "fixed_mib": few.peak_mib - slope("peak_mib") * n_few,
        "unit_mib": slope("peak_mib"),
    }
    return {
        name: max(0, float(f"{value:.6g}")) if isinstance(value, float) else value for name, value in values.items()
    }


def recompiles(size: str, shapes: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of graphs that each (batch, steps) of a training with compiled blocks adds, on the CPU.

    Every shape is trained twice; a second batch of a shape must add none, and a shape at most one.
    """
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    network = _compiled(size)
    found, before = [], 0
    for batch, steps in [*shapes, *shapes]:
        sizes = network.tokenizer.config
        codes = torch.zeros(batch, sizes.n_neuro, steps, sizes.num_quantizers).long()
        network.pretraining_loss(network.tokenizer.features_from_codes(codes), codes).total.backward()
        found.append(counters["stats"]["unique_graphs"] - before)
        before = counters["stats"]["unique_graphs"]
    return found


def _compiled(size: str) -> BrainOmni:
    sizes = PRESETS[size].model_copy(update={"lm_dropout": 0.1})
    network = BrainOmni(sizes, TOKENIZERS["nano"]).train()
    network.tokenizer.eval().requires_grad_(False)
    network.compile_layers(backend="eager")
    return network


def graph_breaks(size: str) -> int:
    """Return the number of graph breaks of BrainOmni's compiled blocks in a training step, on the CPU."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    network = _compiled(size)
    codes = torch.zeros(1, network.tokenizer.config.n_neuro, 8, network.tokenizer.config.num_quantizers).long()
    features = network.tokenizer.features_from_codes(codes)
    network.pretraining_loss(features, codes).total.backward()  # dropout uses the default generator, as on a GPU
    return sum(counters["graph_break"].values())


def measure(*, large: bool, only: str | None = None) -> Mapping[str, Mapping[str, Any]]:
    """Return the costs of every stage, or of one; `large` adds the larger network sizes."""
    works: dict[str, Callable[[], tuple[Training, Any]]] = {
        "tokenizer nano 16 channels": lambda: tokenizer_module("nano", 16),
        "tokenizer emeg-nano 16 channels": lambda: tokenizer_module("emeg-nano", 16),
        "brainomni nano": lambda: brainomni_module("nano"),
    }
    if large:
        works |= {
            "tokenizer paper 64 channels": lambda: tokenizer_module("paper", 64),
            "tokenizer emeg-base 64 channels": lambda: tokenizer_module("emeg-base", 64),
            "brainomni tiny": lambda: brainomni_module("tiny"),
            "brainomni base": lambda: brainomni_module("base"),
        }
    found: dict[str, Mapping[str, Any]] = {}
    with stand_ins():
        for name, make in works.items():
            if only not in {None, name}:
                continue
            with fake_gpu():
                module, batch = make()
                found[name] = {part: cost._asdict() for part, cost in costs(module, batch).items()}
        if only in {None, FINE_TUNING}:
            with fake_gpu():
                found[FINE_TUNING] = {part: cost._asdict() for part, cost in finetuning_costs("nano").items()}
    return found


def over_budget(found: Mapping[str, Mapping[str, Any]], budgets: Mapping[str, Any]) -> list[str]:
    """Return a description of every cost that exceeds its budget; modelled times are no costs."""
    return [
        f"{stage}, {part}: {value} {name}, budget {budgets[stage][part][name]}"
        for stage, parts in found.items()
        for part, cost in parts.items()
        for name, value in cost.items()
        if not name.endswith("_ms") and value > budgets[stage][part][name]
    ]


def main() -> None:
    """Print the costs; with ``--write``, store them as the new budgets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="the paper's sizes too")
    parser.add_argument("--only", metavar="STAGE", help="count one stage, for example 'brainomni nano'")
    parser.add_argument("--write", action="store_true", help="write the budgets")
    arguments = parser.parse_args()
    if arguments.only and arguments.write:
        parser.error("--write stores all budgets; leave out --only")
    found = measure(large=arguments.large, only=arguments.only)
    if not found:
        parser.error(
            f"--only: {arguments.only!r} is not a stage; see {BUDGETS.name}, and add --large for the larger sizes"
        )
    graphs = recompiles("nano", SHAPES)
    report = {"costs": found, "graph_breaks": graph_breaks("nano"), "graphs_added": graphs}
    if not arguments.only:
        report["attention_memory_mib"] = attention_memory("tiny")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if arguments.write:
        if arguments.large:
            COUNTS.write_text(json.dumps(scaling_counts(), indent=1) + "\n")
        BUDGETS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return
    faults = over_budget(found, json.loads(BUDGETS.read_bytes()))
    if report["graph_breaks"]:
        faults.append(f"compiled blocks: {report['graph_breaks']} graph breaks, budget 0")
    if max(graphs[: len(SHAPES)]) > 1 or any(graphs[len(SHAPES) :]):
        faults.append(f"compiled blocks: {graphs} graphs for shapes {SHAPES}, each twice; budget 1 for a new shape")
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
