"""How a conversation is cut to a window."""

from __future__ import annotations

import random

import pytest

from services.router.window import FRAME_TOKENS, cut, room_for_question, size_of, tokens_of
from soma.router.v1.routing_pb2 import Message


def say(*texts: str, system: str = "") -> list[Message]:
    spoken = [Message(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts)]
    return [Message(role="system", text=system), *spoken] if system else spoken


def fit(messages: list[Message], room: int) -> list[str]:
    return [m.text for m in cut(messages, size_of(messages), room)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("a b c", 2),
        ("123", 3),
        ("a1", 2),
        ("é", 2),
        ("日本", 6),
        ("!?\n", 3),
    ],
)
def test_tokens_are_counted_on_the_safe_side(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


def test_a_conversation_that_fits_is_left_as_it_is() -> None:
    messages = say("abc" * 10, "abc", "abc")
    assert cut(messages, size_of(messages), size_of(messages).total) == messages


def test_the_oldest_messages_go_first_and_the_order_stays() -> None:
    messages = say(*(f"{'a' * 30}{chr(97 + n)}" for n in range(20)))
    kept = fit(messages, 100)
    assert kept == [m.text for m in messages[-len(kept) :]]


@pytest.mark.parametrize("room", [1, 20, 50, 100, 500])
def test_the_system_message_and_the_last_one_stay_whatever_the_room(room: int) -> None:
    messages = say(*(f"number {n}" for n in range(40)), system="be kind")
    kept = fit(messages, room)
    assert (kept[0], kept[-1]) == ("be kind", "number 39")


def test_an_answer_goes_with_its_question() -> None:
    messages = say(*("x" * 30 for _ in range(21)), system="be kind")
    for room in range(30, size_of(messages).total):
        assert cut(messages, size_of(messages), room)[1].role == "user"


def test_a_single_message_stays() -> None:
    assert fit(say("only " * 100), 1) == ["only " * 100]
    assert fit([Message(role="system", text="alone")], 1) == ["alone"]


def test_the_least_is_the_system_message_and_the_last_one() -> None:
    size = size_of(say("abc" * 9, "abc", "abcabc", system="abc"))
    assert size.least == (1 + FRAME_TOKENS) + (2 + FRAME_TOKENS)
    assert size.total == sum(size.messages) == 1 + 9 + 1 + 2 + 4 * FRAME_TOKENS


def test_what_is_kept_fits_whenever_the_least_does() -> None:
    chance = random.Random(2)
    for _ in range(300):
        texts = [chance.choice("ab1é ") * chance.randrange(1, 200) for _ in range(chance.randrange(1, 30))]
        messages = say(*texts, system=chance.choice(["", "be kind"]))
        size = size_of(messages)
        room = chance.randrange(size.least, size.least + 2000)
        kept = cut(messages, size, room)
        assert size_of(kept).total <= room
        assert kept[-1] == messages[-1]


def test_the_kept_part_begins_at_the_same_message_for_several_turns() -> None:
    messages, starts = say(*("x" * 90 for _ in range(20)), system="be kind"), []
    for n in range(20):
        messages.append(Message(role="user", text=f"{'y' * 90}{n}"))
        starts.append(len(messages) - len(cut(messages, size_of(messages), 1000)))
    assert len(set(starts)) <= 4
    assert starts == sorted(starts)


@pytest.mark.parametrize(("window", "answer", "room"), [(4096, 512, 3584), (1000, 4000, 750), (128_000, 4096, 123_904)])
def test_an_answer_has_its_bound_of_the_window_and_at_most_a_quarter(window: int, answer: int, room: int) -> None:
    assert room_for_question(window, answer) == room
