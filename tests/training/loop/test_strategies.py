"""One rank and two of DDP give the same files; FSDP2 has equal losses, and each resumes from checkpoints of the others.

Collective operations of a step are counted on real ranks.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.messages import check_message

from emeg.training import PretrainConfig
from emeg.training.loop.rank import RunContext
from emeg.training.loop.strategies import make_strategy
from emeg.training.loop.watchdog import EVERY_S

ROOT = Path(__file__).parents[3]


def run_script(name, scratch):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, script, scratch], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((scratch / "report.json").read_text())


def test_ranks_resume_from_the_checkpoint_of_rank_0_or_not_at_all(tmp_path):
    """Each rank has a run folder of its own, as on machines without a common one."""
    report = run_script("node_runs.py", tmp_path)
    assert report["shared"] == {"errors": ["", ""], "finished": True}
    # the best weights lie where rank 0 wrote them, and all ranks validate them at the end
    assert report["best"] == {"errors": ["", ""], "finished": True}
    assert not report["own"]["finished"]
    for error in report["own"]["errors"]:
        assert "last-00000004.ckpt" in error
        check_message(error, "1 of 2 ranks", action="--checkpoints")
        assert "--checkpoints" in error


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "hybrid"])
def test_collectives_end_after_the_watchdog(strategy):
    """NCCL would kill the rank before the watchdog has named what it waits for."""
    config = PretrainConfig(root="store", strategy=strategy, stall_after_s=50.0)
    made = make_strategy(config, RunContext(Path(), 0, 2))
    assert made._timeout.total_seconds() > 50.0 + 2 * EVERY_S


@pytest.mark.slow
def test_a_step_exchanges_everything_once(tmp_path):
    """Two ranks with four micro-batches each; for hybrid sharding, four ranks on two machines with two each.

    Every step is logged here, which needs one all-reduce, and a second one for the tokenizer's latents.
    """
    report = run_script("collective_counts.py", tmp_path)
    of = {name: found["per_step"] for name, found in report.items()}
    assert not any("broadcast" in counts for counts in of.values())  # Lightning's, before every micro-batch
    # gradients in one bucket; counts, sums and replacements of all codebooks together
    assert of["tokenizer ddp"]["all_reduce"] == 1 + 1 + 2
    assert of["tokenizer ddp"]["all_gather"] == 1  # gloo compares the counts of micro-batches in each step
    assert of["brainomni ddp"]["all_reduce"] == 1 + 1
    # gloo sums shards with an all-reduce: two blocks and the rest, the norm of the gradient, the log
    assert of["brainomni fsdp2"]["all_reduce"] == 3 + 1 + 1
    # and once more between machines
    assert of["brainomni hybrid"]["all_reduce"] == 3 + 3 + 1 + 1
    losses = {name: list(found["losses"].values()) for name, found in report.items()}
    assert losses["brainomni fsdp2"] == pytest.approx(losses["brainomni ddp"], rel=1e-5)
    assert losses["brainomni hybrid"] == pytest.approx(losses["brainomni ddp"], rel=1e-5)


def test_a_sharded_step(tmp_path):
    report = run_script("sharded_step.py", tmp_path)
    ones = [[1.0] * 4] * 4
    assert report["not_finite"] == ones  # AdamW reads `found_inf` and changes nothing
    assert all(value < 1.0 for row in report["finite"] for value in row)
    # 1 + 4 · 2^-9 has few enough digits for bf16, which 1 + 2^-9 has not: micro-batches are added in float32
    for name in ("float32", "bf16"):
        assert report[name] == {"gradient": [1.0 + 2.0**-7], "exchanged_early": False}
    assert report["bf16_rounds"]["gradient"] == [1.0]


@pytest.mark.slow
def test_sharded_whole_and_mixed_runs_agree(tmp_path):
    report = run_script("strategy_runs.py", tmp_path)
    steps = [str(step) for step in range(1, 7)]
    for kind in ("tokenizer", "brainomni"):
        assert report[kind]["checkpoints"] == ["last-00000004.ckpt"]
        ddp, fsdp2, mixed = (report[kind]["losses"][name] for name in ("ddp", "fsdp2", "mixed"))
        assert list(ddp) == list(fsdp2) == list(mixed) == steps
        assert report[kind]["losses"]["alone"] == ddp
        assert report[kind]["models"]["alone"] == report[kind]["models"]["ddp"]
        # FSDP2 adds in another order, and a rounding that moves one latent to another code moves the tokenizer's
        # later losses: four steps of it
        compared = steps[:4] if kind == "tokenizer" else steps
        assert [fsdp2[s] for s in compared] == pytest.approx([ddp[s] for s in compared], rel=1e-5)
        assert list(mixed.values()) == pytest.approx(list(fsdp2.values()), rel=1e-5)
