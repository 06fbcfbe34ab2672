"""Names made of content: canonical JSON and SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME_LENGTH = 16
"""Hexadecimal digits of a product's name: 64 bits, collision odds below 1e-9 for 100,000 products."""


def canonical_json(value: object) -> str:
    """Write JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_json(value: Mapping[str, Any] | list[Any] | str) -> str:
    """Name a product after the values that made it: the first 16 hexadecimal digits of SHA-256."""
    return sha256_bytes(canonical_json(value).encode())[:NAME_LENGTH]


def sha256_bytes(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
