"""Small archives that the tests of this folder share."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from emeg.synthetic import SynthesizeConfig, synthesize

SMALL = {"n_subjects": 3, "devices_per_subject": 2, "n_trials": 4, "short_s": 12.0, "bad_channels": 1.0, "seed": 5}


class SmallArchive(NamedTuple):
    folder: Path
    truth: dict[str, Any]


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> SmallArchive:
    """Three people, every device, every recording with flat and noisy channels."""
    folder = tmp_path_factory.mktemp("synthetic") / "archive"
    synthesize(SynthesizeConfig(out=str(folder), workers=1, **SMALL))
    return SmallArchive(folder, json.loads((folder / "sourcedata" / "truth.json").read_text()))


@pytest.fixture(scope="session")
def small_settings() -> dict[str, Any]:
    return dict(SMALL)
