"""What an object of the archive is: its name, its lines, and how they are read again. Pure.

    acme/agent.audit/2026/11/22/21/postgres-03-00000000000000000120.jsonl.zst

holds events of one tenant, topic, hour and partition, in order, compressed with zstd. The name says which log they came
from and the first offset; there are several objects an hour when much happened in it. Lines:

    {"format":"soma.archive/1","log":"postgres","tenant":…,"topic":…,"part":3,"hour":"2026-11-22T21","first":120}
    {"offset":120,"id":…,"key":…,"type":…,"time":…,"traceparent":…,"event":{…}}
    {"events":2,"last":131,"sha256":…}

`event` comes last and is the payload to the byte; what is no JSON on one line, or JSON with very many brackets, is in
`bytes` by Base64 instead.
`sha256` is of all lines before, line ends included. Offsets may have gaps: other tenants, and repeats.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import msgspec

from services.common.log.log import Entry
from services.common.zstd import pack, unpack

FORMAT = "soma.archive/1"
MOST_BYTES = 256 * 1024 * 1024
"""No object takes more, uncompressed."""
MOST_BRACKETS = 200
"""JSON with more of them goes by Base64: how deep a reader may go depends on where it stands."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    log: str
    tenant: str
    topic: str
    part: int
    hour: str
    first: int


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    offset: int
    id: str
    key: str
    type: str
    time: str
    traceparent: str
    event: msgspec.Raw = msgspec.Raw()
    bytes: str | None = None


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: int
    last: int
    sha256: str


class Broken(ValueError):  # noqa: N818 - what the object is
    """It is not what the archiver wrote."""


def hour(entry: Entry) -> datetime:
    return entry.time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def name(log: str, entries: Sequence[Entry]) -> str:
    """Sorts by hour, partition and offset within tenant and topic."""
    first = entries[0]
    return f"{folder(first.tenant, first.topic, hour(first))}/{log}-{first.part:02d}-{first.offset:020d}.jsonl.zst"


def folder(tenant: str, topic: str, hour: datetime) -> str:
    return f"{tenant}/{topic}/{hour:%Y/%m/%d/%H}"


def write(log: str, entries: Sequence[Entry]) -> bytes:
    """The object of these events: not none, of one tenant, topic, partition and hour."""
    first = entries[0]
    head = Head(FORMAT, log, first.tenant, first.topic, first.part, f"{hour(first):%Y-%m-%dT%H}", first.offset)
    text = b"".join([encode(head), b"\n", *(line(entry) for entry in entries)])
    tail = Tail(len(entries), entries[-1].offset, hashlib.sha256(text).hexdigest())
    return pack(text + encode(tail) + b"\n")


def read(named: str, content: bytes) -> Sequence[Entry]:
    """The events of the object of that name, checked against name and sum. Raises Broken."""
    try:
        text = unpack(content, MOST_BYTES)
        first, *lines, last, end = text.split(b"\n")
        head, tail = msgspec.json.decode(first, type=Head), msgspec.json.decode(last, type=Tail)
        entries = [entry(head, msgspec.json.decode(line, type=Line)) for line in lines]
    except (ValueError, RecursionError, msgspec.DecodeError) as fault:
        raise Broken(f"{named} is no whole object of the archive: {fault}") from fault
    summed = hashlib.sha256(text[: len(text) - len(last) - 1]).hexdigest()
    if end or head.format != FORMAT or summed != tail.sha256 or tail.events != len(entries):
        raise Broken(f"{named} does not hold what its last line says")
    if not entries or name(head.log, entries) != named or entries[-1].offset != tail.last:
        raise Broken(f"{named} holds other events than its name says")
    if any(one.offset >= after.offset or hour(one) != hour(after) for one, after in pairwise(entries)):
        raise Broken(f"{named} holds events out of order")
    return entries


def line(entry: Entry) -> bytes:
    at = entry.time.astimezone(UTC).isoformat()
    said = Line(entry.offset, str(entry.id), entry.key, entry.type, at, entry.traceparent)
    if is_one_line_of_json(entry.payload):
        return encode(said)[:-1] + b',"event":' + entry.payload + b"}\n"
    return encode(said)[:-1] + b',"bytes":"' + b64encode(entry.payload) + b'"}\n'


def entry(head: Head, line: Line) -> Entry:
    payload = bytes(line.event) if line.bytes is None else b64decode(line.bytes, validate=True)
    return Entry(
        head.topic, head.part, line.offset, UUID(line.id), head.tenant, line.key, line.type, payload, line.traceparent,
        datetime.fromisoformat(line.time),
    )  # fmt: skip


def is_one_line_of_json(payload: bytes) -> bool:
    """And without space around it, so that it is read again to the byte."""
    if b"\n" in payload or payload != payload.strip():
        return False
    if payload.count(b"[") + payload.count(b"{") > MOST_BRACKETS:
        return False
    try:
        msgspec.json.decode(payload)
    except ValueError:
        return False
    return True


encode = msgspec.json.Encoder().encode
