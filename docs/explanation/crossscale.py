"""Draw memory over length of the cross-scale encoder and of BrainOmni: ``python docs/explanation/crossscale.py``.

Memory is what a forward pass in training keeps for the backward pass, without parameters, on a CPU.

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from emeg.models import PRESETS as BRAINOMNI
from emeg.models import BrainOmni
from emeg.models.crossscale.config import PRESETS, CrossScaleConfig
from emeg.models.crossscale.encoder import CrossScale
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer

N_SOURCES = 4
STEPS = {"cross-scale": [2**k for k in range(6, 14)], "BrainOmni": [2**k for k in range(6, 11)]}
MIB = 2**20


def kept_bytes(forward: Callable[[Tensor], Tensor], features_BSTD: Tensor) -> int:
    """Return the bytes that a forward pass keeps for the backward pass.

    Parameters
    ----------
    forward : callable
        Runs all blocks.
    features_BSTD : float32, shape (batch, sources, steps, features)
        Input, dimensionless.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward(features_BSTD)
    del out
    return sum(kept.values())


def measure() -> dict[str, list[float]]:
    """Return the memory of both encoders at their lengths, MiB."""
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(TOKENIZERS["nano"].model_copy(update={"n_neuro": N_SOURCES})).eval()
    tokenizer.requires_grad_(requires_grad=False)
    sizes: CrossScaleConfig = PRESETS["nano"]
    encoders = {
        "cross-scale": CrossScale(sizes, tokenizer).train(),
        "BrainOmni": BrainOmni(BRAINOMNI["nano"], tokenizer).train(),
    }
    found: dict[str, list[float]] = {}
    for name, encoder in encoders.items():
        features = (torch.randn(1, N_SOURCES, n, tokenizer.config.n_dim) for n in STEPS[name])
        found[name] = [kept_bytes(encoder.hidden, given) / MIB for given in features]
    return found


def slope(steps: list[int], mib: list[float]) -> float:
    """Return the slope of memory over length on log axes, over the upper half of the lengths."""
    half = len(steps) // 2
    return float(np.polyfit(np.log(steps[half:]), np.log(mib[half:]), 1)[0])


def main() -> None:
    """Draw the figure and print the slopes."""
    mpl.rcParams.update({"svg.hashsalt": "emeg", "svg.fonttype": "none", "font.size": 8})
    figure = Figure((4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, mib in measure().items():
        rate = slope(STEPS[name], mib)
        axes.loglog(STEPS[name], mib, "o-", ms=3, lw=0.8, label=f"{name}, slope {rate:.2f}")
        print(
            f"{name}: slope {rate:.3f}; " + ", ".join(f"{n} {x:.1f} MiB" for n, x in zip(STEPS[name], mib, strict=True))
        )
    axes.set(xlabel="latent steps", ylabel="MiB kept for the backward pass")
    axes.legend(fontsize=7)
    figure.savefig(Path(__file__).with_name("crossscale.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
