"""What an object of the archive holds is read again to the byte, or not at all; and when it is time to write one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from services.common.blobs import open_blobs
from services.common.log.log import Entry
from services.common.zstd import pack, unpack
from services.local.parts import archive_environment
from services.local.stack import Stack
from services.workers.archive import segments
from services.workers.archive.segments import Broken
from services.workers.archive.spool import Bounds, Spool

NINE = datetime(2031, 2, 3, 9, 0, 0, 1234, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def entry(offset: int, payload: bytes = b'{"n":1}', time: datetime = NINE, tenant: str = "acme") -> Entry:
    id = UUID(int=offset + 1)
    return Entry("agent.tool", 3, offset, id, tenant, f'{tenant}/"ä', "tool.called", payload, "00-1-2-01", time)


PAYLOADS = [
    b'{"a":1,"b":"\xc3\xa4"}', b'{"a": 1.00 }', b"[]", b"null", b'{"a":"\\n"}', b'{"a":1,"a":2}', b"1e999", b"{\r}",
    b"", b" {}", b"{}\n", b'{\n}', b"no json", b'"\xff"', b"\x00", b'{"a":1}{"b":2}', b'"bytes":"x"', b"x" * 100_000,
    b"[" * 300 + b"]" * 300, b"[" * 900 + b"]" * 900, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[" * 200_000,
    b'{"\\ud800":1}',
]  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:20]))
def test_every_payload_is_read_again_to_the_byte(payload: bytes) -> None:
    entries = [entry(1), entry(7, payload), entry(8)]
    name = segments.name("postgres", entries)
    assert list(segments.read(name, segments.write("postgres", entries))) == entries


def test_the_name_sorts_and_says_what_is_inside() -> None:
    assert segments.name("postgres", [entry(12)]) == (
        "acme/agent.tool/2031/02/03/09/postgres-03-00000000000000000012.jsonl.zst"
    )
    assert segments.name("kafka", [entry(9)]) < segments.name("kafka", [entry(10)])


def test_the_same_events_give_the_same_bytes() -> None:
    entries = [entry(n) for n in range(50)]
    assert segments.write("postgres", entries) == segments.write("postgres", tuple(entries))


ENTRIES = [entry(n, b'{"n":%d}' % n) for n in range(4)]
NAME, WRITTEN = segments.name("postgres", ENTRIES), segments.write("postgres", ENTRIES)


def test_no_byte_can_be_changed_or_cut_unseen() -> None:
    text = unpack(WRITTEN, 1_000_000)
    for at in range(len(text)):
        for changed in (text[:at], text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]):
            with pytest.raises(Broken):
                segments.read(NAME, pack(changed))
    for at in range(len(WRITTEN)):
        with pytest.raises(Broken):
            segments.read(NAME, WRITTEN[:at])


@pytest.mark.parametrize(
    "entries",
    [
        [ENTRIES[0], ENTRIES[2], ENTRIES[1]],
        [ENTRIES[0], ENTRIES[1], ENTRIES[1]],
        [ENTRIES[0], entry(1, time=NINE + 60 * MINUTE)],
        [entry(0, tenant="globex")],
        [entry(1)],
    ],
)
def test_an_object_of_other_events_than_its_name_says_is_broken(entries: Sequence[Entry]) -> None:
    with pytest.raises(Broken):
        segments.read(NAME, segments.write("postgres", entries))


def test_what_would_take_all_memory_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MOST_BYTES", 100)
    with pytest.raises(Broken, match="100 is the most"):
        segments.read(NAME, WRITTEN)


def spool(*entries: Entry) -> Spool:
    filled = Spool()
    filled.take(entries)
    return filled


def due(filled: Spool, now: datetime, *, quiet: bool = True, bounds: Bounds = Bounds()) -> list[int]:  # noqa: B008
    return [entry.offset for entry in filled.due(bounds, now, quiet=quiet)]


def test_an_hour_is_written_when_it_is_over_for_the_partition() -> None:
    one_hour = spool(entry(1), entry(2, time=NINE + 30 * MINUTE))
    assert due(one_hour, NINE + 59 * MINUTE, bounds=Bounds(age=timedelta(days=1))) == []
    assert due(one_hour, NINE + 61 * MINUTE) == [1, 2]
    assert due(one_hour, NINE + 61 * MINUTE, quiet=False) == [], "more of it may be coming"
    one_hour.take([entry(3, time=NINE + 60 * MINUTE)])
    assert due(one_hour, NINE + 60 * MINUTE, quiet=False) == [1, 2]


def test_what_is_older_than_the_bound_is_written_though_more_comes() -> None:
    bounds = Bounds(age=10 * MINUTE)
    flowing = spool(entry(1), entry(2, time=NINE + 10 * MINUTE))
    assert due(flowing, NINE + 9 * MINUTE, quiet=False, bounds=bounds) == []
    assert due(flowing, NINE + 10 * MINUTE, quiet=False, bounds=bounds) == [1, 2]


def test_a_batch_is_written_when_it_is_large_and_is_no_larger() -> None:
    bounds = Bounds(batch_bytes=4000)
    large = spool(*[entry(n, b"x" * 1000) for n in range(5)])
    assert due(large, NINE, quiet=False, bounds=bounds) == [0, 1]
    large.drop(4)
    assert due(large, NINE, bounds=bounds) == []
    large.drop(1)
    assert (due(large, NINE), large.bytes) == ([], 0)


def test_a_run_that_is_given_out_again_takes_the_place_of_what_was_there() -> None:
    again = spool(entry(1), entry(2), entry(3))
    again.take([entry(2), entry(3), entry(4)])
    assert [entry.offset for entry in again.entries] == [2, 3, 4]
    assert again.bytes == spool(entry(2), entry(3), entry(4)).bytes


def test_the_mesh_archives_into_its_folder_or_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOMA_ARCHIVE_URL", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    stack = Stack(tmp_path / "a b#%", {}, {})
    here = archive_environment(stack)
    assert open_blobs(here["SOMA_ARCHIVE_URL"]).folder == tmp_path / "a b#%" / "archive"
    assert list(here) == ["SOMA_ARCHIVE_URL"]
    monkeypatch.setenv("SOMA_ARCHIVE_URL", "s3://bucket/x")
    assert archive_environment(stack)["SOMA_ARCHIVE_URL"] == "s3://bucket/x"
    assert archive_environment(stack)["AWS_SECRET_ACCESS_KEY"] == "secret"
