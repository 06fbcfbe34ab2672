import json
import time
from pathlib import Path

import pytest
from tests.messages import refusal
from tests.small_models import SMALL

from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.loop.rank import RunContext
from emeg.training.loop.save_checkpoints import SaveCheckpoints
from emeg.training.loop.watchdog import (
    BACKWARD,
    FORWARD,
    PHASES,
    SAVING,
    UPDATING,
    VALIDATING,
    WAITING,
    LostRankError,
    Watchdog,
    name_lagging,
)
from emeg.training.stages.tokenizer_training import TokenizerTraining

NOW = 1000.0


def sign(rank, *, n_batches=5, phase=BACKWARD, silent_s=1.0):
    return {
        "rank": rank,
        "host": f"node{rank}",
        "n_batches": n_batches,
        "phase": phase,
        "step": 7,
        "still_s": 60.0,
        "written": NOW - silent_s,
    }


def test_a_rank_that_died_is_named():
    said = name_lagging([sign(0), sign(1, silent_s=40.0), sign(2)], 3, now=NOW)
    assert "rank 1 on node1" in said
    assert "40 s" in said
    assert "rank 0" not in said
    assert "rank 1" in name_lagging([sign(0)], 2, now=NOW)


@pytest.mark.parametrize(
    ("late", "what"),
    [
        ({"phase": WAITING}, "waits for data"),
        ({"phase": FORWARD}, "computes the loss"),
        ({"n_batches": 4}, "gradients"),
        ({"phase": VALIDATING}, "validates"),
        ({"phase": SAVING}, "writes a checkpoint"),
    ],
)
def test_a_rank_that_hangs_is_named_with_what_it_does(late, what):
    said = name_lagging([sign(0), sign(1), sign(2, **late)], 3, now=NOW)
    assert said.startswith("rank 2 on node2 lags")
    assert what in said


def test_where_all_live_and_wait_it_is_the_network():
    assert "network" in name_lagging([sign(0), sign(1)], 2, now=NOW)


def test_a_broken_collective_becomes_an_error_that_names_the_rank(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda s: None)
    monkeypatch.setattr("threading.Timer.start", lambda self: None)
    watchdog = Watchdog(RunContext(tmp_path, 0, 2), stall_after_s=60.0)
    (tmp_path / "heartbeats").mkdir()
    other = sign(1) | {"written": time.time() - 30}
    (tmp_path / "heartbeats" / "rank-00001.json").write_text(json.dumps(other))
    with (
        refusal(LostRankError, "rank 1", "node1", action="same command"),
        watchdog.naming_lost_ranks(),
    ):
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), watchdog.naming_lost_ranks():
        raise RuntimeError("shape '[2]' is invalid")


def test_a_rank_that_cannot_move_leaves_word_and_ends(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr("emeg.training.loop.watchdog.os._exit", lambda code: ended.append(code))
    watchdog = Watchdog(RunContext(Path(tmp_path), 0, 1), stall_after_s=0.2)
    watchdog.setup(None, None, "fit")
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
    watchdog.on_fit_end(None, None)
    assert ended[0] == 75
    assert "no progress" in (tmp_path / "heartbeats" / "rank-00000.lost").read_text()


def test_the_watchdog_knows_what_a_training_does(root, tmp_path, monkeypatch):
    """The phase is read inside each of them: the loss, the backward pass, the optimiser, a checkpoint, validation."""
    seen = []

    def look(where, inner):
        def wrapped(self, *given, **named):
            trainer = getattr(self, "trainer", None) or given[0]
            (watchdog,) = (c for c in trainer.callbacks if isinstance(c, Watchdog))
            seen.append((where, watchdog._phase))
            return inner(self, *given, **named)

        return wrapped

    for owner, name in (
        (TokenizerTraining, "training_step"),
        (TokenizerTraining, "on_after_backward"),
        (TokenizerTraining, "follow"),
        (TokenizerTraining, "on_save_checkpoint"),
        (TokenizerTraining, "validation_step"),
        (SaveCheckpoints, "on_train_batch_end"),
    ):
        monkeypatch.setattr(owner, name, look(name, getattr(owner, name)))
    train_tokenizer(
        TrainTokenizerConfig(
            root=root,
            overrides=SMALL,
            sampling={"budget_channel_seconds": 60, "crop_s": 2.0, "micro_batches": 2},
            steps=4,
            validate_every=2,
            checkpoint_every=1,
            seed=77,
            run_dir=str(tmp_path),
            device="cpu",
            launched=False,
        )
    )
    expected = {
        "training_step": FORWARD,
        "on_after_backward": BACKWARD,
        "follow": UPDATING,
        "validation_step": VALIDATING,
        "on_train_batch_end": WAITING,
    }
    final = max(i for i, (where, _) in enumerate(seen) if where == "follow")
    for where, phase in seen[:final]:
        if where in expected:
            assert PHASES[phase] == PHASES[expected[where]], where
    assert {where for where, _ in seen} == {*expected, "on_save_checkpoint"}
