"""What the listing of an archive knows of one recording: its names, its files and its sidecars."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from emeg.ingest.pseudonyms import scrub
from emeg.registry import Treatment

DATATYPES = ("ieeg", "nirs", "meg", "eeg")
"""BIDS datatypes of recordings; where a path has several, the first of them in this order is the recording's."""


@dataclass(frozen=True)
class ListedFile:
    """A file as the listing shows it: path in the archive, bytes, in a bucket the ETag; SHA-256 once it is known."""

    path: str
    size: int
    etag: str = ""
    sha256: str = ""
    content: str | None = None
    """Of a table of events: hash of the rows that belong to the recording's content, empty where there are none. None
    where the whole file belongs to it."""


@dataclass(frozen=True)
class Source:
    """One recording in an archive: its names, its files, and its sidecars, general ones first.

    `treatment` is the entry of the registry or a file mapping for it; `declared` is whether the names come from there.
    `path` and `files` are for fetching only: products, logs and messages hold `shown`.
    """

    archive: str
    dataset: str
    path: str
    format: str
    subject: str
    session: str = ""
    task: str = ""
    run: str = ""
    acquisition: str = ""
    licence: str = ""
    files: tuple[ListedFile, ...] = ()
    sidecars: tuple[tuple[str, ListedFile], ...] = ()
    problem: str = ""
    treatment: Treatment | None = None
    declared: bool = False
    public: str = ""
    hidden: tuple[tuple[str, str], ...] = ()
    adopted: str = ""
    """Id that an earlier version gave to a recording of the same content; empty where there is none."""
    relabel: bool = False
    """Whether its tables of events have changed since its recording was made or refused."""

    @property
    def shown(self) -> str:
        """Path as products and messages hold it."""
        return self.public or self.path

    @property
    def datatype(self) -> str:
        """BIDS datatype by folder (``sub-01/ieeg/…``) or suffix (``…_ieeg.edf``); empty where the path has neither."""
        path = PurePosixPath(self.path)
        stated = {*path.parts[:-1], path.name.partition(".")[0].rpartition("_")[2]}
        return next((datatype for datatype in DATATYPES if datatype in stated), "")

    def scrubbed(self, text: str, secrets: tuple[str, ...] = ()) -> str:
        """Return a text about this recording as products and messages may hold it."""
        return scrub(text, self.hidden, secrets)

    def sidecars_named(self, kind: str) -> tuple[str, ...]:
        """Return the sidecars of a kind: ``json``, ``channels``, ``events``, ``electrodes`` or ``coordsystem``."""
        return tuple(file.path for name, file in self.sidecars if name == kind)

    @property
    def all_files(self) -> tuple[ListedFile, ...]:
        """Data files, then sidecars, each once."""
        return tuple(dict.fromkeys((*self.files, *(file for _, file in self.sidecars))))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.all_files)
