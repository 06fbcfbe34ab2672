"""Refuse recordings whose BIDS datatype is neither EEG nor MEG, whatever their files and tables state."""

from pathlib import PurePosixPath

from emeg.errors import RecordingError

_OTHERS = {"ieeg": "intracranial electrodes", "nirs": "optical sensors"}
"""Datatypes without scalp EEG and MEG, and what their channels are."""


def refuse_other_datatypes(path: str) -> None:
    """Refuse a recording whose folder or file name says that its channels are neither scalp EEG nor MEG.

    Readers call every channel of an EDF file EEG, and contacts of depth electrodes have names of scalp electrodes (C3,
    F4). The datatype is the only evidence then.

    Parameters
    ----------
    path : str
        Path of the recording in its archive, such as ``sub-01/ieeg/sub-01_task-rest_ieeg.edf``.

    Raises
    ------
    RecordingError
        With stage ``sensors``.
    """
    parts = PurePosixPath(path).parts
    stated = {part.lower() for part in parts[:-1]} | {parts[-1].partition(".")[0].rpartition("_")[2].lower()}
    for datatype, channels in _OTHERS.items():
        if datatype in stated:
            raise RecordingError(
                f"{path}: its BIDS datatype is {datatype}, so its channels are {channels} and not scalp EEG or MEG",
                stage="sensors",
                next_action="leave the recording out; if it is scalp EEG, move it to an eeg folder",
            )
