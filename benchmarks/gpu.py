"""Measure emeg on one GPU in about eight minutes, the most valuable figures first.

Each stage runs in a process of its own with a time limit, and prints one JSON object when it ends; a stage that fails
does not stop the others. Stages that the budget leaves no time for are named and skipped.

* ceilings: what the device reaches in matrix products, copies and starts of kernels;
* correctness: losses and gradients in float32 and bf16 against float32 on a CPU, codes, and two runs bit for bit;
* waits: every place of a training step at which the host waits for the device;
* speed: milliseconds, segments/s, MFU and memory of a step, eager and compiled, and of a plain implementation;
* kernels: the kernels that take most of a step;
* memory: micro-batches twice as large each time, until the memory is full, against the forecast of `emeg plan`;
* run: `emeg train-tokenizer` with NCCL, stopped by a signal and resumed;
* tokenizing: segments/s of the verb tokenize.

``--device cpu --tiny`` runs the same code on a CPU within a few minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks._plain_tokenizer import PlainTokenizer, plain_step
from benchmarks._tiny import NETWORK, make_store
from benchmarks._training_modules import N_SAMPLES, attach, brainomni_module, tokenizer_module
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from emeg.tokenizers.braintokenizer.draws import draw_tokenizer_step
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.speed import peak_of
from emeg.training.scaling import memory_of, read_counts
from emeg.training.stages.corpus_tokens import PartWriter

Result = dict[str, Any]
GIB = 2**30
NEGLIGIBLE = 1e-6
"""Norm of a gradient, relative to that of all, below which it is rounding and has no direction."""


class Setup(NamedTuple):
    """Device of a stage, and whether it runs in its tiny form."""

    device: torch.device
    tiny: bool

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def autocast(self, dtype: torch.dtype) -> torch.autocast:
        """Return the autocast of a precision; none for float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


class Stage(NamedTuple):
    """Piece of the measurement."""

    run: Callable[[Setup], Result]
    limit_s: float
    """Seconds after which it is killed."""


# Ceilings


def ceilings(setup: Setup) -> Result:
    """Measure matrix products, a copy, and starts of kernels."""
    size, length = (256, 2**20) if setup.tiny else (8192, 2**28)
    found: Result = {"device": torch.cuda.get_device_name() if setup.is_cuda else "cpu", "torch": torch.__version__}
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
        a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
        found[f"gemm_{name}_tflops"] = 2 * size**3 / seconds_of(setup, lambda a=a, b=b: a @ b) / 1e12  # type: ignore[misc]
    source = torch.empty(length, device=setup.device)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * source.nbytes / seconds_of(setup, lambda: target.copy_(source)) / 1e9
    small = torch.zeros(8, device=setup.device)

    def start_kernels() -> None:
        for _ in range(1000):
            small.add_(1.0)

    found["launch_us"] = seconds_of(setup, start_kernels) * 1e3
    return found


