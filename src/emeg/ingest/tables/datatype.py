"""Find the BIDS datatype of recordings by their paths, and refuse those without electrodes and MEG."""

from pathlib import PurePosixPath

from emeg.errors import RecordingError

_OTHERS = {"nirs": "optical sensors"}
"""Datatypes without electrodes and MEG, and what their channels are."""


def is_intracranial(path: str) -> bool:
    """Return whether folder or file name state the datatype ``ieeg``: then no channel is a scalp electrode.

    Readers call every channel of an EDF file EEG, and contacts of depth electrodes have names of scalp electrodes (C3,
    F4). The datatype is the only evidence then.

    Parameters
    ----------
    path : str
        Path of the recording in its archive, such as ``sub-01/ieeg/sub-01_task-rest_ieeg.edf``.
    """
    return "ieeg" in _stated(path)


def refuse_other_datatypes(path: str) -> None:
    """Refuse a recording whose folder or file name says that its channels are neither electrodes nor MEG.

    Parameters
    ----------
    path : str
        Path of the recording in its archive, such as ``sub-01/nirs/sub-01_task-rest_nirs.edf``.

    Raises
    ------
    RecordingError
        With stage ``sensors``.
    """
    stated = _stated(path)
    for datatype, channels in _OTHERS.items():
        if datatype in stated:
            raise RecordingError(
                f"{path}: its BIDS datatype is {datatype}, so its channels are {channels} and not EEG or MEG",
                stage="sensors",
                next_action="leave the recording out; if it is scalp EEG, move it to an eeg folder",
            )


def _stated(path: str) -> set[str]:
    parts = PurePosixPath(path).parts
    return {part.lower() for part in parts[:-1]} | {parts[-1].partition(".")[0].rpartition("_")[2].lower()}
