"""An audit file written line by line, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import BinaryIO

from services.local.audit.form import End, Header, Key, Start, event_line, head_line


class Writer:
    """Header, keys, start; then events and heads in their order; then the end. It does not judge what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, sha256()
        self._events = self._size = self._heads = 0

    def begin(self, header: Header, keys: Sequence[Key], start: Start) -> None:
        for line in (header.line, *(key.line for key in keys), start.line):
            self._write(line.encode())
        self._size = start.edge.size

    def event(self, index: int, chain: bytes, canonical: bytes) -> None:
        """ValueError when the bytes cannot be canonical JSON."""
        self._write(event_line(index, chain, canonical))
        self._events, self._size = self._events + 1, index + 1

    def head(self, note: str) -> None:
        self._write(head_line(note).encode())
        self._heads += 1

    def end(self) -> None:
        end = End(self._events, self._size, self._heads, self._hash.digest())
        self._file.write(end.line.encode() + b"\n")

    def _write(self, line: bytes) -> None:
        self._hash.update(line)
        self._hash.update(b"\n")
        self._file.write(line + b"\n")
