"""A folder in which commands of the documentation are run."""

import multiprocessing
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from tests.pages import ROOT, commands_of

LIMIT_S = 600
"""Time limit of one command, s."""

# A child of a process that has imported the large packages starts at once; a new interpreter needs seconds.
STARTER = multiprocessing.get_context("forkserver")
STARTER.set_forkserver_preload(["lightning", "matplotlib.pyplot", "mne", "sklearn.linear_model", "torch", "zarr"])


def run_in_child(arguments: list[str], folder: Path, printed: Path) -> None:
    """Run ``emeg`` as a shell would: in a folder, with standard output and standard error in files."""
    os.chdir(folder)
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        with printed.with_suffix(suffix).open("w") as file:
            os.dup2(file.fileno(), descriptor)
    from emeg.cli import main

    main(arguments)


@dataclass
class CommandFolder:
    """A folder in which commands were run, and what they printed."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def run(self, command: str) -> str:
        """Run one ``emeg …`` command in a process of its own and return its standard output."""
        name, *arguments = shlex.split(command)
        assert name == "emeg"
        printed = self.folder.with_name(f"{self.folder.name}-printed")
        child = STARTER.Process(target=run_in_child, args=(arguments, self.folder, printed))
        child.start()
        child.join(LIMIT_S)
        if child.is_alive():
            child.kill()
            child.join()
        out, err = (printed.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".out", ".err"))
        assert child.exitcode == 0, f"{command}\nexit code {child.exitcode}\n{out}\n{err}"
        return out


def walkthrough_commands() -> list[str]:
    """Return every command of the walkthrough, in order."""
    return commands_of(ROOT / "docs/walkthrough.md")
