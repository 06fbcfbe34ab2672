"""The walkthrough's own commands, run once for all tests that need every stage."""

import json
import shutil
from pathlib import Path

import pytest
from tests.integration.way import Way, walkthrough_commands


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    """All stages on a small synthetic archive."""
    way = Way(tmp_path_factory.mktemp("way"))
    for command in walkthrough_commands():
        if command.split()[1] not in {"import-reference", "push-to-hub"}:
            way.printed[command.split()[1]] = way.run(command)
    return way


@pytest.fixture
def reference_weights(shared: Path, way: Way) -> Path:
    """Weights and configuration of the reference release, under the names that the walkthrough uses."""
    shutil.copy(shared / "parity" / "small.pt", way.folder / "weights.pt")
    config = json.loads((shared / "parity" / "small.json").read_text())["config"]
    (way.folder / "config.json").write_text(json.dumps(config))
    return way.folder
