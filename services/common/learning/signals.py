"""Cheap signals of a text: what can be seen without a model, in microseconds. Pure."""

from __future__ import annotations

import math

HEAD = 2_000
"""Characters that are looked at; the length counts all of them."""
DIGITS = b"0123456789"
MATHS = b"=+*/^<>\\"
CODE = ("def ", "class ", "import ", "return", "==", "()", "```")
BRACKETS = b"{};"
HARD = (" not ", " NOT ", "except", "EXCEPT", "incorrect")
COUNT = 10


def signals(text: str) -> tuple[float, ...]:
    """Length, digits, maths, code, multiple choice, lines, non-ASCII, questions, quotes, negation: COUNT numbers from
    0 to 2, and the same for the same text everywhere."""
    head = text[:HEAD]
    n, data = len(head) or 1, head.encode("utf-8", "surrogatepass")
    return (
        min(2.0, math.log1p(len(text)) / 10),
        counted(data, DIGITS) / n,
        min(1.0, 10 * counted(data, MATHS) / n),
        min(1.0, 20 * (counted(data, BRACKETS) + sum(map(head.count, CODE))) / n),
        float("\nB. " in head or "\nB) " in head or "\n(B)" in head),
        min(1.0, 10 * head.count("\n") / n),
        min(1.0, (len(data) - len(head)) / n),
        min(1.0, head.count("?") / 4),
        min(1.0, 20 * head.count('"') / n),
        float(any(word in head for word in HARD)),
    )


def counted(data: bytes, which: bytes) -> int:
    return len(data) - len(data.translate(None, which))