def seconds_of(setup: Setup, work: Callable[[], object], *, repeats: int = 5) -> float:
    """Return the median seconds of a call, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        setup.wait()
        began = time.perf_counter()
        work()
        setup.wait()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


# Correctness


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


# Speed


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


# Waits, kernels, memory


def waits(setup: Setup) -> Result:
    """List the places of a step at which the host waits for the device; none on a CPU."""
    places: Counter[str] = Counter()
    for network, channels in (("nano", 0), ("nano", 8)) if setup.tiny else (("tiny", 0), ("paper", 19)):
        work = make_work(setup, network, n=1, channels=channels)
        for _ in range(2):
            work.step()
        with noted_waits(places, enabled=setup.is_cuda):
            work.step()
    return {"waits": sum(places.values()), "places": dict(places), "measured": setup.is_cuda}


@contextmanager
def noted_waits(places: Counter[str], *, enabled: bool) -> Iterator[None]:
    """Count the warnings of PyTorch about synchronizing calls, by the line of emeg that they come from."""
    if not enabled:
        yield
        return
    show = warnings.showwarning

    def note(message: Warning | str, *rest: Any, **named: Any) -> None:  # noqa: ANN401 - of the standard library
        if "synchroniz" not in str(message):
            show(message, *rest, **named)  # type: ignore[arg-type]
            return
        frames = [frame for frame in traceback.extract_stack() if "/emeg/" in frame.filename]
        places[f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside emeg"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = show


def kernels(setup: Setup) -> Result:
    """List the kernels that take most of a step."""
    found: Result = {}
    for name, work in (
        ("base", make_work(setup, "nano" if setup.tiny else "base", n=1 if setup.tiny else 16)),
        ("paper", make_work(setup, "nano" if setup.tiny else "paper", n=1, channels=8 if setup.tiny else 64)),
    ):
        for _ in range(2):
            work.step()
        setup.wait()
        activity = ProfilerActivity.CUDA if setup.is_cuda else ProfilerActivity.CPU
        with profile(activities=[activity]) as profiler:
            work.step()
            setup.wait()
        column = "self_device_time_total" if setup.is_cuda else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event, column=column: -float(getattr(event, column)))  # type: ignore[misc]
        found[f"kernels_{name}"] = sum(event.count for event in events)
        found[f"top_{name}"] = [
            (event.key[:80], event.count, round(float(getattr(event, column)) / 1e3, 3)) for event in events[:15]
        ]
    return found


def memory(setup: Setup) -> Result:
    """Double the micro-batch until the memory is full, and compare peaks with the forecast."""
    network = "nano" if setup.tiny else "base"
    counts = read_counts()["brainomni"][network]
    found: Result = {"network": network, "peak_gib": {}, "forecast_gib": {}}
    n, most = 1, 2 if setup.tiny else 4096
    while n <= most:
        try:
            if setup.is_cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            work = make_work(setup, network, n=n)
            work.step()
            work.step()
            setup.wait()
        except torch.OutOfMemoryError:
            found["out_of_memory_at"] = n
            break
        if setup.is_cuda:
            found["peak_gib"][n] = torch.cuda.max_memory_allocated() / GIB
        expected = memory_of(counts, n, partial_sums=0)
        found["forecast_gib"][n] = expected.state_gib + expected.activations_gib
        del work
        n *= 2
    return found


# A whole run, and tokenizing


def run(setup: Setup) -> Result:
    """Train through the command line with a process group, stop it by a signal, and resume it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make_store(root, people=6, channels=6, seconds=60.0)
        steps = 12 if setup.tiny else 200
        options = {
            "root": str(root),
            "overrides": NETWORK,
            "steps": steps,
            "ramp_steps": 10,
            "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2},
            "log_every": 1,
            "checkpoint_every": 4,
            "validate_every": steps // 2,
            "device": setup.device.type,
            "strategy": "fsdp2",  # one rank has a process group only then: NCCL on a GPU, gloo on a CPU
        }
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(options))
        command = [sys.executable, "-m", "emeg.cli", "train-tokenizer", "--config", str(config)]
        log = Path(folder) / "log"
        began = time.perf_counter()
        first = stopped_run(command, root, log)
        resumed = subprocess.run(command, capture_output=True, text=True, check=False)
        return {
            "stopped_with": first,
            "stopped_at": latest_step(root),
            "resumed_with": resumed.returncode,
            "models": len(list((root / "models").glob("*/config.json"))),
            "seconds": time.perf_counter() - began,
            "error": resumed.stderr[-1500:] if resumed.returncode else "",
        }


