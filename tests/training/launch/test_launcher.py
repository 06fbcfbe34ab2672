import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from tests.messages import refusal

from emeg.config import Config
from emeg.errors import MachineError, StoppedError, TransientError, UserError, naming_path
from emeg.training import PretrainConfig
from emeg.training.launch import worker
from emeg.training.launch.launcher import ALLOCATOR, LAUNCHER, _starter, is_launched, launch


class Empty(Config):
    pass


CONFIG = PretrainConfig(root="store")


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Start a script of the test instead of the worker; it gets (verb, config, result)."""

    def use(script):
        path = tmp_path / "child.py"
        path.write_text("import json, os, sys\nmodule, verb, asked, answer = sys.argv[1:]\n" + script)
        monkeypatch.setattr("emeg.training.launch.launcher._starter", lambda *_: [sys.executable, str(path)])
        monkeypatch.setattr("emeg.training.launch.launcher.WORKER", ("worker",))

    return use


def test_result_and_progress_come_back(child):
    child(
        'print(\'@progress {"done": 3, "total": 7, "message": "half"}\')\n'
        "print('a line')\n"
        "json.dump({'result': {'verb': verb, 'malloc': os.environ['MALLOC_MMAP_MAX_']}}, open(answer, 'w'))\n"
    )
    heard = []
    result = launch("pretrain", CONFIG, progress=lambda *a: heard.append(a))
    assert result == {"verb": "pretrain", "malloc": ALLOCATOR["MALLOC_MMAP_MAX_"]}
    assert heard == [(3, 7, "half")]


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("UserError", UserError, 2),
        ("TransientError", TransientError, 75),
        ("StoppedError", StoppedError, 75),
        ("MachineError", MachineError, 2),
    ],
)
def test_our_errors_keep_their_class_and_text(child, kind, error, code):
    child(
        f"json.dump({{'error': {{'kind': {kind!r}, 'message': 'what: why'}}}}, open(answer, 'w'))\nsys.exit({code})\n"
    )
    with pytest.raises(error, match=r"^what: why$"):
        launch("pretrain", CONFIG)


def test_a_crash_is_reported_with_its_last_line_and_exit_code(child):
    child("print('loading')\nraise MemoryError('no room')\n")
    with pytest.raises(RuntimeError, match=r"exit code 1.*MemoryError: no room"):
        launch("pretrain", CONFIG)


def test_a_killed_child_is_reported(child):
    child("import signal\nprint('step 3', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with refusal(TransientError, "pretrain", "SIGKILL", "step 3", action="same command"):
        launch("pretrain", CONFIG)


def test_a_rank_that_a_signal_ended_is_a_lost_rank_under_torchrun_too(tmp_path, monkeypatch):
    """As NCCL's watchdog ends a rank: SIGABRT, without an answer."""
    path = tmp_path / "child.py"
    path.write_text("import os, time\nif os.environ['RANK'] == '1':\n    os.abort()\ntime.sleep(60)\n")
    monkeypatch.setattr("emeg.training.launch.launcher.WORKER", (str(path),))
    config = PretrainConfig(root="store", processes=2, micro_batches=2)
    with refusal(TransientError, "pretrain", "SIGABRT", action="same command"):
        launch("pretrain", config)


def test_a_crash_in_emeg_is_not_reported_as_a_lost_rank(child):
    child("json.dump({'error': {'kind': 'ValueError', 'message': 'shape'}}, open(answer, 'w'))\nos.abort()\n")
    with pytest.raises(RuntimeError, match="ValueError: shape"):
        launch("pretrain", CONFIG)


def test_worker_answers_with_result_or_error(tmp_path):
    def good(config, progress):
        return Empty()

    def bad(config, progress):
        raise UserError("no such corpus")

    answer = tmp_path / "answer.json"
    assert worker.run(good, Empty(), str(answer), progress=worker.report_progress) == 0
    assert json.loads(answer.read_text()) == {"result": {}}
    answer.unlink()
    assert worker.run(bad, Empty(), str(answer), progress=worker.report_progress) == 2
    assert json.loads(answer.read_text()) == {"error": {"kind": "UserError", "message": "no such corpus"}}


