"""A prompt in the words of chat completions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from services.router.models import Broken, Prompt
from soma.router.v1.routing_pb2 import Message, ResponseFormat, Sampling, Tool, Tools

NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
UNWANTED = ("temperature", "top_p")
"""Not taken by models with the trait "no_sampling"."""


def question(prompt: Prompt) -> dict[str, Any]:
    """All but how the answer is to be sent. Raises Broken for a schema that is none."""
    offer, request = prompt.offer, prompt.request
    asked: dict[str, Any] = {
        **offer.options,
        **sampled(request.sampling),
        "model": offer.model,
        "messages": [message(m) for m in prompt.messages],
        offer.provider.max_tokens_field: prompt.max_tokens,
    }
    if request.tools.tools:
        asked |= called(request.tools)
    if request.HasField("response_format"):
        asked["response_format"] = shaped(request.response_format)
    if "no_sampling" in offer.traits:
        asked = {name: value for name, value in asked.items() if name not in UNWANTED}
    return asked


def message(m: Message) -> dict[str, Any]:
    if m.role == "tool":
        return {"role": "tool", "tool_call_id": m.tool_call_id, "content": m.text}
    said: dict[str, Any] = {"role": m.role, "content": list(parts(m)) if m.parts else m.text}
    if m.tool_calls:
        said["content"] = m.text or None
        said["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments or "{}"}}
            for c in m.tool_calls
        ]
    return said


def parts(m: Message) -> Iterator[dict[str, Any]]:
    if m.text:
        yield {"type": "text", "text": m.text}
    for part in m.parts:
        if part.HasField("image"):
            detail = {"detail": part.image.detail} if part.image.detail else {}
            yield {"type": "image_url", "image_url": {"url": part.image.url, **detail}}
        elif part.text:
            yield {"type": "text", "text": part.text}


def called(tools: Tools) -> dict[str, Any]:
    asked: dict[str, Any] = {"tools": [{"type": "function", "function": function(tool)} for tool in tools.tools]}
    kind, _, name = tools.choice.partition(":")
    if kind:
        asked["tool_choice"] = {"type": "function", "function": {"name": name}} if name else kind
    if tools.HasField("parallel"):
        asked["parallel_tool_calls"] = tools.parallel
    return asked


def function(tool: Tool) -> dict[str, Any]:
    told: dict[str, Any] = {"name": tool.name}
    if tool.description:
        told["description"] = tool.description
    if tool.parameters:
        told["parameters"] = schema(tool.parameters, f"the tool {tool.name}")
    if tool.HasField("strict"):
        told["strict"] = tool.strict
    return told


def shaped(format: ResponseFormat) -> dict[str, Any]:
    if format.kind == "json_object":
        return {"type": "json_object"}
    told: dict[str, Any] = {"name": format.name or "answer"}
    if format.schema:
        told["schema"] = schema(format.schema, "the answer")
    if format.description:
        told["description"] = format.description
    if format.HasField("strict"):
        told["strict"] = format.strict
    return {"type": "json_schema", "json_schema": told}


def sampled(sampling: Sampling) -> dict[str, Any]:
    told: dict[str, Any] = {f.name: value for f, value in sampling.ListFields() if f.name in NUMBERS}
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    if sampling.reasoning_effort:
        told["reasoning_effort"] = sampling.reasoning_effort
    return told


def schema(text: str, of: str) -> dict[str, Any]:
    """A JSON Schema from its text. Raises Broken REQUEST_INVALID: no provider could do better."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError) as fault:
        sentence = f"The schema of {of} is no JSON object. Correct it."
        raise Broken(sentence, reason="REQUEST_INVALID", blames_model=False) from fault
