"""What the pages of the documentation show: commands, files beside them, and Python examples."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
GUIDES = [page for page in PAGES if "decisions" not in page.parts]
"""Pages whose commands are those of this version; a decision keeps the commands of its date."""

NOT_HERE = {
    "://": "reads a bucket or a cluster's address",
    "openneuro:": "reads a public bucket",
    "--launcher": "needs a scheduler",
    "--rendezvous": "needs several machines",
    "emeg push-to-hub": "writes to a Hugging Face hub",
    "emeg import-reference": "needs the published weights",
    "/shared/": "needs a cluster's file system",
}
"""Part of a command that cannot be run by a test: why. Such commands are parsed against their configuration class."""


def named(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(ROOT))


def commands_of(page: Path) -> list[str]:
    """Return every line `$ …` of a page, in order."""
    return re.findall(r"^\$ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def files_of(page: Path) -> dict[str, str]:
    """Return the YAML files that a page shows: blocks whose first line is `# name.yaml`."""
    return dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def python_of(page: Path) -> list[str]:
    """Return the Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def why_not_run(command: str) -> str:
    """Return why a test cannot run a command; empty if it can."""
    return next((reason for part, reason in NOT_HERE.items() if part in command), "")
