"""Time, arithmetic and memory of a training step, eager and compiled, and of a plain implementation."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from benchmarks._plain_tokenizer import PlainTokenizer, plain_step
from benchmarks._training_modules import N_SAMPLES, attach, brainomni_module, tokenizer_module
from benchmarks.gpu.device import GIB, Result, Setup, seconds_of

from emeg.tokenizers.braintokenizer.draws import draw_tokenizer_step
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.speed import peak_of


class Work(NamedTuple):
    """Training step to measure."""

    module: Training
    batch: Any
    step: Callable[[], None]


def make_work(setup: Setup, network: str, *, n: int, channels: int = 0, compiled: bool = False) -> Work:
    """Build a step of one micro-batch: loss, gradients, clipping, AdamW, codebooks. With channels, of a tokenizer."""
    torch.manual_seed(0)
    device = str(setup.device)
    if channels:
        module, batch = tokenizer_module(network, channels, n, device=device, compiled=compiled)
    else:
        module, batch = brainomni_module(network, n, device=device, compiled=compiled)  # type: ignore[assignment]
    optimiser = attach(module, setup.device)

    def step() -> None:
        with setup.autocast(torch.bfloat16):
            loss = module.training_step(batch, 0)
        loss.backward()
        module.configure_gradient_clipping(optimiser)
        optimiser.step()
        optimiser.zero_grad()
        module.follow()
        module._suspects.clear()  # the guard looks at them every few steps, and waits

    return Work(module, batch, step)


def speed(setup: Setup, network: str, *, n: int, channels: int = 0, compiled: bool = False) -> Result:
    """Measure a step."""
    if setup.tiny:
        network, n, channels = "nano", 1, 8 if channels else 0
    if setup.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    work = make_work(setup, network, n=n, channels=channels, compiled=compiled)
    setup.wait()
    began = time.perf_counter()
    work.step()
    setup.wait()
    first_s = time.perf_counter() - began
    seconds = seconds_of(setup, work.step, repeats=1 if setup.tiny else 7)
    operations = work.module.operations(work.batch)
    peak = peak_of(setup.device, "bf16-mixed")
    return {
        "network": network,
        "segments": n,
        "channels": channels,
        "compiled": compiled,
        "ms": 1e3 * seconds,
        "segments_per_s": n / seconds,
        "tflops": operations / seconds / 1e12,
        "mfu": None if peak is None else operations / seconds / peak,
        "peak_gib": torch.cuda.max_memory_allocated() / GIB if setup.is_cuda else None,
        "first_step_s": first_s,
    }


def speed_plain(setup: Setup) -> Result:
    """Measure the plain eager float32 implementation, which `speed_tokenizer_64` is compared with."""
    preset, channels, n = ("nano", 8, 1) if setup.tiny else ("paper", 64, 16)
    torch.manual_seed(0)
    module, batch = tokenizer_module(preset, channels, n, device="cpu")
    config = module.network.config
    plain = PlainTokenizer(config).to(setup.device).train()
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-4)
    given = tuple(tensor.to(setup.device) for tensor in (batch.signal, batch.pos, batch.sensor_type))
    generator = torch.Generator(setup.device)

    def step() -> None:
        shape = (n, channels, N_SAMPLES // config.window_length, config.window_length)
        draws = draw_tokenizer_step(generator, shape=shape, device=setup.device)
        plain_step(plain, optimiser, given, draws, generator, 1.0)

    seconds = seconds_of(setup, step, repeats=1 if setup.tiny else 3)
    return {"segments": n, "channels": channels, "ms": 1e3 * seconds, "segments_per_s": n / seconds}
