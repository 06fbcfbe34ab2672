"""Channel types as tables state them, set on an open recording."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mne

_MNE_TYPES = {
    "eeg": "eeg",
    "eog": "eog",
    "veog": "eog",
    "heog": "eog",
    "ecg": "ecg",
    "ekg": "ecg",
    "emg": "emg",
    "seeg": "seeg",
    "dbs": "dbs",
    "ecog": "ecog",
    "trig": "stim",
    "resp": "resp",
    "gsr": "gsr",
    "temp": "temperature",
}
"""BIDS channel types with a counterpart in MNE-Python; what is neither here nor MEG is ``misc``."""

INTRACRANIAL = frozenset({"seeg", "ecog", "dbs"})
"""MNE-Python's types of intracranial electrodes."""


def mne_type(bids_type: str) -> str:
    """Return MNE-Python's type for a type of `channels.tsv`; ``misc`` for types that MNE-Python does not have."""
    return _MNE_TYPES.get(bids_type.strip().lower(), "misc")


def channel_types(raw: "mne.io.BaseRaw") -> list[str]:
    """Return the types of all channels as MNE names them, ``unknown`` for codes of kind or unit that no type has."""
    import mne

    found = []
    for i in range(len(raw.ch_names)):
        try:
            found.append(str(mne.channel_type(raw.info, i)))
        except (KeyError, ValueError):
            found.append("unknown")
    return found


def set_channel_types(raw: "mne.io.BaseRaw", types: Mapping[str, str]) -> None:
    """Set the types of channels, also of channels that a projector names.

    MNE-Python refuses to change the type of a channel in a projector, although a projector that is not applied changes
    no data. The projectors are set aside meanwhile and stay in the header as they were.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Changed in place.
    types : mapping of str to str
        Channel name -> type as MNE-Python names it.
    """
    projectors = raw.info["projs"]
    with raw.info._unlock():
        raw.info["projs"] = []
        try:
            raw.set_channel_types(types, on_unit_change="ignore", verbose="ERROR")
        finally:
            raw.info["projs"] = projectors
