"""An audit file as blocks of whole lines, read in constant memory. Compressed or not: whoever unpacks one to look into
it can prove that too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import BinaryIO

from services.common import zstd
from services.local.audit.form import END

BLOCK_BYTES = 128 * 1024
"""As much as a block of Zstandard: damage to one takes none before it along."""
LONGEST_LINE = 8 * 1024 * 1024
LAST = f"{END} ".encode()


class Cut(Exception):  # noqa: N818 - what a file is
    """It cannot be read on from here. The text says why."""


class Lines:
    """Iterate it once. `digest` is then the SHA-256 of all lines before the end line."""

    def __init__(self, file: BinaryIO, seen: Callable[[int], None] = lambda _: None) -> None:
        """`seen` is told how far the file has been read, in bytes on disk."""
        self._file, self._seen = file, seen
        self._hash = sha256()

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def __iter__(self) -> Iterator[list[bytes]]:
        """Lines without their ends, block by block. Raises Cut."""
        rest = b""
        for chunk in self._chunks():
            whole, newline, tail = chunk.rpartition(b"\n")
            if not newline:
                rest += tail
            else:
                block, rest = rest + whole, tail
                self._take(block)
                yield block.split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise Cut(f"A line is longer than {LONGEST_LINE // 1024 // 1024} MiB.")
            self._seen(self._file.tell())
        if rest:
            raise Cut("Its last line is not whole.")

    def _take(self, block: bytes) -> None:
        before, _, line = block.rpartition(b"\n")
        if not line.startswith(LAST):
            self._hash.update(block)
            self._hash.update(b"\n")
        elif before:
            self._hash.update(before)
            self._hash.update(b"\n")

    def _chunks(self) -> Iterator[bytes]:
        packed = self._file.read(len(zstd.MAGIC)) == zstd.MAGIC
        self._file.seek(0)
        if not packed:
            yield from iter(lambda: self._file.read(BLOCK_BYTES), b"")
            return
        try:
            yield from zstd.reading(self._file, BLOCK_BYTES)
        except ValueError as fault:
            raise Cut(str(fault)) from fault
