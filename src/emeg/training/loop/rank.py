"""The rank of a training process, and the folder of its run."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emeg.training.configs import TrainingConfig


@dataclass(frozen=True)
class RunContext:
    """The rank of this process, and the location of the run's files."""

    folder: Path
    rank: int
    world: int

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics_file(self) -> Path | None:
        """CSV of the history; the first rank writes it."""
        return self.folder / "metrics.csv" if self.is_first else None

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0


def run_folder(root: str, run_dir: str | None, run: str) -> Path:
    """Return the folder of the run `run`: below `run_dir`, the local root, or the machine's temporary folder."""
    if run_dir is not None:
        folder = Path(run_dir) / run
    elif "://" in root and not root.startswith("file:"):
        folder = Path(tempfile.gettempdir()) / "emeg-runs" / run
    else:
        folder = Path(root.removeprefix("file://").removeprefix("file:")) / "runs" / run
    return folder.absolute()


def find_run(config: TrainingConfig, name: str, environment: Mapping[str, str]) -> RunContext:
    """Return the context of the run `name`, its rank from the launcher's ``RANK`` and ``WORLD_SIZE``."""
    folder = run_folder(config.root, config.run_dir, name)
    return RunContext(folder, int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
