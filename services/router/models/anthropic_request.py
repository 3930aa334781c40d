"""A prompt in the words of Anthropic's messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from services.router.models import Broken, Prompt
from services.router.models.openai_request import schema
from soma.router.v1.routing_pb2 import Image, Message, ResponseFormat, Tool

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 4096, "high": 8192, "xhigh": 16384}
"""Tokens to think with, of models that are told so."""
LEAST_BUDGET = 1024
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
CHOICES = {"auto": "auto", "none": "none", "required": "any"}
ANY_OBJECT = {"type": "object", "additionalProperties": True}
AS_JSON = "Answer with one JSON object and nothing else: no words around it, no fence."
DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.*)", re.DOTALL)


def question(prompt: Prompt) -> dict[str, Any]:
    """All but how the answer is to be sent. Raises Broken for what the model cannot be asked."""
    tools = tools_of(prompt)
    forced = tools.get("tool_choice", {}).get("type") in ("any", "tool")
    thought = {} if forced else thinking(prompt)
    asked: dict[str, Any] = {
        **prompt.offer.options,
        **sampled(prompt, thinks="thinking" in thought),
        "model": prompt.offer.model,
        "max_tokens": prompt.max_tokens,
        "messages": list(turns(prompt)),
        **tools,
    }
    system = [m.text for m in prompt.messages if m.role == "system" and m.text]
    if shape_by(prompt) == "words":
        system.append(AS_JSON)
    if system:
        asked["system"] = "\n\n".join(system)
    if "thinking" in thought:
        asked["thinking"] = thought["thinking"]
    if output := thought.get("output_config", {}) | kept_shape(prompt):
        asked["output_config"] = output
    return asked


def turns(prompt: Prompt) -> Iterator[dict[str, Any]]:
    """Messages of the same role in a row are one; what a tool gave is said by the user."""
    role, held = "", list[dict[str, Any]]()
    for m in prompt.messages:
        if m.role == "system":
            continue
        speaker = "assistant" if m.role == "assistant" else "user"
        if speaker != role and held:
            yield {"role": role, "content": held}
            held = []
        role = speaker
        held.extend(blocks(m))
    if held:
        yield {"role": role, "content": held}


def blocks(m: Message) -> Iterator[dict[str, Any]]:
    if m.role == "tool":
        yield {"type": "tool_result", "tool_use_id": tool_id(m.tool_call_id), "content": m.text}
        return
    if m.text:
        yield {"type": "text", "text": m.text}
    for part in m.parts:
        if part.HasField("image"):
            yield {"type": "image", "source": source(part.image)}
        elif part.text:
            yield {"type": "text", "text": part.text}
    for call in m.tool_calls:
        yield {"type": "tool_use", "id": tool_id(call.id), "name": call.name, "input": given(call.arguments)}


def source(image: Image) -> dict[str, str]:
    data = DATA_URL.fullmatch(image.url)
    if data:
        return {"type": "base64", "media_type": data[1], "data": data[2]}
    return {"type": "url", "url": image.url}


def tool_id(id: str) -> str:
    """Ids of other providers may have signs that this wire refuses."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", id)


def given(arguments: str) -> dict[str, Any]:
    """The arguments as an object; what a model wrote that is none goes along as it is."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return {"arguments": arguments}


def tools_of(prompt: Prompt) -> dict[str, Any]:
    """`tools` and `tool_choice`: the request's, and one whose input is the answer where the shape is kept so."""
    tools, format = prompt.request.tools, prompt.request.response_format
    listed = [tool_in(tool, prompt) for tool in tools.tools]
    kind, _, name = tools.choice.partition(":")
    choice: dict[str, Any] = {"type": "tool", "name": name} if name else {"type": CHOICES[kind]} if kind else {}
    if shape_by(prompt) == "tool":
        shape = schema(format.schema, "the answer") if format.schema else ANY_OBJECT
        told = format.description or "Gives the answer, in this shape."
        alone = not listed or kind == "none"
        listed.append({"name": shape_tool(format), "description": told, "input_schema": shape})
        choice = {"type": "tool", "name": shape_tool(format)} if alone else choice if name else {"type": "any"}
    if not listed:
        return {}
    if choice.get("type") in ("any", "tool") and "no_forced_tools" in prompt.offer.traits:
        raise Broken(f"{prompt.offer.model} cannot be made to call a tool.", blames_model=False)
    if tools.HasField("parallel") and not tools.parallel and choice.get("type") != "none":
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return {"tools": listed} | ({"tool_choice": choice} if choice else {})


def tool_in(tool: Tool, prompt: Prompt) -> dict[str, Any]:
    shape = schema(tool.parameters, f"the tool {tool.name}") if tool.parameters else {"type": "object"}
    told: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object"} | shape}
    if tool.description:
        told["description"] = tool.description
    if tool.strict and "native_json" in prompt.offer.traits:
        told["strict"] = True
    return told


def shape_by(prompt: Prompt) -> str:
    """How the answer is made to keep to its shape: "native" where the model does so by itself, a forced "tool" whose
    input is the answer, or mere "words". Empty for text. Its own way wants schemas as strict ones are."""
    if not prompt.request.HasField("response_format"):
        return ""
    traits, format = prompt.offer.traits, prompt.request.response_format
    can_force = "no_forced_tools" not in traits
    if format.schema and "native_json" in traits and (format.strict or not can_force):
        return "native"
    return "tool" if can_force else "words"


def shape_tool(format: ResponseFormat) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", format.name)[:64] or "answer"


def kept_shape(prompt: Prompt) -> dict[str, Any]:
    if shape_by(prompt) != "native":
        return {}
    shape = schema(prompt.request.response_format.schema, "the answer")
    return {"format": {"type": "json_schema", "schema": shape}}


def thinking(prompt: Prompt) -> dict[str, Any]:
    """How long it may think. Not between a call of a tool and the answer: that would want the thoughts before the call,
    and they are not kept."""
    effort, traits = prompt.request.sampling.reasoning_effort, prompt.offer.traits
    if effort not in EFFORTS or "thinks" not in traits:
        return {}
    if "adaptive" in traits:
        told = EFFORTS[effort] if effort != "xhigh" or "xhigh" in traits else "high"
        config = {"output_config": {"effort": told}}
        return config if in_mid_call(prompt) else config | {"thinking": {"type": "adaptive", "display": "summarized"}}
    budget = min(BUDGETS[effort], prompt.max_tokens // 2)
    if budget < LEAST_BUDGET or in_mid_call(prompt):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def in_mid_call(prompt: Prompt) -> bool:
    return bool(prompt.messages) and prompt.messages[-1].role == "tool"


def sampled(prompt: Prompt, thinks: bool) -> dict[str, Any]:
    """Of temperature and top_p one may be given, and none to a model that thinks."""
    sampling = prompt.request.sampling
    stops = [stop for stop in sampling.stop if stop.strip()]
    told: dict[str, Any] = {"stop_sequences": stops} if stops else {}
    if thinks or "no_sampling" in prompt.offer.traits:
        return told
    if sampling.HasField("temperature"):
        return told | {"temperature": min(1.0, sampling.temperature)}
    return told | ({"top_p": sampling.top_p} if sampling.HasField("top_p") else {})
