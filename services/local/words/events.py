"""`soma events`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.local.words.options import HOME, Data

app = typer.Typer(help="What consumers of the event log could not handle, and replays.", no_args_is_help=True)


@app.command("show")
def events_show(
    id: Annotated[str, typer.Argument(help="One event in full. All that are dead or wait without.")] = "",
    group: Annotated[str, typer.Option(help="Of one group alone, such as sealer.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = HOME,
) -> None:
    """Show the events that consumers could not handle: dead, or waiting to be tried again, and why."""
    from services.local.commands import events

    events.show(data, id, group, as_json)


@app.command("retry")
def events_retry(
    id: Annotated[str, typer.Argument(help="The event's id.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All dead ones of --group.")] = False,
    group: Annotated[str, typer.Option(help="Whose, when it is not clear from the id.")] = "",
    data: Data = HOME,
) -> None:
    """Try dead events as if for the first time, now. Those of one key go in order, but after what of their key has been
    handled since they died."""
    from services.local.commands import events

    print(events.retry(data, id, everything, group))


@app.command("drop")
def events_drop(
    id: Annotated[str, typer.Argument(help="The event's id.")],
    why: Annotated[str, typer.Option(help="For those who ask later.")],
    group: Annotated[str, typer.Option(help="Whose, when it is not clear from the id.")] = "",
    data: Data = HOME,
) -> None:
    """Never handle an event; later ones of its key go on. The log and the archive still have it."""
    from services.local.commands import events

    print(events.drop(data, id, group, why))


@app.command("replay")
def events_replay(
    topic: Annotated[str, typer.Option(help="Such as agent.messages.")],
    into: Annotated[str, typer.Option(help="The group that gets them.")],
    since: Annotated[str, typer.Option("--from", help="RFC 3339: the first of this time or later.")],
    until: Annotated[str, typer.Option("--to", help="RFC 3339: none of this time or later. Now without.")] = "",
    tenant: Annotated[str, typer.Option(help="Of one tenant alone.")] = "",
    data: Data = HOME,
) -> None:
    """Put the events that came into the log in a time to a group once more.

    A group that does not exist yet begins there: it gets the events of that time, and then all that came after it.

    A group that exists goes back: its marks of these events, and its letters, are taken away, so that its handler sees
    them again, in order, before it goes on. All else that it reads again on the way keeps its mark and is not seen. It
    may be running.

    What a handler did the first time is not undone. It must be idempotent by the event's id: an event that it sees
    twice must leave what seeing it once leaves, as the sealer's does. A SIEM is told again.
    """
    from services.local.commands import events

    print(events.replay(data, topic, since, until, tenant, into))
