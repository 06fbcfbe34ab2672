"""One caller at a time holds a lock, and a lock ends with its holder."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emeg.locks import locked

SOURCES = Path(__file__).parents[1] / "src" / "emeg"

HOLDER = """
import sys, time
from pathlib import Path
from emeg.locks import locked
with locked(Path(sys.argv[1])) as held:
    print("held" if held else "refused", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock ``locks/one``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "locks" / "one")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_is_kept_out_until_the_holder_dies(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with locked(tmp_path / "locks" / "one") as held:
        assert not held
    with locked(tmp_path / "locks" / "two") as held:
        assert held
    holder.kill()
    holder.wait()
    with locked(tmp_path / "locks" / "one") as held:
        assert held


def test_one_process_excludes_itself(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), locked(tmp_path / "lock") as held:
        assert not held
    with locked(tmp_path / "lock") as held:
        assert held


def test_a_waiting_caller_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with locked(tmp_path / "lock", wait=True) as held:
            order.append(("second", held))

    with locked(tmp_path / "lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        order.append(("first", True))
    waiting.join(10)
    assert order == [("first", True), ("second", True)]


def test_the_file_goes_when_asked_and_the_lock_stays_exclusive(tmp_path: Path) -> None:
    """Eight threads in turn lock a file that each of them removes; a counter shows any overlap."""
    inside, most = [0], [0]
    guard = threading.Lock()

    def turn() -> None:
        for _ in range(20):
            with locked(tmp_path / "folder" / "lock", wait=True, remove=True):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert not (tmp_path / "folder" / "lock").exists()


def test_a_folder_removed_while_it_is_created_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mkdir` finds a folder that another process removes before `mkdir` can look what it found."""
    original, calls = Path.mkdir, []

    def mkdir(path: Path, *args: object, **options: object) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(17, "File exists", str(path))
        original(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with locked(tmp_path / "folder" / "lock", wait=True) as held:
        assert held
    assert len(calls) >= 2


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(FileExistsError), locked(tmp_path / "folder" / "lock", wait=True):
        pass


def test_an_error_in_the_block_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), locked(tmp_path / "lock"):
        raise ValueError("mine")
    with locked(tmp_path / "lock") as held:
        assert held


def test_no_module_locks_by_itself() -> None:
    calls = re.compile(r"\bflock\(|\blockf\(|import fcntl|FileLock\(")
    found = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py") if calls.search(path.read_text("utf-8"))}
    assert found == {"locks.py"}
