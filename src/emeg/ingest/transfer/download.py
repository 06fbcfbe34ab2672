"""List the files of an archive and fetch them in pieces, each checked before a reader opens it.

A piece is requested by its byte range. What has arrived stays in the scratch folder, so that an interrupted transfer
resumes where it stopped, even after SIGKILL. A file is used only when its size is the listed one, every answer had the
listed ETag, and, where the ETag is an MD5, the MD5 is right.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from emeg.errors import RecordingError, TransientError, UserError
from emeg.hashing import hash_json, sha256_file
from emeg.ingest.config import IngestConfig, TransferConfig
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.transfer.retry import SpoiltError, with_retries
from emeg.locks import locked
from emeg.uri import Location, locate

PAGE_KEYS = 1000
"""Objects requested in one page of a listing, the most that S3 allows."""

KEPT_HIDDEN = frozenset({".bidsignore"})
"""Hidden files of an archive's root that are listed, since they say which other files are used."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_PAGE = re.compile(rb"^\s*(<!doctype html|<html|<\?xml[^>]*\?>\s*<(!doctype html|html|error))", re.IGNORECASE)
_WEB_NAMES = (".html", ".htm", ".xml")


def list_files(root: Location, config: TransferConfig | None = None) -> dict[str, ListedFile]:
    """List every file of an archive, sorted by path, without hidden files other than `KEPT_HIDDEN`.

    Raises
    ------
    UserError
        There is no such archive, or listing it is not allowed.
    TransientError
        The bucket does not answer.
    """
    config = config or TransferConfig()
    absent = f"{root}: there is no such archive; give a folder or an fsspec URI such as s3://bucket/prefix"
    try:
        found = _s3_objects(root, config) if _is_s3(root.fs) else _any_files(root, config)
    except FileNotFoundError as error:
        raise UserError(absent) from error
    except PermissionError as error:
        raise UserError(
            f"{root}: listing it is not allowed ({error}); check name and credentials, or write anonymous:s3://… for a"
            " public bucket"
        ) from error
    if not found and not (root.is_local and root.exists()):
        raise UserError(absent)
    files = {}
    for path, size, etag in sorted(found):
        if path in KEPT_HIDDEN or not any(part.startswith(".") for part in PurePosixPath(path).parts):
            files[path] = ListedFile(path, size, etag)
    return files


def _any_files(root: Location, config: TransferConfig) -> list[tuple[str, int, str]]:
    root.fs.invalidate_cache(root.path)
    if not with_retries(root.exists, what=str(root), attempts=config.attempts):
        raise FileNotFoundError(str(root))
    found = with_retries(partial(root.fs.find, root.path, detail=True), what=str(root), attempts=config.attempts)
    prefix = root.path.rstrip("/") + "/"
    return [
        (
            full.removeprefix(prefix),
            int(info.get("size") or 0),
            "" if root.is_local else str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "").strip('"'),
        )
        for full, info in found.items()
    ]


def _is_s3(fs: fsspec.AbstractFileSystem) -> bool:
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "s3" in protocols


def _own_connection(fs: fsspec.AbstractFileSystem, config: TransferConfig) -> fsspec.AbstractFileSystem:
    """Return a connection to a bucket with our time limit, and without retries that would multiply ours."""
    limits = {"read_timeout": config.timeout_s, "connect_timeout": config.timeout_s, "retries": {"max_attempts": 0}}
    connection = fsspec.filesystem("s3", **{**fs.storage_options, "config_kwargs": limits})
    connection.retries = 1
    return connection


def _s3_objects(root: Location, config: TransferConfig) -> list[tuple[str, int, str]]:
    """Return the objects of a bucket; an answer that is no page of the listing is requested again."""
    fs = _own_connection(root.fs, config)
    bucket, key, _ = fs.split_path(root.path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    found: list[tuple[str, int, str]] = []
    more: dict[str, str] = {}
    while True:
        page = with_retries(
            partial(_s3_page, fs, bucket, prefix, more), what=f"listing of {root}", attempts=config.attempts
        )
        found += [
            (item["Key"].removeprefix(prefix), int(item["Size"]), str(item.get("ETag", "")).strip('"'))
            for item in page.get("Contents", ())
            if not item["Key"].endswith("/")
        ]
        if not page.get("IsTruncated"):
            return found
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _s3_page(fs: Any, bucket: str, prefix: str, more: dict[str, str]) -> dict[str, Any]:  # noqa: ANN401 - s3fs
    page: dict[str, Any] = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, **more)
    if page.get("Name") != bucket or page.get("KeyCount") != len(page.get("Contents", ())):
        raise SpoiltError("the answer is no listing of this bucket")
    return page


