"""A request as admission sees it: what it needs, how long it is, who asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.caller import Caller
from services.common.errors import Invalid
from services.router.budgets.room import Scopes
from services.router.decide import AUTO, DEFAULT_TIER, Shape
from services.router.window import Size, size_of
from soma.router.v1.router_service_pb2 import DecideRequest, GenerateRequest
from soma.router.v1.routing_pb2 import Hints, Message

MOST_NAMED = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """Made once a call."""

    shape: Shape
    size: Size
    max_tokens: int
    text: str
    """What the learned part looks at: the last question."""
    task_class: str = ""
    turn: str = ""
    task: str = ""

    @property
    def conversation(self) -> str:
        """ "conversations/X" of "conversations/X/turns/Y"; empty for none."""
        return self.turn.partition("/turns/")[0]

    def scopes(self, caller: Caller) -> Scopes:
        """Whose budgets pay."""
        return Scopes(caller.subject, caller.team, self.conversation, self.task, caller.key)


def asked_of(caller: Caller, request: GenerateRequest) -> Asked:
    """Raises Invalid REQUEST_INVALID."""
    check_named("turn", request.turn)
    check_named("task", request.task)
    return Asked(
        shape=shape_of(caller, request.tier, request.hints, frozenset(needs_of(request))),
        size=size_of(request.messages, request.tools, request.response_format),
        max_tokens=request.max_tokens,
        text=question_of(request.messages),
        task_class=request.task_class,
        turn=request.turn,
        task=request.task,
    )


def asked_to_decide(caller: Caller, request: DecideRequest) -> Asked:
    """Raises Invalid REQUEST_INVALID."""
    check_named("task", request.task)
    return Asked(
        shape=shape_of(caller, request.tier, request.hints, frozenset(request.needs)),
        size=size_of([Message(role="user", text=request.text)]),
        max_tokens=request.max_tokens,
        text=request.text,
        task_class=request.task_class,
        task=request.task,
    )


def check_named(field: str, name: str) -> None:
    """What the ledger keeps, many calls of a tenant in one transaction, must not be what makes them all fail."""
    if "\0" in name or len(name) > MOST_NAMED:
        raise Invalid("REQUEST_INVALID", f"The field {field} is wrong: it is no name that can be kept.", field=field)


def needs_of(request: GenerateRequest) -> Iterable[str]:
    """What the model must be able to do."""
    if request.tools.tools and request.tools.choice != "none":
        yield "tools"
    if request.HasField("response_format"):
        yield "json"
    if any(part.HasField("image") for message in request.messages for part in message.parts):
        yield "vision"


def question_of(messages: Iterable[Message]) -> str:
    """The last thing that a person said."""
    said = [message for message in messages if message.role == "user"]
    if not said:
        return ""
    return "\n".join([said[-1].text, *(part.text for part in said[-1].parts if part.text)]).strip()


def shape_of(caller: Caller, tier: str, hints: Hints, needs: frozenset[str]) -> Shape:
    """Whoever names models, or has a key for some alone, and no tier, may have any of them."""
    named = bool(hints.models or caller.models)
    tier = tier or (AUTO if named else DEFAULT_TIER)
    return Shape(tier, needs, hints.SerializeToString(deterministic=True), caller.models)
