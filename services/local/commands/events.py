"""`soma events`: what consumers could not handle, and events put to them once more."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.local.acts import acting
from services.local.at_database import at_database, log_url, opened, operator
from services.local.fault import Fault
from services.local.stack import Stack, load_stack

if TYPE_CHECKING:
    from rich.table import Table

    from services.common.consumer.replay import Wish

GROUP = re.compile(r"[a-z][a-z0-9._-]{0,79}")
STYLES = {"dead": "red", "waiting": "yellow", "dropped": "dim"}
MOST = 1000
WIDEST, SHORTEST = 1000, 20
"""Columns: of a reason, and of what is wide enough for everything else."""
NONE = "No event waits, and none is dead."


def show(home: Path, id: str, group: str, as_json: bool) -> None:
    """Print all letters, or the one of an id in full."""
    from services.common.consumer import letterbox

    stack, event = load_stack(home), uuid_of(id) if id else None

    async def work() -> Sequence[Any]:
        async with opened(stack) as db:
            return await letterbox.find(db, event, group) if event else await letterbox.look(db, group, MOST)

    found = [facts(row) for row in at_database(work())]
    if event and not found:
        raise Fault(unknown(id))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    elif event:
        in_full(found)
    else:
        in_short(found)


def retry(home: Path, id: str, everything: bool, group: str) -> str:
    """Try a letter, or all dead ones of a group, as if for the first time; returns what is now true."""
    if bool(id) == everything:
        raise Fault("Say which: an ID (see: soma events show), or --all with --group.")
    if everything and not group:
        raise Fault("--all wants --group: whose dead events are to be tried again?")
    stack = load_stack(home)
    if everything:
        with acting(home, "events.retried", f"groups/{group}"):
            count = at_database(again(stack, {group: None}))
        if not count:
            return f"Nothing of {group} is dead."
        return f"{events(count)} of {group} {'is' if count == 1 else 'are'} tried again. See: soma events show"
    letter = one(stack, id, group)
    with acting(home, "event.retried", resource(letter), letter["tenant"]):
        at_database(again(stack, {letter["group"]: UUID(letter["id"])}))
    return f"{id} is tried again by {letter['group']}. See: soma events show {id}"


def drop(home: Path, id: str, group: str, why: str) -> str:
    """Give a letter up for good; returns what is now true."""
    from services.common.consumer import letterbox

    if not why.strip():
        raise Fault("Say why it is dropped, for those who ask later: --why '…'")
    stack = load_stack(home)
    letter = one(stack, id, group)

    async def work() -> bool:
        async with opened(stack) as db, db.own(operator()) as tx:
            return await letterbox.drop(tx, letter["group"], UUID(letter["id"]), why.strip())

    if letter["state"] == "dropped":
        raise Fault(f"{id} was dropped already: {letter['reason']}")
    with acting(home, "event.dropped", resource(letter), letter["tenant"]):
        at_database(work())
    return f"{id} will not be handled by {letter['group']}. Later events of {letter['key']} go on."


def replay(home: Path, topic: str, since: str, until: str, tenant: str, into: str) -> str:
    """Put events of a time to a group once more; returns what is now true."""
    from services.common.consumer.replay import Wish
    from services.common.log.topics import TOPICS

    if topic not in TOPICS:
        raise Fault(f"There is no topic {topic!r}. There are: {', '.join(TOPICS)}.")
    if not GROUP.fullmatch(into):
        raise Fault(f"{into!r} cannot be a group: use small letters, digits, dots, _ and -, beginning with a letter.")
    wish = Wish(into, topic, time_of("--from", since), time_of("--to", until) if until else datetime.now(UTC), tenant)
    if wish.since >= wish.until:
        raise Fault("--from must be before --to.")
    stack = load_stack(home)
    with acting(home, "events.replayed", f"groups/{into}/topics/{topic}", tenant):
        count, is_new = at_database(put(stack, wish))
    if not count:
        return f"Nothing to replay: {into} has all of {topic} of that time before it, or there was none."
    where = "is a new group and begins there" if is_new else "gets them again before it goes on"
    return f"{events(count)} of {topic}: {into} {where}."


async def put(stack: Stack, wish: Wish) -> tuple[int, bool]:
    """How many events, and whether the group is new."""
    from services.common.consumer.replay import replay
    from services.common.log.engine import open_log

    async with opened(stack) as db, open_log(log_url(stack), db, None) as log:
        known = await log.standing(wish.group)
        return await replay(db, log, wish), not any(topic == wish.topic for topic, _ in known)


async def again(stack: Stack, letters: Mapping[str, UUID | None]) -> int:
    from services.common.consumer import letterbox

    async with opened(stack) as db, db.own(operator()) as tx:
        return sum([await letterbox.again(tx, group, id) for group, id in letters.items()])


def one(stack: Stack, id: str, group: str) -> Mapping[str, Any]:
    """The letter that is meant. Fault when there is none, or more than one."""
    from services.common.consumer import letterbox

    event = uuid_of(id)

    async def work() -> Sequence[Any]:
        async with opened(stack) as db:
            return await letterbox.find(db, event, group)

    found = [facts(row) for row in at_database(work())]
    if not found:
        raise Fault(unknown(id))
    if len(found) > 1:
        groups = ", ".join(letter["group"] for letter in found)
        raise Fault(f"{id} is a letter of several groups: {groups}. Say which: --group")
    return found[0]


def in_short(letters: Sequence[Mapping[str, Any]]) -> None:
    """A line each. On a terminal that is too narrow only the reason is cut."""
    from rich.console import Console

    if not letters:
        sys.stdout.write(f"{NONE}\n")
        return
    console = Console(highlight=False)
    facts = Console(width=WIDEST).measure(table_of(letters, 1)).maximum - 1
    room = max(SHORTEST, console.width - facts) if console.is_terminal else WIDEST
    console.width = facts + room
    console.print(table_of(letters, room))
    count = Counter(letter["state"] for letter in letters)
    console.print(f"\n[dim]{count['dead']} dead, {count['waiting']} waiting. One in full: soma events show ID[/]")


def table_of(letters: Sequence[Mapping[str, Any]], room: int) -> Table:
    """`room` is the reason's."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("id", "group", "type", "tenant", "state", "tries", "due"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="ellipsis", no_wrap=True, max_width=room)
    for letter in letters:
        said = [letter[name] for name in ("id", "group", "type", "tenant", "state", "attempt")]
        style = STYLES[letter["state"]] if letter["state"] == "dead" else ""
        table.add_row(*(Text(plain(value)) for value in (*said, due(letter), letter["reason"])), style=style)
    return table


