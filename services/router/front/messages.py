"""The messages of a chat as OpenAI's clients send them, made ours. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.router.front.errors import wrong
from services.router.front.wire import (
    Assistant,
    Called,
    Developer,
    ImagePart,
    RefusalPart,
    Said,
    System,
    TextPart,
    ToolAnswer,
    User,
)  # fmt: skip
from soma.router.v1.routing_pb2 import Image, Message, Part, ToolCall

PICTURES = ("https://", "data:image/")


def message_of(said: Said, place: str) -> Message:
    """One message. `place` is where it stands, for a complaint."""
    if isinstance(said, System | Developer):
        return Message(role="system", text=text_of(said.content))
    if isinstance(said, User):
        return from_user(said, place)
    if isinstance(said, ToolAnswer):
        return Message(role="tool", text=text_of(said.content), tool_call_id=said.tool_call_id)
    return from_assistant(said, place)


def from_user(said: User, place: str) -> Message:
    """Text alone is kept as text; with pictures among it, the parts are kept in order."""
    if isinstance(said.content, str):
        return Message(role="user", text=said.content)
    texts = [part for part in said.content if isinstance(part, TextPart)]
    if len(texts) == len(said.content):
        return Message(role="user", text=text_of(texts))
    parts = (part_of(part, f"{place}.content[{n}].image_url.url") for n, part in enumerate(said.content))
    return Message(role="user", parts=parts)


def part_of(part: TextPart | ImagePart, place: str) -> Part:
    if isinstance(part, TextPart):
        return Part(text=part.text)
    if not part.image_url.url.startswith(PICTURES):
        raise wrong(place, "It is no picture. Send an https:// address, or a data:image/…;base64, URL.")
    return Part(image=Image(url=part.image_url.url, detail=part.image_url.detail or ""))


def from_assistant(said: Assistant, place: str) -> Message:
    if said.function_call is not None:
        raise wrong(f"{place}.function_call", "Functions are called tools now. Send it as `tool_calls`.")
    if said.audio is not None:
        raise wrong(f"{place}.audio", "Only text is answered here. Leave it out.")
    text = text_of(said.content) if said.content is not None else said.refusal or ""
    if said.content is None and not text and not said.tool_calls:
        raise wrong(f"{place}.content", "It is missing. Send it, or `tool_calls`.")
    return Message(role="assistant", text=text, tool_calls=map(call_of, said.tool_calls or ()))


def call_of(called: Called) -> ToolCall:
    return ToolCall(id=called.id, name=called.function.name, arguments=called.function.arguments)


def text_of(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """Parts follow each other as they are."""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
