"""The forecast for many GPUs against counts, and against the collectives of two real ranks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks._training_modules import TOKENIZER_OF
from benchmarks.device_costs import BUDGETS
from tests.messages import refusal

from emeg.errors import UserError
from emeg.models import PRESETS, BrainOmni
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.training.scaling import (
    H100,
    collective_bytes,
    count_buckets,
    forecast_step,
    forecast_training,
    memory_of,
    read_counts,
)

ROOT = Path(__file__).parents[2]
BASE = {"micro_batches": 16, "units": 16.0}
TOKENIZER = {"micro_batches": 16, "units": 20_480.0, "bytes_per_unit": 512.0}
"""Channel-seconds; a second of a channel is stored in 256 numbers of two bytes."""
budgets = json.loads(BUDGETS.read_bytes())
counts = read_counts()


def test_every_preset_was_counted():
    assert set(counts["braintokenizer"]) == set(TOKENIZERS)
    assert set(counts["brainomni"]) == set(PRESETS)


@pytest.mark.parametrize(
    ("kind", "network", "stage", "units"),
    [
        ("brainomni", "base", "brainomni base", 2.0),
        ("brainomni", "tiny", "brainomni tiny", 2.0),
        ("brainomni", "nano", "brainomni nano", 2.0),
        ("braintokenizer", "paper", "tokenizer paper 64 channels", 1280.0),
        ("braintokenizer", "nano", "tokenizer nano 16 channels", 320.0),
        ("braintokenizer", "emeg-base", "tokenizer emeg-base 64 channels", 1280.0),
    ],
)
def test_counts_are_those_of_the_fake_device(kind, network, stage, units):
    """The budgets are measured at two segments, the counts fitted to 2 and 16, of 64 channels for a tokenizer."""
    found, counted = counts[kind][network], budgets[stage]["micro_batch"]
    assert found.kernels == counted["kernels"]
    assert found.kernels_step == budgets[stage]["step"]["kernels"]
    assert found.fixed_ms + found.unit_ms * units == pytest.approx(counted["device_ms"], rel=0.1)
    assert found.fixed_mib + found.unit_mib * units == pytest.approx(counted["peak_mib"], rel=0.25)


def test_counts_are_those_of_the_present_networks():
    """Without this, counts from before a change of a network would stay unnoticed until they are taken again."""
    for preset, config in TOKENIZERS.items():
        network, counted = BrainTokenizer(config), counts["braintokenizer"][preset]
        assert counted.parameters == sum(p.numel() for p in network.parameters() if p.requires_grad), preset
        numbers = sum(len(book.embed) + 2 * book.embed.numel() for book in network.quantizer.codebooks)
        assert counted.codebook_numbers == numbers, preset
    for size, config in PRESETS.items():
        tokenizer = BrainTokenizer(TOKENIZERS[TOKENIZER_OF.get(size, "paper")]).requires_grad_(False)
        learning = [p for p in BrainOmni(config, tokenizer).parameters() if p.requires_grad]
        assert counts["brainomni"][size].parameters == sum(p.numel() for p in learning), size


def test_base_is_expected_to_reach_29_percent_of_the_peak_with_compiled_blocks():
    """Eager, memory traffic of element-wise kernels bounds it; with all of them fused, at most 45 %."""
    eager = forecast_step(counts["brainomni"]["base"], gpus=1, **BASE)
    compiled = forecast_step(counts["brainomni"]["base"], gpus=1, compiled=True, **BASE)
    assert 0.15 < eager.mfu < compiled.mfu
    assert compiled.mfu >= 0.29
    assert {eager.bound, compiled.bound} == {"device"}  # neither waits for the host


def test_one_gpu_takes_the_time_of_its_kernels():
    base = counts["brainomni"]["base"]
    found = forecast_step(base, gpus=1, **BASE)
    kernels_ms = 16 * (base.fixed_ms + 16 * base.unit_ms)
    assert kernels_ms < found.step_ms < 1.01 * kernels_ms + 1
    assert found.mfu == pytest.approx(256 * base.unit_gflop * 1e9 / (found.step_ms * 1e-3 * H100.peak))
    assert found.exchange_ms == 0
    assert found.efficiency == 1


def test_more_gpus_are_faster_and_less_efficient_until_the_host_or_the_network_is_the_bound():
    base = counts["brainomni"]["base"]
    found = [forecast_step(base, gpus=n, **BASE) for n in (1, 8, 64, 256)]
    assert [one.step_ms for one in found] == sorted((one.step_ms for one in found), reverse=True)
    assert [one.efficiency for one in found] == sorted((one.efficiency for one in found), reverse=True)
    assert found[1].efficiency > 0.9
    assert found[-1].bound in {"host", "exchange"}
    # a ring sends 2 (n - 1) / n of the bytes
    gradients = 4 * base.parameters
    assert found[2].exchange_ms >= 1e3 * 2 * 63 / 64 * gradients / H100.network


PAGE = {
    "base": ("brainomni", "base", {**BASE, "least_units": 1.0}),
    "tiny": ("brainomni", "tiny", {"micro_batches": 8, "units": 32.0, "least_units": 1.0}),
    "tokenizer": ("braintokenizer", "paper", TOKENIZER),
    "emeg-base": ("braintokenizer", "emeg-base", TOKENIZER),
}
"""Names of the page's table: kind, preset, and the step of its recipe."""


