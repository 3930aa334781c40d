"""Where tokens come from, and when."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.testing import HandClock
from soma_sdk import Unauthenticated, from_command, from_file
from soma_sdk.tokens import Source, Tokens, expiry


def token(exp: float | None, name: str = "") -> str:
    body = base64.urlsafe_b64encode(json.dumps({"exp": exp, "name": name}).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


class Desk:
    """Gives tokens that live for a while, each another one."""

    def __init__(self, life_s: float = 600.0) -> None:
        self.clock, self.life_s = HandClock(), life_s
        self.given: list[str] = []
        self.broken = False

    def now(self) -> float:
        return self.clock.now().timestamp()

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("the desk is closed")
        self.given.append(token(self.now() + self.life_s, str(len(self.given))))
        return self.given[-1]

    def tokens(self, source: Source | None = None) -> Tokens:
        return Tokens(source or self, self.now)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_however_many_ask_the_source_is_asked_once(desk: Desk) -> None:
    tokens = desk.tokens()

    found = await asyncio.gather(*(tokens.current() for _ in range(50)))

    assert set(found) == set(desk.given)
    assert len(desk.given) == 1


async def test_a_token_is_renewed_shortly_before_it_expires(desk: Desk) -> None:
    tokens = desk.tokens()
    first = await tokens.current()

    desk.clock.move(569)
    assert await tokens.current() == first
    desk.clock.move(2)
    assert await tokens.current() != first


async def test_a_short_lived_token_is_used_for_three_quarters_of_its_life(desk: Desk) -> None:
    desk.life_s = 40
    tokens = desk.tokens()
    first = await tokens.current()

    desk.clock.move(29)
    assert await tokens.current() == first
    desk.clock.move(2)
    assert await tokens.current() != first


async def test_a_source_that_fails_early_leaves_the_old_token_until_that_expires(desk: Desk) -> None:
    tokens = desk.tokens()
    first, desk.broken = await tokens.current(), True

    desk.clock.move(580)
    assert await tokens.current() == first
    desk.clock.move(21)
    with pytest.raises(Unauthenticated, match="the desk is closed"):
        await tokens.current()


async def test_a_refused_token_is_renewed_once_for_all_who_were_refused(desk: Desk) -> None:
    tokens = desk.tokens()
    refused = await tokens.current()

    found = await asyncio.gather(*(tokens.after(refused) for _ in range(50)))

    assert set(found) == {desk.given[1]}
    assert len(desk.given) == 2


async def test_a_token_given_as_text_is_all_there_is(desk: Desk) -> None:
    tokens = desk.tokens("abc")

    assert await tokens.current() == "abc"
    assert await tokens.after("abc") == "abc"


async def test_a_token_that_is_expired_as_it_comes_is_not_asked_for_with_each_call(desk: Desk) -> None:
    desk.life_s = -5
    tokens = desk.tokens()

    assert await tokens.current() == await tokens.current()


async def test_a_source_may_be_a_plain_function_that_blocks(desk: Desk) -> None:
    assert await desk.tokens(lambda: "abc\n").current() == "abc"


async def test_a_file_is_read_again_when_the_token_runs_out(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(token(desk.now() + 60, "first") + "\n")
    tokens = desk.tokens(from_file(file))
    assert await tokens.current() == token(desk.now() + 60, "first")

    file.write_text(token(desk.now() + 600, "second"))
    desk.clock.move(59)

    assert expiry(await tokens.current()) == desk.now() - 59 + 600


async def test_a_file_that_is_not_there_is_told_in_words(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="No such file"):
        await desk.tokens(from_file(tmp_path / "nothing")).current()


async def test_a_command_gives_what_it_prints(desk: Desk) -> None:
    assert await desk.tokens(from_command([sys.executable, "-c", "print('abc')"])).current() == "abc"


async def test_a_command_that_fails_says_why(desk: Desk) -> None:
    complaint = "import sys; sys.exit('who are you?')"

    with pytest.raises(Unauthenticated, match=r"ended with 1: who are you\?"):
        await desk.tokens(from_command([sys.executable, "-c", complaint])).current()


async def test_an_empty_answer_is_no_token(desk: Desk) -> None:
    with pytest.raises(Unauthenticated, match="gave none"):
        await desk.tokens(lambda: " \n").current()


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "a.e30.c", "..", "a.bnVsbA.c", token(None)])
def test_a_token_that_says_nothing_of_its_end_has_none(text: str) -> None:
    assert expiry(text) == float("inf")


def test_the_expiry_is_read_without_a_key() -> None:
    assert expiry(token(1_800_000_000)) == 1_800_000_000
    assert datetime.fromtimestamp(expiry(token(0)), UTC).year == 1970
