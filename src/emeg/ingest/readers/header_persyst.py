"""Times in a Persyst header: the section ``SampleTimes``, which MNE-Python ignores, and comments."""

from collections.abc import Iterator
from pathlib import Path

from emeg.ingest.refusals import malformed


def sample_times(path: Path) -> list[tuple[int, float]]:
    """Return samples and their times on the clock, s of the day, by sample; empty where the header has none.

    Raises
    ------
    RecordingError
        An entry is no number.
    """
    found = []
    for line in _section(path, "sampletimes"):
        sample, equals, time = line.partition("=")
        if not equals:
            continue
        try:
            found.append((int(sample), float(time.replace(",", "."))))
        except ValueError as error:
            raise malformed(path.name, "an entry of SampleTimes is no sample and time") from error
    return sorted(found)


def comments_by_clock(path: Path) -> list[tuple[float, float, str]]:
    """Return every comment of a header: onset on the clock, s after the first sample, duration, s, and text.

    MNE-Python leaves out what lies behind the file's last sample by count, as comments behind a pause may.

    Raises
    ------
    RecordingError
        An entry has no onset.
    """
    found = []
    for line in _section(path, "comments"):
        fields = line.split(",", 4)
        if len(fields) < 5:
            continue
        try:
            found.append((float(fields[0]), float(fields[1]), fields[4]))
        except ValueError as error:
            raise malformed(path.name, "a comment has no onset and duration") from error
    return found


def _section(path: Path, title: str) -> Iterator[str]:
    inside = False
    for line in path.read_bytes().decode("latin-1").splitlines():
        text = line.strip()
        if text.startswith("["):
            inside = text.lower() == f"[{title}]"
        elif inside and text:
            yield text
