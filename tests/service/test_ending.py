"""A process of the service that has received a stop signal is not taken for a running one."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from emeg.service.ending import is_ending, note_ending

CODE = """
import sys
from pathlib import Path
from emeg.service.ending import note_ending
sys.stdin.readline()
note_ending(Path(sys.argv[1]))
print("noted", flush=True)
sys.stdin.readline()
"""


def test_a_process_is_ending_from_its_note_on(tmp_path: Path):
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = psutil.Process(child.pid)
    assert not is_ending(tmp_path, process)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "noted\n"
    assert is_ending(tmp_path, process)
    child.communicate("\n")


def test_the_note_of_an_earlier_process_with_the_same_number_is_ignored(tmp_path: Path):
    note_ending(tmp_path)
    (file,) = (tmp_path / "emeg" / "ending").iterdir()
    process = psutil.Process()
    before = process.create_time() - 60
    os.utime(file, (before, before))
    assert not is_ending(tmp_path, process)
