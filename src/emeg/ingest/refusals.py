"""Errors that the checks of several formats share."""

from emeg.errors import RecordingError
from emeg.ingest.pseudonyms import Pseudonyms, without_quotes

FETCH_AGAIN = "fetch the file again"
REPAIR_HEADER = "repair the header, or fetch the file again"


def quoted(text: str) -> str:
    """Return a text of a header in quotes, for a message; texts that may name a person are replaced by dots."""
    return without_quotes(repr(text))


def file_named(name: str) -> str:
    """Repeat a file's name that a header states, unless it may be the name of a person."""
    return name if Pseudonyms.from_environment().part(name) == name else "(a name that is not repeated here)"


def short(name: str, *, size: int, promised: int, what: str) -> RecordingError:
    """Return the error of a file that is shorter than its header promises; both in bytes."""
    return RecordingError(
        f"{name}: the file is truncated: {what} need {promised} bytes, the file has {size} ({size / promised:.0%})",
        next_action="fetch the file again, or repair its header if the recording really ended there",
    )


def malformed(name: str, why: object) -> RecordingError:
    """Return the error of a header that cannot be read, with the reason."""
    return RecordingError(
        f"{name}: the header cannot be read ({without_quotes(str(why))})",
        next_action="check that the file is what its extension says",
    )


def contradiction(name: str, what: str) -> RecordingError:
    """Return the error of a file whose header contradicts itself."""
    return RecordingError(f"{name}: the header contradicts itself: {what}", next_action=REPAIR_HEADER)
