import json

import pytest

from emeg.config import Config
from emeg.errors import TransientError, UserError
from emeg.training import worker
from emeg.training.launching import ALLOCATOR, is_launched, launch


class Empty(Config):
    pass


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Replace the interpreter's start by a script of the test, which gets (verb, config, result)."""

    def use(script):
        path = tmp_path / "child.py"
        path.write_text("import json, os, sys\nmodule, verb, asked, answer = sys.argv[1:]\n" + script)
        import sys

        monkeypatch.setattr("emeg.training.launching._starter", lambda processes: [sys.executable, str(path)])
        monkeypatch.setattr("emeg.training.launching.WORKER", ("worker",))

    return use


def test_result_and_progress_come_back(child):
    child(
        'print(\'@progress {"done": 3, "total": 7, "message": "half"}\')\n'
        "print('a line')\n"
        "json.dump({'result': {'verb': verb, 'malloc': os.environ['MALLOC_MMAP_MAX_']}}, open(answer, 'w'))\n"
    )
    heard = []
    result = launch("pretrain", Empty(), 1, progress=lambda *a: heard.append(a))
    assert result == {"verb": "pretrain", "malloc": ALLOCATOR["MALLOC_MMAP_MAX_"]}
    assert heard == [(3, 7, "half")]


@pytest.mark.parametrize(
    ("kind", "error", "code"), [("UserError", UserError, 2), ("TransientError", TransientError, 75)]
)
def test_our_errors_keep_their_class_and_text(child, kind, error, code):
    child(
        f"json.dump({{'error': {{'kind': {kind!r}, 'message': 'what and why'}}}}, open(answer, 'w'))\n"
        f"sys.exit({code})\n"
    )
    with pytest.raises(error, match=r"^what and why$"):
        launch("pretrain", Empty(), 1)


def test_a_crash_is_told_with_its_last_line_and_exit_code(child):
    child("print('loading')\nraise MemoryError('no room')\n")
    with pytest.raises(RuntimeError, match=r"exit code 1.*MemoryError: no room"):
        launch("pretrain", Empty(), 1)


def test_a_killed_child_is_told(child):
    child("import signal\nprint('step 3', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(RuntimeError, match=r"exit code -9.*step 3"):
        launch("pretrain", Empty(), 1)


def test_worker_answers_with_result_or_error(tmp_path):
    def good(config, progress):
        return Empty()

    def bad(config, progress):
        raise UserError("no such corpus")

    answer = tmp_path / "answer.json"
    assert worker.run(good, Empty(), str(answer), progress=worker.report_progress) == 0
    assert json.loads(answer.read_text()) == {"result": {}}
    assert worker.run(bad, Empty(), str(answer), progress=worker.report_progress) == 2
    assert json.loads(answer.read_text()) == {"error": {"kind": "UserError", "message": "no such corpus"}}


def test_torchrun_is_recognised():
    assert is_launched({"RANK": "0", "WORLD_SIZE": "2"})
    assert not is_launched({"SLURM_NTASKS": "2"})
