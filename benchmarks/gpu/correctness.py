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

from emeg.tokenizers.braintokenizer import losses
from emeg.tokenizers.braintokenizer.quantization import kmeans, residual

NEGLIGIBLE = 1e-6
"""Norm of a gradient, relative to that of all, below which it is rounding and has no direction."""
DIRECTION = 0.99
"""Cosine that the gradient of every parameter in bf16 should reach."""


class TokenizerStep:
    """Training step of a tokenizer that returns its loss and gradients, from the same draws in every call.

    Parameters
    ----------
    preset : str
    channels : int
    """

    def __init__(self, preset: str, channels: int) -> None:
        torch.manual_seed(0)
        module, batch = tokenizer_module(preset, channels, 1, device="cpu")
        self.network = module.network
        self.given = (batch.signal, batch.pos, batch.sensor_type)
        for codebook in self.network.quantizer.codebooks:
            codebook._placed = False  # k-means on the CPU, from the same draws as everywhere
        self.network.training_loss(*self.given, generator=torch.Generator().manual_seed(1))

    def __call__(self, device: torch.device, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        """Compute loss and gradients on a device, under autocast if the precision is bf16."""
        self.network.to(device).zero_grad()
        on_device = [tensor.to(device) for tensor in self.given]
        draws = torch.Generator().manual_seed(2)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = self.network.training_loss(*on_device, generator=draws, follow=False).total
        loss.backward()
        for codebook in self.network.quantizer.codebooks:
            codebook.take_observed()
        return float(loss.detach()), gradients_of(self.network)

    def codes(self, device: torch.device) -> Tensor:
        """Compute the codes of the signal on a device."""
        self.network.to(device).eval()
        found: Tensor = self.network.tokenize(*(tensor.to(device) for tensor in self.given)).codes.cpu()
        self.network.train()
        return found


def correctness_tokenizer(setup: Setup) -> Result:
    """Compare a training step and the codes of the tokenizers with those of a CPU."""
    preset, own, channels = ("nano", "emeg-nano", 8) if setup.tiny else ("paper", "emeg-base", 19)
    step = TokenizerStep(preset, channels)
    found = compare_precisions(setup, step)
    found["jumps"] = {preset: compare_jumps(setup, step), own: compare_jumps(setup, TokenizerStep(own, channels))}
    expected = step.codes(torch.device("cpu"))
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    found["codes_equal"] = float((step.codes(setup.device) == expected).float().mean())
    return found


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
    names = with_direction(reference)
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
        zeros = {k: float((gradients[k] == 0).float().mean() - (reference[k] == 0).float().mean()) for k in names}
        emptiest = max(zeros, key=zeros.__getitem__)
        found |= {
            f"loss_{name}": loss,
            **{f"{key}_{name}": value for key, value in agreement(gradients, reference).items()},
            f"zeros_{name}": zeros[emptiest],
            f"zeros_{name}_of": emptiest,
        }
    return found


def compare_jumps(setup: Setup, step: TokenizerStep) -> Result:
    """Compare the gradients of bf16 and float32 with and without the two jumps of the tokenizer's loss (decision 0081).

    * `codes`: bf16 computes with the codes that float32 chose (fixed), or with its own (free);
    * `angles`: the loss contains the difference of angles, whose gradient grows without bound as a magnitude approaches
      0, or its weight is 0. Networks whose spectral term is complex have no angles, and both are the same.

    Returns
    -------
    dict
        The `agreement` of each combination, and the share of codes that bf16 changes.
    """
    found: Result = {}
    has_angles = step.network.config.spectral_loss == "angle"
    for angles in ("with_angles", "without_angles") if has_angles else ("without_angles",):
        weight = losses.PHASE_WEIGHT if angles == "with_angles" else 0.0
        codes = RecordedCodes()
        with mock.patch.object(residual, "nearest", codes), mock.patch.object(losses, "PHASE_WEIGHT", weight):
            _, reference = step(torch.device("cpu"), torch.float32)
            codes.replay()
            _, fixed = step(setup.device, torch.bfloat16)
        with mock.patch.object(losses, "PHASE_WEIGHT", weight):
            _, free = step(setup.device, torch.bfloat16)
        found[f"codes_free_{angles}"] = agreement(free, reference)
        found[f"codes_fixed_{angles}"] = agreement(fixed, reference)
        found["codes_changed"] = codes.n_changed / codes.n_compared
    return found


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


def with_direction(reference: dict[str, Tensor]) -> list[str]:
    """Return the names of the gradients that are more than rounding.

    The bias of a key, for example, shifts all scores of a query alike, so that its gradient is rounding only.
    """
    total = sum(float(value.square().sum()) for value in reference.values()) ** 0.5
    return [name for name, value in reference.items() if float(value.norm()) > NEGLIGIBLE * total]


def agreement(gradients: dict[str, Tensor], reference: dict[str, Tensor]) -> Result:
    """Compare the directions of gradients, of each parameter and of all together.

    Returns
    -------
    dict
        `cosine`: smallest of a parameter, `of`: its name, `whole`: cosine of all parameters as one vector, `below`:
        parameters below 0.99, `below_share`: norm of their gradients relative to that of all.
    """
    names = with_direction(reference)
    cosine = {name: cosine_of(gradients[name], reference[name]) for name in names}
    worst = min(cosine, key=cosine.__getitem__)
    below = [name for name in names if cosine[name] < DIRECTION]
    whole, whole_reference = (torch.cat([side[name].flatten() for name in names]) for side in (gradients, reference))
    share = sum(float(reference[name].square().sum()) for name in below) ** 0.5 / float(whole_reference.norm())
    return {
        "cosine": cosine[worst],
        "of": worst,
        "whole": cosine_of(whole, whole_reference),
        "below": len(below),
        "below_share": share,
    }


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