class Connection:
    """Reads files of one archive that is no local folder.

    Parameters
    ----------
    root : Location
        The archive, not a local folder.
    config : TransferConfig
    """

    def __init__(self, root: Location, config: TransferConfig) -> None:
        self.root, self.config = root, config
        self._s3 = _own_connection(root.fs, config) if _is_s3(root.fs) else None

    def read(self, file: ListedFile) -> bytes:
        """Read a small file as a whole and check it.

        Raises
        ------
        TransientError
            The file could not be fetched, or differs from its listing.
        """
        return with_retries(partial(self._whole, file), what=f"{self.root}/{file.path}", attempts=self.config.attempts)

    def read_range(self, file: ListedFile, start: int, stop: int) -> bytes:
        """Read bytes `start` to `stop` of a file.

        Raises
        ------
        TransientError
            The bytes could not be fetched.
        """
        what = f"{self.root}/{file.path} from byte {start}"
        return with_retries(partial(self._piece, file, start, stop), what=what, attempts=self.config.attempts)

    def _whole(self, file: ListedFile) -> bytes:
        data = self._piece(file, 0, file.size)
        _check_md5(file, hashlib.md5(data, usedforsecurity=False).hexdigest())
        return data

    def fetch(self, file: ListedFile, target: Path) -> None:
        """Fetch one file to `target`, and resume a transfer that was interrupted.

        Raises
        ------
        TransientError
            The file could not be fetched, differs from its listing, or there is no space left.
        """
        if target.is_file() and target.stat().st_size == file.size:
            return  # a file gets this name after its check
        target.parent.mkdir(parents=True, exist_ok=True)
        what = f"{self.root}/{file.path}"
        try:
            with_retries(partial(self._resume, file, target), what=what, attempts=self.config.attempts)
        except (FileNotFoundError, PermissionError) as error:
            raise TransientError(
                f"{what}: was listed and cannot be read ({error}); run again to list the archive anew"
            ) from error
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise TransientError(
                f"{what}: no space left in {target.parent} ({error}); free some, or name another folder with"
                " --transfer.scratch"
            ) from error

    def _resume(self, file: ListedFile, target: Path) -> None:
        part = target.with_name(f"{target.name}.part")
        with part.open("ab") as out:
            if out.tell() > file.size:
                out.truncate(0)
            while out.tell() < file.size:
                start = out.tell()
                stop = min(file.size, start + self.config.piece_bytes)
                out.write(self.read_range(file, start, stop))
                out.flush()
        with part.open("rb") as whole:
            digest = hashlib.file_digest(whole, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        try:
            _check_md5(file, digest)
        except SpoiltError:
            part.unlink()
            raise
        part.replace(target)

    def _piece(self, file: ListedFile, start: int, stop: int) -> bytes:
        if stop == start:
            return b""
        location = self.root / file.path
        if self._s3 is None:
            data: bytes = self.root.fs.cat_file(location.path, start=start, end=stop)
        else:
            data, etag = fsspec.asyn.sync(self._s3.loop, _s3_range, self._s3, location.path, start, stop)
            if file.etag and etag != file.etag:
                raise SpoiltError(f"the answer's ETag is {etag or 'absent'}, {file.etag} is listed")
        if len(data) != stop - start:
            raise SpoiltError(f"{start + len(data)} bytes arrived, {stop} are listed")
        if start == 0 and _PAGE.match(data) and not file.path.lower().endswith(_WEB_NAMES):
            raise SpoiltError("an error page came instead of the file")
        return data


async def _s3_range(fs: Any, path: str, start: int, stop: int) -> tuple[bytes, str]:  # noqa: ANN401 - s3fs
    bucket, key, _ = fs.split_path(path)
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
    body = answer["Body"]
    try:
        return await body.read(), str(answer.get("ETag", "")).strip('"')
    finally:
        body.close()


def _check_md5(file: ListedFile, digest: str) -> None:
    # The ETag of an object that was uploaded in one piece is its MD5; that of others (…-4) is not.
    if _MD5.fullmatch(file.etag) and digest != file.etag:
        raise SpoiltError(f"its MD5 is {digest}, the listing says {file.etag}")


def read_listed(root: Location, file: ListedFile, config: TransferConfig | None = None) -> bytes:
    """Read a small file of an archive and check it against the listing.

    Raises
    ------
    TransientError
        The file could not be fetched.
    """
    if root.is_local:
        return (root / file.path).read_bytes()
    return Connection(root, config or TransferConfig()).read(file)


def read_range(root: Location, file: ListedFile, start: int, stop: int, config: TransferConfig | None = None) -> bytes:
    """Read bytes `start` to `stop` of a file of an archive, or as many as the file has.

    Raises
    ------
    TransientError
        The bytes could not be fetched.
    """
    start, stop = max(0, start), min(file.size, stop)
    if root.is_local:
        return (root / file.path).read_bytes(start, stop)
    return Connection(root, config or TransferConfig()).read_range(file, start, stop)


@contextmanager
def fetched(source: "Source", config: TransferConfig | None = None) -> Iterator[Path]:
    """Yield a local folder in which every file of `source` lies at its path in the archive.

    A local archive is used where it is. From a bucket the files are fetched into a scratch folder. It is removed when
    the block ends, and kept after a `TransientError` or the process's death, so that the next attempt resumes from it.

    Raises
    ------
    TransientError
        A file could not be fetched, or differs from its listing.
    """
    root = locate(source.archive)
    if root.is_local:
        yield root.local_path()
        return
    config = config or TransferConfig()
    with _scratch(source, config) as folder:
        connection = Connection(root, config)
        with ThreadPoolExecutor(min(config.connections, max(1, len(source.all_files)))) as pool:
            list(pool.map(lambda file: connection.fetch(file, folder / _inside(file.path)), source.all_files))
        yield folder


def _inside(path: str) -> PurePosixPath:
    """Check that a path stays below the scratch folder, since a key of a bucket may hold any text."""
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts or "\0" in path:
        raise RecordingError(
            f"{path!r}: a name that leads out of the archive", stage="listing", next_action="rename the object"
        )
    return inside


def scratch_root(archive: str, config: TransferConfig) -> Path:
    """Return the folder below which the files of one archive are fetched."""
    base = Path(config.scratch) if config.scratch else Path(tempfile.gettempdir()) / f"emeg-scratch-{os.getuid()}"
    return base / hash_json(archive)


@contextmanager
def _scratch(source: "Source", config: TransferConfig) -> Iterator[Path]:
    """Yield this source's scratch folder, or a temporary folder where another process uses that one."""
    root = scratch_root(source.archive, config)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = root / scratch_name(source)
    with locked(root / f"{folder.name}.lock", remove=True) as free:
        if not free:
            with tempfile.TemporaryDirectory(prefix="emeg-") as own:
                yield Path(own)
            return
        folder.mkdir(exist_ok=True)
        keep = False
        try:
            yield folder
        except (TransientError, KeyboardInterrupt):
            keep = True
            raise
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def scratch_name(source: "Source") -> str:
    """Return the name of a source's scratch folder, a hash of its files in the versions that are listed."""
    return hash_json([[file.path, file.size, file.etag] for file in source.all_files])


def clear_scratch(archive: str, config: TransferConfig, keep: set[str]) -> int:
    """Remove scratch folders of earlier runs that no source needs; return how many."""
    root = scratch_root(archive, config)
    removed = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and folder.name not in keep:
            with locked(root / f"{folder.name}.lock", remove=True) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
    return removed


def identity(source: "Source") -> dict[str, str]:
    """Identify the content of a recording by file: SHA-256 in a folder, ETag and size in a bucket.

    Of a table of events only the rows count that belong to the content (`ListedFile.content`); one without such rows is
    left out.
    """
    return {
        file.path: f"rows:{file.content}" if file.content else file_identity(source.archive, file)
        for file in source.all_files
        if file.content != ""
    }


def file_identity(archive: str, file: ListedFile) -> str:
    """Identify the content of one file, whole: SHA-256 in a folder, ETag and size in a bucket."""
    root = locate(archive)
    return _file_identity(root.local_path() if root.is_local else None, file)


def _file_identity(folder: Path | None, file: ListedFile) -> str:
    if folder is None:
        return f"etag:{file.etag}:{file.size}"
    try:
        return f"sha256:{file.sha256 or sha256_file(folder / file.path)}"
    except OSError as error:  # a broken link, a file without read permission: refused when it is opened
        return f"unreadable:{type(error).__name__}"


def recording_id(source: "Source", config: IngestConfig) -> str:
    """Return the id of the recording that `source` becomes under `config`.

    The same files, at the same path in the dataset, standardised in the same way, have the same id, whichever version
    of emeg ingests them and wherever the archive lies. Rows of tables of events that do not change the signal are no
    part of it (`emeg.ingest.event_labels`).
    """
    if source.adopted:
        return source.adopted
    what: dict[str, Any] = {
        "dataset": source.dataset,
        "path": source.path,
        "licence": source.licence,
        "identity": identity(source),
        "montage": config.montage,
        "standardise": config.standardise.product_fields(),
    }
    if source.treatment is not None:
        what["treatment"] = source.treatment.product_fields()
    if source.declared:
        what["names"] = [source.subject, source.session, source.task, source.run, source.acquisition]
    elif source.hidden:  # the row holds public names, which depend on the key
        what["names"] = [source.subject, source.shown]
    return hash_json(what)
