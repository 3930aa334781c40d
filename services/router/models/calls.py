"""The tool calls of one answer, in the order of their beginning, however untidily a provider tells of them. Pure.

OpenAI gives an index with each piece, and id and name with the first. Others leave the index out, give every call the
index 0, or repeat id and name with each piece.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import msgspec

from services.router.models import Broken
from soma.router.v1.routing_pb2 import ToolCallDelta

MOST_CALLS = 128
MOST_NAME = 256
MOST_ARGUMENTS_BYTES = 256 * 1024
"""Of all calls of an answer together."""


@dataclass(slots=True)
class Call:
    index: int
    id: str
    given_id: str
    """The provider's; empty when it gave none."""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Its arguments are JSON."""
        try:
            msgspec.json.decode("".join(self.pieces))
        except (ValueError, RecursionError, msgspec.MsgspecError):
            return False
        return True

    def repeats(self, name: str, arguments: str) -> bool:
        """The whole call is told once more."""
        return bool(arguments) and name == self.name and "".join(self.pieces) == arguments and self.is_whole


@dataclass(slots=True)
class Calls:
    provider: str
    calls: list[Call] = field(default_factory=list)
    by_index: dict[int, Call] = field(default_factory=dict)
    """The newest call that the provider gave this index."""
    bytes: int = 0

    @property
    def any(self) -> bool:
        return bool(self.calls)

    def add(self, index: int | None, id: str, name: str, arguments: str) -> ToolCallDelta | None:
        """The piece as ours; None while there is nothing to tell. Raises Broken for what is too much."""
        call = self._call(index, id, name)
        if call.repeats(name, arguments):
            return None
        self._count(arguments)
        call.pieces.append(arguments)
        if call.name:
            return ToolCallDelta(index=call.index, arguments=arguments) if arguments else None
        if not name:
            return None
        call.name = name[:MOST_NAME]
        return ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments="".join(call.pieces))

    def check(self) -> None:
        """Raise Broken when a call has no name."""
        if any(not call.name for call in self.calls):
            raise Broken(f"{self.provider} sent a call of a tool without a name.")

    def _call(self, index: int | None, id: str, name: str) -> Call:
        """The call that the piece belongs to: a new one where it says so."""
        if index is None:
            known = next((c for c in self.calls if id and c.given_id == id), None)
            if known is None and not id and self.calls and not self._begins(self.calls[-1], name):
                known = self.calls[-1]
            return known or self._begin(len(self.calls) + MOST_CALLS, id)
        known = self.by_index.get(index)
        if known is None or (id and name and known.given_id and id != known.given_id):
            return self._begin(index, id)
        return known

    def _begins(self, last: Call, name: str) -> bool:
        """A piece without id and index is another call's: it has a name, and the one before is whole."""
        return bool(name) and bool(last.name) and (name != last.name or last.is_whole)

    def _begin(self, index: int, id: str) -> Call:
        if len(self.calls) >= MOST_CALLS:
            raise Broken(f"{self.provider} called more than {MOST_CALLS} tools at once.")
        call = Call(len(self.calls), (id or f"call_{uuid.uuid4().hex}")[:MOST_NAME], id)
        self.calls.append(call)
        self.by_index[index] = call
        return call

    def _count(self, arguments: str) -> None:
        self.bytes += len(arguments) if arguments.isascii() else len(arguments.encode())
        if self.bytes > MOST_ARGUMENTS_BYTES:
            raise Broken(f"{self.provider} sent arguments of tools that are larger than 256 KiB.")
