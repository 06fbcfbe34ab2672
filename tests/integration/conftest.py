"""The walkthrough's own commands, run once for all tests that need every stage."""

import json
import shutil
from pathlib import Path

import pytest
from tests.integration.commands import CommandFolder, walkthrough_commands


@pytest.fixture(scope="session")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> CommandFolder:
    """All stages on a small synthetic archive."""
    walkthrough = CommandFolder(tmp_path_factory.mktemp("walkthrough"))
    for command in walkthrough_commands():
        if command.split()[1] not in {"import-reference", "push-to-hub"}:
            walkthrough.printed[command.split()[1]] = walkthrough.run(command)
    return walkthrough


@pytest.fixture
def reference_weights(shared: Path, walkthrough: CommandFolder) -> Path:
    """Weights and configuration of the reference release, under the names that the walkthrough uses."""
    shutil.copy(shared / "parity" / "small.pt", walkthrough.folder / "weights.pt")
    config = json.loads((shared / "parity" / "small.json").read_text())["config"]
    (walkthrough.folder / "config.json").write_text(json.dumps(config))
    return walkthrough.folder
