"""The one door to zstandard: what fits into memory whole, and files that do not as streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import zstandard

LEVEL = 3
MAGIC = b"\x28\xb5\x2f\xfd"
"""How a compressed file begins."""
WIDEST_BYTES = 128 * 1024 * 1024
"""Of memory that a file may ask of its reader."""


def pack(content: bytes) -> bytes:
    """Compressed, with a checksum. One release of the library gives the same bytes for the same content."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(content)


def unpack(packed: bytes, most_bytes: int) -> bytes:
    """What was compressed as one whole. ValueError when it is cut or altered, or would take more than that."""
    try:
        frame = zstandard.get_frame_parameters(packed)
        if frame.content_size > most_bytes:  # unknown sizes are huge numbers too
            raise ValueError(f"It would take {frame.content_size} bytes; {most_bytes} is the most.")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as fault:
        raise ValueError(f"It is not what zstd wrote: {fault}.") from fault


@contextmanager
def writing(file: BinaryIO) -> Iterator[BinaryIO]:
    """What is written goes to the file compressed. There is no checksum, which would hide from a reader all that stands
    around a byte that was changed: put one into what you write. The file stays open."""
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    with compressor.stream_writer(file, closefd=False) as stream:
        yield cast("BinaryIO", stream)


def reading(file: BinaryIO, most: int) -> Iterator[bytes]:
    """What was compressed, at most so many bytes at a time. A file that was cut just ends: the reader has to know what
    the last thing is. ValueError when it was altered, or asks for too much memory."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WIDEST_BYTES)
    try:
        with decompressor.stream_reader(file, read_across_frames=True, closefd=False) as stream:
            while chunk := stream.read(most):
                yield chunk
    except zstandard.ZstdError as fault:
        raise ValueError(f"It is not what zstd wrote: {fault}.") from fault
