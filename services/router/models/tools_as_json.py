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
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, ResponseFormat, Tool, ToolCallDelta

Ask: TypeAlias = Callable[[Prompt], AsyncGenerator[Piece | End]]
TRAIT = "tools_as_json"
NO_ARGUMENTS = '{"type": "object", "properties": {}, "additionalProperties": false}'
REF = re.compile(r'("\$ref"\s*:\s*"#)')


class Said(msgspec.Struct):
    tool: str = ""
    arguments: Any = msgspec.field(default_factory=dict)
    reply: Any = ""


decode = msgspec.json.Decoder(Said).decode


def is_for(prompt: Prompt) -> bool:
    tools = prompt.request.tools
    return TRAIT in prompt.offer.traits and bool(tools.tools) and tools.choice != "none"


async def stream(ask: Ask, prompt: Prompt) -> AsyncGenerator[Piece | End]:
    """What the model says, a call as one piece. Raises Broken, also for a tool that is not there, or no schema."""
    tools, may_reply = choices(prompt)
    texts = list[str]()
    async with aclosing(ask(told(prompt, tools, may_reply) if tools else untold(prompt))) as pieces:
        async for piece in pieces:
            if tools and isinstance(piece, str):
                texts.append(piece)
            elif tools and isinstance(piece, End):
                for meant in meaning("".join(texts), piece, prompt.offer.provider.name):
                    yield meant
            else:
                yield piece


def choices(prompt: Prompt) -> tuple[Sequence[Tool], bool]:
    """The tools that may be called now, and whether a reply will do as well."""
    tools = prompt.request.tools
    kind, _, name = tools.choice.partition(":")
    if kind not in ("required", "tool"):
        has_answer = bool(prompt.messages) and prompt.messages[-1].role == "tool"
        return ((), True) if has_answer else (tools.tools, True)
    wanted = [tool for tool in tools.tools if name in ("", tool.name)]
    if not wanted:
        sentence = f"The tool {name} is to be called, and is not among those of the request. Add it."
        raise Broken(sentence, reason="REQUEST_INVALID", blames_model=False)
    return wanted, False


def told(prompt: Prompt, tools: Sequence[Tool], may_reply: bool) -> Prompt:
    """The question without tools, in its words and its shape."""
    request = GenerateRequest(
        sampling=prompt.request.sampling,
        response_format=ResponseFormat(
            kind="json_schema", name="answer", schema=shape(tools, prompt.request if may_reply else None), strict=True
        ),
    )
    system, *others = with_system(spoken(prompt.messages))
    system = Message(role="system", text="\n\n".join(filter(None, (system.text, words(tools, may_reply)))))
    return replace(prompt, messages=[system, *others], request=request)


def untold(prompt: Prompt) -> Prompt:
    request = prompt.request
    format = request.response_format if request.HasField("response_format") else None
    asked = GenerateRequest(sampling=request.sampling, response_format=format)
    return replace(prompt, messages=spoken(prompt.messages), request=asked)


def shape(tools: Sequence[Tool], replies_to: GenerateRequest | None) -> str:
    """The JSON Schema of a call of one of them; or of a reply to the request, in the shape that it asks for. Each
    schema that was given stands under $defs, where it finds what it refers to in itself. Raises Broken."""
    parts = {str(n): schema_at(n, tool.parameters, f"the tool {tool.name}") for n, tool in enumerate(tools)}
    forms = [{"tool": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/{n}"}} for n, tool in enumerate(tools)]
    if replies_to is not None:
        parts["reply"] = reply_to(replies_to.response_format)
        forms.append({"reply": {"$ref": "#/$defs/reply"}})
    options = [
        {"type": "object", "properties": form, "required": list(form), "additionalProperties": False} for form in forms
    ]
    return encoded({"anyOf": options, "$defs": parts})


def schema_at(place: object, text: str, of: str) -> dict[str, Any]:
    return schema(REF.sub(rf"\1/$defs/{place}", text or NO_ARGUMENTS), of)


def reply_to(format: ResponseFormat) -> dict[str, Any]:
    if format.schema:
        return schema_at("reply", format.schema, "the answer")
    return {"type": "object" if format.kind else "string"}


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


def meaning(text: str, end: End, provider: str) -> Iterator[Piece | End]:
    """The call or the reply. One that was cut at its length is neither. Raises Broken for what else is neither."""
    try:
        said = decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as fault:
        if end.finish_reason != "length":
            raise Broken(f"{provider} sent neither a call of a tool nor a reply.") from fault
        yield end
        return
    if said.tool:
        arguments = encoded(said.arguments)
        yield ToolCallDelta(index=0, id=f"call_{uuid.uuid4().hex}", name=said.tool, arguments=arguments)
        yield End("tool_calls", end.usage)
        return
    reply = said.reply if isinstance(said.reply, str) else encoded(said.reply)
    if reply:
        yield reply
    yield end


def encoded(part: object) -> str:
    return msgspec.json.encode(part).decode()
