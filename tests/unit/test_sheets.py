"""The panes of a turn on their way into canvas: what is refused, and when what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.agent.panes import Opening
from services.agent.sheets import Sheets
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.errors import Conflict, Precondition, Refusal, Unavailable
from soma.agent.v1.chat_event_pb2 import AnswerPane, ChatEvent
from soma.canvas.v1.canvas_pb2 import Pane
from soma.canvas.v1.canvas_service_pb2 import WritePaneRequest

STALE = Conflict("ETAG_STALE", "Someone was faster.", newest="conversations/c/panes/p/versions/2")
CODE = Opening("code", "x.py", "python")


@dataclass
class Canvas:
    """Keeps what it is given, but refuses first what it is told to refuse."""

    refusals: list[Refusal] = field(default_factory=list)
    asked: list[WritePaneRequest] = field(default_factory=list)

    async def WritePane(self, request: WritePaneRequest, **_: object) -> Pane:
        self.asked.append(WritePaneRequest.FromString(request.SerializeToString()))
        if self.refusals:
            raise self.refusals.pop(0)
        return Pane(etag=f"1-{len(self.asked)}")


@asynccontextmanager
async def writing(canvas: Any) -> AsyncIterator[tuple[Sheets, list[ChatEvent]]]:
    """The panes of a turn, and what is said of them by themselves."""
    said: list[ChatEvent] = []
    sheets = Sheets(canvas, (new_id(), new_id()), Caller("acme", "ada", frozenset(), frozenset()), said.append)
    task = asyncio.create_task(sheets.write())
    yield sheets, said
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def opened(pane: AnswerPane | None) -> AnswerPane:
    assert pane is not None
    return pane


async def test_a_pane_is_written_with_the_etag_of_the_time_before_and_finished_once() -> None:
    canvas = Canvas()
    async with writing(canvas) as (sheets, _):
        name = opened(sheets.open(CODE)).name
        sheets.add("a")
        while not canvas.asked:
            await asyncio.sleep(0)
        sheets.add("b")
        sheets.close()
        await sheets.settled()

    assert [(asked.pane.text, asked.pane.etag, asked.finished) for asked in canvas.asked] == [
        ("a", "", False), ("ab", "1-1", True),
    ]  # fmt: skip
    assert {asked.pane.name for asked in canvas.asked} == {name}


async def test_what_may_go_well_later_is_tried_again() -> None:
    canvas = Canvas([Unavailable("ROOM_UNAVAILABLE", "Away.")])
    async with writing(canvas) as (sheets, _):
        sheets.open(CODE)
        sheets.add("a")
        while not canvas.asked:
            await asyncio.sleep(0)
        sheets.close()
        await sheets.settled()

    assert [(asked.pane.text, asked.finished) for asked in canvas.asked] == [("a", False), ("a", True)]


async def test_what_never_will_go_well_is_left_alone_and_nobody_waits_for_it() -> None:
    canvas = Canvas([Precondition("CANVAS_FULL", "Full.")])
    async with writing(canvas) as (sheets, said):
        sheets.open(CODE)
        while not canvas.asked:
            await asyncio.sleep(0)
        sheets.add("a")
        sheets.close()
        await sheets.settled()

    assert len(canvas.asked) == 1
    assert said == []


async def test_a_full_canvas_is_asked_once_and_further_panes_are_not_told_of() -> None:
    canvas = Canvas([Precondition("CANVAS_FULL", "Full.")])
    async with writing(canvas) as (sheets, _):
        for _ in range(3):
            opened(sheets.open(CODE))
            sheets.close()
        while not canvas.asked:
            await asyncio.sleep(0)
        await sheets.settled()
        later = sheets.open(CODE), sheets.close()

    assert len(canvas.asked) == 1
    assert later == (None, None)


async def test_the_pane_beside_a_taken_one_is_told_of_only_while_no_other_is_open() -> None:
    canvas = Canvas([STALE])
    async with writing(canvas) as (sheets, said):
        first = opened(sheets.open(CODE)).name
        sheets.add("a")
        sheets.close()
        sheets.open(CODE)
        while not canvas.asked[1:]:
            await asyncio.sleep(0)
        sheets.add("b")
        assert said == []
        sheets.close()
        await sheets.settled()

    [own] = [event.pane for event in said]
    assert (own.text, own.title, own.closed) == ("a", "x.py (answer)", True)
    assert own.name != first
    assert [asked.pane.name for asked in canvas.asked].count(first) == 1
    assert any(asked.pane.name == own.name and asked.finished for asked in canvas.asked)


async def test_a_pane_that_a_person_deleted_gets_no_second_one() -> None:
    canvas = Canvas([Conflict("ETAG_STALE", "Deleted.")])
    async with writing(canvas) as (sheets, said):
        sheets.open(CODE)
        sheets.add("a")
        sheets.close()
        await sheets.settled()

    assert said == []
    assert len(canvas.asked) == 1
