"""What the listing of an archive knows of one recording: its names, its files and its sidecars."""

from dataclasses import dataclass

from emeg.ingest.pseudonyms import scrub
from emeg.registry import Treatment


@dataclass(frozen=True)
class ListedFile:
    """A file as the listing shows it: path in the archive, bytes, in a bucket the ETag; SHA-256 once it is known."""

    path: str
    size: int
    etag: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """One recording in an archive: what it is called, its files, and its sidecars, general ones first.

    `treatment` is what the registry or a recipe says of it; `declared` is whether the names come from there. `path` and
    `files` are for fetching only: `shown` and `public` are what products, logs and messages may hold.
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

    @property
    def shown(self) -> str:
        """Path as products and messages have it."""
        return self.public or self.path

    def scrubbed(self, text: str, secrets: tuple[str, ...] = ()) -> str:
        """Text about this recording as products and messages may have it."""
        return scrub(text, self.hidden, secrets)

    def sidecars_named(self, kind: str) -> tuple[str, ...]:
        """Paths of one kind: ``json``, ``channels``, ``events``, ``electrodes`` or ``coordsystem``."""
        return tuple(file.path for name, file in self.sidecars if name == kind)

    @property
    def all_files(self) -> tuple[ListedFile, ...]:
        """Data files, then sidecars, each once."""
        return tuple(dict.fromkeys((*self.files, *(file for _, file in self.sidecars))))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.all_files)
