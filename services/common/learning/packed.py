"""Names and arrays as one piece of bytes that shows when it was altered.

`SOMA` `version` `length of the words, 4 bytes` `words, JSON` `arrays, float32 little-endian` `BLAKE2b of it all, 16`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.common.learning.features import Floats

MAGIC, VERSION, DIGEST = b"SOMA", 1, 16
FLOAT = "<f4"


def pack(kind: str, words: Mapping[str, Any], arrays: Sequence[Floats]) -> bytes:
    """The same arguments give the same bytes."""
    head = json.dumps({"kind": kind, **words, "shapes": [a.shape for a in arrays]}, sort_keys=True).encode()
    body = MAGIC + bytes([VERSION]) + len(head).to_bytes(4, "little") + head
    body += b"".join(array.astype(FLOAT).tobytes() for array in arrays)
    return body + digest(body)


def unpack(kind: str, data: bytes) -> tuple[dict[str, Any], list[Floats]]:
    """ValueError with a sentence when these are not the bytes of such a kind, whole and of this version."""
    if data[:4] != MAGIC:
        raise ValueError(f"This is no {kind} of ours.")
    if data[4:5] != bytes([VERSION]):
        raise ValueError(f"This {kind} is of another version. Build it anew.")
    if digest(data[:-DIGEST]) != data[-DIGEST:]:
        raise ValueError(f"This {kind} is not whole: its checksum is wrong.")
    end = 9 + int.from_bytes(data[5:9], "little")
    try:
        words = json.loads(data[9:end])
        if words["kind"] != kind:
            raise ValueError
        return words, arrays_of(data[end:-DIGEST], words["shapes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"This is no {kind}, or one that cannot be read.") from error


def arrays_of(data: bytes, shapes: Sequence[Sequence[int]]) -> list[Floats]:
    numbers = np.frombuffer(data, FLOAT).astype(np.float64)
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != len(numbers) or not np.isfinite(numbers).all():
        raise ValueError
    parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST).digest()
