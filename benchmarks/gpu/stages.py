"""Stages of the measurement, the most valuable first."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.gpu.ceilings import ceilings
from benchmarks.gpu.commands import run, tokenizing
from benchmarks.gpu.correctness import correctness_brainomni, correctness_tokenizer
from benchmarks.gpu.device import Result, Setup
from benchmarks.gpu.inspection import kernels, memory, waits
from benchmarks.gpu.speed import speed, speed_plain
from benchmarks.gpu.trainer_overhead import trainer_overhead


class Stage(NamedTuple):
    """Piece of the measurement."""

    run: Callable[[Setup], Result]
    limit_s: float
    """Seconds after which it is killed."""


def speed_of_tokenizer(setup: Setup, channels: int, n: int, *, compiled: bool = False) -> Result:
    """Measure a step of the tokenizer of the published size."""
    return speed(setup, "paper", n=n, channels=channels, compiled=compiled)


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
    "trainer_overhead": Stage(trainer_overhead, 60.0),
    "memory": Stage(memory, 45.0),
    "run": Stage(run, 150.0),
    "tokenizing": Stage(tokenizing, 45.0),
}
"""Stages by name, the most valuable first."""
