"""What OpenAI's clients send, as far as it is understood here. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.common.errors import Invalid
from services.router.front.errors import wrong

T = TypeVar("T")
PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
NOTHING = msgspec.Raw(b"")
Count = Annotated[int, Meta(ge=1, le=2**31)]


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class System(Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]


class Developer(Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]


class User(Struct, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart]


class CalledFunction(Struct):
    name: str
    arguments: str


class Called(Struct, tag_field="type", tag="function"):
    id: str
    function: CalledFunction


class Assistant(Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[Called] | None = None
    function_call: Any = None
    audio: Any = None


class ToolAnswer(Struct, tag_field="role", tag="tool"):
    content: str | list[TextPart]
    tool_call_id: str


Said = System | Developer | User | Assistant | ToolAnswer


class Function(Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NOTHING
    strict: bool | None = None


class FunctionTool(Struct, tag_field="type", tag="function"):
    function: Function


class Named(Struct):
    name: str


class OneTool(Struct, tag_field="type", tag="function"):
    function: Named


class Schema(Struct):
    name: str
    schema: msgspec.Raw = NOTHING
    description: str | None = None
    strict: bool | None = None


class Text(Struct, tag_field="type", tag="text"):
    pass


class JsonObject(Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchema(Struct, tag_field="type", tag="json_schema"):
    json_schema: Schema


class StreamOptions(Struct):
    include_usage: bool | None = None


class Chat(Struct):
    """A chat completion's request. What is not here is ignored: it changes nothing that is said or paid."""

    model: str
    messages: Annotated[list[Said], Meta(min_length=1, max_length=4096)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | OneTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Text | JsonObject | JsonSchema | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, str] | None = None
    n: int | None = None
    # Understood, and refused: see UNSUPPORTED.
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    modalities: Any = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    verbosity: Any = None


UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "n": (1, "One answer a call is made here. Ask several times for several."),
    "logprobs": (False, "Probabilities of tokens are not told here. Leave it out."),
    "top_logprobs": (0, "Probabilities of tokens are not told here. Leave it out."),
    "logit_bias": ({}, "Tokens cannot be weighed here. Leave it out."),
    "modalities": (["text"], "Only text is answered here."),
    "audio": (None, "Only text is answered here. Leave it out."),
    "functions": ([], "Functions are called tools now. Send them as `tools`."),
    "function_call": (None, "Functions are called tools now. Send it as `tool_choice`."),
    "web_search_options": (None, "No model searches the web here. Leave it out."),
    "verbosity": ("medium", "It cannot be set here. Leave it out."),
}
"""Fields that would change the answer: the one value, beside none, that asks for what is done anyway; what to do."""


class Embedding(Struct):
    """An embedding's request."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None


read_chat = msgspec.json.Decoder(Chat).decode
read_embedding = msgspec.json.Decoder(Embedding).decode


def parse(read: Any, body: bytes) -> Any:
    """The request that the bytes are. Raises Invalid, which names the field where one is to blame."""
    if not body.strip():
        raise Invalid("REQUEST_MALFORMED", "The body is empty. Send a JSON object.")
    try:
        return read(body)
    except msgspec.ValidationError as fault:
        place = PLACE.search(str(fault))
        said = PLACE.sub("", str(fault))
        raise wrong(".".join(filter(None, (place[1] if place else "", missing(said)))), f"{said}.") from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Invalid("REQUEST_MALFORMED", f"The body is no JSON: {fault}. Correct it.") from fault


def missing(said: str) -> str:
    """The field that a request lacks."""
    found = re.search(r"missing required field `(\w+)`", said)
    return found[1] if found else ""
