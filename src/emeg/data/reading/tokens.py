"""Token sets: the codes of a corpus, written once and memory-mapped afterwards.

Shape letters: B batch, S latent sources, T latent steps, Q quantizer levels.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emeg.data.corpus.corpus import Corpus
from emeg.errors import UserError
from emeg.hashing import hash_json, sha256_file
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.uri import locate

FORMAT = 1
"""Version of the files of a token set; a reader refuses a newer one."""


class TokenSet:
    """Codes of every segment of a corpus, in the order of its segments table.

    Parameters
    ----------
    name : str
        Id of the token set.
    manifest : dict
    codes : uint16, shape (segments, S, T, Q)
        Codes, read-only and memory-mapped.
    """

    def __init__(self, name: str, manifest: dict[str, Any], codes: NDArray[np.uint16]) -> None:
        self.name = name
        self.manifest = manifest
        self.codes = codes

    @classmethod
    def open(cls, store: Store, name: str | None = None) -> Self:
        """Open a token set by its id, or the only one if no id is given. From a bucket it is copied first.

        Raises
        ------
        UserError
            There is no such set, its format is newer, or the size of its codes differs from the manifest.
        """
        name = store.only("tokens", name)
        folder = store.local_copy("tokens", name)
        manifest: dict[str, Any] = locate(folder / "manifest.json").read_json()
        if int(manifest["format"]) > FORMAT:
            raise UserError(f"{folder}: token format {manifest['format']} is newer than {FORMAT}; update emeg")
        path = folder / "codes.npy"
        if path.stat().st_size != manifest["bytes"]:
            raise UserError(
                f"{path}: {path.stat().st_size} bytes, the manifest says {manifest['bytes']}: the copy is cut short;"
                " copy it again, or remove the token set and run tokenize again"
            )
        codes: NDArray[np.uint16] = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(name, manifest, codes)

    @property
    def corpus(self) -> str:
        """Id of the corpus."""
        return str(self.manifest["corpus"])

    @property
    def tokenizer(self) -> str:
        """Id of the tokenizer that wrote the codes and whose codebooks turn them into features."""
        return str(self.manifest["tokenizer"])

    @property
    def overlap(self) -> float:
        """Share of a window that the next window overlaps."""
        return float(self.manifest["overlap"])

    @property
    def codebook_size(self) -> int:
        """Number of codes of a codebook."""
        return int(self.manifest["codebook_size"])

    @property
    def by_channel(self) -> bool:
        """Whether the sources are channels: of a segment with fewer channels than others, the last are absent."""
        return bool(self.manifest.get("by_channel", False))

    @property
    def n_quantizers(self) -> int:
        """Quantizer levels."""
        return int(self.codes.shape[3])

    def __len__(self) -> int:
        return len(self.codes)


def tokens_name(corpus: str, tokenizer: str, overlap: float) -> str:
    """Return the id of the token set of a tokenizer and a corpus."""
    return hash_json({"format": FORMAT, "corpus": corpus, "tokenizer": tokenizer, "overlap": overlap})


def write_tokens(
    store: Store,
    corpus: Corpus,
    tokenizer: str,
    overlap: float,
    codebook_size: int,
    batches: Iterable[tuple[NDArray[np.int64], NDArray[np.integer[Any]]]],
    *,
    by_channel: bool = False,
    progress: Progress = silent,
) -> str:
    """Publish the codes of every segment of a corpus and return the id; an existing set is kept.

    Parameters
    ----------
    batches : iterable of (int64, shape (B,); int, shape (B, S, T, Q))
        Row indices of the corpus and their codes, in any order, every row once.
    by_channel : bool
        The sources are channels; codes of absent channels are 0.

    Raises
    ------
    UserError
        Codes do not fit the codebook, a segment has another shape than the first, or rows are missing or repeated.
    """
    name = tokens_name(corpus.name, tokenizer, overlap)
    if store.has("tokens", name):
        return name
    with store.publishing("tokens", name) as folder:
        codes = _fill(folder / "codes.npy", len(corpus), codebook_size, batches, progress)
        manifest = {
            "format": FORMAT,
            "corpus": corpus.name,
            "tokenizer": tokenizer,
            "overlap": overlap,
            "codebook_size": codebook_size,
            "shape": list(codes),
            "bytes": (folder / "codes.npy").stat().st_size,
            "sha256": sha256_file(folder / "codes.npy"),
        }
        if by_channel:
            manifest["by_channel"] = True
        (locate(folder) / "manifest.json").write_json(manifest)
    return name


def _fill(
    path: Path,
    n_segments: int,
    codebook_size: int,
    batches: Iterable[tuple[NDArray[np.int64], NDArray[np.integer[Any]]]],
    progress: Progress,
) -> tuple[int, ...]:
    if not 0 < codebook_size <= 2**16:
        raise UserError(f"codebook_size={codebook_size}: codes are stored in 16 bits; use 1 to 65,536")
    written = np.zeros(n_segments, np.int64)
    codes: np.memmap[Any, np.dtype[np.uint16]] | None = None
    for rows, values in batches:
        if codes is None:
            shape = (n_segments, *values.shape[1:])
            codes = np.lib.format.open_memmap(path, mode="w+", dtype="<u2", shape=shape, version=(1, 0))
        if values.shape[1:] != codes.shape[1:]:
            raise UserError(
                f"segments {rows[:4].tolist()}: codes have shape {values.shape[1:]}, others {codes.shape[1:]};"
                " use one tokenizer for all"
            )
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < codebook_size:
            raise UserError(
                f"segments {rows[:4].tolist()}: codes are outside 0 to {codebook_size - 1};"
                " pass the codebook_size of their tokenizer"
            )
        codes[rows] = values
        np.add.at(written, rows, 1)
        progress(int(np.count_nonzero(written)), n_segments, "writing tokens")
    if codes is None or (written != 1).any():
        wrong = np.flatnonzero(written != 1)
        raise UserError(
            f"{len(wrong)} segments were not written exactly once, the first is {wrong[:1].tolist()}; pass each once"
        )
    codes.flush()
    return tuple(int(n) for n in codes.shape)
