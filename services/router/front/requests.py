"""A chat completion as OpenAI's clients ask for it, made a GenerateRequest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Raw

from services.common import validation
from services.common.errors import Invalid
from services.router.front.errors import wrong
from services.router.front.hints import put_hints
from services.router.front.messages import message_of
from services.router.front.names import Menu
from services.router.front.wire import (
    UNSUPPORTED,
    Chat,
    Function,
    JsonObject,
    JsonSchema,
    OneTool,
    parse,
    read_chat,
)  # fmt: skip
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import ResponseFormat, Sampling, Tool

MOST_TOKENS = 131072
SAMPLED = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "reasoning_effort")
PARAMS = {
    "sampling.": "",
    "hints.": "metadata.soma.",
    "task": "metadata.soma.task",
    "response_format.name": "response_format.json_schema.name",
    "tools.tools.": "tools.function.",
    "tools.": "",
}
"""How a field of ours is called at this door, by its beginning."""


@dataclass(frozen=True, slots=True)
class AskedCompletion:
    """What a client wants, and how it wants to hear it."""

    request: GenerateRequest
    streams: bool
    include_usage: bool


def read_asked(body: bytes, menu: Menu) -> AskedCompletion:
    """The request that the bytes are. Raises Invalid with the field as OpenAI calls it, NotFound MODEL_UNKNOWN."""
    chat: Chat = parse(read_chat, body)
    check_supported(chat)
    asked = AskedCompletion(request_of(chat, menu), bool(chat.stream), includes_usage(chat))
    try:
        validation.check(asked.request)
    except Invalid as fault:
        ours = fault.metadata.get("field", "")
        raise wrong(param_of(ours), fault.message.replace(f"The field {ours} is wrong: ", "")) from fault
    return asked


def request_of(chat: Chat, menu: Menu) -> GenerateRequest:
    tier, models = menu.chat(chat.model)
    bound = min(chat.max_completion_tokens or chat.max_tokens or 0, MOST_TOKENS)
    messages = (message_of(said, f"messages[{n}]") for n, said in enumerate(chat.messages))
    request = GenerateRequest(messages=messages, tier=tier, max_tokens=bound, whole=not chat.stream)
    request.hints.models.extend(models)
    put_sampling(request.sampling, chat)
    put_tools(request, chat)
    put_format(request, chat)
    put_hints(request, chat.metadata or {})
    return request


def check_supported(chat: Chat) -> None:
    for name, (harmless, advice) in UNSUPPORTED.items():
        value = getattr(chat, name)
        if value is not None and value != harmless:
            raise wrong(name, f"This is not supported. {advice}")


def includes_usage(chat: Chat) -> bool:
    if chat.stream_options is None:
        return False
    if not chat.stream:
        raise wrong("stream_options", "It belongs to a stream. Set `stream` to true, or leave it out.")
    return bool(chat.stream_options.include_usage)


def put_sampling(sampling: Sampling, chat: Chat) -> None:
    for name in SAMPLED:
        value = getattr(chat, name)
        if value is not None:
            setattr(sampling, name, value)
    stop = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    sampling.stop.extend(stop)


def put_tools(request: GenerateRequest, chat: Chat) -> None:
    if not chat.tools:
        if chat.tool_choice not in (None, "none", "auto"):
            raise wrong("tool_choice", "There are no tools to choose from. Send `tools`, or leave it out.")
        return
    request.tools.tools.extend(tool_of(t.function, f"tools[{n}].function") for n, t in enumerate(chat.tools))
    chosen = chat.tool_choice
    if isinstance(chosen, OneTool):
        if chosen.function.name not in {tool.name for tool in request.tools.tools}:
            raise wrong("tool_choice.function.name", "No tool has this name. Choose one of `tools`.")
        request.tools.choice = f"tool:{chosen.function.name}"
    else:
        request.tools.choice = chosen or ""
    if chat.parallel_tool_calls is not None:
        request.tools.parallel = chat.parallel_tool_calls


def tool_of(function: Function, place: str) -> Tool:
    schema = schema_of(function.parameters, f"{place}.parameters")
    tool = Tool(name=function.name, description=function.description or "", parameters=schema)
    if function.strict is not None:
        tool.strict = function.strict
    return tool


def put_format(request: GenerateRequest, chat: Chat) -> None:
    wanted = chat.response_format
    if isinstance(wanted, JsonObject):
        request.response_format.kind = "json_object"
    elif isinstance(wanted, JsonSchema):
        told = wanted.json_schema
        schema = schema_of(told.schema, "response_format.json_schema.schema")
        if not schema:
            raise wrong("response_format.json_schema.schema", "It is missing. Send a JSON Schema.")
        shape = ResponseFormat(kind="json_schema", name=told.name, schema=schema, description=told.description or "")
        request.response_format.CopyFrom(shape)
        if told.strict is not None:
            request.response_format.strict = told.strict


def schema_of(raw: Raw, place: str) -> str:
    """A JSON Schema as it was sent; empty for none."""
    sent = bytes(raw).strip()
    if sent in (b"", b"null"):
        return ""
    if not sent.startswith(b"{"):
        raise wrong(place, "It is no JSON Schema. Send an object.")
    try:
        return sent.decode()
    except UnicodeDecodeError as fault:
        raise wrong(place, "It is no UTF-8. Correct it.") from fault


def param_of(field: str, names: Mapping[str, str] = PARAMS) -> str:
    for ours, theirs in names.items():
        if field.startswith(ours):
            return theirs + field.removeprefix(ours)
    return field