def test_the_table_of_the_page_is_the_forecast():
    text = (ROOT / "docs/explanation/scaling.md").read_text()
    rows = re.findall(
        r"^\| ([\w-]+) \| (\d+) \| ([\d.]+), (\d+) %, ([\d.]+) \| ([\d.]+), (\d+) %, ([\d.]+) \|", text, re.M
    )
    assert {row[0] for row in rows} == set(PAGE)
    for name, gpus, *written in rows:
        kind, preset, step = PAGE[name]
        for is_compiled, given in ((False, written[:3]), (True, written[3:])):
            found = forecast_step(counts[kind][preset], gpus=int(gpus), compiled=is_compiled, **step)
            ms, percent, efficiency = (float(value) for value in given)
            place = f"{name}, {gpus} GPUs, compiled: {is_compiled}"
            assert found.bound != "step", place
            assert ms == pytest.approx(found.step_ms, rel=0.015), place
            assert percent == pytest.approx(100 * found.mfu, abs=0.51), place
            assert efficiency == pytest.approx(found.efficiency, abs=0.0051), place


def test_a_step_with_fewer_segments_than_gpus_is_the_bound():
    found = forecast_training("brainomni", "base", gpus=256, bytes_per_step=0.0, **BASE)
    assert found.steps["512"]["bound"] == "step"
    assert found.steps["256"]["bound"] != "step"
    assert set(found.steps) == {f"{n}{kind}" for n in (1, 8, 64, 256, 512) for kind in ("", " compiled")}


def test_a_slow_bucket_is_the_bound():
    tokenizer = counts["braintokenizer"]["paper"]
    given = {"micro_batches": 16, "units": 20480.0, "bytes_per_unit": 512.0}
    assert forecast_step(tokenizer, gpus=8, **given).bound == "device"
    slow = forecast_step(tokenizer, gpus=8, hardware=H100._replace(bucket=50e6), **given)
    assert slow.bound == "data"
    assert slow.step_ms == pytest.approx(1e3 * 327680 * 512 / 50e6)


def test_memory_grows_with_the_micro_batch_and_the_largest_fits():
    base = counts["brainomni"]["base"]
    memory = memory_of(base, 16.0)
    assert memory.state_gib == pytest.approx(20 * base.parameters / 2**30)
    assert 9 < memory.activations_gib < 11
    largest = memory_of(base, memory.largest_micro_batch)
    assert largest.state_gib + largest.activations_gib < 0.9 * H100.memory / 2**30
    above = memory_of(base, memory.largest_micro_batch + 1)
    assert above.state_gib + above.activations_gib > 0.9 * H100.memory / 2**30


def test_a_network_that_was_not_counted_is_refused():
    with refusal(UserError, "network='own'", action="base"):
        forecast_training("brainomni", "own", gpus=8, micro_batches=1, units=1.0, bytes_per_step=0.0)


def test_two_ranks_exchange_the_bytes_that_the_forecast_says(tmp_path):
    """Rank 0 of two real ranks reports every all-reduce of two steps: gradients in buckets, codebooks in one."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("scaling_ranks.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_bytes())
    own = counts["braintokenizer"]["nano"].model_copy(
        update={"parameters": report["parameters"], "codebook_numbers": report["codebook_numbers"]}
    )
    gradients, codebooks = collective_bytes(own)
    assert count_buckets(gradients) == 1
    assert report["sizes"] == [gradients // 4, codebooks // 8, *report["logged"]] * 2  # float32, int64


def test_the_counts_of_codebooks_are_those_that_ranks_exchange():
    sizes = TOKENIZERS["paper"]
    per_book = sizes.codebook_size * (1 + 2 * sizes.codebook_dim)  # counts, sums, replacements
    assert counts["braintokenizer"]["paper"].codebook_numbers == sizes.num_quantizers * per_book