def stopped_run(command: Sequence[str], root: Path, log: Path) -> int:
    """Start a training, send SIGTERM after its first checkpoint, and return its exit code (75 if it can resume)."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        until = time.monotonic() + 90
        while child.poll() is None and time.monotonic() < until and latest_step(root) == 0:
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        try:
            return child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def latest_step(root: Path) -> int:
    """Return the step of the newest complete checkpoint; 0 if there is none."""
    steps = [int(path.name[5:13]) for path in root.glob("runs/*/checkpoints/last-*.ckpt.sha256")]
    return max(steps, default=0)


def tokenizing(setup: Setup) -> Result:
    """Measure how many segments of 10 s the verb tokenize encodes in a second."""
    found: Result = {}
    preset = "nano" if setup.tiny else "paper"
    for channels, n in ((8, 1),) if setup.tiny else ((19, 20), (64, 6), (306, 1)):
        module, batch = tokenizer_module(preset, channels, n, device="cpu")
        writer = PartWriter.__new__(PartWriter)
        writer.__dict__ |= {"_tokenizer": module.network.to(setup.device).eval(), "_device": setup.device}
        seconds = seconds_of(
            setup,
            lambda writer=writer, batch=batch: writer.codes_of(batch, overlap=0.25),  # type: ignore[misc]
            repeats=1 if setup.tiny else 5,
        )
        found[f"segments_per_s_{channels}"] = n / seconds
    return found


STAGES: dict[str, Stage] = {
    "ceilings": Stage(ceilings, 40.0),
    "correctness_tokenizer": Stage(correctness_tokenizer, 70.0),
    "correctness_brainomni": Stage(correctness_brainomni, 60.0),
    "waits": Stage(waits, 45.0),
    "speed_tokenizer_64": Stage(lambda setup: speed_of_tokenizer(setup, 64, 32), 40.0),
    "speed_base": Stage(lambda setup: speed(setup, "base", n=16), 40.0),
    "speed_base_compiled": Stage(lambda setup: speed(setup, "base", n=16, compiled=True), 120.0),
    "speed_plain_64": Stage(speed_plain, 40.0),
    "kernels": Stage(kernels, 50.0),
    "speed_tokenizer_64_compiled": Stage(lambda setup: speed_of_tokenizer(setup, 64, 32, compiled=True), 150.0),
    "speed_tokenizer_19": Stage(lambda setup: speed_of_tokenizer(setup, 19, 100), 40.0),
    "speed_tokenizer_306": Stage(lambda setup: speed_of_tokenizer(setup, 306, 6), 40.0),
    "speed_tiny": Stage(lambda setup: speed(setup, "tiny", n=32), 40.0),
    "speed_tiny_compiled": Stage(lambda setup: speed(setup, "tiny", n=32, compiled=True), 120.0),
    "memory": Stage(memory, 45.0),
    "run": Stage(run, 150.0),
    "tokenizing": Stage(tokenizing, 45.0),
}
"""Stages by name, the most valuable first."""


def speed_of_tokenizer(setup: Setup, channels: int, n: int, *, compiled: bool = False) -> Result:
    """Measure a step of the tokenizer of the published size."""
    return speed(setup, "paper", n=n, channels=channels, compiled=compiled)


def run_stages(
    names: Sequence[str], *, device: str, tiny: bool, budget_s: float, limit_s: float | None
) -> list[Result]:
    """Run stages one after another, each in a process of its own, and print the result of each as JSON."""
    ends = time.monotonic() + budget_s
    found = []
    for name in names:
        left = ends - time.monotonic()
        limit = min(STAGES[name].limit_s * (4 if tiny else 1) if limit_s is None else limit_s, left)
        result = {"stage": name, "skipped": "no time left"} if left < 5 else run_stage(name, device, tiny, limit)
        found.append(result)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return found


def run_stage(name: str, device: str, tiny: bool, limit_s: float) -> Result:
    """Run one stage in a process of its own; errors and timeouts are part of the result."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--stage", name, "--device", device]
    command += ["--tiny"] if tiny else []
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, errors = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return {"stage": name, "error": f"not finished within {limit_s:.0f} s"}
    result: Result = {"stage": name, "seconds": round(time.monotonic() - began, 1)}
    if child.returncode:
        return result | {"error": errors.strip()[-1500:] or f"exit code {child.returncode}"}
    return result | json.loads(output.splitlines()[-1])


def main() -> None:
    """Run all stages, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small networks and few repeats, to try the code")
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds for all stages together")
    parser.add_argument("--limit-s", type=float, help="seconds for each stage, in place of its own limit")
    parser.add_argument("--stages", default=",".join(STAGES), help="names, separated by commas")
    parser.add_argument("--stage", choices=tuple(STAGES), help="run this stage in this process")
    asked = parser.parse_args()
    if asked.stage:
        result = STAGES[asked.stage].run(Setup(torch.device(asked.device), asked.tiny))
        sys.stdout.write(json.dumps(result) + "\n")
        return
    names = asked.stages.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"--stages: there is no stage {unknown[0]}; choose from {', '.join(STAGES)}")
    found = run_stages(names, device=asked.device, tiny=asked.tiny, budget_s=asked.budget_s, limit_s=asked.limit_s)
    sys.exit(1 if any("error" in result for result in found) else 0)


if __name__ == "__main__":
    main()
