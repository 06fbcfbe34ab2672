"""Read from the pages of the documentation: commands, files beside them, and Python examples."""

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
    **dict.fromkeys(
        ("emeg up", "emeg down", "emeg status", "emeg deploy", "emeg watch", "emeg work"),
        "starts a service; tests/service runs it",
    ),
    "subject_group": "needs a store whose ingest kept the archive's participants table",
    "depression.yaml": "needs a dataset with several subjects in each group",
    "emeg push-to-hub": "writes to a Hugging Face hub",
    " lab/": "reads a Hugging Face hub",
    "emeg import-reference": "needs the published weights",
    "/shared/": "needs a cluster's file system",
    "toy.yaml": "needs the package of the guide; tests/training/test_added_tokenizer.py runs it",
    "conv.yaml": "needs the package of the guide; tests/training/test_added_encoder.py runs it",
    **dict.fromkeys(("--root joint", "--out synth "), "belongs to a study that computes for hours"),
    **dict.fromkeys(
        ("0a63d6c6ca935094", "1b7e0c5d9f2a4c68", "emeg generate"),
        "needs a network that predicts the next token; tests/evaluation/generation runs it",
    ),
    **dict.fromkeys(
        ("implanted", "b05750ee85eec799", "ae86e418ff2ed71e"),
        "needs the simulated archive of the guide; tests/integration/test_intracranial.py runs it",
    ),
}
"""Part of a command that cannot be run by a test: why. Such commands are parsed against their configuration class."""


def named(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(ROOT))


def commands_of(page: Path) -> list[str]:
    """Return every line `$ …` of a page, and every `emeg …` of a block of shell lines, in order."""
    text = page.read_text(encoding="utf-8")
    shell = r"```sh\n(.*?)```"
    found = [(match.start(), match[1]) for match in re.finditer(r"^\$ (.*)$", text, flags=re.MULTILINE)]
    for block in re.finditer(shell, text, flags=re.DOTALL):
        lines = re.finditer(r"^(emeg .*?)(?:\s+#.*)?$", block[1], flags=re.MULTILINE)
        found += [(block.start(1) + line.start(), line[1]) for line in lines]
    return [command for _, command in sorted(found)]


def mentions_of(page: Path) -> list[str]:
    """Return every `emeg …` and `make …` that a sentence of a page mentions between backticks."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`((?:emeg|make) [^`]+)`", prose)]


def files_of(page: Path) -> dict[str, str]:
    """Return the YAML files that a page shows: blocks whose first line is `# name.yaml`."""
    return dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def toml_of(page: Path) -> dict[str, str]:
    """Return the TOML files that a page shows: blocks whose first line is `# name.toml`."""
    return dict(re.findall(r"```toml\n# (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def python_of(page: Path) -> list[str]:
    """Return the Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def why_not_run(command: str) -> str:
    """Return why a test cannot run a command; empty if it can."""
    return next((reason for part, reason in NOT_HERE.items() if part in command), "")
