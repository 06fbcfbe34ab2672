"""Compare a training step of emeg's tokenizer with that of a plain implementation, in speed and in losses.

Speed: both sides run in one process and one thread in float32, in alternating steps on the same synthetic batch of 2
segments of 64 channels and 10 s. Times are medians of CPU seconds (user and system). Two network sizes are measured
with the default allocator and, in a separate process, with jemalloc. `ratio` and `ratio_jemalloc` are the time of the
plain step divided by emeg's, for the size with the smaller ratio. `ratio_as_run` compares the paper's size as users
run it: emeg's step in a process with the environment that `emeg train-tokenizer` gives its ranks, in which glibc keeps
freed memory, and the plain step in a process without it. `--compiled` adds emeg's step with compiled convolutions; the
compilation takes minutes.

Losses: both sides train with the recipe's warm-up and ramp on new batches of latent sources mixed into sensors, with
the same random draws.

* `loss_gap_10`: largest difference over the first ten steps of both sizes;
* `loss_gap_10_float64`: the same in float64, in which rounding decides fewer choices between nearly equal codes;
* `mean_gap_200`: largest relative difference of running means over 20 steps, in 200 steps of the small size.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import torch
from benchmarks._plain_tokenizer import PlainTokenizer, plain_step
from torch import Tensor

from emeg.tokenizers.braintokenizer import PRESETS, BrainTokenizer, draw_tokenizer_step, parameter_groups
from emeg.training import TrainTokenizerConfig
from emeg.training.launch.launcher import ALLOCATOR
from emeg.training.loop.schedule import loss_ramp, lr_factor

BATCH, CHANNELS, SECONDS, RATE = 2, 64, 10, 256
ROUNDS = {"nano": 7, "paper": 3}
LEARNING_STEPS, MEAN_OVER = 200, 20
JEMALLOC = tuple(
    Path(folder) / "libjemalloc.so.2" for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
)
KEEP_MEMORY = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1"

Batch = tuple[Tensor, Tensor, Tensor]
Step = Callable[[int, Batch], float]


def batches(batch: int, channels: int, seconds: int, *, dtype: torch.dtype = torch.float32) -> Iterator[Batch]:
    """Yield batches of four slow sources mixed into sensors at random positions, with noise."""
    generator = torch.Generator().manual_seed(1)
    n = seconds * RATE
    while True:
        rates = 1 + 12 * torch.rand(batch, 4, 1, generator=generator)
        time_s = torch.arange(n) / RATE
        sources = torch.sin(2 * torch.pi * (rates * time_s + torch.rand(batch, 4, 1, generator=generator)))
        mixing = torch.randn(batch, channels, 4, generator=generator)
        x = mixing @ sources + 0.3 * torch.randn(batch, channels, n, generator=generator)
        x = (x - x.mean(1, keepdim=True)) / x.std((1, 2), keepdim=True)
        pos = torch.cat([torch.randn(batch, channels, 3, generator=generator), torch.zeros(batch, channels, 3)], dim=2)
        yield x.to(dtype), pos.to(dtype), torch.zeros(batch, channels, dtype=torch.long)


def two_sides(preset: str, first: Batch, *, compiled: bool = False) -> tuple[Step, Step, float]:
    """Return emeg's step and the plain step, with equal initial weights, and the CPU seconds that k-means took."""
    torch.manual_seed(0)
    config, dtype = PRESETS[preset], first[0].dtype
    ours = BrainTokenizer(config).train().to(dtype)
    forward_s = []
    for seed in range(3):  # the first pass initialises the codebooks
        began = time.process_time()
        ours.training_loss(*first, generator=torch.Generator().manual_seed(2**31 + seed), follow=False)
        forward_s.append(time.process_time() - began)
    ours.update_codebooks()
    plain = PlainTokenizer(config).train().to(dtype)
    plain.load_state_dict(ours.state_dict())
    if compiled:
        ours.compile_layers()
    recipe = TrainTokenizerConfig(root="", recipe="braintokenizer").optimiser
    rate = {"nano": 2e-3, "paper": 2e-4}[preset]

    def optimiser(
        model: torch.nn.Module, *, fused: bool
    ) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
        groups = parameter_groups(
            model, learning_rate=rate, quantizer_learning_rate=rate, weight_decay=recipe.weight_decay
        )
        adamw = torch.optim.AdamW(groups, betas=recipe.betas, eps=1e-8, fused=fused)
        return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: lr_factor(step, 1500, warmup=0.02))

    our_optimiser, our_schedule = optimiser(ours, fused=True)
    plain_optimiser, plain_schedule = optimiser(plain, fused=False)

    def our_step(step: int, batch: Batch) -> Tensor:
        draw = torch.Generator().manual_seed(step)
        losses = ours.training_loss(*batch, generator=draw, loss_ramp=loss_ramp(step, 300), follow=False)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        our_optimiser.step()
        our_optimiser.zero_grad()
        our_schedule.step()
        ours.update_codebooks()
        return losses.total.detach()

    def the_plain_step(step: int, batch: Batch) -> float:
        draw = torch.Generator().manual_seed(step)
        shape = (len(batch[0]), batch[0].shape[1], batch[0].shape[2] // config.window_length, config.window_length)
        draws = draw_tokenizer_step(draw, shape=shape, device=batch[0].device)
        losses = plain_step(plain, plain_optimiser, batch, draws, draw, loss_ramp(step, 300))
        plain_schedule.step()
        return losses.total

    return our_step, the_plain_step, forward_s[0] - forward_s[2]


def cpu_seconds(step: Step, number: int, batch: Batch) -> float:
    """Return the CPU seconds of one step."""
    began = time.process_time()
    step(number, batch)
    return time.process_time() - began


def speed(preset: str, *, compiled: bool) -> dict[str, float]:
    """Time both sides in alternating steps; the first two steps warm up."""
    batch = next(batches(BATCH, CHANNELS, SECONDS))
    ours, plain, kmeans_s = two_sides(preset, batch, compiled=compiled)
    times = [(cpu_seconds(ours, n, batch), cpu_seconds(plain, n, batch)) for n in range(ROUNDS[preset] + 2)][2:]
    our_s, plain_s = (statistics.median(side) for side in zip(*times, strict=True))
    return {"ours_s": our_s, "plain_s": plain_s, "ratio": plain_s / our_s, "kmeans_s": kmeans_s}


def answer_steps(preset: str, side: str) -> None:
    """Run one step of one side for every line of standard input, and print its CPU seconds."""
    batch = next(batches(BATCH, CHANNELS, SECONDS))
    ours, plain, _ = two_sides(preset, batch)
    step = ours if side == "ours" else plain
    for number, _ in enumerate(sys.stdin):
        sys.stdout.write(f"{cpu_seconds(step, number, batch)}\n")
        sys.stdout.flush()


def as_run(preset: str) -> dict[str, float]:
    """Time both sides in processes and environments of their own, in alternating steps; the first two warm up."""
    command = [sys.executable, "-m", "benchmarks.train_step", "--preset", preset, "--part"]
    with ExitStack() as stack:
        sides = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, side],
                    env=plain_environment() | extra,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            for side, extra in (("ours", ALLOCATOR), ("plain", {}))
        ]
        times = [[next_step(side) for side in sides] for _ in range(ROUNDS[preset] + 2)][2:]
    our_s, plain_s = (statistics.median(side) for side in zip(*times, strict=True))
    return {"ours_s": our_s, "plain_s": plain_s, "ratio": plain_s / our_s}


