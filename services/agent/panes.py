"""Finds what of an answer belongs in panes, while the answer still comes: fenced blocks, tables, images. Pure.

Rules are CommonMark's and GFM's, with three of our own. A fence may be indented as far as the list item it stands in
asks for, and three spaces more; what is in it keeps its indentation. A block ends at its closing fence, not where its
list item would end. What is quoted (`>`) makes no pane.

A pane opens after the text that begins it: the line of its fence, the head of its table, which the opening repeats.
So text outside of panes never waits. Inside, a line waits while it could be the one that ends the pane.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.agent.languages import kind_of, named
from services.agent.tables import ENDS, is_head

MOST_BYTES = 256 * 1024
"""Of a pane. What is more belongs to the answer alone."""
MOST_HELD = 1_000
"""Characters of a line that wait."""
MOST_LINE = 210_000
"""Characters of a line that could be anything but prose."""
MOST_ADDRESS, MOST_DATA = 2_000, 200 * 1024
"""Bytes of an image's address."""
MOST_TITLE = 200

FENCE = re.compile(r"(`{3,})([^`]*)|(~{3,})(.*)")
ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]+|(?=[\r\n]))")
IMAGE = re.compile(r"!\[([^\]]*)\]\(\s*<?([^\s<>]+?)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")


@dataclass(frozen=True, slots=True)
class Opening:
    """A pane begins: the texts that follow belong to it."""

    kind: str
    title: str
    language: str
    text: str = ""
    """What it holds already."""
    closed: bool = False
    """It is whole: no Closing follows."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The open pane is whole."""


Piece = str | Opening | Closing
CLOSING = Closing()


@dataclass(slots=True)
class Fence:
    """A fenced block. Its pane opens with its first line: an empty one has none."""

    opening: Opening | None
    """Not said yet."""
    mark: str
    indent: int
    room: int = MOST_BYTES

    def holds(self, line: str) -> bool | None:
        """Whether a line belongs to the block, by what there is of it. None while that cannot be told."""
        body = line.lstrip(" \t")
        rest = body.lstrip(self.mark[0])
        length = len(body) - len(rest)
        if rest.strip() or columns(line) > self.indent + 3 or len(line) > MOST_HELD:
            return True
        if length < len(self.mark):
            return None if not rest else True
        return False if rest.endswith("\n") else None


@dataclass(slots=True)
class Table:
    """The rows of a table."""

    opening: Opening | None
    room: int

    def holds(self, line: str) -> bool | None:
        """Whether a line is a row, by what there is of it. None while that cannot be told."""
        if line.lstrip(" \t").startswith("|") or len(line) > MOST_HELD:
            return True
        return not ENDS.match(line) if line.endswith("\n") else None


