"""What a running turn has said: numbered once, joined while a write is pending, followed by anyone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.agent.transcript import Transcript
from soma.agent.v1.chat_event_pb2 import Accepted, ChatEvent, Done
from soma.common.v1.model_pb2 import Decision


@dataclass
class SlowFeed:
    """Publishes when it is allowed to."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    published: list[int] = field(default_factory=list)

    async def publish(self, events: Sequence[ChatEvent]) -> None:
        self.asked.set()
        await self.open.wait()
        self.published.append(len(events))


async def running(feed: SlowFeed, heartbeat_s: float = 60) -> tuple[Transcript, asyncio.Task[None]]:
    transcript = Transcript(feed, heartbeat_s=heartbeat_s)
    task = asyncio.create_task(transcript.publish())
    transcript.say(ChatEvent(accepted=Accepted(turn="t")))
    await feed.asked.wait()
    return transcript, task


async def test_text_that_arrives_while_a_write_is_pending_is_one_event() -> None:
    feed = SlowFeed()
    transcript, task = await running(feed)
    for piece in ("a", "b", "c"):
        transcript.say_text(piece)
    feed.open.set()
    await transcript.settled()
    task.cancel()

    assert [event.sequence for event in transcript.events] == [1, 2]
    assert transcript.events[1].text.delta == "abc"


async def test_other_events_keep_their_place_among_text() -> None:
    feed = SlowFeed()
    transcript, task = await running(feed)
    transcript.say_text("before")
    transcript.say(ChatEvent(decision=Decision(model="m")))
    transcript.say_text("after")
    feed.open.set()
    await transcript.settled()
    task.cancel()

    assert [event.WhichOneof("event") for event in transcript.events] == ["accepted", "text", "decision", "text"]
    assert transcript.text == "beforeafter"


async def test_nobody_sees_an_event_before_it_is_published() -> None:
    feed = SlowFeed()
    transcript = Transcript(feed)
    task = asyncio.create_task(transcript.publish())
    transcript.say_text("seen")
    follower = asyncio.ensure_future(anext(transcript.follow(0)))
    await feed.asked.wait()

    assert not follower.done()
    assert transcript.events == []
    feed.open.set()
    assert (await follower).text.delta == "seen"
    task.cancel()


async def test_the_last_event_is_seen_only_once_it_is_said() -> None:
    feed = SlowFeed()
    feed.open.set()
    transcript, task = await running(feed)
    await transcript.settled()
    task.cancel()
    last = ChatEvent(done=Done(finish_reason="stop"))
    kept = transcript.closing(last)

    assert len(transcript.events) == 1
    assert [event.sequence for event in kept.events] == [1, 2]
    await transcript.close(last)
    assert [event async for event in transcript.follow(0)] == list(kept.events)


async def test_a_silent_stream_beats_without_a_number() -> None:
    feed = SlowFeed()
    transcript, task = await running(feed, heartbeat_s=0.01)

    beat = await anext(transcript.follow(0))
    task.cancel()

    assert beat.HasField("heartbeat")
    assert not beat.HasField("sequence")
    assert transcript.events == []


async def test_followers_are_let_go_when_the_turn_is_no_longer_ours() -> None:
    feed = SlowFeed()
    transcript, task = await running(feed)
    waiting = asyncio.create_task(anext(transcript.follow(0), None))
    transcript.leave()

    assert await waiting is None
    task.cancel()
