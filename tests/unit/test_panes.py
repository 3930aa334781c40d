"""What of an answer belongs in panes: the same in whatever pieces it comes, and nothing of the answer is lost."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.agent.languages import named
from services.agent.panes import (
    MOST_ADDRESS,
    MOST_BYTES,
    MOST_DATA,
    MOST_HELD,
    MOST_TITLE,
    Closing,
    Opening,
    Piece,
    Splitter,
    joined,
)
from services.agent.tables import ENDS
from services.common import validation
from soma.canvas.v1.canvas_pb2 import Pane

PANES = [
    ("a fenced block", "See:\n\n```python\nx = 1\n```\nDone.", [("code", "Python", "python", "x = 1\n")]),
    ("tildes", "~~~sh\nls\n~~~\n", [("code", "Shell", "bash", "ls\n")]),
    ("a longer fence holds a shorter one", "````md\n```\nx\n```\n````\n", [
        ("code", "Markdown", "markdown", "```\nx\n```\n")]),
    ("the other mark closes nothing", "```\n~~~\n```\n", [("code", "Code", "", "~~~\n")]),
    ("a fence with words closes nothing", "```\na\n```js\nb\n```\n", [("code", "Code", "", "a\n```js\nb\n")]),
    ("a closing fence may be longer, with space after it", "```\na\n `````  \nb", [("code", "Code", "", "a\n")]),
    ("three spaces before a fence", "   ```\n   a\n   ```\n", [("code", "Code", "", "   a\n")]),
    ("four spaces are no fence", "    ```\n    a\n    ```\n", []),
    ("four spaces close nothing", "```\na\n    ```\n```\n", [("code", "Code", "", "a\n    ```\n")]),
    ("two backticks", "``\na\n``\n", []),
    ("a backtick behind the fence", "```a```\ntext\n", []),
    ("an empty block", "```python\n```\ntext", []),
    ("a block of one empty line", "```\n\n```\n", [("code", "Code", "", "\n")]),
    ("an unclosed block ends with the answer", "```c\nint x;", [("code", "C", "c", "int x;")]),
    ("an unclosed block without a line", "```c\n", []),
    ("a fence without the end of its line closes", "```\na\n```", [("code", "Code", "", "a\n")]),
    ("what only looked like a fence belongs to the block", "```\na\n``", [("code", "Code", "", "a\n``")]),
    ("carriage returns", "```js\r\nf()\r\n```\r\n", [("code", "JavaScript", "javascript", "f()\r\n")]),
    ("in a list item", "1. Do\n   ```\n   a\n   ```\n2. x", [("code", "Code", "", "   a\n")]),
    ("in a list of lists", "- a\n  - b\n    - c\n\n      ```\n      d\n      ```\n", [
        ("code", "Code", "", "      d\n")]),
    ("behind the mark of an item", "- ```py\n  a\n  ```\n- b", [("code", "Python", "python", "  a\n")]),
    ("after a list four spaces are no fence again", "- a\n\nb\n\n    ```\n    c\n", []),
    ("quoted", "> ```\n> a\n> ```\n", []),
    ("html", "```html\n<p>\n```\n", [("html", "HTML", "html", "<p>\n")]),
    ("htm", "```htm\n<p>\n```\n", [("html", "HTML", "html", "<p>\n")]),
    ("svg", "```svg\n<svg/>\n```\n", [("image", "SVG", "svg", "<svg/>\n")]),
    ("csv", "```csv\na,b\n```\n", [("table", "CSV", "csv", "a,b\n")]),
    ("log", "```log\nup\n```\n", [("log", "Log", "log", "up\n")]),
    ("a table", "Look:\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\nText.", [
        ("table", "Table", "markdown", "| a | b |\n|---|:-:|\n| 1 | 2 |\n")]),
    ("a table without outer bars", "a | b\n-|-\n1 | 2\n", [("table", "Table", "markdown", "a | b\n-|-\n1 | 2\n")]),
    ("a table of one column", "| a |\n| - |\n| 1 |", [("table", "Table", "markdown", "| a |\n| - |\n| 1 |")]),
    ("a table of no rows", "| a |\n| - |", [("table", "Table", "markdown", "| a |\n| - |")]),
    ("an escaped bar is no bar", "| a \\| b |\n| - |\n", [("table", "Table", "markdown", "| a \\| b |\n| - |\n")]),
    ("a row without bars is a row", "| a |\n| - |\nb\n\nc", [("table", "Table", "markdown", "| a |\n| - |\nb\n")]),
    ("a heading ends a table", "| a |\n| - |\n# b", [("table", "Table", "markdown", "| a |\n| - |\n")]),
    ("a fence ends a table", "| a |\n| - |\n```\nx\n```", [
        ("table", "Table", "markdown", "| a |\n| - |\n"), ("code", "Code", "", "x\n")]),
    ("as many dashes as cells", "| a | b |\n| - |\n", []),
    ("bars alone are no table", "a | b\nc | d\n", []),
    ("a line below dashes is no table", "a\n---\n", []),
    ("a table in a block is code", "```\n| a |\n| - |\n```\n", [("code", "Code", "", "| a |\n| - |\n")]),
    ("an image", "![a cat](https://x.test/cat.png)\n", [("image", "a cat", "", "https://x.test/cat.png")]),
    ("an image with a title, at the end", '![](<c(1).png> "t")', [("image", "Image", "", "c(1).png")]),
    ("an image among words", "see ![a](b.png)\n![a](b.png) there\n", []),
    ("an image in a block", "```\n![a](b.png)\n```\n", [("code", "Code", "", "![a](b.png)\n")]),
    ("an image without an address", "![a]()\n![a]( )\n![a]\n", []),
    ("a data address", f"![a](data:{'x' * 100_000})\n", [("image", "a", "", f"data:{'x' * 100_000}")]),
    ("a data address of too many bytes", f"![a](data:{'é' * (MOST_DATA // 2)})\n", []),
    ("a data address that is too long", f"![a](data:{'x' * MOST_DATA})\n", []),
    ("an address that is too long", f"![a]({'x' * (MOST_ADDRESS + 1)})\n", []),
    ("a head that is larger than a pane", f"| a |\n|{chr(0x3000) * (MOST_BYTES // 3)} - |\n| b |\n", []),
    ("plain words", "One.\nTwo `three` four | five.\n\n- six\n", []),
    ("nothing", "", []),
]  # fmt: skip
FRAGMENTS = [
    "```", "~~~", "````", "`", "py", "\n", "\n", "\n", " ", "   ", "    ", "\t", "|", "| a | b |\n", "|--|:-:|\n",
    "---", "- ", "1. ", "> ", "# ", "word ", "![a](b)", "![a](b)\n", "é", "🦉", "\r\n", "<div>", 'title="a b.c"', "\\|",
    "\u2028",
]  # fmt: skip


def split(answer: str, cuts: Iterable[int] = ()) -> list[Piece]:
    splitter, said, begin = Splitter(), [], 0
    for cut in (*cuts, len(answer)):
        said += splitter.take(answer[begin:cut])
        begin = cut
    return joined(said + splitter.end())


def panes(pieces: Sequence[Piece]) -> list[Opening]:
    """The panes, each with all of its text. Openings and closings must take turns."""
    found: list[Opening] = []
    is_open = False
    for piece in pieces:
        if isinstance(piece, Opening):
            assert not is_open
            found.append(piece)
            is_open = not piece.closed
        elif isinstance(piece, Closing):
            assert is_open
            is_open = False
        elif is_open:
            found[-1] = replace(found[-1], text=found[-1].text + piece)
    assert not is_open
    return found


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


@pytest.mark.parametrize(("answer", "expected"), [pytest.param(*case[1:], id=case[0]) for case in PANES])
def test_blocks_tables_and_images_are_panes(answer: str, expected: list[tuple[str, str, str, str]]) -> None:
    pieces = split(answer)

    assert [(pane.kind, pane.title, pane.language, pane.text) for pane in panes(pieces)] == expected
    assert text_of(pieces) == answer
    assert split(answer, range(1, len(answer))) == pieces, "a character at a time"


def test_whatever_the_cuts_the_pieces_are_the_same_and_the_text_is_the_answer() -> None:
    chance, seen = random.Random(7), 0
    for _ in range(3_000):
        answer = "".join(chance.choices(FRAGMENTS, k=chance.randint(1, 30)))
        pieces = split(answer)
        seen += len(panes(pieces))

        assert text_of(pieces) == answer
        assert split(answer, range(1, len(answer))) == pieces, answer
        for _ in range(3):
            assert split(answer, sorted(chance.choices(range(len(answer)), k=8))) == pieces, answer
    assert seen > 1_000


def test_text_outside_of_panes_never_waits() -> None:
    for answer in ("```py", "| a | b |\n|--", "![a](b.p", "1. x\n   ``", "a\n`"):
        splitter = Splitter()
        assert text_of([piece for mark in answer for piece in splitter.take(mark)]) == answer


def test_text_in_a_pane_waits_only_while_it_could_end_it() -> None:
    splitter = Splitter()
    splitter.take("```py\n")

    assert [splitter.take(mark) for mark in ("  ", "``", " x", "y")][:2] == [[], []]
    assert splitter.take("z") == ["z"]
    assert splitter.take("\n" + "`" * MOST_HELD) == ["\n"]
    assert splitter.take("`") == ["`" * (MOST_HELD + 1)]


@pytest.mark.parametrize("letter", ["x", "é", "🦉"])
def test_a_pane_is_closed_where_it_would_be_too_large_and_the_answer_goes_on(letter: str) -> None:
    most = MOST_BYTES // len(letter.encode())
    answer = f"```\n{letter * (most - 1)}\n{letter}\n```\nafter\n```\nnext\n```"

    pieces = split(answer, range(0, len(answer), 1000))
    first, second = panes(pieces)

    assert text_of(pieces) == answer
    assert first.text.startswith(letter * (most - 1))
    assert MOST_BYTES - 4 < len(first.text.encode()) <= MOST_BYTES
    assert second.text == "next\n"
    assert split(answer) == pieces


def test_a_pane_of_just_the_limit_is_whole() -> None:
    text = "x" * (MOST_BYTES - 1) + "\n"

    assert [pane.text for pane in panes(split(f"```\n{text}```\n"))] == [text]


ANSWERS = {
    "words": "word " * 400,
    "lines": "a line\n" * 300,
    "a block": "```py\n" + "x = 1\n" * 300,
    "a block of one long line": "```py\n" + "x" * 2_000,
    "a table": "| a |\n| - |\n" + "| 1 |\n" * 300,
    "a table of rows without bars": "| a |\n| - |\n" + "word\n" * 400,
    "fences": "```\n" * 500,
    "backticks": "`" * 2_000,
    "marks of items": "- " * 1_000,
    "an image without an end": "![" + "](" * 1_000,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_twice_the_answer_costs_twice_as_much(answer: str) -> None:
    assert calls(answer * 2) < 2.2 * calls(answer) + 200


def test_dashes_with_much_space_behind_them_are_read_once() -> None:
    """By the regular expression, where calls do not tell what it costs: a thousand lines in a tenth of a second, each
    looked through again for each of its spaces in ten."""
    line, begun = "---" + " " * 990 + "x\n", time.process_time()

    assert not any(ENDS.match(line) for _ in range(1_000))
    assert time.process_time() - begun < 1


def calls(answer: str) -> int:
    """How many functions are called for an answer that comes by the character. None looks at more than what waits, or
    at one line when it is whole."""
    splitter, count = Splitter(), 0

    def counting(frame: object, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    for mark in answer:
        sys.setprofile(counting)
        splitter.take(mark)
        sys.setprofile(None)
        assert len(splitter._held) <= MOST_HELD
    return count


@pytest.mark.parametrize(
    ("info", "language", "title"),
    [
        ("", "", "Code"),
        ("python", "python", "Python"),
        ("Python", "python", "Python"),
        ('python title="my x.py"', "python", "my x.py"),
        ("py filename='a.py' x", "python", "a.py"),
        ("python src/x.py", "python", "src/x.py"),
        ("python:src/x.py", "python", "src/x.py"),
        ("x.py", "python", "x.py"),
        ('title="index.html"', "html", "index.html"),
        ("Dockerfile", "dockerfile", "Dockerfile"),
        ("{.python .numbered}", "python", "Python"),
        ("js {1,3}", "javascript", "JavaScript"),
        ("c++", "cpp", "C++"),
        ("C#", "csharp", "C#"),
        ("python 3.11", "python", "Python"),
        ("zig", "zig", "zig"),
        ("日本語", "", "日本語"),
        ("a" * 41, "", "a" * 40),
        ("data.csv", "csv", "data.csv"),
    ],
)
def test_language_and_title_are_read_behind_the_fence(info: str, language: str, title: str) -> None:
    assert named(info) == (language, title)


def test_whatever_stands_behind_a_fence_makes_a_pane_that_canvas_takes() -> None:
    chance = random.Random(11)
    marks = [*"aB1.:=\"'{}/\\|+#é\t ", "title=", "x" * 300, "日本", ".py", "\u2028", "\x01"]
    for _ in range(2_000):
        info = "".join(chance.choices(marks, k=chance.randint(0, 12)))
        for pane in panes(split(f"~~~{info}\nx\n~~~\n")):
            validation.check(Pane(kind=pane.kind, title=pane.title, language=pane.language, text=pane.text))
            assert pane.title.strip()
            assert len(pane.title) <= MOST_TITLE
