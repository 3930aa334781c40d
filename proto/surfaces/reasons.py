"""Which refusals a method answers with: what its comment names, its rules and fields bring, and its guards say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor

from proto.surfaces.contract import Contract, Method, singular
from proto.surfaces.rules import rules_of
from soma.common.v1.error_reason_pb2 import ErrorReason

PREFIX = "ERROR_REASON_"
AT_THE_EDGE = ("REQUEST_MALFORMED", "PATH_UNKNOWN", "ROOM_UNAVAILABLE")
FIELDS = {"request_id": "REQUEST_ID_REUSED", "page_token": "PAGE_TOKEN_INVALID"}


@dataclass(frozen=True, slots=True)
class Reason:
    """An entry of the catalogue."""

    name: str
    status: int
    """HTTP's; 0 for one that is told in band only."""
    means: str
    """What the catalogue says behind the status."""
    example: str


def catalogue(contract: Contract) -> Mapping[str, Reason]:
    """Every reason but UNSPECIFIED, from the comments of error_reason.proto."""
    enum = ErrorReason.DESCRIPTOR
    found = (
        read_reason(v.name.removeprefix(PREFIX), contract.comments[f"{enum.full_name}.{v.name}"])
        for v in enum.values
        if v.number
    )
    return {reason.name: reason for reason in found}


def read_reason(name: str, comment: str) -> Reason:
    """`ERROR_REASON_X: 404, also for another person's. Example: conversations/x.`"""
    says = comment.partition(": ")[2]
    means, _, example = says.partition(" Example: ")
    status = re.match(r"\d{3}", means)
    return Reason(name, int(status[0]) if status else 0, means, example)


def reasons_of(method: Method, known: Mapping[str, Reason], *, by_body: bool) -> list[Reason]:
    """In the catalogue's order, those that HTTP can tell."""
    names = {*named(method), *AT_THE_EDGE, *of_request(method.request), "UNEXPECTED"}
    if by_body:
        names.add("BODY_TOO_LARGE")
    if not method.rule.public:
        names |= {"TOKEN_REFUSED", "ROLE_REFUSED", "TENANT_UNKNOWN", "STORE_UNAVAILABLE"}
    if not method.descriptor.server_streaming:
        names.add("DEADLINE_EXCEEDED")
    return [reason for reason in known.values() if reason.name in names and reason.status]


def named(method: Method) -> set[str]:
    """The reasons that the method's comment promises."""
    return set(re.findall(r"\b[A-Z][A-Z_]+[A-Z]\b", method.says)) & {
        name.removeprefix(PREFIX) for name in ErrorReason.DESCRIPTOR.values_by_name
    }


def of_request(message: Descriptor) -> Iterator[str]:
    """What the rules of the request refuse with, and fields that every method treats alike."""
    for field in message.fields:
        rules = rules_of(field)
        yield from (rule.id for rule in rules.cel)
        if rules.ListFields():
            yield "REQUEST_INVALID"
        if field.name in FIELDS:
            yield FIELDS[field.name]
        if field.message_type and field.message_type.full_name.startswith("soma."):
            yield from of_request(field.message_type)


def not_found(method: Method, known: Mapping[str, Reason]) -> str:
    """What the method says of a resource that is not there or not the caller's. Empty where there is none to ask for,
    and where only rooms ask: the one that admitted the person has looked whose it is.

    Exits when a path names a resource and the comment does not say how it is refused.
    """
    promised = sorted(name for name in named(method) if known[name].status == 404)
    for binding in method.bindings:
        if binding.collections and (due := f"{singular(binding.collections[-1]).upper()}_UNKNOWN") not in promised:
            raise SystemExit(f"{method.descriptor.full_name}: say in its comment that it refuses with {due}.")
    return promised[0] if promised and method.bindings else ""
