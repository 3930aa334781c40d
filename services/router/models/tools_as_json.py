"""Tools for a model that knows none, but keeps to a JSON Schema (trait "tools_as_json"). They are told to it in words,
its answer is held to a shape that is a call of one of them or a reply, and read back when it is whole.

It calls one tool at a time. After a tool's answer it replies, unless a call is forced: small models never stop calling.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from services.router.models import Broken, End, Piece, Prompt
from services.router.models.openai_request import schema
from services.router.offers import Offer
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, ResponseFormat, Tool, ToolCallDelta

Ask: TypeAlias = Callable[[Prompt], AsyncGenerator[Piece | End]]
TRAIT = "tools_as_json"
NO_ARGUMENTS = '{"type": "object", "properties": {}, "additionalProperties": false}'
REF = re.compile(r'("\$ref"\s*:\s*"#)')


class Said(msgspec.Struct, forbid_unknown_fields=True):
    tool: str = ""
    arguments: dict[str, Any] = {}
    reply: Any = msgspec.UNSET


decode = msgspec.json.Decoder(Said).decode


def is_for(prompt: Prompt) -> bool:
    """Also where tools were called before, and none is offered now."""
    if TRAIT not in prompt.offer.traits:
        return False
    has_called = any(message.tool_calls or message.role == "tool" for message in prompt.messages)
    return bool(prompt.request.tools.tools) or has_called


def holds(offer: Offer, request: GenerateRequest) -> bool:
    """Whether nothing is said before the end, whatever is asked for: there may be a call."""
    return TRAIT in offer.traits and may_call(request)


def may_call(request: GenerateRequest) -> bool:
    if not request.tools.tools or request.tools.choice == "none":
        return False
    return is_forced(request) or request.messages[-1].role != "tool"


def is_forced(request: GenerateRequest) -> bool:
    return request.tools.choice.partition(":")[0] in ("required", "tool")


async def stream(ask: Ask, prompt: Prompt) -> AsyncGenerator[Piece | End]:
    """What the model says, a call as one piece. Raises Broken, also for a tool that is not there, or no schema."""
    tools = callable_now(prompt.request)
    texts = list[str]()
    async with aclosing(ask(told(prompt, tools) if tools else untold(prompt))) as pieces:
        async for piece in pieces:
            if tools and isinstance(piece, str):
                texts.append(piece)
            elif tools and isinstance(piece, End):
                for meant in meaning("".join(texts), piece, prompt, tools):
                    yield meant
            else:
                yield piece


def callable_now(request: GenerateRequest) -> Sequence[Tool]:
    if not may_call(request):
        return ()
    name = request.tools.choice.partition(":")[2]
    wanted = [tool for tool in request.tools.tools if name in ("", tool.name)]
    if not wanted:
        sentence = f"The tool {name} is to be called, and is not among those of the request. Add it."
        raise Broken(sentence, reason="REQUEST_INVALID", blames_model=False)
    return wanted


def told(prompt: Prompt, tools: Sequence[Tool]) -> Prompt:
    """The question without tools, in its words and its shape. Stop texts are for what the reply says."""
    may_reply = not is_forced(prompt.request)
    form = ResponseFormat(kind="json_schema", name="answer", strict=True)
    form.schema = shape(tools, prompt.request if may_reply else None)
    request = GenerateRequest(sampling=prompt.request.sampling, response_format=form)
    request.sampling.ClearField("stop")
    system, *others = with_system(spoken(prompt.messages))
    system = Message(role="system", text="\n\n".join(filter(None, (system.text, words(tools, may_reply)))))
    return replace(prompt, messages=[system, *others], request=request)


def untold(prompt: Prompt) -> Prompt:
    request = GenerateRequest()
    request.CopyFrom(prompt.request)
    request.ClearField("tools")
    return replace(prompt, messages=spoken(prompt.messages), request=request)


def shape(tools: Sequence[Tool], replies_to: GenerateRequest | None) -> str:
    """The JSON Schema of a call of one of them; or of a reply to the request, in the shape that it asks for. Each
    schema that was given stands under $defs, where it finds what it refers to in itself. Raises Broken."""
    parts = {str(n): schema_of(tool, n) for n, tool in enumerate(tools)}
    forms = [{"tool": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/{n}"}} for n, tool in enumerate(tools)]
    if replies_to is not None:
        parts["reply"] = reply_to(replies_to.response_format)
        forms.append({"reply": {"$ref": "#/$defs/reply"}})
    options = [
        {"type": "object", "properties": form, "required": list(form), "additionalProperties": False} for form in forms
    ]
    return encoded({"anyOf": options, "$defs": parts})


def schema_of(tool: Tool, place: int) -> dict[str, Any]:
    return {"type": "object", **schema(moved(tool.parameters or NO_ARGUMENTS, str(place)), f"the tool {tool.name}")}


def reply_to(format: ResponseFormat) -> dict[str, Any]:
    if format.schema:
        return schema(moved(format.schema, "reply"), "the answer")
    return {"type": "object" if format.kind else "string"}


def moved(schema: str, place: str) -> str:
    return REF.sub(rf"\1/$defs/{place}", schema)


def words(tools: Sequence[Tool], may_reply: bool) -> str:
    lines = [f"- {t.name}: {t.description or t.name} Arguments: {t.parameters or NO_ARGUMENTS}" for t in tools]
    call = 'Call one: {"tool": its name, "arguments": its arguments}.'
    return "\n".join(["Tools:", *lines, call, *(['Or answer: {"reply": your answer}.'] if may_reply else [])])


def spoken(messages: Sequence[Message]) -> list[Message]:
    """Calls as the model would have said them, and their answers as if a person had told of them."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [as_text(message, names.get(message.tool_call_id, "The tool")) for message in messages]


