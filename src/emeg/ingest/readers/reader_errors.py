"""Translate errors of the readers of two dozen formats into messages that a user can act on.

For damaged files, readers raise errors of many classes, whose texts describe their own code: ``KeyError: 'trials'``. A
translated message names the file, the cause as far as it is known, and the next action.
"""

import re
import struct
from pathlib import Path, PurePosixPath

from emeg.errors import RecordingError
from emeg.ingest.pseudonyms import without_dates, without_quotes
from emeg.ingest.refusals import FETCH_AGAIN, REPAIR_HEADER
from emeg.ingest.source import Source

_NAMES = {
    "bdf": "BDF",
    "brainvision": "BrainVision",
    "bti": "4D",
    "cnt": "CNT",
    "ctf": "CTF",
    "dat": "BCI2000 or Curry",
    "edf": "EDF",
    "eeglab": "EEGLAB",
    "egi-mff": "EGI MFF",
    "egi-raw": "EGI",
    "fif": "FIF",
    "fil": "FIL OPM",
    "gdf": "GDF",
    "kit": "KIT",
    "nicolet": "Nicolet",
    "persyst": "Persyst",
}
_NAMES_BY_EXTENSION = {
    ".bin": "Artemis123",
    ".cdt": "Curry",
    ".dap": "Curry",
    ".eeg": "Nihon Kohden",
    ".mefd": "MEF",
    ".nedf": "Neuroelectrics NEDF",
    ".ns3": "Blackrock",
    ".nxe": "eXimia",
}
EXTRAS = {"curryreader": "curry"}
"""Packages that readers need and the extra of emeg that brings each."""

_MODULE = re.compile(
    r"(?:module|package|library)\s+['\"]?(?P<name>\w+)['\"]?\s+is needed|No module named '(?P<other>\w+)"
)
_NOT_CONTINUOUS = re.compile(r"contains epochs|only continuous files|not continuous", re.IGNORECASE)
"""What MNE-Python's readers of KIT and EGI files say of epochs, segments and averages."""
_ENDS_EARLY = re.compile(
    r"cannot reshape|buffer is smaller|buffer size must be|requires a buffer|unexpected end|end of file|\beof\b"
    r"|could only read|not enough|too short|incomplete|truncated|read of closed|ran out",
    re.IGNORECASE,
)
_WITHOUT_TEXT = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError),
    *(UnboundLocalError, UnicodeError, struct.error),
)
"""Errors in the reader's own code, met by a header that says something its author did not think of."""
_CODE = re.compile(r"[\w.]+\([^()]*\)|[<>{}=\[\]/\\]|\w_\w|\b\w+Error\b|\b0x[0-9a-fA-F]+\b")
"""Calls, objects, names of variables and of error classes, and paths."""
_FILE_NAME = re.compile(r"(?<!\w)[\w+-]*(?:\.[A-Za-z]\w{1,7})+\b")
_ABSENT = re.compile(r"does not exist|no such file|not found|could not find", re.IGNORECASE)
_LONGEST = 240
_COMPLETE = "check that the file and its companions are complete and are what their extensions say"


def format_name(source: Source) -> str:
    """Return what users call the format of a recording."""
    extension = PurePosixPath(source.path).suffix.lower()
    return _NAMES.get(source.format) or _NAMES_BY_EXTENSION.get(extension) or extension.removeprefix(".").upper()


def not_continuous(where: str, kind: str) -> RecordingError:
    """Return the refusal of a file that holds epochs, segments or an average."""
    return RecordingError(
        f"{where}: the {kind} file holds epochs, segments or an average, not a continuous recording",
        next_action="ingest the continuous recording that it was made from",
    )


def translated(error: Exception, source: Source, folder: Path) -> RecordingError:
    """Return a refusal of a recording that says in plain words why its reader stopped.

    Parameters
    ----------
    error : Exception
        What the reader raised.
    source : Source
    folder : Path
        Folder with the archive's files; its path is not repeated.
    """
    where, kind = source.path, format_name(source)
    text = " ".join(str(error).split()).replace(source.path, PurePosixPath(source.path).name)
    module = _MODULE.search(text)
    if module is not None or (isinstance(error, ImportError) and error.name):
        name = module["name"] or module["other"] if module is not None else str(getattr(error, "name", ""))
        by_extra = f"pip install 'emeg[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {name}"
        return RecordingError(
            f"{where}: {kind} files are read with the package {name}, which is not installed",
            next_action=f"install it ({by_extra}) and ingest again with --retry-quarantined",
        )
    curry_averages = isinstance(error, NotImplementedError) and not text  # MNE-Python gives no reason for these
    if _NOT_CONTINUOUS.search(text) or curry_averages:
        return not_continuous(where, kind)
    if isinstance(error, FileNotFoundError) or _ABSENT.search(text):
        named = " or ".join(dict.fromkeys(_FILE_NAME.findall(as_remark(text, folder))))
        which = f": {named} does not exist" if named else ""
        return RecordingError(
            f"{where}: a file that belongs to this {kind} recording is absent{which}",
            next_action="put the file beside the recording under the name that its header states",
        )
    if isinstance(error, PermissionError):
        return RecordingError(f"{where}: the file cannot be read", next_action="let this user read the file")
    if isinstance(error, SyntaxError):  # what Python's XML parser raises
        return RecordingError(f"{where}: an XML part of the {kind} file is damaged", next_action=FETCH_AGAIN)
    if isinstance(error, UnicodeError):
        return RecordingError(
            f"{where}: the {kind} header is damaged: a text in it is in no known encoding", next_action=REPAIR_HEADER
        )
    if _ENDS_EARLY.search(text):
        return RecordingError(
            f"{where}: the {kind} file holds less than its header says; the file is damaged or was cut",
            next_action=FETCH_AGAIN,
        )
    if isinstance(error, _WITHOUT_TEXT):
        return RecordingError(
            f"{where}: the {kind} file is damaged: its header lacks what is needed to read it, or contradicts itself",
            next_action=_COMPLETE,
        )
    plain = _plain(as_remark(text, folder))
    return RecordingError(f"{where}: this is no {kind} file that can be read ({plain})", next_action=_COMPLETE)


def _plain(text: str) -> str:
    """Return the first sentence of a reader's text, or a general cause where it speaks of its code."""
    sentence = re.split(r"(?<=[a-z\d)])[.!](?:\s|$)", text, maxsplit=1)[0].strip(" :;,.")
    if _CODE.search(_FILE_NAME.sub("", sentence)) or len(sentence.split()) < 3:
        return "its content is not what the format prescribes"
    return sentence


def as_remark(message: object, folder: Path) -> str:
    """Return a reader's text as one line, without the location of the archive on this machine."""
    text = " ".join(str(message).split()) or "no reason was given"
    text = text.replace(f"{folder}/", "").replace(str(folder), "the archive")
    # A reader that misreads a header quotes any text in it, possibly the patient's name.
    text = without_dates(without_quotes(text))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
