"""Read the state of a MEG measurement: shielding, signal space separation, rank, head position coils, subject."""

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError

if TYPE_CHECKING:
    import mne

_WORDS = re.compile(r"[A-Za-z0-9]+")
_PHANTOM_WORDS = frozenset({"phantom", "phantoms"})
_EMPTY_ROOM_WORDS = frozenset({"emptyroom", "noise", "er"})
"""Words of a file's name that mark an empty room: ``…_er_raw.fif`` of MNE and CamCAN, ``emptyroom``, ``task-noise``."""
_EMPTY_ROOM = re.compile(r"empty[\s_-]*room", re.IGNORECASE)
_CTF_HEAD_COILS = re.compile(r"HLC00[1-3]\d")
"""Continuous head localisation of CTF: nine channels of coordinates, ``HLC0011`` to ``HLC0038``."""


class State(NamedTuple):
    """Columns of the catalogue that come from the header; see `emeg.store.CatalogRow`."""

    contents: str
    sss: bool
    tsss: bool
    rank: int
    n_projectors: int
    internal_shielding: bool
    hpi: str


def find_state(raw: "mne.io.BaseRaw", picks: NDArray[np.intp], path: str) -> State:
    """Read the state of a recording out of its header and its name.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    picks : intp, shape (channels,)
        Indices of the channels that are kept.
    path : str
        Of the source in its dataset.
    """
    steps = [step.get("max_info", {}) for step in raw.info["proc_history"]]
    return State(
        contents=contents(path, str(raw.info["description"] or "")),
        sss=any(len(step.get("sss_info", {})) > 0 for step in steps),
        tsss=any(len(step.get("max_st", {})) > 0 for step in steps),
        rank=_rank(raw, picks),
        n_projectors=len(raw.info["projs"]),
        internal_shielding=is_shielded(raw),
        hpi=_hpi(raw),
    )


def contents(path: str, description: str = "") -> str:
    """Return what was measured, ``brain``, ``phantom`` or ``empty room``, by the file's name and its description.

    Names of folders are ignored, because whole archives may be below such a name.
    """
    name = PurePosixPath(path).name
    words = {word.lower() for word in _WORDS.findall(name)}
    if words & _PHANTOM_WORDS or "phantom" in description.lower().split():
        return "phantom"
    if words & _EMPTY_ROOM_WORDS or _EMPTY_ROOM.search(name) or _EMPTY_ROOM.search(description):
        return "empty room"
    return "brain"


def is_shielded(raw: "mne.io.BaseRaw") -> bool:
    """Return whether the file contains fields of internal active shielding (MaxShield) that were not removed."""
    return bool(raw.info.get("maxshield"))


def refuse_shielded(raw: "mne.io.BaseRaw") -> None:
    """Refuse a recording with internal active shielding.

    Its feedback coils' fields are in the data, as large as a brain's, until signal space separation models them away.

    Raises
    ------
    RecordingError
    """
    if is_shielded(raw):
        raise RecordingError(
            "recorded with internal active shielding (MaxShield) and not processed: the fields of the shielding coils"
            " are in the data",
            stage="read",
            next_action="take the file that MaxFilter made of it, or switch on standardise.cleaning.maxwell",
        )


def _rank(raw: "mne.io.BaseRaw", picks: NDArray[np.intp]) -> int:
    """Rank of the kept channels by the header: what SSS left, less projectors that were applied."""
    import mne

    info = mne.pick_info(raw.info, picks, copy=True)
    with info._unlock():
        info["comps"], info["bads"] = [], []
        info["projs"] = [projector for projector in info["projs"] if projector["active"]]
        for channel in info["chs"]:
            channel["coil_type"] &= 0xFFFF  # the upper half is the compensation grade, which went with `comps`
    empty = mne.io.RawArray(np.zeros((len(picks), 1)), info, verbose="ERROR")
    return sum(mne.compute_rank(empty, rank="info", verbose="ERROR").values())


def coil_frequencies(raw: "mne.io.BaseRaw") -> tuple[float, ...]:
    """Return the frequencies of head position coils that are on during the recording, Hz; none without coils."""
    import mne

    if not any(measured.get("hpi_coils") for measured in raw.info["hpi_meas"][:1]):  # MNE looks at the first coil
        return ()
    return tuple(map(float, mne.chpi.get_chpi_info(raw.info, on_missing="ignore", verbose="ERROR")[0]))


def _hpi(raw: "mne.io.BaseRaw") -> str:
    """Return ``continuous`` where coils were on during the recording, ``before`` for one localisation, or nothing."""
    if coil_frequencies(raw) or any(_CTF_HEAD_COILS.match(name) for name in raw.ch_names):
        return "continuous"
    return "before" if raw.info["hpi_results"] or raw.info["hpi_meas"] else ""
