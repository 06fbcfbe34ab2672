"""Losses and gradients in float32 and bf16 against float32 on a CPU, codes, and two runs bit for bit.

Shape letters: B batch (one latent a row), D features.
"""

import os
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from benchmarks._training_modules import brainomni_module, tokenizer_module
from benchmarks.gpu.device import Result, Setup
from torch import Tensor
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer import model
from emeg.tokenizers.braintokenizer.quantization import kmeans, residual

NEGLIGIBLE = 1e-6
"""Norm of a gradient, relative to that of all, below which it is rounding and has no direction."""


def correctness_tokenizer(setup: Setup) -> Result:
    """Compare a training step and the codes of the tokenizer with those of a CPU."""
    preset, channels = ("nano", 8) if setup.tiny else ("paper", 19)
    torch.manual_seed(0)
    module, batch = tokenizer_module(preset, channels, 1, device="cpu")
    network = module.network
    given = (batch.signal, batch.pos, batch.sensor_type)
    for codebook in network.quantizer.codebooks:
        codebook._placed = False  # k-means on the CPU, from the same draws as everywhere
    network.training_loss(*given, generator=torch.Generator().manual_seed(1))

    def step(device: torch.device, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        network.to(device).zero_grad()
        on_device = [tensor.to(device) for tensor in given]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = network.training_loss(*on_device, generator=torch.Generator().manual_seed(2), follow=False).total
        loss.backward()
        for codebook in network.quantizer.codebooks:
            codebook.take_observed()
        return float(loss.detach()), gradients_of(network)

    def codes(device: torch.device) -> Tensor:
        network.to(device).eval()
        found: Tensor = network.tokenize(*(tensor.to(device) for tensor in given)).codes.cpu()
        network.train()
        return found

    found = compare_precisions(setup, step)
    expected = codes(torch.device("cpu"))
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    found["codes_equal"] = float((codes(setup.device) == expected).float().mean())
    return found | compare_smooth_part(setup, step)


def correctness_brainomni(setup: Setup) -> Result:
    """Compare a training step of BrainOmni, without dropout, with that of a CPU."""
    torch.manual_seed(0)
    module, batch = brainomni_module("nano" if setup.tiny else "tiny", 1, device="cpu", dropout=0.0)
    network = module.network
    codes = torch.randint(network.tokenizer.config.codebook_size, batch.codes.shape)

    def step(device: torch.device, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        network.to(device).zero_grad()
        on_device = codes.to(device)
        features = network.tokenizer.features_from_codes(on_device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = network.pretraining_loss(features, on_device, generator=torch.Generator().manual_seed(2)).total
        loss.backward()
        return float(loss.detach()), gradients_of(network)

    return compare_precisions(setup, step)


Step = Callable[[torch.device, torch.dtype], tuple[float, dict[str, Tensor]]]


def compare_precisions(setup: Setup, step: Step) -> Result:
    """Compare float32 and bf16 on the device with float32 on a CPU, and each with a second run."""
    loss, reference = step(torch.device("cpu"), torch.float32)
    total = sum(float(value.square().sum()) for value in reference.values()) ** 0.5
    # a key's bias shifts all scores of a query alike, so that its gradient is rounding only
    names = [name for name, value in reference.items() if float(value.norm()) > NEGLIGIBLE * total]
    found: Result = {"loss_cpu": loss, "negligible": sorted(reference.keys() - set(names))}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        for deterministic in (False, True):
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
            torch.use_deterministic_algorithms(deterministic)
            loss, gradients = step(setup.device, dtype)
            again, gradients_again = step(setup.device, dtype)
            torch.use_deterministic_algorithms(False)
            is_same = loss == again and all(torch.equal(gradients[k], gradients_again[k]) for k in gradients)
            found[f"bitwise_{name}_deterministic" if deterministic else f"bitwise_{name}"] = is_same
        cosine = {k: cosine_of(gradients[k], reference[k]) for k in names}
        zeros = {k: float((gradients[k] == 0).float().mean() - (reference[k] == 0).float().mean()) for k in names}
        worst, emptiest = min(cosine, key=cosine.__getitem__), max(zeros, key=zeros.__getitem__)
        found |= {
            f"loss_{name}": loss,
            f"cosine_{name}": cosine[worst],
            f"cosine_{name}_of": worst,
            f"zeros_{name}": zeros[emptiest],
            f"zeros_{name}_of": emptiest,
        }
    return found


def compare_smooth_part(setup: Setup, step: Step) -> Result:
    """Compare the gradients of bf16 and float32 without the two jumps of the tokenizer's loss (decision 0081).

    bf16 computes with the codes that float32 chose, and the difference of phases, whose gradient grows without bound as
    a magnitude approaches 0, has weight 0.
    """
    codes = RecordedCodes()
    with mock.patch.object(residual, "nearest", codes), mock.patch.object(model, "PHASE_WEIGHT", 0.0):
        _, reference = step(torch.device("cpu"), torch.float32)
        codes.replay()
        _, gradients = step(setup.device, torch.bfloat16)
    total = sum(float(value.square().sum()) for value in reference.values()) ** 0.5
    names = [name for name, value in reference.items() if float(value.norm()) > NEGLIGIBLE * total]
    cosine = {k: cosine_of(gradients[k], reference[k]) for k in names}
    worst = min(cosine, key=cosine.__getitem__)
    return {
        "cosine_bf16_smooth": cosine[worst],
        "cosine_bf16_smooth_of": worst,
        "codes_changed_bf16": codes.n_changed / codes.n_compared,
    }


class RecordedCodes:
    """Choice of codes that records the codes, and returns the same ones when they are replayed."""

    def __init__(self) -> None:
        self._recorded: list[Tensor] = []
        self._replayed: Iterator[Tensor] | None = None
        self.n_changed = self.n_compared = 0

    def replay(self) -> None:
        """Return the recorded codes from now on."""
        self._replayed = iter(self._recorded)

    def __call__(self, x_BD: Tensor, embed: Tensor) -> Tensor:
        """Choose a code for each row, as `nearest` does, or return the recorded ones.

        Parameters
        ----------
        x_BD : float32, shape (rows, features)
            Latents, dimensionless features.
        embed : float32, shape (codes, features)
            Code vectors, dimensionless features.
        """
        chosen_B = kmeans.nearest(x_BD, embed)
        if self._replayed is None:
            self._recorded.append(chosen_B)
            return chosen_B
        recorded_B = next(self._replayed).to(x_BD.device)
        self.n_changed += int((recorded_B != chosen_B).sum())
        self.n_compared += len(recorded_B)
        return recorded_B


def gradients_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """Return the gradients as float32 on the host."""
    named = network.named_parameters()
    return {name: p.grad.detach().float().cpu().clone() for name, p in named if p.grad is not None}


def cosine_of(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two gradients; 1 if both are 0.

    Parameters
    ----------
    a, b : float32, any shape
        Gradients, dimensionless.
    """
    if not bool(a.any()) and not bool(b.any()):
        return 1.0
    return float(F.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))
