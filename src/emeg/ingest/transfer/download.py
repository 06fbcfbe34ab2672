"""Files of an archive on this machine: listed, fetched in pieces, checked before anybody reads them.

A piece is asked for by its range; what has arrived stays in the scratch folder, so that a transfer that was broken off,
even by SIGKILL, goes on where it was. A file is used only when its size is the listed one, every answer bore the listed
ETag, and, where the ETag is one, its MD5 is right.
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
from emeg.ingest.transfer.retry import SpoiltError, patiently
from emeg.locks import locked
from emeg.uri import Location, locate

PAGE_KEYS = 1000
"""Objects asked for in one page of a listing, the most that S3 gives."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_PAGE = re.compile(rb"^\s*(<!doctype html|<html|<\?xml[^>]*\?>\s*<(!doctype html|html|error))", re.IGNORECASE)
_WEB_NAMES = (".html", ".htm", ".xml")


def list_files(root: Location, config: TransferConfig | None = None) -> dict[str, ListedFile]:
    """List every file of an archive, sorted by path; hidden ones are left out.

    Raises
    ------
    UserError
        There is no such archive, or it may not be listed.
    TransientError
        It does not answer.
    """
    config = config or TransferConfig()
    absent = f"{root}: there is no such archive; give a folder or an fsspec URI such as s3://bucket/prefix"
    try:
        found = _s3_objects(root, config) if _is_s3(root.fs) else _any_files(root, config)
    except FileNotFoundError as error:
        raise UserError(absent) from error
    except PermissionError as error:
        raise UserError(
            f"{root}: may not be listed ({error}); check name and credentials, or write anonymous:s3://… for a public"
            " bucket"
        ) from error
    if not found and not (root.is_local and root.exists()):
        raise UserError(absent)
    files = {}
    for path, size, etag in sorted(found):
        if not any(part.startswith(".") for part in PurePosixPath(path).parts):
            files[path] = ListedFile(path, size, etag)
    return files


def _any_files(root: Location, config: TransferConfig) -> list[tuple[str, int, str]]:
    root.fs.invalidate_cache(root.path)
    if not patiently(root.exists, what=str(root), attempts=config.attempts):
        raise FileNotFoundError(str(root))
    found = patiently(partial(root.fs.find, root.path, detail=True), what=str(root), attempts=config.attempts)
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


def _own_line(fs: fsspec.AbstractFileSystem, config: TransferConfig) -> fsspec.AbstractFileSystem:
    """Give a connection to a bucket with our time limit, and without retries of its own that would multiply ours."""
    limits = {"read_timeout": config.timeout_s, "connect_timeout": config.timeout_s, "retries": {"max_attempts": 0}}
    line = fsspec.filesystem("s3", **{**fs.storage_options, "config_kwargs": limits})
    line.retries = 1
    return line


