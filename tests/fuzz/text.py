"""Text that programs stumble over, and names that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

NASTY = (
    "\0", "a\0b", "\n", "\r\n", "\t", " ", "\ufeff", "\u200b", "\u2028", "\u202eright to left", "e\u0301" * 9,
    "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "\U0010ffff", "\uffff", "ﷺ", "İı", "ß", "𝔘𝔫𝔦", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A", "١٢٣", "１２３",
    "'; DROP TABLE turns; --", "' OR '1'='1", "$1", "%s%n", "{0.__class__}", "${jndi:ldap://127.0.0.1/a}", "{{7*7}}",
    "<script>alert(1)</script>", "\"'`\\", "null", "NaN", "-0", "1e999", "../../etc/passwd", "%00", "%2e%2e%2f",
    "```python\nprint(1)\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "![x](https://localhost/x.png)", "data: [DONE]\n\n",
    '{"text": {"delta": "x"}}', "\x1b[31m", "\x7f", "\u0085", "Content-Length: 0\r\n\r\n",
)  # fmt: skip
MISSING = str(UUID(int=0x018F0000_0000_7000_8000_000000000001))
IDS = (MISSING, str(UUID(int=0)), str(UUID(int=2**128 - 1)))
NO_IDS = (
    "", "-", "*", "x", "1", "..", "%2e%2e", MISSING.upper(), MISSING.replace("-", ""), f"{{{MISSING}}}", f"{MISSING}\n",
    f" {MISSING}", f"{MISSING}/", f"{MISSING}:cancel", MISSING[:-1], "\0", "𝟘" * 36, "a" * 5000,
)  # fmt: skip
NUMBERS = (
    "0", "1", "2", "01", "+1", "-1", "1.0", "1e3", "0x1", "1_0", "１", "²", "2147483648", "4294967296",
    "9223372036854775808", "9" * 40, "9" * 5000, " 1", "1\n", "",
)  # fmt: skip
NO_NAMES = (
    "/", "//", "..", "../conversations", "conversations", "conversations/", "/conversations/x", "conversations//",
    "turns/x", "projects/p/conversations/x", "conversations/../conversations/x", "conversations/%2e%2e", "\0", "名",
    "conversations/x/panes/y/versions/z/versions/1", "x" * 4096,
)  # fmt: skip


def among(values: Sequence[T]) -> SearchStrategy[T]:
    """One of the values. Like sampled_from, whose name would hold all of them."""
    return st.integers(0, len(values) - 1).map(lambda n: values[n])


def short(most: int) -> SearchStrategy[str]:
    """Text of at most so many characters."""
    nasty = [text for text in NASTY if len(text) <= most]
    random = st.text(max_size=min(most, 40))
    if not nasty:
        return random
    joined = st.lists(among(nasty), max_size=4).map("".join).filter(lambda text: len(text) <= most)
    return st.one_of(random, among(nasty), joined)


def names_like(form: str) -> SearchStrategy[str]:
    """Names of a form, such as "conversations/*/panes/*", of things that are not there, or with ids that are none."""
    words = form.split("/")
    parts = [part(before) if word == "*" else st.just(word) for before, word in zip(["", *words], words, strict=False)]
    return st.tuples(*parts).map("/".join)


def part(collection: str) -> SearchStrategy[str]:
    if collection in ("versions", "events", "policies"):
        return among([*NUMBERS, "active"])
    if collection == "providers":
        return among([*NO_IDS, "openai", "scripted"])
    return st.one_of(among(IDS), among(IDS), among(NO_IDS))
