import json
import time
from pathlib import Path

import pytest

from emeg.training.loop.rank import RunContext
from emeg.training.loop.watchdog import BACKWARD, FORWARD, WAITING, LostRankError, Watchdog, name_lagging

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
    assert "rank 1 on node1 gives no sign of life since 40 s" in said
    assert "rank 0" not in said
    assert "rank 1 has never" in name_lagging([sign(0)], 2, now=NOW)


@pytest.mark.parametrize(
    ("late", "what"),
    [
        ({"phase": WAITING}, "waits for data"),
        ({"phase": FORWARD}, "computes the loss"),
        ({"n_batches": 4}, "gradients"),
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
        pytest.raises(LostRankError, match=r"rank 1 on node1 gives no sign of life since 3\d s"),
        watchdog.naming_lost_ranks(),
    ):
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), watchdog.naming_lost_ranks():
        raise RuntimeError("shape '[2]' is invalid")


def test_a_rank_that_cannot_move_leaves_word_and_ends(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr("emeg.training.loop.watchdog.os._exit", lambda code: ended.append(code))
    monkeypatch.setattr("emeg.training.loop.watchdog.GRACE_S", 0.2)
    watchdog = Watchdog(RunContext(Path(tmp_path), 0, 1), stall_after_s=0.2)
    watchdog.setup(None, None, "fit")
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
    watchdog.on_fit_end(None, None)
    assert ended[0] == 75
    assert "no progress" in (tmp_path / "heartbeats" / "rank-00000.lost").read_text()
