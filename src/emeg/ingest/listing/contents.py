"""Read the few bytes of an archive's files that the listing needs to decide which files belong together."""

import zlib

from emeg.ingest.config import TransferConfig
from emeg.ingest.source import ListedFile
from emeg.ingest.transfer.download import read_listed, read_range
from emeg.uri import Location

HEAD_BYTES, TAIL_BYTES = 2**20, 2**16
"""Bytes read from the beginning and from the end of a file to find references to other files."""


class Contents:
    """Content of an archive's files, read on demand.

    Parameters
    ----------
    root : Location
        The archive.
    files : dict
        Its files by path.
    config : TransferConfig
    """

    def __init__(self, root: Location, files: dict[str, ListedFile], config: TransferConfig) -> None:
        self._root, self._files, self._config = root, files, config

    @property
    def is_local(self) -> bool:
        """Whether reading a file costs no request."""
        return self._root.is_local

    def read(self, path: str) -> bytes:
        """Read a whole file; empty if it cannot be read, which is reported when it is opened."""
        try:
            return read_listed(self._root, self._files[path], self._config)
        except OSError:
            return b""

    def ends(self, path: str) -> tuple[bytes, bytes]:
        """Read the beginning and the end of a file; empty if it cannot be read."""
        file = self._files[path]
        if path.lower().endswith(".gz"):
            whole = _unzipped(self.read(path))
            return whole[:HEAD_BYTES], whole[-TAIL_BYTES:]
        try:
            head = read_range(self._root, file, 0, HEAD_BYTES, self._config)
            if file.size <= HEAD_BYTES:
                return head, head[-TAIL_BYTES:]
            return head, read_range(self._root, file, file.size - TAIL_BYTES, file.size, self._config)
        except OSError:
            return b"", b""


def _unzipped(data: bytes) -> bytes:
    """Decompress the undamaged beginning of a gzip file."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data)
    except zlib.error:
        return b""
