"""What is sealed opens with one key at one place alone, and a tenant's key is made once or not at all."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from services.common import outbox
from services.common.events import LONGEST_TEXT
from services.common.people.sealing import SubjectKey, Unreadable, pseudonym_of
from services.common.people.wrapping import FileTenantKeys, KeyAway, make, open_tenant_keys
from soma.events.v1alpha1.message_pb2 import MessageEvent

KEY = SubjectKey("acme", bytes(range(32)))
PLACE = "0193a1c0-0000-7000-8000-000000000001"


@pytest.mark.parametrize("text", ["x", "Grüße, 世界 🌍", '\x00\x1f"\\', "a" * 300_000])
def test_what_is_sealed_opens_at_its_place(text: str) -> None:
    sealed = KEY.seal(text, PLACE)
    assert KEY.open(sealed, PLACE) == text
    assert pseudonym_of(sealed) == KEY.pseudonym


def test_the_same_text_is_never_sealed_alike() -> None:
    assert KEY.seal("x", PLACE) != KEY.seal("x", PLACE)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (KEY, "0193a1c0-0000-7000-8000-000000000002"),
        (SubjectKey("globex", KEY.secret), PLACE),
        (SubjectKey("acme", bytes(32)), PLACE),
    ],
    ids=["another event", "another tenant", "another person"],
)
def test_it_opens_nowhere_else(key: SubjectKey, place: str) -> None:
    with pytest.raises(Unreadable):
        key.open(KEY.seal("x", PLACE), place)


def test_a_byte_altered_anywhere_is_found_out() -> None:
    form, pseudonym, body = KEY.seal("a text", PLACE).split(".")
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    for at in range(len(raw)):
        other = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(Unreadable):
            KEY.open(f"{form}.{pseudonym}.{base64.urlsafe_b64encode(other).decode().rstrip('=')}", PLACE)


@pytest.mark.parametrize(
    "rubbish",
    ["", "s1", "s1.", f"s1.{KEY.pseudonym}.", f"s1.{KEY.pseudonym}.A", f"s1.{KEY.pseudonym}.!!!!", "s1..AAAA",
     f"s2.{KEY.pseudonym}.AAAA", f"s1.{KEY.pseudonym}.é", "{}"],
)  # fmt: skip
def test_rubbish_is_unreadable_and_nothing_worse(rubbish: str) -> None:
    with pytest.raises(Unreadable):
        KEY.open(rubbish, PLACE)


def test_the_form_is_the_one_that_archives_hold() -> None:
    """Fixed for good: what was sealed with this release is opened by every later one."""
    kept = "s1.p_jy63ctulyfcoh6yqiqp7xyy6.AAAAAAAAAAAAAAAAQhIwjsldApTpiJ8DmJmMcJM2TFY"
    assert KEY.open(kept, PLACE) == "kept"
    assert KEY.digest(b"request") == "40530a50700eeab88f2fd8641720321d3c58b332406de493da356292300be1b1"


def test_a_pseudonym_and_a_digest_say_nothing_without_the_key() -> None:
    other = SubjectKey.new("acme")
    assert other.pseudonym != KEY.pseudonym
    assert other.digest(b"x") != KEY.digest(b"x")
    assert KEY.digest(b"x") == KEY.digest(b"x") != KEY.digest(b"y")
    assert MessageEvent(text=KEY.seal("x", PLACE)).text.startswith("s1.p_")


def test_the_longest_text_fits_into_an_event() -> None:
    event = MessageEvent(
        id=PLACE, type="turn.answered", version=1, time="2026-01-01T00:00:00.000Z", tenant="a" * 40,
        subject=KEY.pseudonym, conversation="c" * 200, turn="t" * 200, pane="p" * 200, reason="r" * 100,
        text=KEY.seal("é" * (LONGEST_TEXT // 2), PLACE),
    )  # fmt: skip
    assert len(outbox.row(event, "").payload) <= outbox.LONGEST_EVENT


def test_an_event_that_is_too_long_is_refused() -> None:
    event = MessageEvent(id=PLACE, type="turn.asked", version=1, time="2026-01-01T00:00:00.000Z", tenant="acme")
    event.subject, event.conversation = KEY.pseudonym, "c" * outbox.LONGEST_EVENT
    with pytest.raises(ValueError, match="is the most"):
        outbox.row(event, "")


async def test_what_one_tenants_key_wraps_no_other_unwraps(tmp_path: Path) -> None:
    keys = FileTenantKeys(tmp_path / "keys")
    wrapped = await keys.wrap("acme", KEY.secret, is_first=True)
    await keys.wrap("globex", KEY.secret, is_first=True)
    assert await FileTenantKeys(tmp_path / "keys").unwrap("acme", wrapped) == KEY.secret
    with pytest.raises(KeyAway):
        await keys.unwrap("globex", wrapped)
    (tmp_path / "keys/globex.key").write_bytes((tmp_path / "keys/acme.key").read_bytes())
    with pytest.raises(KeyAway):  # not even with the same key
        await FileTenantKeys(tmp_path / "keys").unwrap("globex", wrapped)


async def test_a_tenants_key_is_for_its_owner_alone_and_made_once(tmp_path: Path) -> None:
    rooms = [FileTenantKeys(tmp_path / "keys") for _ in range(8)]
    wrapped = await asyncio.gather(*(room.wrap("acme", KEY.secret, is_first=True) for room in rooms))
    assert [await rooms[0].unwrap("acme", one) for one in wrapped] == [KEY.secret] * 8
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["acme.key"]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys/acme.key").stat().st_mode & 0o777 == 0o600


def test_whoever_makes_a_key_second_leaves_the_first(tmp_path: Path) -> None:
    file = tmp_path / "keys/acme.key"
    make(file)
    first = file.read_bytes()
    make(file)
    assert (file.read_bytes(), list(file.parent.iterdir())) == (first, [file])


async def test_a_key_that_is_missing_is_not_made_anew_where_people_have_keys(tmp_path: Path) -> None:
    keys, file = FileTenantKeys(tmp_path / "keys"), tmp_path / "keys/acme.key"
    wrapped = await keys.wrap("acme", KEY.secret, is_first=True)
    kept = file.read_bytes()
    file.unlink()
    later = FileTenantKeys(tmp_path / "keys")
    with pytest.raises(KeyAway, match=r"acme\.key is missing"):
        await later.wrap("acme", KEY.secret, is_first=False)
    with pytest.raises(KeyAway, match=r"acme\.key is missing"):
        await later.unwrap("acme", wrapped)
    assert not file.exists()
    file.write_bytes(kept)
    assert await later.unwrap("acme", wrapped) == KEY.secret


async def test_a_wrong_key_is_said_and_the_right_one_is_taken_when_it_is_back(tmp_path: Path) -> None:
    keys, file = FileTenantKeys(tmp_path / "keys"), tmp_path / "keys/acme.key"
    wrapped = await keys.wrap("acme", KEY.secret, is_first=True)
    kept = file.read_bytes()
    later = FileTenantKeys(tmp_path / "keys")
    for wrong in (bytes(32), b"short", b""):
        file.write_bytes(wrong)
        with pytest.raises(KeyAway, match=r"acme\.key"):
            await later.unwrap("acme", wrapped)
    file.write_bytes(kept)
    assert await later.unwrap("acme", wrapped) == KEY.secret


async def test_a_folder_that_cannot_be_written_or_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyAway, match="cannot be made"):
        await FileTenantKeys(tmp_path / "file").wrap("acme", KEY.secret, is_first=True)
    (tmp_path / "keys/acme.key").mkdir(parents=True)
    with pytest.raises(KeyAway, match="cannot be read"):
        await FileTenantKeys(tmp_path / "keys").unwrap("acme", bytes(60))


@pytest.mark.parametrize("cut", range(0, 60, 7))
async def test_wrapped_bytes_that_were_cut_are_refused(tmp_path: Path, cut: int) -> None:
    keys = FileTenantKeys(tmp_path / "keys")
    wrapped = await keys.wrap("acme", KEY.secret, is_first=True)
    with pytest.raises(KeyAway):
        await keys.unwrap("acme", wrapped[:cut])


@pytest.mark.parametrize("url", ["", "/keys", "file://", "file://relative", "s3://bucket", "vault://host/transit"])
async def test_a_way_to_keys_that_is_not_known_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SOMA_KEYS_URL"):
        async with open_tenant_keys(url):
            pass
