"""The benchmark for a GPU, in its tiny form on the CPU: every stage answers, and a stage that fails stops no other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.gpu.commands import run
from benchmarks.gpu.device import Setup
from benchmarks.gpu.stages import STAGES

ROOT = Path(__file__).parents[2]
TINY = Setup(torch.device("cpu"), tiny=True)
ANSWERS = {
    "ceilings": {"gemm_bf16_tflops", "gemm_float32_tflops", "copy_gb_s", "launch_us"},
    "waits": {"waits", "places"},
    "speed_tokenizer_64": {"ms", "segments_per_s", "mfu", "peak_gib", "first_step_s"},
    "speed_base": {"ms", "segments_per_s", "mfu", "peak_gib", "first_step_s"},
    "speed_plain_64": {"ms", "segments_per_s"},
    "kernels": {"top_base", "top_paper"},
    "memory": {"peak_gib", "forecast_gib"},
    "trainer_overhead": {"bare_ms", "trainer_ms", "ratio"},
    "tokenizing": {"segments_per_s_8"},
}


@pytest.fixture(autouse=True)
def settings_restored():
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn
    torch.use_deterministic_algorithms(mode=False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def run_benchmark(*options, limit_s=300):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_most_valuable_stages_come_first():
    names = list(STAGES)
    order = ["ceilings", "correctness_tokenizer", "waits", "speed_base", "kernels", "memory", "run", "tokenizing"]
    assert sorted(order, key=names.index) == order
    compiled = {name for name in names if name.endswith("_compiled")}
    assert {"speed_base_compiled", "speed_tiny_compiled", "speed_tokenizer_64_compiled"} == compiled
    assert {f"speed_tokenizer_{n}" for n in (19, 64, 306)} < set(names)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stage_answers_in_its_tiny_form(name):
    found = STAGES[name].run(TINY)
    assert ANSWERS[name] <= found.keys()
    assert json.loads(json.dumps(found)) is not None
    if "ms" in found:
        assert found["ms"] > 0


@pytest.mark.parametrize("name", ["correctness_tokenizer", "correctness_brainomni"])
def test_on_a_cpu_float32_agrees_with_itself_and_bf16_nearly(name):
    found = STAGES[name].run(TINY)
    assert found["loss_float32"] == found["loss_cpu"]
    assert found["loss_bf16"] == pytest.approx(found["loss_cpu"], rel=0.02)
    assert found["loss_bf16"] != found["loss_cpu"]
    assert found["cosine_float32"] == pytest.approx(1.0, abs=1e-6)
    assert 0.9 < found["cosine_bf16"] < 1.0
    assert found["zeros_float32"] == 0.0
    assert found["bitwise_float32"]
    assert found["bitwise_bf16_deterministic"]
    if "codes_equal" in found:
        assert found["codes_equal"] == 1.0
        nano, own = found["jumps"]["nano"], found["jumps"]["emeg-nano"]
        assert found["cosine_bf16"] == nano["codes_free_with_angles"]["cosine"]
        assert "codes_free_with_angles" not in own  # its spectral term has no angles
        for jumps in (nano, own):
            assert 0 < jumps["codes_changed"] < 0.1  # bf16 moves latents across the borders between codes
            assert jumps["codes_fixed_without_angles"]["cosine"] > jumps["codes_free_without_angles"]["cosine"]
            assert jumps["codes_fixed_without_angles"]["whole"] >= 0.99
        assert nano["codes_fixed_without_angles"]["below"] == 0
        assert own["codes_fixed_without_angles"]["below_share"] < 0.01  # biases of the first layers: sums that cancel
    else:
        assert found["cosine_bf16"] >= 0.99


def test_a_run_is_stopped_by_a_signal_and_resumed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = run(TINY)
    assert found["stopped_with"] == 75
    assert found["resumed_with"] == 0, found["error"]
    assert found["stopped_at"] > 0
    assert found["models"] == 1


def test_a_stage_that_fails_or_hangs_stops_no_other():
    """This build has no CUDA, so that stages on it fail; the limit ends the last."""
    code, found = run_benchmark("--device", "cuda", "--tiny", "--stages", "tokenizing,memory")
    assert code == 1
    assert [result["stage"] for result in found] == ["tokenizing", "memory"]
    assert all("error" in result for result in found)
    code, (hung, skipped) = run_benchmark(
        "--device", "cpu", "--tiny", "--stages", "ceilings,waits", "--limit-s", "0.2", "--budget-s", "5.1"
    )
    assert code == 1
    assert "not finished" in hung["error"]
    assert skipped["skipped"] == "no time left"


def test_one_stage_prints_its_figures():
    code, (found,) = run_benchmark("--device", "cpu", "--tiny", "--stages", "ceilings")
    assert code == 0
    assert found["stage"] == "ceilings"
    assert found["gemm_float32_tflops"] > 0
