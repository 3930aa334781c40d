"""What a model is told."""

from __future__ import annotations

import pytest

from services.agent.prompt import MOST_BYTES, assemble, title_of


def test_the_conversation_is_told_oldest_first_and_the_question_last() -> None:
    messages = assemble([("q2", "a2"), ("q1", "a1")], "q3")

    assert [(m.role, m.text) for m in messages[1:]] == [
        ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"), ("user", "q3"),
    ]  # fmt: skip
    assert messages[0].role == "system"


def test_a_question_without_an_answer_is_left_out() -> None:
    assert [m.text for m in assemble([("q2", ""), ("q1", "a1")], "q3")[1:]] == ["q1", "a1", "q3"]


def test_what_no_window_could_take_is_cut_from_the_oldest_end() -> None:
    long = "x" * (MOST_BYTES // 2)
    messages = assemble([("new", "answer"), (long, long), ("old", "answer")], "question")

    assert [m.text for m in messages[1:]] == ["new", "answer", "question"]


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("hello", "hello"),
        ("  two\n lines ", "two lines"),
        ("word " * 30, "word " * 11 + "word…"),
        ("x" * 100, "x" * 60 + "…"),
        (" ", ""),
    ],
)
def test_a_title_is_the_beginning_of_the_question_cut_at_a_word(question: str, title: str) -> None:
    assert title_of(question) == title
