"""The README's Python example runs as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
from tests.inference.conftest import brain_like, eeg_info

README = Path(__file__).parents[2] / "README.md"


def test_the_example_runs(model, tmp_path):
    data = np.stack([brain_like(10, 2560, 256.0, seed) for seed in range(6)])
    epochs = mne.EpochsArray(data, eeg_info(256.0), verbose="ERROR")
    epochs.events[:, 2] = np.arange(6) % 2
    epochs.event_id = {"a": 0, "b": 1}
    epochs.save(tmp_path / "imagery-epo.fif", verbose="ERROR")
    shutil.copytree(model, tmp_path / "brainomni")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if "(4, 8, 4)" in line] == ["2.0", "3.5", "5.0", "6.5", "8.0", "9.5"]
