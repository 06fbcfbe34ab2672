"""Checkpoint files that are there completely or not at all.

Lightning writes to the system's temporary folder and moves; across file systems that move is a copy, and a kill
leaves a truncated checkpoint under the final name. Here the temporary file lies beside its target.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

_LAST = re.compile(r"last-(\d+)\.ckpt")


class AtomicCheckpointIO(CheckpointIO):
    """Write, fsync, rename; read tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Save `checkpoint` under `path`; a crash leaves the former file or none."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def load_checkpoint(
        self, path: str | Path, map_location: torch.device | str | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; no code in it is run."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that a newer one replaces."""
        Path(path).unlink(missing_ok=True)


def last_name(step: int) -> str:
    """File name of the checkpoint after `step` steps."""
    return f"last-{step:08d}.ckpt"


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint with most steps; leftovers of an interrupted write are ignored."""
    found = {int(match[1]): path for path in folder.glob("last-*.ckpt") if (match := _LAST.fullmatch(path.name))}
    return found[max(found)] if found else None
