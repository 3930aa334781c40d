"""The pure parts of the canvas."""

from __future__ import annotations

import asyncio
import itertools
import random
from uuid import UUID

import pytest

from services.canvas import etags, names, patches
from services.canvas.bells import Bells
from services.canvas.limits import Held, Limits, check_pane, check_text
from services.common.clock import new_id
from services.common.errors import Exhausted, Invalid, NotFound, Precondition, Unavailable
from services.common.names import conversation_id, conversation_name
from soma.canvas.v1.canvas_pb2 import Layout, Pane, PatchOperation
from tests.canvases import Document, as_json

IDS = (new_id(), new_id())
LIMITS = Limits(panes=2, text_bytes=10)


def applied(document: Document, operations: list[PatchOperation]) -> Document:
    for operation in operations:
        document.apply(operation.op, operation.path, patches.as_json(operation).get("value"))
    return document


def test_a_name_that_is_made_is_read_again() -> None:
    assert names.pane_ids(names.pane_name(IDS)) == IDS
    assert names.version_ids(names.version_name(IDS, 42)) == (IDS, 42)
    assert names.layout_of(names.layout_name(IDS[0])) == IDS[0]
    assert names.pane_of(IDS[0], names.pane_name(IDS)) == IDS[1]
    assert names.pane_of(IDS[1], names.pane_name(IDS)) is None


@pytest.mark.parametrize("change", [str.upper, lambda s: s + "\n", lambda s: s + "/", lambda s: " " + s])
def test_a_name_that_is_nearly_one_is_not_found(change: object) -> None:
    for read, name in (
        (names.pane_ids, names.pane_name(IDS)),
        (names.version_ids, names.version_name(IDS, 1)),
        (names.layout_of, names.layout_name(IDS[0])),
        (conversation_id, conversation_name(IDS[0])),
    ):
        with pytest.raises(NotFound):
            read(change(name))  # type: ignore[operator]


def test_an_etag_tells_its_version_and_nothing_else_does() -> None:
    assert etags.version_of(etags.etag_of(7, 3)) == 7
    assert [etags.version_of(other) for other in ("", "7", "7-", "-3", "0-1", "7-3 ", "7-3\n", "٧-3")] == [None] * 8


@pytest.mark.parametrize("paths", [[], ["x"], ["a", "x"], ["*"], [""]])
def test_a_mask_names_something_and_only_what_is_known(paths: list[str]) -> None:
    assert etags.check_mask(["a", "a"], ("a", "b")) == {"a"}
    with pytest.raises(Invalid):
        etags.check_mask(paths, ("a", "b"))


def test_a_full_canvas_takes_no_more_but_may_shrink() -> None:
    check_pane(Held(1, 5, ""), 5, LIMITS)
    check_text(Held(2, 10, ""), 5, 5, LIMITS)
    check_text(Held(2, 99, ""), 50, 49, LIMITS)
    for held, size_bytes in ((Held(2, 0, ""), 0), (Held(1, 5, ""), 6)):
        with pytest.raises(Precondition):
            check_pane(held, size_bytes, LIMITS)
    with pytest.raises(Precondition) as full:
        check_text(Held(2, 10, "the largest"), 4, 5, LIMITS)
    assert full.value.metadata == {"bytes": "10", "largest": "the largest"}


def test_parts_keep_the_order_and_are_as_few_as_a_greedy_packer_makes_them() -> None:
    chance = random.Random(1)
    for _ in range(200):
        sizes = [(n, chance.randint(0, patches.MOST_BYTES)) for n in range(chance.randint(0, 20))]
        parts = list(patches.parts(sizes))
        assert [thing for part in parts for thing in part] == [n for n, _ in sizes]
        total = dict(sizes)
        assert all(sum(total[n] for n in part) <= patches.MOST_BYTES for part in parts)
        for part, after in itertools.pairwise(parts):
            assert sum(total[n] for n in part) + total[after[0]] > patches.MOST_BYTES


def test_one_that_is_too_large_for_any_part_is_one_by_itself() -> None:
    assert list(patches.parts([("a", 1), ("b", 10**7), ("c", 1)])) == [["a"], ["b"], ["c"]]


def test_a_document_that_takes_the_changes_of_a_pane_holds_the_pane() -> None:
    id, document = IDS[1], applied(Document(), [patches.whole(Layout(name="a layout"))])
    shown = None
    for pane in (
        Pane(name="a", text="one", version=1, state=Pane.STATE_WRITING),
        Pane(name="a", text="two~1/\0\ud7ff", version=1, title='"'),
        Pane(name="a", text="", version=2, state=Pane.STATE_READY, author="person"),
    ):
        now = patches.shown(pane)
        applied(document, patches.changed(id, shown, now, pane.text))
        shown = now
        assert document.value["panes"] == {str(id): as_json(pane)}
        assert patches.changed(id, shown, now, pane.text) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_pane_that_has_gone_can_be_removed_whether_it_was_known_or_not(known: bool) -> None:
    id, document = IDS[1], Document(value={"panes": {}})
    if known:
        document.value["panes"][str(id)] = {"name": "a"}

    assert applied(document, patches.removed(id, None)).value == {"panes": {}}


async def test_a_bell_rings_for_its_canvas_and_waits_for_no_other() -> None:
    bells, told = Bells(most=3), list[tuple[str, UUID]]()
    bells.tell = lambda tenant, conversation: told.append((tenant, conversation))
    with bells.hang("acme", IDS[0]) as mine, bells.hang("acme", IDS[1]) as other, bells.hang("globex", IDS[0]) as far:
        bells.ring("acme", IDS[0])

        assert await mine.wait(1)
        assert not await mine.wait(0), "once rung, once heard"
        assert not await other.wait(0)
        assert not await far.wait(0)
        with pytest.raises(Exhausted), bells.hang("acme", IDS[0]):
            pass
    assert told == [("acme", IDS[0])]
    assert (bells.hung, bells.count) == ({}, 0)


async def test_bells_that_are_closed_ring_and_are_waited_for() -> None:
    bells = Bells(most=9)

    async def watch() -> None:
        with bells.hang("acme", IDS[0]) as bell:
            assert await bell.wait(5)

    watches = [asyncio.create_task(watch()) for _ in range(3)]
    await asyncio.sleep(0)
    await bells.close(5)

    assert bells.count == 0
    await asyncio.gather(*watches)
    with pytest.raises(Unavailable), bells.hang("acme", IDS[0]):
        pass
