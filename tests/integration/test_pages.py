"""Every command of README and guides runs on the store that the walkthrough made."""

import shutil
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.integration.commands import CommandFolder
from tests.pages import GUIDES, ROOT, commands_of, files_of, named, python_of, why_not_run

from emeg.store import Store, open_recording

SHORTER = {"train-tokenizer": "--steps 60", "pretrain": "--steps 40", "finetune": "--n-folds 3"}
"""Flags with which a command asks for the product that the walkthrough has made, unless the page gives them."""

QUICK_PROBE = "--modes probe --no-random-weights"
"""A task that the walkthrough did not fit is probed only."""


def write_lab_folder(folder: Path) -> None:
    """Write one EDF file and its events as the guide on ingest describes them."""
    names = ["Fp1", "Fp2", "C3", "C4", "O1", "O2"]
    signal = np.random.default_rng(0).normal(size=(6, 128 * 30)) * 2e-5
    raw = mne.io.RawArray(signal, mne.create_info(names, 128.0, "eeg"), verbose="ERROR")
    (folder / "anna" / "events").mkdir(parents=True)
    raw.export(folder / "anna" / "S1.edf", physical_range=(-2e-4 * 1e6, 2e-4 * 1e6), verbose="ERROR")
    (folder / "anna" / "events" / "1.tsv").write_text("onset\tduration\ttrial_type\n2.0\t1.0\tleft\n")


def adapted(page: Path, command: str, folder: Path) -> str:
    """Return a command of a page with the paths of this test, and with few steps where it trains."""
    command = command.replace("/data/my-bids", "archive").replace("/data/lab", str(folder / "lab"))
    verb = command.split()[1]
    if verb == "finetune" and "--config" in command:
        return f"{command} {QUICK_PROBE}"
    flags = SHORTER.get(verb, "")
    return command if not flags or flags.split()[0] in command else f"{command} {flags}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in GUIDES if page.name != "walkthrough.md" and commands_of(page)], ids=named
)
def test_the_commands_of_a_page_run(walkthrough: CommandFolder, page: Path, tmp_path: Path):
    commands = [command for command in commands_of(page) if not why_not_run(command)]
    if not commands:
        pytest.skip("every command of this page needs a cluster or a network; tests/test_docs.py parses them")
    shutil.copytree(walkthrough.folder, tmp_path, dirs_exist_ok=True)
    write_lab_folder(tmp_path / "lab")
    for name, text in files_of(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    if page == ROOT / "docs/how-to/own-task.md":  # begins with a store in which nothing was fine-tuned
        shutil.rmtree(tmp_path / "store" / "evaluations")
        for folder in (tmp_path / "store" / "models").iterdir():
            if '"finetuned"' in (folder / "config.json").read_text(encoding="utf-8"):
                shutil.rmtree(folder)
    here = CommandFolder(tmp_path)
    for command in commands:
        here.run(adapted(page, command, tmp_path))


def test_a_store_is_read_without_emeg(
    walkthrough: CommandFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The examples of the page on file formats read what emeg reads."""
    monkeypatch.chdir(walkthrough.folder)
    names: dict[str, object] = {}
    exec(compile("\n".join(python_of(ROOT / "docs/reference/formats.md")), "formats", "exec"), names)
    recording = open_recording(Store.open("store"), Path(str(names["path"])).stem)
    np.testing.assert_array_equal(names["signal"], recording.read(0, recording.n_samples))
    assert len(capsys.readouterr().out.splitlines()) > 1
