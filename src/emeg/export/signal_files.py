"""Signals in the formats that BIDS asks for, written stretch by stretch: memory does not grow with length.

Both formats hold 32-bit floats, so that every value is the store's own to the last bits of a float.

Shape letters: C channels, N samples.
"""

import mmap
import re
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pybv
from numpy.typing import NDArray

from emeg.bids_files import blank_fiff_machine
from emeg.export.naming import DESCRIPTION
from emeg.export.sensors import measurement_info
from emeg.export.sidecars import interruptions
from emeg.store import Recording

BLOCK_CHUNKS = 6
"""Chunks that are held at a time: a minute, 20 MB for 306 channels."""

MICROVOLTS = 1e6

FIFF_PART = "2GB"
"""A FIFF file cannot be larger; BIDS calls its parts ``split-01``, ``split-02``."""


def write_brainvision(recording: Recording, folder: Path, name: str) -> None:
    """Write ``<name>.vhdr``, ``.vmrk`` and ``.eeg``: µV as float32, of markers only where a stretch begins.

    BIDS has events in a table. pybv writes a whole array; nothing in its header tells the length, so it gets the first
    block and the others are appended in the same way (multiplexed, little-endian).
    """
    blocks = recording.blocks(BLOCK_CHUNKS * recording.chunk)
    pybv.write_brainvision(
        data=next(blocks).astype(np.float64),
        sfreq=recording.sfreq,
        ch_names=list(recording.sensors.names),
        fname_base=name,
        folder_out=str(folder),
        overwrite=True,
        resolution=1.0,
        unit="µV",
        fmt="binary_float32",
    )
    with (folder / f"{name}.eeg").open("ab") as file:
        for block_CN in blocks:
            (block_CN.T.astype(np.float64) * MICROVOLTS).astype("<f4").tofile(file)
    starts = {0, *(one.start for one in recording.stretches), *(one.stop for one in recording.stretches)}
    if len(starts) > 2:  # the first marker is that of the beginning: readers expect it there
        markers = folder / f"{name}.vmrk"
        text = markers.read_text(encoding="utf-8").rstrip("\n")
        first = len(re.findall(r"^Mk\d+=", text, re.MULTILINE)) + 1
        lines = [f"Mk{number}=New Segment,,{start + 1},1,0" for number, start in enumerate(sorted(starts)[:-1], first)]
        markers.write_text("\n".join([text, *lines]) + "\n", encoding="utf-8")


def write_fif(recording: Recording, folder: Path, name: str, *, bad: tuple[str, ...], part: str = FIFF_PART) -> None:
    """Write ``<name>_meg.fif``, in parts where it is longer than `part`; SI units as float32."""
    raw = _StoredRaw(recording, bad)
    block_s = BLOCK_CHUNKS * recording.chunk / recording.sfreq
    path = folder / f"{name}_meg.fif"
    raw.save(
        path,
        fmt="single",
        buffer_size_sec=min(block_s, recording.n_samples / recording.sfreq),
        split_size=part,
        split_naming="bids",
        overwrite=True,
        verbose="error",
    )
    parts = [path] if path.exists() else _reorder_entities(folder, name)
    for file in parts:
        blank_fiff_machine(file)


def _reorder_entities(folder: Path, name: str) -> list[Path]:
    """Rename the parts so that split stands before desc, as BIDS asks; also in the references between the parts."""
    made = sorted(folder.glob(f"{name}_split-*_meg.fif"))
    front = name.removesuffix(f"_desc-{DESCRIPTION}")
    renamed = {
        path.name: f"{front}_split-{path.name.removesuffix('_meg.fif')[-2:]}_desc-{DESCRIPTION}_meg.fif"
        for path in made
    }
    for path in made:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            for old, new in renamed.items():  # of equal length
                position = content.find(old.encode())
                while position >= 0:
                    content[position : position + len(new)] = new.encode()
                    position = content.find(old.encode(), position)
    return [path.replace(path.with_name(renamed[path.name])) for path in made]


class _StoredRaw(mne.io.BaseRaw):  # type: ignore[misc]
    """A stored recording as MNE reads it: in parts, on demand."""

    def __init__(self, recording: Recording, bad: tuple[str, ...]) -> None:
        super().__init__(
            measurement_info(recording.sensors, recording.attributes, bad),
            preload=False,
            last_samps=[recording.n_samples - 1],
            raw_extras=[{"recording": recording}],
            orig_format="single",
            verbose="error",
        )
        found = interruptions(recording)
        if found:
            self.set_annotations(mne.Annotations(*zip(*found, strict=True)), emit_warning=False)

    def _read_segment_file(
        self,
        data: NDArray[np.float64],
        idx: slice | NDArray[np.intp],
        fi: int,
        start: int,
        stop: int,
        cals: NDArray[np.float64],
        mult: NDArray[np.float64] | None,
    ) -> None:
        """Fill `data`; calibrations are 1, and nothing is projected or compensated."""
        del cals, mult
        extras: dict[str, Any] = self._raw_extras[fi]
        recording: Recording = extras["recording"]
        data[:] = recording.read(start, stop)[idx]
