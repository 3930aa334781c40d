"""What is read of a prompt to make the vector that a decision looks at. Pure.

Reading takes time by the word, and a decision does not wait for long: a part of a prompt in time tells more than all of
it too late. People say what they want at the beginning or at the end. Whoever learns from prompts cuts them alike.
"""

from __future__ import annotations

BEGINNING, END = 100, 100
"""Characters: together about 50 word pieces of English."""


def gist(text: str) -> str:
    """The text, or its beginning and its end where it is longer than both."""
    return text if len(text) <= BEGINNING + END else f"{text[:BEGINNING]}\n{text[-END:]}"
