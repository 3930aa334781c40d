"""What an API key looks like and what is kept of it."""

from __future__ import annotations

import hashlib
import re

import pytest

from services.common.api_keys import hash_of, hint_of, is_key, is_whole, new_secret


def test_a_key_has_256_random_bits_in_url_safe_characters_and_its_checksum() -> None:
    secret = new_secret()
    assert re.fullmatch(r"sk-soma-[A-Za-z0-9_-]{49}", secret)
    assert is_key(secret)
    assert is_whole(secret)


def test_no_two_keys_are_alike() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_what_is_kept_is_the_hash_and_a_beginning_that_gives_nothing_away() -> None:
    secret = new_secret()
    assert hash_of(secret) == hashlib.sha256(secret.encode()).digest()
    assert secret.startswith(hint_of(secret).rstrip("…"))
    assert len(hint_of(secret)) <= 15


def test_a_key_with_one_character_wrong_is_not_whole() -> None:
    secret = new_secret()
    for place in range(len("sk-soma-"), len(secret)):
        other = "A" if secret[place] != "A" else "B"
        assert not is_whole(secret[:place] + other + secret[place + 1 :]), place


@pytest.mark.parametrize("bearer", ["", "sk-", "sk-soma", "Sk-soma-x", "eyJhbGciOi.x.y", " sk-soma-x"])
def test_what_does_not_begin_as_a_key_does_is_none(bearer: str) -> None:
    assert not is_key(bearer)


@pytest.mark.parametrize(
    "bearer", ["sk-soma-", "sk-soma-x", "sk-soma-" + "x" * 49, "sk-soma-" + "é" * 49, "sk-soma-" + "x" * 9000]
)
def test_rubbish_that_begins_as_a_key_is_not_whole(bearer: str) -> None:
    assert is_key(bearer)
    assert not is_whole(bearer)
