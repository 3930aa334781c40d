"""Tree heads as text: written one way, read one way, and checked with the public key alone."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.common.files import keep
from services.common.trail.checkpoint import Checkpoint, Malformed, Note, origin, tenant_of
from services.common.trail.signing import FileSigningKeys, KeyGone, VerifierKey, open_signing_keys, signer_of

HEAD = Checkpoint(
    origin("acme"), 3, bytes(range(32)), bytes(range(64)), datetime(2031, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
)
TEXT = """\
soma.local/audit/acme
3
AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
chain AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==
time 2031-02-03T04:05:06.789Z
"""
# From golang.org/x/mod/sumdb/note: a key and a note of somebody else's.
STRANGER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
STRANGERS_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""


@pytest.fixture
def keys(tmp_path: Path) -> FileSigningKeys:
    return FileSigningKeys(tmp_path / "audit")


async def signed(keys: FileSigningKeys, head: Checkpoint = HEAD) -> tuple[VerifierKey, str]:
    key = await keys.make(head.origin)
    signature = await (await keys.signer(key)).sign(head.text)
    return key, str(Note(head.text, (signature,)))


def test_a_head_has_one_text_and_the_text_one_head() -> None:
    assert HEAD.text == TEXT
    assert Checkpoint.parse(TEXT) == HEAD
    assert tenant_of(HEAD.origin) == "acme"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("\n3\n", "\n03\n", "must be the size, not '03'"),
        ("\n3\n", "\n-3\n", "must be the size"),
        ("\n3\n", "\n３\n", "must be the size"),
        ("\n3\n", "\n3 \n", "must be the size"),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", "AAEC\n", "The root must be 32 bytes"),
        ("GxwdHh8=\n", "GxwdHh9=\n", "The root must be 32 bytes"),
        ("GxwdHh8=\n", "GxwdHh8\n", "The root is not base64"),
        ("chain ", "chains ", "must begin with 'chain'"),
        ("PD0+Pw==", "PD0-Pw==", "The chain is not base64"),
        ("06.789Z", "06.789+00:00", "RFC 3339 in UTC with milliseconds"),
        ("06.789Z", "06.789012Z", "RFC 3339 in UTC with milliseconds"),
        ("06.789Z", "06.789", "RFC 3339 in UTC"),
        ("2031-02-03T04:05:06.789Z", "yesterday", "RFC 3339 in UTC"),
        ("2031-02-03", "2031-02-30", "no such time"),
        ("soma.local/audit/acme", "soma.local audit acme", "the origin, without spaces"),
        ("soma.local/audit/acme", "", "the origin, without spaces"),
        ("06.789Z\n", "06.789Z", "five lines"),
        ("06.789Z\n", "06.789Z\nmore\n", "five lines"),
    ],
)
def test_a_head_written_another_way_is_refused(old: str, new: str, fault: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(Malformed, match=fault):
        Checkpoint.parse(TEXT.replace(old, new))


async def test_a_note_is_what_a_stranger_computes_with_hashlib_and_the_public_key(keys: FileSigningKeys) -> None:
    key, note = await signed(keys)

    name, hexid, raw = key.line.split("+", 2)
    public = base64.b64decode(raw)
    assert public[:1] == b"\x01" and len(public) == 33
    assert hexid == hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex()

    text, _, last = note.partition("\n\n")
    dash, signer, signature = last.removesuffix("\n").split(" ")
    assert (dash, signer, name) == ("\u2014", HEAD.origin, HEAD.origin)
    assert base64.b64decode(signature)[:4].hex() == hexid
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(base64.b64decode(signature)[4:], (text + "\n").encode())
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public[1:]).verify(base64.b64decode(signature)[4:], text.encode())


def test_a_note_of_another_house_verifies_here() -> None:
    note, key = Note.parse(STRANGERS_NOTE), VerifierKey.parse(STRANGER)
    assert signer_of(note, [key]) == key
    assert str(note) == STRANGERS_NOTE
    assert key.line == STRANGER


async def test_a_note_that_was_touched_is_nobodys(keys: FileSigningKeys) -> None:
    key, text = await signed(keys)
    other = await keys.make(HEAD.origin)
    note = Note.parse(text)
    assert Checkpoint.parse(note.text) == HEAD
    assert signer_of(note, [other, key]) == key

    assert signer_of(note, [other]) is None
    assert signer_of(Note(note.text.replace("\n3\n", "\n4\n"), note.signatures), [key]) is None
    renamed = replace(note.signatures[0], name="soma.local/audit/other")
    assert signer_of(Note(note.text, (renamed,)), [key]) is None
    forged = VerifierKey("soma.local/audit/other", key.raw)
    assert signer_of(note, [forged]) is None


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("\n\n", "\n", "an empty line"),
        ("— ", "- ", "A signature line is"),
        ("— PeterNeumann ", "— PeterNeumann  ", "is not base64"),
        ("— PeterNeumann ", "— Peter+Neumann ", "A signature line is"),
        ("— PeterNeumann ", "—  ", "A signature line is"),
        ("x08go/ZJ", "x08g", "must be 68 bytes"),
        ("wJnAM=\n", "wJnAM=", "each with its end of line"),
        ("wJnAM=\n", "wJnAM=\n\n", "each with its end of line"),
        ("wJnAM=\n", "wJnAM=\n \n", "A signature line is"),
        ("answer", "ans\rwer", "no control characters"),
        ("answer", "answer" * 4000, "16384 characters at most"),
    ],
)
def test_what_is_no_note_is_refused(old: str, new: str, fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        Note.parse(STRANGERS_NOTE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("c74f20a3", "c74f20a4", "should be c74f20a3"),
        ("+ARpc", "+AhpC", "is not Ed25519"),
        ("y10TW", "y10", "must be 33 bytes|is not base64"),
        ("PeterNeumann", "Peter Neumann", "A verifier key is"),
        ("+c74f20a3", "", "A verifier key is"),
    ],
)
def test_a_key_line_that_was_touched_is_refused(old: str, new: str, fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        VerifierKey.parse(STRANGER.replace(old, new))


async def test_a_key_is_kept_for_its_owner_alone_beside_the_older_ones(keys: FileSigningKeys) -> None:
    first, second = await keys.make(HEAD.origin), await keys.make(HEAD.origin)

    files = sorted(file for file in keys.folder.rglob("*") if file.is_file())
    assert sorted(file.name for file in files) == sorted(f"{key.id.hex()}.key" for key in (first, second))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert keys.folder.stat().st_mode & 0o777 == 0o700
    async with open_signing_keys(keys.folder.parent.as_uri()) as again:
        for key in (first, second):
            assert key.signed("x\n", await (await again.signer(key)).sign("x\n"))


async def test_a_key_that_is_gone_or_another_signs_nothing(keys: FileSigningKeys) -> None:
    first, second = await keys.make(HEAD.origin), await keys.make(HEAD.origin)
    files = {file.stem: file for file in keys.folder.rglob("*.key")}
    files[first.id.hex()].write_bytes(files[second.id.hex()].read_bytes())
    files[second.id.hex()].unlink()
    with pytest.raises(KeyGone, match="holds another key"):
        await keys.signer(first)
    with pytest.raises(KeyGone, match="should hold the key"):
        await keys.signer(second)


def test_a_key_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "one.key"
    keep(file, b"first")
    with pytest.raises(FileExistsError):
        keep(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(file.parent.iterdir()) == [file]


async def test_no_key_has_a_name_that_a_note_cannot_carry(keys: FileSigningKeys) -> None:
    for name in ("", "two words", "one+one", "line\nbreak"):
        with pytest.raises(ValueError, match="cannot be the name of a key"):
            await keys.make(name)


@pytest.mark.parametrize("url", ["", "/keys", "ftp://keys", "file://keys"])
async def test_keys_in_a_place_that_is_not_known_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="it must be file:///folder"):
        async with open_signing_keys(url):
            pass
