"""The commands of the README and a folder to run them in."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMEG = str(Path(sys.executable).with_name("emeg"))


@dataclass
class Way:
    """A folder in which the README's commands were run, and what each printed."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def run(self, command: str) -> str:
        """Run one `emeg …` line and give its standard output."""
        arguments = shlex.split(command)
        assert arguments[0] == "emeg"
        done = subprocess.run(
            [EMEG, *arguments[1:]], cwd=self.folder, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def readme_commands() -> list[str]:
    """Every line `$ emeg …` of the README, in order."""
    return re.findall(r"^\$ (emeg .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
