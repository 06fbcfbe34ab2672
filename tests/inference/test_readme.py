"""Python examples of the README and of the guide to trained models run without changes."""

import shutil
import subprocess
import sys

import mne
import numpy as np
import pytest
from tests.inference.conftest import brain_like, eeg_info
from tests.pages import ROOT, python_of


@pytest.fixture
def folder(model, tmp_path):
    """Folder with the files that the examples read: epochs and a model."""
    data = np.stack([brain_like(10, 2560, 256.0, seed) for seed in range(6)])
    epochs = mne.EpochsArray(data, eeg_info(256.0), verbose="ERROR")
    epochs.events[:, 2] = np.arange(6) % 2
    epochs.event_id = {"a": 0, "b": 1}
    epochs.save(tmp_path / "imagery-epo.fif", verbose="ERROR")
    shutil.copytree(model, tmp_path / "brainomni")
    return tmp_path


def printed_by(page, folder):
    code = "\n".join(python_of(ROOT / page))
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_readmes_decoder_is_fitted_and_scored(folder):
    assert 0.0 <= float(printed_by("README.md", folder)[-1]) <= 1.0


def test_the_guides_stream_gives_codes_of_every_window(folder):
    lines = printed_by("docs/how-to/use-a-model.md", folder)
    assert [line.split()[0] for line in lines if "(4, 8, 4)" in line] == ["2.0", "3.5", "5.0", "6.5", "8.0", "9.5"]
