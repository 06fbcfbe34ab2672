"""Source files on this machine, and what identifies their content."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emeg.errors import TransientError
from emeg.hashing import hash_json, sha256_file
from emeg.ingest.config import IngestConfig
from emeg.ingest.listing import ListedFile, Source
from emeg.uri import locate


@contextmanager
def fetched(source: Source) -> Iterator[Path]:
    """Give a local folder in which every file of `source` lies at its path in the archive.

    A local archive is used where it is; from a bucket the files are fetched into a folder that is removed again.

    Raises
    ------
    TransientError
        A file could not be fetched, or arrived with another size than listed.
    """
    root = locate(source.archive)
    if root.is_local:
        yield root.local_path()
        return
    with tempfile.TemporaryDirectory(prefix="emeg-") as scratch:
        for file in source.all_files:
            target = Path(scratch) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                root.fs.get_file((root / file.path).path, str(target))
            except OSError as error:
                raise TransientError(f"{root}/{file.path}: could not be fetched ({error}); run again") from error
            size = target.stat().st_size
            if size != file.size:
                raise TransientError(f"{root}/{file.path}: {size} bytes arrived, {file.size} are listed; run again")
        yield Path(scratch)


def identity(source: Source) -> dict[str, str]:
    """Identify the content of every file: SHA-256 in a folder, ETag and size in a bucket."""
    root = locate(source.archive)
    return {file.path: _file_identity(root.local_path() if root.is_local else None, file) for file in source.all_files}


def _file_identity(folder: Path | None, file: ListedFile) -> str:
    return f"etag:{file.etag}:{file.size}" if folder is None else f"sha256:{sha256_file(folder / file.path)}"


def recording_id(source: Source, config: IngestConfig) -> str:
    """Name the recording that `source` becomes under `config`.

    The same files, at the same place in the dataset, standardised in the same way, have the same name, whichever
    version of emeg does it and wherever the archive lies.
    """
    what: dict[str, Any] = {
        "dataset": source.dataset,
        "path": source.path,
        "licence": source.licence,
        "identity": identity(source),
        "montage": config.montage,
        "standardise": config.standardise.product_fields(),
    }
    return hash_json(what)