def in_full(letters: Sequence[Mapping[str, Any]]) -> None:
    for letter in letters:
        for name, value in letter.items():
            if name != "event":
                sys.stdout.write(f"{name:12} {plain(due(letter) if name == 'due' else value)}\n")
        event = json.dumps(letter["event"], indent=2, ensure_ascii=False)
        sys.stdout.write(f"{event.encode(errors='backslashreplace').decode()}\n\n")


def plain(value: object) -> str:
    """On one line, without what steers a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def due(letter: Mapping[str, Any]) -> str:
    """When it is tried next, for a person."""
    if letter["state"] != "waiting":
        return "-"
    return letter["due"] or "after an earlier one of its key"


def facts(row: Any) -> dict[str, Any]:
    """A letter as JSON has it."""
    from services.common.clock import rfc3339

    told = {name: row[name] for name in ("group", "state", "attempt", "reason", "topic", "part", "offset")}
    told |= {name: row[name] for name in ("tenant", "key", "type", "traceparent")}
    waits = row["state"] == "waiting" and row["due_time"].year < datetime.max.year
    told |= {"due": rfc3339(row["due_time"]) if waits else None, "time": rfc3339(row["log_time"])}
    if "payload" in row.keys():  # noqa: SIM118 - a record
        told["event"] = event_of(row["payload"])
    return {"id": str(row["id"])} | told


def event_of(payload: bytes) -> Any:
    try:
        event = json.loads(payload)
        json.dumps(event, indent=2)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")
    return event


def resource(letter: Mapping[str, Any]) -> str:
    return f"groups/{letter['group']}/events/{letter['id']}"


def events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def unknown(id: str) -> str:
    return f"No group has trouble with an event {id}. See: soma events show"


def uuid_of(id: str) -> UUID:
    try:
        return UUID(id)
    except ValueError as fault:
        raise Fault(f"{id!r} is no event's id. See: soma events show") from fault


def time_of(option: str, text: str) -> datetime:
    """A moment with its offset from UTC, or Z."""
    example = "such as 2026-01-31T09:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError) as fault:
        raise Fault(f"{option} is {text!r}; it must be an RFC 3339 time, {example}.") from fault
    if moment.tzinfo is None:
        raise Fault(f"{option} does not say in which time zone: end it with Z or +02:00, {example}.")
    return utc
