"""What every test may use."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real recordings and reference numbers beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no real recordings beside the checkout ({folder.name}/ is absent)")
    return folder