def _s3_objects(root: Location, config: TransferConfig) -> list[tuple[str, int, str]]:
    """Objects of a bucket, page by page; a page that is not one is asked for again, never taken for an empty one."""
    fs = _own_line(root.fs, config)
    bucket, key, _ = fs.split_path(root.path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    found: list[tuple[str, int, str]] = []
    more: dict[str, str] = {}
    while True:
        page = patiently(
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


class Line:
    """How files of one archive are read.

    Parameters
    ----------
    root : Location
        The archive, not a local folder.
    config : TransferConfig
    """

    def __init__(self, root: Location, config: TransferConfig) -> None:
        self.root, self.config = root, config
        self._s3 = _own_line(root.fs, config) if _is_s3(root.fs) else None

    def read(self, file: ListedFile) -> bytes:
        """Read a small file whole, checked.

        Raises
        ------
        TransientError
            It could not be had, or differs from its listing.
        """
        return patiently(partial(self._whole, file), what=f"{self.root}/{file.path}", attempts=self.config.attempts)

    def _whole(self, file: ListedFile) -> bytes:
        data = self._piece(file, 0, file.size)
        _check_md5(file, hashlib.md5(data, usedforsecurity=False).hexdigest())
        return data

    def fetch(self, file: ListedFile, target: Path) -> None:
        """Bring one file to `target`, going on with what is there of it.

        Raises
        ------
        TransientError
            It could not be had, differs from its listing, or there is no space left.
        """
        if target.is_file() and target.stat().st_size == file.size:
            return  # it got its name after its check
        target.parent.mkdir(parents=True, exist_ok=True)
        what = f"{self.root}/{file.path}"
        try:
            patiently(partial(self._go_on, file, target), what=what, attempts=self.config.attempts)
        except (FileNotFoundError, PermissionError) as error:
            raise TransientError(f"{what}: was listed and is not given ({error}); run again to list anew") from error
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise TransientError(
                f"{what}: no space left for it in {target.parent} ({error}); free some, or name another folder with"
                " --transfer.scratch"
            ) from error

    def _go_on(self, file: ListedFile, target: Path) -> None:
        part = target.with_name(f"{target.name}.part")
        with part.open("ab") as out:
            if out.tell() > file.size:
                out.truncate(0)
            while out.tell() < file.size:
                start = out.tell()
                stop = min(file.size, start + self.config.piece_bytes)
                data = patiently(
                    partial(self._piece, file, start, stop),
                    what=f"{self.root}/{file.path} from byte {start}",
                    attempts=self.config.attempts,
                )
                out.write(data)
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
        place = self.root / file.path
        if self._s3 is None:
            data: bytes = self.root.fs.cat_file(place.path, start=start, end=stop)
        else:
            data, etag = fsspec.asyn.sync(self._s3.loop, _s3_range, self._s3, place.path, start, stop)
            if file.etag and etag != file.etag:
                raise SpoiltError(f"the answer's ETag is {etag or 'absent'}, {file.etag} is listed")
        if len(data) != stop - start:
            raise SpoiltError(f"{start + len(data)} bytes arrived, {stop} are listed")
        if start == 0 and _PAGE.match(data) and not file.path.lower().endswith(_WEB_NAMES):
            raise SpoiltError("an error page came in its place")
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
    # The ETag of an object that was put in one piece is its MD5; of others (…-4) it is none.
    if _MD5.fullmatch(file.etag) and digest != file.etag:
        raise SpoiltError(f"its MD5 is {digest}, the listing says {file.etag}")


def read_listed(root: Location, file: ListedFile, config: TransferConfig | None = None) -> bytes:
    """Read a small file of an archive, checked against the listing.

    Raises
    ------
    TransientError
        It could not be had.
    """
    return (root / file.path).read_bytes() if root.is_local else Line(root, config or TransferConfig()).read(file)


@contextmanager
def fetched(source: "Source", config: TransferConfig | None = None) -> Iterator[Path]:
    """Give a local folder in which every file of `source` lies at its path in the archive.

    A local archive is used where it is; from a bucket the files are fetched into a scratch folder, which is removed
    when the block ends, and kept after a `TransientError` or the process's death, so that the next try goes on with it.

    Raises
    ------
    TransientError
        A file could not be fetched, or arrived other than listed.
    """
    root = locate(source.archive)
    if root.is_local:
        yield root.local_path()
        return
    config = config or TransferConfig()
    with _scratch(source, config) as folder:
        line = Line(root, config)
        with ThreadPoolExecutor(min(config.connections, max(1, len(source.all_files)))) as pool:
            list(pool.map(lambda file: line.fetch(file, folder / _inside(file.path)), source.all_files))
        yield folder


def _inside(path: str) -> PurePosixPath:
    """Path below the scratch folder; a key of a bucket may hold any text."""
    place = PurePosixPath(path)
    if place.is_absolute() or ".." in place.parts or "\0" in path:
        raise RecordingError(
            f"{path!r}: a name that leads out of the archive", stage="listing", next_action="rename the object"
        )
    return place


def scratch_root(archive: str, config: TransferConfig) -> Path:
    """Folder under which the files of one archive are fetched."""
    base = Path(config.scratch) if config.scratch else Path(tempfile.gettempdir()) / f"emeg-scratch-{os.getuid()}"
    return base / hash_json(archive)


@contextmanager
def _scratch(source: "Source", config: TransferConfig) -> Iterator[Path]:
    """Give this source's folder; when another process works in it, one of our own."""
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
    """Name of a source's scratch folder: of the very versions that are listed."""
    return hash_json([[file.path, file.size, file.etag] for file in source.all_files])


def clear_scratch(archive: str, config: TransferConfig, keep: set[str]) -> int:
    """Remove what earlier runs left of transfers that nobody needs any more; returns how many recordings'."""
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
    """Identify the content of every file: SHA-256 in a folder, ETag and size in a bucket."""
    root = locate(source.archive)
    return {file.path: _file_identity(root.local_path() if root.is_local else None, file) for file in source.all_files}


def _file_identity(folder: Path | None, file: ListedFile) -> str:
    if folder is None:
        return f"etag:{file.etag}:{file.size}"
    try:
        return f"sha256:{file.sha256 or sha256_file(folder / file.path)}"
    except OSError as error:  # a link to nothing, a file that nobody may read: refused when it is opened
        return f"unreadable:{type(error).__name__}"


def recording_id(source: "Source", config: IngestConfig) -> str:
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
    if source.treatment is not None:
        what["treatment"] = source.treatment.product_fields()
    if source.declared:
        what["names"] = [source.subject, source.session, source.task, source.run, source.acquisition]
    elif source.hidden:  # the row holds public names, which a key changes
        what["names"] = [source.subject, source.shown]
    return hash_json(what)
