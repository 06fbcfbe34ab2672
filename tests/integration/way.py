"""A folder in which commands of the pages are run."""

import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.pages import ROOT, commands_of

EMEG = str(Path(sys.executable).with_name("emeg"))


@dataclass
class Way:
    """A folder in which the walkthrough's commands were run, and their output."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def run(self, command: str) -> str:
        """Run one `emeg …` line and return its standard output."""
        arguments = shlex.split(command)
        assert arguments[0] == "emeg"
        done = subprocess.run(
            [EMEG, *arguments[1:]], cwd=self.folder, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def walkthrough_commands() -> list[str]:
    """Return every command of the walkthrough, in order."""
    return commands_of(ROOT / "docs/walkthrough.md")