def as_text(message: Message, tool: str) -> Message:
    if message.role == "tool":
        return Message(role="user", text=f"{tool} answered: {message.text}")
    if message.tool_calls:
        calls = (f'{{"tool": {encoded(c.name)}, "arguments": {c.arguments or "{}"}}}' for c in message.tool_calls)
        return Message(role="assistant", text="\n".join(filter(None, (message.text, *calls))))
    return message


def with_system(messages: list[Message]) -> list[Message]:
    has_one = bool(messages) and messages[0].role == "system"
    return messages if has_one else [Message(role="system"), *messages]


def meaning(text: str, end: End, prompt: Prompt, tools: Sequence[Tool]) -> Iterator[Piece | End]:
    """The call or the reply. What was cut at its length, or by a filter, says nothing. Raises Broken for what is
    neither, or not what may be."""
    if end.finish_reason != "stop" or not text:
        yield end
        return
    said = read(text)
    if said.tool in {tool.name for tool in tools} and said.reply is msgspec.UNSET:
        id, arguments = f"call_{uuid.uuid4().hex}", encoded(said.arguments)
        yield ToolCallDelta(index=0, id=id, name=said.tool, arguments=arguments)
        yield End("tool_calls", end.usage)
    elif not said.tool and said.reply is not msgspec.UNSET and not is_forced(prompt.request):
        reply = said.reply if isinstance(said.reply, str) else encoded(said.reply)
        if reply := cut(reply, prompt.request.sampling.stop):
            yield reply
        yield end
    else:
        raise Broken(f"{prompt.offer.provider.name} sent neither a call of a tool nor a reply.")


def read(text: str) -> Said:
    """Nothing where it is neither."""
    try:
        return decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return Said()


def cut(reply: str, stops: Sequence[str]) -> str:
    return reply[: min((place for stop in filter(None, stops) if (place := reply.find(stop)) >= 0), default=len(reply))]


def encoded(part: object) -> str:
    return msgspec.json.encode(part).decode()
