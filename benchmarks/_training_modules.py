"""Training modules with a batch of random data: what benchmarks of the training step run."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from emeg.models import PRESETS, BrainOmni, BrainOmniConfig, parameter_groups
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.braintokenizer import parameter_groups as tokenizer_groups
from emeg.tokenizers.braintokenizer.windows import count_windows
from emeg.training import PretrainConfig, TrainTokenizerConfig
from emeg.training.loop.batches import SignalBatch, TokenBatch
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.stages.pretraining import EncoderTraining
from emeg.training.stages.tokenizer_metrics import Group, ReconstructionMetrics
from emeg.training.stages.tokenizer_training import TokenizerTraining

N_SAMPLES, N_TOKENIZED = 2560, 7680
"""Samples of a segment of a tokenizer's training (10 s), and of BrainOmni's (30 s)."""

TOKENIZER_OF = {"nano": "nano", "nano-window": "nano", "emeg-nano": "emeg-nano", "nano-waveform": "emeg-nano"}
"""Tokenizers of the small BrainOmni networks; the larger ones take `paper`."""


def tokenizer_module(
    preset: str, channels: int, n: int = 2, *, device: str = "cuda", compiled: bool = False
) -> tuple[Training, SignalBatch]:
    """Return the tokenizer's training and a batch of `n` segments of 10 s."""
    config = TrainTokenizerConfig(root="", recipe="braintokenizer")
    with torch.device(device):
        network = BrainTokenizer(TOKENIZERS[preset]).train()
        signal = torch.randn(n, channels, N_SAMPLES)
        pos, kind = torch.randn(n, channels, 6), torch.zeros(n, channels, dtype=torch.long)
    for codebook in network.quantizer.codebooks:
        codebook._placed = True  # k-means waits for the device once in a run, not in each step
    if compiled:
        network.compile_layers()
    sizes, rates = network.config, config.optimiser
    module = TokenizerTraining(
        network,
        reconstruction=ReconstructionMetrics(
            [Group("x", channels)], n_quantizers=sizes.num_quantizers, n_codes=sizes.codebook_size, n_dim=sizes.n_dim
        ),
        group_of=[Group("x", channels)] * n,
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
    return module, SignalBatch(0, 0, signal, pos, kind, None, tuple(range(n)))


def brainomni_module(
    size: str, n: int = 2, *, device: str = "cuda", compiled: bool = False, dropout: float | None = None
) -> tuple[Training, TokenBatch]:
    """Return BrainOmni's training and a batch of `n` segments of 30 s."""
    config = PretrainConfig(root="", recipe="brainomni-base")
    sizes: BrainOmniConfig = PRESETS[size]
    if dropout is not None:
        sizes = sizes.model_copy(update={"lm_dropout": dropout})
    with torch.device(device):
        tokenizer = BrainTokenizer(TOKENIZERS[TOKENIZER_OF.get(size, "paper")]).requires_grad_(False)
        network = BrainOmni(sizes, tokenizer).train()
        c = tokenizer.config
        n_windows = count_windows(N_TOKENIZED, c.window_length, sizes.overlap_ratio)
        codes = torch.zeros(n, c.n_neuro, n_windows * c.steps_per_window, c.num_quantizers, dtype=torch.long)
    network.tokenizer.eval()
    if compiled:
        network.compile_layers()
    rates = config.optimiser
    groups = parameter_groups(network, learning_rate=rates.learning_rate, weight_decay=rates.weight_decay)
    return EncoderTraining(network, groups=groups, **_shared(rates)), TokenBatch(0, 0, codes, tuple(range(n)))


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


def attach(module: Training, device: torch.device, *, precision: str = "bf16-mixed") -> torch.optim.Optimizer:
    """Set the device and precision of a module as a trainer does, and return its optimizer."""
    module._device = device  # the parameters are on this device already
    module._trainer = SimpleNamespace(world_size=1, global_step=0, precision=precision)
    optimiser: torch.optim.Optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    return optimiser