def next_step(side: subprocess.Popen[str]) -> float:
    """Let a process of `answer_steps` run one step, and return its CPU seconds."""
    if side.stdin is None or side.stdout is None:
        raise RuntimeError("the process has no pipes")
    side.stdin.write("\n")
    return float(side.stdout.readline())


def likeness(
    preset: str, n_steps: int, shape: tuple[int, int, int], *, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Train both sides on the same batches and compare their losses."""
    source = batches(*shape, dtype=dtype)
    ours, plain, _ = two_sides(preset, next(source))
    given = list(itertools.islice(source, n_steps))
    losses = torch.tensor([[float(ours(n, batch)), plain(n, batch)] for n, batch in enumerate(given)])
    gap = (losses[:10, 0] - losses[:10, 1]).abs().max()
    means = losses.unfold(0, min(MEAN_OVER, n_steps), 1).mean(-1)
    apart = ((means[:, 0] - means[:, 1]).abs() / means[:, 1]).max()
    return {"gap_10": float(gap), "mean_gap": float(apart), "first": float(losses[0, 1]), "last": float(means[-1, 1])}


def plain_environment() -> dict[str, str]:
    """Return this process's environment without settings of an allocator."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "LD_PRELOAD"))}


def in_a_process(part: str, preset: str, *, jemalloc: bool, compiled: bool = False) -> dict[str, float]:
    """Run one part in a separate process, with jemalloc or the default allocator."""
    environment = plain_environment()
    if jemalloc:
        library = next(str(path) for path in JEMALLOC if path.exists())
        environment |= {"LD_PRELOAD": library, "MALLOC_CONF": KEEP_MEMORY}
    command = [sys.executable, "-m", "benchmarks.train_step", "--part", part, "--preset", preset]
    command += ["--compiled"] if compiled else []
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    allocator = "jemalloc" if jemalloc else "default"
    print(part, preset, allocator, "compiled" if compiled else "", answer, file=sys.stderr, flush=True)
    return answer


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("speed", "likeness", "ours", "plain"))
    parser.add_argument("--preset", choices=tuple(ROUNDS))
    parser.add_argument("--compiled", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.part in {"ours", "plain"}:
        answer_steps(asked.preset, asked.part)
        return
    if asked.part == "speed":
        print(json.dumps(speed(asked.preset, compiled=asked.compiled)))
        return
    if asked.part == "likeness":
        shape, n_steps = ((4, 16, 2), LEARNING_STEPS) if asked.preset == "nano" else ((1, 16, 4), 10)
        answer = likeness(asked.preset, n_steps, shape)
        answer["gap_10_float64"] = likeness(asked.preset, 10, shape, dtype=torch.float64)["gap_10"]
        print(json.dumps(answer))
        return
    print(json.dumps(measure(compiled=asked.compiled)))


def measure(*, compiled: bool) -> dict[str, object]:
    """Run all parts and return their figures."""
    result: dict[str, object] = {"benchmark": "train_step"}
    for name, jemalloc in (("", False), ("_jemalloc", True)):
        if jemalloc and not any(path.exists() for path in JEMALLOC):
            result["ratio_jemalloc"] = None  # Debian: libjemalloc2
            continue
        sides = {preset: in_a_process("speed", preset, jemalloc=jemalloc) for preset in ROUNDS}
        result[f"ratio{name}"] = round(min(side["ratio"] for side in sides.values()), 2)
        for preset, side in sides.items():
            result |= {f"{key}_{preset}{name}": round(value, 2) for key, value in side.items() if key != "kmeans_s"}
            if not jemalloc:
                result[f"kmeans_s_{preset}"] = round(side["kmeans_s"], 2)
        if compiled:
            side = in_a_process("speed", "paper", jemalloc=jemalloc, compiled=True)
            result[f"ratio_compiled_paper{name}"] = round(side["ratio"], 2)
    result |= {f"{key}_as_run": round(value, 2) for key, value in as_run("paper").items()}
    with ThreadPoolExecutor() as pool:  # losses are not timed
        found = pool.map(lambda preset: in_a_process("likeness", preset, jemalloc=False), ROUNDS)
    alike = dict(zip(ROUNDS, found, strict=True))
    result["kmeans_s"] = result["kmeans_s_paper"]
    for gap in ("gap_10", "gap_10_float64"):
        result[f"loss_{gap}"] = max(side[gap] for side in alike.values())
        result |= {f"loss_{gap}_{preset}": side[gap] for preset, side in alike.items()}
    result["mean_gap_200"] = alike["nano"]["mean_gap"]
    result |= {"loss_first_nano": alike["nano"]["first"], "loss_last_nano": alike["nano"]["last"]}
    return result


if __name__ == "__main__":
    main()
