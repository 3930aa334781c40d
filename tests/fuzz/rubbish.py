"""Bytes that are no message, or one that nobody meant: cut, twisted, of wrong wire types, too deep, too large."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.methods import Descriptor
from tests.fuzz.text import among

VARINT, FIXED64, SIZED, GROUP, END_GROUP, FIXED32 = range(6)
NO_UTF8 = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80b")
"""Lone, a surrogate, NUL in two bytes, beyond the last character, cut, astray."""
VARINTS = (b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\xff" * 11, b"\x80" * 20, b"\xff" * 4 + b"\x0f", b"\x80\x00")
SIZES = (b"\x7f", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80\x80\x80\x80\x10")
MOST_BYTES = 4 * 1024 * 1024
"""What a room takes."""


def rubbish(kind: Descriptor, requests: SearchStrategy[Message]) -> SearchStrategy[bytes]:
    whole = requests.map(lambda request: request.SerializeToString())
    numbers = among([*(field.number for field in kind.fields), 19, 1000, 2**29 - 1, 0])
    return st.one_of(
        st.binary(max_size=200),
        st.tuples(whole, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
        st.tuples(whole, st.integers(0, 2000), st.integers(1, 255)).map(lambda drawn: twisted(*drawn)),
        st.tuples(whole, numbers, st.integers(0, 7), st.binary(max_size=20)).map(
            lambda drawn: drawn[0] + tag(drawn[1], drawn[2]) + drawn[3]
        ),
        st.tuples(numbers, among(VARINTS)).map(lambda drawn: tag(drawn[0], VARINT) + drawn[1]),
        st.tuples(numbers, among(SIZES)).map(lambda drawn: tag(drawn[0], SIZED) + drawn[1] + b"x"),
        st.tuples(numbers, among(NO_UTF8)).map(lambda drawn: sized(*drawn)),
        st.tuples(whole, whole).map(lambda both: both[0] + both[1]),
        st.tuples(whole, st.binary(max_size=50)).map(lambda drawn: drawn[0] + sized(1000, drawn[1])),
        st.tuples(numbers, among([99, 101, 5000])).map(lambda drawn: nested(*drawn)),
        st.tuples(numbers, among([50, 5000])).map(lambda drawn: tag(drawn[0], GROUP) * drawn[1]),
    )


def oversized() -> list[bytes]:
    """A byte more than a room takes, and one that it just takes, in a field that nobody knows."""
    head = len(sized(1000, b"x" * (MOST_BYTES - 16))) - (MOST_BYTES - 16)
    return [sized(1000, b"x" * (MOST_BYTES - head + more)) for more in (1, 0)]


def parses(kind: type[Message], body: bytes) -> bool:
    try:
        kind.FromString(body)
    except DecodeError:
        return False
    return True


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def sized(number: int, content: bytes) -> bytes:
    return tag(number, SIZED) + varint(len(content)) + content


def nested(number: int, depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = sized(number, content)
    return content


def twisted(body: bytes, place: int, bits: int) -> bytes:
    if not body:
        return bytes([bits])
    place %= len(body)
    return body[:place] + bytes([body[place] ^ bits]) + body[place + 1 :]
