"""Write checkpoint files that are complete or absent, on a disk or in a bucket.

Lightning writes to the system's temporary folder and moves the file. Across file systems that move is a copy, and a
kill leaves a truncated checkpoint under the final name. Here the temporary file is beside its target, and a second
file with the SHA-256 is written after it. Without that file, or with another digest, a checkpoint is not complete.
"""

import hashlib
import io
import logging
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from emeg.errors import MachineError, naming_path
from emeg.uri import Location, locate

logger = logging.getLogger(__name__)

DIGEST = ".sha256"
"""Suffix of the file that makes a checkpoint complete."""

_NAME = re.compile(r"(?P<kind>last|best)-(?P<step>\d+)\.ckpt(?:\.sha256)?")


class CheckpointFolder:
    """Checkpoints of one run.

    Parameters
    ----------
    location : Location
        Folder or bucket prefix. All ranks of all nodes must reach it.
    keep : int
        Number of newest checkpoints that `prune` leaves.
    """

    def __init__(self, location: Location, *, keep: int = 2) -> None:
        self.location = location
        self._keep = keep

    def __str__(self) -> str:
        return str(self.location)

    def last(self, step: int) -> str:
        """Return the path of the checkpoint after `step` steps."""
        return str(self.location / last_name(step))

    def best(self, step: int) -> str:
        """Return the path of the weights with the best validation, at `step`."""
        return str(self.location / f"best-{step:08d}.ckpt")

    def steps(self, kind: str) -> list[int]:
        """List the steps of which there is any file of this kind, complete or not."""
        matches = [_NAME.fullmatch(entry.name) for entry in self.location.children()]
        return sorted({int(match["step"]) for match in matches if match and match["kind"] == kind})

    def newest(self) -> str | None:
        """Find the newest complete checkpoint; log a warning for each incomplete one."""
        for step in reversed(self.steps("last")):
            path = self.last(step)
            fault = fault_of(locate(path))
            if fault is None:
                return path
            logger.warning("%s: %s; skipped, the one before is tried", path, fault)
        return None

    def prune(self) -> None:
        """Remove all but the newest checkpoints, and best weights that no kept checkpoint names."""
        last = self.steps("last")
        kept = last[-self._keep :]
        for step in last[: -self._keep]:
            remove(self.last(step))
        best = self.steps("best")
        known = [step for step in best if not kept or step <= kept[0]]
        for step in known[:-1]:
            remove(self.best(step))

    def check_room(self, n_bytes: int) -> None:
        """Check that two checkpoints of `n_bytes` fit beside those that are there; a bucket has no limit.

        Raises
        ------
        MachineError
            They do not fit.
        """
        if not self.location.is_local or self.steps("last"):
            return
        folder = self.location.local_path()
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < 2 * n_bytes:
            raise MachineError(
                f"{folder}: {free / 2**20:.0f} MiB are free, but two checkpoints need {2 * n_bytes / 2**20:.0f} MiB."
                " Make room, or choose another folder with --checkpoints"
            )

    def sweep(self) -> None:
        """Remove files of killed writers."""
        for entry in self.location.children():
            if entry.name.startswith(".partial-"):
                entry.remove()


def fault_of(checkpoint: Location) -> str | None:
    """Return why a checkpoint cannot be resumed from; `None` if it can."""
    digest = Location(checkpoint.fs, checkpoint.path + DIGEST)
    if not checkpoint.exists():
        return "the file is missing, but its digest exists"
    if not digest.exists():
        return "not complete: the writer ended before its sha256 was written"
    if hashlib.sha256(checkpoint.read_bytes()).hexdigest() != digest.read_bytes().decode("ascii", "replace").strip():
        return "damaged: its sha256 differs"
    return None


class AtomicCheckpointIO(CheckpointIO):
    """Write, fsync, rename, then the digest; read tensors and plain values only.

    The state is copied into memory first; writing to disk or network may then run in a thread during the next steps.
    One checkpoint is written at a time: saving the next waits for the one before, which bounds memory and files.

    Parameters
    ----------
    in_background : bool
        Write in a thread.
    after : callable, optional
        Called when a checkpoint is complete.
    """

    def __init__(self, *, in_background: bool = False, after: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="emeg-checkpoint") if in_background else None
        self._after = after
        self._pending: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Save `checkpoint` under `path`; a crash leaves the former file, or one without digest."""
        memory = io.BytesIO()
        torch.save(checkpoint, memory)
        self.wait()
        if self._pool is None:
            self._write(memory.getbuffer(), str(path))
        else:
            self._pending = self._pool.submit(self._write, memory.getbuffer(), str(path))

    def _write(self, data: memoryview, path: str) -> None:
        target = locate(path)
        digest = Location(target.fs, target.path + DIGEST)
        with naming_path(path):
            digest.remove()  # of an earlier file under this name
            target.write_bytes(bytes(data))
            digest.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n")
        if self._after is not None:
            self._after()

    def wait(self) -> None:
        """Wait until the checkpoint being written is complete.

        Raises
        ------
        OSError
            It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def load_checkpoint(
        self, path: str | Path, map_location: torch.device | str | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; no code in it is run."""
        return read_checkpoint(path, map_location=map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that a newer one replaces."""
        remove(str(path))

    def teardown(self) -> None:
        """Wait for the writer."""
        self.wait()


def read_checkpoint(path: str | Path, *, map_location: torch.device | str | None = None) -> dict[str, Any]:
    """Load a checkpoint from disk or bucket; no code in it is run."""
    location = locate(path)
    source = location.local_path() if location.is_local else io.BytesIO(location.read_bytes())
    checkpoint: dict[str, Any] = torch.load(source, map_location=map_location or "cpu", weights_only=True)
    return checkpoint


def remove(path: str) -> None:
    """Remove a checkpoint, its digest first: it is not complete from then on."""
    locate(path + DIGEST).remove()
    locate(path).remove()


def last_name(step: int) -> str:
    """Return the file name of the checkpoint after `step` steps."""
    return f"last-{step:08d}.ckpt"
