"""A step has one size, however it is divided; every rank gets the same number of micro-batches, or none starts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.data import SamplingConfig
from emeg.errors import UserError
from emeg.training import PretrainConfig, TrainTokenizerConfig
from emeg.training.division import divide, fit_memory, join_run, micro_batches_of
from emeg.training.product_names import encoder_name, tokenizer_name
from emeg.training.scaling import H100, forecast_step, memory_of, read_counts

PAPER = TrainTokenizerConfig(root="s", recipe="braintokenizer")
BASE = PretrainConfig(root="s", recipe="brainomni-base")
CHANNEL_SECONDS = 512 * 64 * 10
"""Of a step of the paper: 512 segments of 64 channels and 10 s."""


def signal(**sampling):
    return PAPER.model_copy(update={"sampling": SamplingConfig(**sampling)})


def segments(**sizes):
    return BASE.model_copy(update={"step_segments": None, **sizes})


@given(st.integers(1, 512))
def test_the_papers_step_is_shared_by_any_number_of_ranks(ranks):
    divided = divide(PAPER, ranks).sampling
    assert divided.micro_batches % ranks == 0
    assert divided.micro_batches * divided.budget_channel_seconds == pytest.approx(CHANNEL_SECONDS)
    assert divided.budget_channel_seconds <= PAPER.sampling.budget_channel_seconds


@given(st.integers(1, 300))
def test_brainomnis_step_is_shared_in_whole_segments_or_refused(ranks):
    if 256 % ranks:
        with refusal(UserError, f"{ranks} ranks", "256", action="--step-segments"):
            divide(BASE, ranks)
        return
    divided = divide(BASE, ranks)
    assert divided.micro_batches % ranks == 0
    assert divided.micro_batches * divided.batch_segments == 256
    assert divided.batch_segments <= BASE.batch_segments


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16])
def test_ranks_that_divide_the_coarsest_division_train_one_model(ranks):
    tokenizer = PAPER.model_copy(update={"corpus": "c"})
    assert tokenizer_name(divide(tokenizer, ranks)) == tokenizer_name(divide(tokenizer, 1))
    brainomni = BASE.model_copy(update={"tokens": "t"})
    assert encoder_name(divide(brainomni, ranks)) == encoder_name(divide(brainomni, 1))


def test_a_configuration_without_a_step_keeps_its_division():
    config = signal(budget_channel_seconds=12.3, micro_batches=6)
    assert divide(config, 3).sampling == config.sampling
    assert divide(config, 4).sampling.micro_batches == 12
    assert divide(config, 4).sampling.budget_channel_seconds == pytest.approx(6.15)
    assert divide(segments(batch_segments=6, micro_batches=2), 2).batch_segments == 6


def test_less_memory_or_a_larger_step_is_more_micro_batches():
    halved = signal(step_channel_seconds=CHANNEL_SECONDS, budget_channel_seconds=10_240)
    assert divide(halved, 1).sampling.micro_batches == 32
    doubled = signal(step_channel_seconds=2 * CHANNEL_SECONDS, budget_channel_seconds=20_480)
    assert divide(doubled, 1).sampling.micro_batches == 32
    uneven = signal(step_channel_seconds=1000, budget_channel_seconds=300)
    assert (divide(uneven, 1).sampling.micro_batches, divide(uneven, 1).sampling.budget_channel_seconds) == (4, 250)
    assert divide(segments(step_segments=512, batch_segments=16), 1).micro_batches == 32


@pytest.mark.parametrize("ranks", [3, 48, 100, 512])
def test_every_value_that_a_refusal_names_fits(ranks):
    with refusal(UserError, f"{ranks} ranks", action="--step-segments") as caught:
        divide(BASE, ranks)
    numbers = re.search(r"Use one of ([\d, ]+) ranks", str(caught.value))
    steps = re.search(r"--micro-batches 1 --step-segments ([\d or]+)$", str(caught.value))
    assert numbers
    assert steps
    for number in map(int, numbers[1].split(", ")):
        assert micro_batches_of(divide(BASE, number)) % number == 0
    for size in map(int, steps[1].split(" or ")):
        other = BASE.model_copy(update={"step_segments": size, "micro_batches": 1})
        assert micro_batches_of(divide(other, ranks)) % ranks == 0


def test_ranks_join_the_division_of_a_run_that_they_can_share():
    """Started on 64 ranks, continued on 8, which alone would divide into 16."""
    began = divide(PAPER, 64)
    assert began.sampling.micro_batches == 64
    assert join_run(PAPER, 8, exists=lambda one: one == began) == began
    assert join_run(PAPER, 8, exists=lambda one: False) == divide(PAPER, 8)
    assert join_run(BASE, 8, exists=lambda one: one.micro_batches == 32).batch_segments == 8
    # 48 ranks cannot take over 64 micro-batches
    assert join_run(PAPER, 48, exists=lambda one: one == began) == divide(PAPER, 48)


FOR_GPUS = ("braintokenizer", "braintokenizer-emeg-base", "brainomni-tiny", "brainomni-base")
"""Recipes that are too large for CPUs."""


def largest_units(config):
    return config.batch_segments if isinstance(config, PretrainConfig) else config.sampling.budget_channel_seconds


def recipe(name):
    config_class = PretrainConfig if name.startswith("brainomni") else TrainTokenizerConfig
    return config_class(root="s", recipe=name)


def counts_of(config):
    return read_counts()[config.encoder if isinstance(config, PretrainConfig) else config.tokenizer][config.network]


@pytest.mark.parametrize("name", FOR_GPUS)
def test_the_largest_micro_batch_of_a_recipe_takes_half_of_a_gpu_of_80_gb_and_fits(name):
    config = recipe(name)
    memory = memory_of(counts_of(config), largest_units(config))
    assert 0.5 <= (memory.state_gib + memory.activations_gib) * 2**30 / H100.memory <= 0.8
    assert fit_memory(config, memory_gib=H100.memory / 2**30) == config


@pytest.mark.parametrize("name", FOR_GPUS)
def test_more_micro_batches_than_memory_needs_cost_little_and_let_eight_gpus_train_the_same_model(name):
    """The least number of micro-batches caps what a micro-batch takes of the memory; this is the reason for it."""
    config = recipe(name)
    counts = counts_of(config)
    chosen = micro_batches_of(divide(config, 1))
    assert chosen % 8 == 0
    whole = chosen * largest_units(divide(config, 1))
    fewest = whole / largest_units(config)
    one_gpu = [forecast_step(counts, gpus=1, micro_batches=n, units=whole / n).step_ms for n in (chosen, round(fewest))]
    assert one_gpu[1] > 0.95 * one_gpu[0]


@pytest.mark.parametrize("name", FOR_GPUS)
@pytest.mark.parametrize(("memory_gib", "is_bf16"), [(4, True), (24, True), (32, False), (80, True)])
def test_a_smaller_gpu_gets_smaller_micro_batches_of_the_same_step(name, memory_gib, is_bf16):
    config = recipe(name)
    counts = counts_of(config)
    divided = divide(fit_memory(config, memory_gib=memory_gib, is_bf16=is_bf16), 1)
    memory = memory_of(counts, largest_units(divided) * (1 if is_bf16 else 2))
    assert memory.state_gib + memory.activations_gib < memory_gib
    before = divide(config, 1)
    assert micro_batches_of(divided) * largest_units(divided) == pytest.approx(
        micro_batches_of(before) * largest_units(before)
    )
    assert micro_batches_of(divided) >= micro_batches_of(before)
    if (memory_gib, is_bf16) == (4, True):
        assert micro_batches_of(divided) > micro_batches_of(before)


def test_a_network_that_was_not_counted_keeps_its_micro_batches():
    own = BASE.model_copy(update={"overrides": {"lm_dim": 1024}})
    assert fit_memory(own, memory_gib=1.0) == own