class Splitter:
    """Takes an answer in any cuts, and gives it back in pieces. Joined, the texts among them are the answer."""

    def __init__(self) -> None:
        self._line: list[str] = []
        """What there is of a line outside of blocks."""
        self._length = 0
        self._above = ""
        """The line before, when it may be the head of a table."""
        self._item = 0
        """The column at which the last list item begins."""
        self._block: Fence | Table | None = None
        self._open = False
        self._held = ""
        """The beginning of a line of the block, as long as it could end it."""
        self._inside = False
        """The line that comes is known to belong to the block."""

    def take(self, delta: str) -> list[Piece]:
        """What can be said now."""
        if self._block is None and "\n" not in delta:
            self._note(delta)
            return [delta]
        said: list[Piece] = []
        *lines, rest = delta.split("\n")
        for line in lines:
            self._take(line + "\n", said)
        if rest:
            self._take(rest, said)
        return joined(said)

    def end(self) -> list[Piece]:
        """What is left when nothing more comes."""
        said: list[Piece] = []
        if self._block is None and self._line:
            self._ended(said)
        elif self._held and self._block and self._block.holds(self._held + "\n"):
            self._say(self._block, self._held, said)
            self._held = ""
        self._leave(said)
        return joined([*said, self._held])

    def _take(self, text: str, said: list[Piece]) -> None:
        """Text of one line; the end of the line is the end of the text, if it is there at all."""
        if self._block is None:
            said.append(text)
            self._note(text)
            if text.endswith("\n"):
                self._ended(said)
        elif self._inside:
            self._say(self._block, text, said)
            self._inside = not text.endswith("\n")
        else:
            self._hold(self._block, text, said)

    def _note(self, text: str) -> None:
        self._length += len(text)
        if self._length <= MOST_LINE:
            self._line.append(text)

    def _hold(self, block: Fence | Table, text: str, said: list[Piece]) -> None:
        """Text that may be the end of the block, until that can be told."""
        self._held += text
        belongs = block.holds(self._held)
        if belongs is None:
            return
        text, self._held = self._held, ""
        if belongs:
            self._say(block, text, said)
            self._inside = not text.endswith("\n")
            return
        self._leave(said)
        if isinstance(block, Fence):
            said.append(text)
        else:
            self._take(text, said)

    def _say(self, block: Fence | Table, text: str, said: list[Piece]) -> None:
        """Text of the block, into its pane as far as there is room."""
        if block.opening:
            said.append(block.opening)
            self._open, block.opening = True, None
        if self._open:
            fits = text if text.isascii() and len(text) <= block.room else fitting(text, block.room)
            block.room -= len(fits) if fits.isascii() else len(fits.encode())
            if fits:
                said.append(fits)
            if len(fits) == len(text):
                return
            text = text[len(fits) :]
            self._close(said)
        said.append(text)

    def _leave(self, said: list[Piece]) -> None:
        self._close(said)
        self._block = None

    def _close(self, said: list[Piece]) -> None:
        if self._open:
            said.append(CLOSING)
            self._open = False

    def _ended(self, said: list[Piece]) -> None:
        """A line outside of blocks is whole: does it begin a block, or is it an image?"""
        line, length, above = "".join(self._line), self._length, self._above
        self._line, self._length, self._above = [], 0, ""
        start, column = self._within(line)
        body = line[start:].strip()
        if length > MOST_LINE or column > self._item + 3:
            return
        if body.startswith(("```", "~~~")) and (found := FENCE.fullmatch(body)):
            mark, info = found[1] or found[3], found[2] or found[4] or ""
            language, title = named(info)
            self._block = Fence(Opening(kind_of(language), title[:MOST_TITLE], language), mark, column)
        elif body.startswith("![") and not start and (image := image_of(body)):
            said.append(image)
        elif above and is_head(above, line) and (room := MOST_BYTES - len((above + line).encode())) >= 0:
            opening = Opening("table", "Table", "markdown", above + line)
            self._block = Table(None, room)
            self._open = True
            said.append(opening)
        elif "|" in line and length <= MOST_HELD and not start and not ENDS.match(body):
            self._above = line

    def _within(self, line: str) -> tuple[int, int]:
        """Where the line begins behind the marks of list items: the place in it, and the column."""
        start = 0
        while found := ITEM.match(line, start):
            start = found.end()
        if start:
            self._item = columns(line[:start], whole=True)
            return start, self._item
        column = columns(line)
        if not column and line.strip():
            self._item = 0
        return 0, column


def joined(pieces: list[Piece]) -> list[Piece]:
    """The same, with texts that touch made one."""
    made: list[Piece] = []
    texts: list[str] = []
    for piece in (*pieces, None):
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if text := "".join(texts):
            made.append(text)
        texts = []
        if piece:
            made.append(piece)
    return made


def columns(line: str, *, whole: bool = False) -> int:
    """How far a line is indented, or how wide it is. A tab leads to the next fourth column."""
    space = line if whole else line[: len(line) - len(line.lstrip(" \t"))]
    return len(space.expandtabs(4))


def fitting(text: str, room: int) -> str:
    """The beginning of the text that has room in so many bytes."""
    return text.encode()[:room].decode(errors="ignore")


def image_of(body: str) -> Opening | None:
    """The pane of an image that stands alone in its line."""
    found = IMAGE.fullmatch(body)
    if not found:
        return None
    alt, address = " ".join(found[1].split()), found[2]
    if len(address.encode()) > (MOST_DATA if address.startswith("data:") else MOST_ADDRESS):
        return None
    return Opening("image", alt[:MOST_TITLE] or "Image", "", address, closed=True)