@pytest.mark.parametrize(("rank", "expected"), [("0", ["loss 1", "slow"]), ("1", ["slow"])])
def test_ranks_do_not_repeat_the_lines_of_the_first(tmp_path, rank, expected):
    code = (
        "import logging, sys\nfrom emeg.config import Config\nfrom emeg.training.launch import worker\n"
        "class Empty(Config):\n    pass\n"
        "def verb(config, *, progress):\n"
        "    logging.getLogger('emeg').info('loss 1')\n    logging.getLogger('emeg').warning('slow')\n"
        "    return Empty()\n"
        "worker.find_verb = lambda name: (Empty, verb)\nworker.attend = lambda folder: None\n"
        "sys.exit(worker.main(sys.argv[1:]))\n"
    )
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-c", code, "verb", str(tmp_path / "config.json"), str(tmp_path / "answer.json")]
    done = subprocess.run(command, env=os.environ | {"RANK": rank}, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == expected


def test_torchrun_is_recognised():
    assert is_launched({"RANK": "0", "WORLD_SIZE": "2"})
    assert not is_launched({"SLURM_NTASKS": "2"})


def test_signals_reach_the_ranks_and_the_launcher_waits_for_them(tmp_path):
    """The launcher gets a stop signal; its rank gets it too, ends after a while, and requests a restart."""
    rank = tmp_path / "rank.py"
    rank.write_text(
        "import json, signal, sys, time\nfrom pathlib import Path\n"
        "from emeg.training.launch.worker import attend\n"
        "asked, answer = sys.argv[-2:]\n"
        "def stop(number, frame):\n"
        "    time.sleep(1.0)\n"
        "    said = {'kind': 'StoppedError', 'message': f'signal {number}'}\n"
        "    Path(answer).write_text(json.dumps({'error': said}))\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "attend(Path(asked).parent)\n"
        'print(\'@progress {"done": 1, "total": 2, "message": ""}\', flush=True)\n'
        "time.sleep(60)\n"
    )
    launcher = (
        "import sys\nfrom emeg.training import PretrainConfig\nfrom emeg.training.launch import launcher\n"
        "from emeg.errors import StoppedError\n"
        f"launcher._starter = lambda *_: [sys.executable, {str(rank)!r}]\n"
        "launcher.WORKER = ()\n"
        "try:\n"
        "    launcher.launch('pretrain', PretrainConfig(root='x'), progress=lambda *a: print('up', flush=True))\n"
        "except StoppedError as error:\n"
        "    print(error)\n"
        "    sys.exit(75)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert (child.returncode, said) == (75, "signal 15\n")


def test_the_handler_of_the_caller_ends_the_run_when_the_ranks_have_ended(child, monkeypatch):
    """Prefect's handler must be called at the end, because it sets the state Cancelled or Crashed."""
    child(
        "import signal, time\n"
        "def stop(number, frame):\n    time.sleep(0.5)\n    print('saved', flush=True)\n    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        'print(\'@progress {"done": 1, "total": 2, "message": ""}\', flush=True)\n'
        "time.sleep(60)\n"
    )

    class EngineError(BaseException):
        pass

    def end_of_engine(number, frame):
        raise EngineError(number)

    former = signal.signal(signal.SIGTERM, end_of_engine)
    try:
        with pytest.raises(EngineError):
            launch("pretrain", CONFIG, progress=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_full_disk_in_a_rank_is_an_error_of_the_machine_with_its_path(tmp_path):
    def full(config, progress):
        with naming_path("/data/checkpoints/last.ckpt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    answer = tmp_path / "answer.json"
    assert worker.run(full, Empty(), str(answer), progress=worker.report_progress) == 2
    error = json.loads(answer.read_text())["error"]
    assert error["kind"] == "MachineError"
    assert "/data/checkpoints/last.ckpt" in error["message"]
    assert "make room" in error["message"]


def test_an_orphan_ends_itself(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / LAUNCHER).write_bytes(dead.stdout.strip())
    code = "import time\nfrom pathlib import Path\nfrom emeg.training.launch.worker import attend\n"
    code += f"attend(Path({str(tmp_path)!r}))\ntime.sleep(60)\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM


def test_several_machines_need_a_place_to_meet():
    with refusal(UserError, "nodes=2", action="--rendezvous host:port"):
        _starter("pretrain", PretrainConfig(root="x", nodes=2))
    command = _starter("pretrain", PretrainConfig(root="x", nodes=2, processes=4, rendezvous="a:1234"))
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=a:1234"} <= set(command)


def test_the_first_message_of_a_rank_is_kept(tmp_path):
    def bad(config, progress):
        raise UserError("the cause")

    def after(config, progress):
        raise TransientError("the consequence")

    answer = str(tmp_path / "answer.json")
    worker.run(bad, Empty(), answer, progress=worker.report_progress)
    worker.run(after, Empty(), answer, progress=worker.report_progress)
    assert "the cause" in (tmp_path / "answer.json").read_text()


def test_progress_whose_reader_is_gone_does_not_end_the_rank(tmp_path):
    """The launcher was killed: the rank must live to write its checkpoint."""
    code = (
        "import os, sys\nfrom emeg.training.launch.worker import report_progress\n"
        "reader, writer = os.pipe()\nos.dup2(writer, 1)\nos.close(writer)\nos.close(reader)\n"
        "report_progress(1, 2, 'x')\nreport_progress(2, 2, 'x')\nopen(sys.argv[1], 'w').write('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "alive"
