"""Requests that break exactly one rule of the contract, each rule at its edge."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import protovalidate
from google.protobuf.message import Message

from services.common.errors import CATALOGUE
from tests.fuzz.least import item, least
from tests.fuzz.methods import Descriptor, FieldDescriptor, rules_of
from tests.fuzz.text import MISSING
from tests.fuzz.values import BYTES_AT_MOST

DEEP = 4
LETTERS = ("a", "é", "😀", "\u0301")


@dataclass(frozen=True, slots=True)
class Breach:
    """One way to break one rule. `field` is how a refusal names it."""

    field: str
    rule: str
    spoil: Callable[[Message], None]

    def __str__(self) -> str:
        return f"{self.field} {self.rule}"

    def of(self, request: Message) -> Message:
        """A copy of a request that keeps all rules, with this one broken."""
        spoiled = type(request)()
        spoiled.CopyFrom(request)
        self.spoil(spoiled)
        return spoiled


def breaches(kind: Descriptor, path: tuple[str, ...] = ()) -> Iterator[Breach]:
    """Every rule of a message and of the messages in it. LookupError for a rule that nobody here can break."""
    for field in kind.fields:
        here = (*path, field.name)
        for rule, value in told(field):
            for spoil in spoilers(rule, value, field):
                yield Breach(".".join(here), rule, at(path, spoil))
        if field.message_type and field.message_type.full_name.startswith("soma.") and len(path) < DEEP:
            yield from breaches(field.message_type, here)


def told(field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    """A field's rules by name, "string.max_len", with what each says."""
    for rule, value in rules_of(field).ListFields():
        if rule.name == "cel":
            yield from (("cel", one.expression) for one in value)
        elif rule.name == "repeated" and value.HasField("items"):
            yield from (
                (f"repeated.{inner.name}", bound) for inner, bound in value.ListFields() if inner.name != "items"
            )
            kind = str(value.items.WhichOneof("type"))
            yield from (
                (f"items.{kind}.{inner.name}", bound) for inner, bound in getattr(value.items, kind).ListFields()
            )
        elif rule.message_type:
            yield from ((f"{rule.name}.{inner.name}", bound) for inner, bound in value.ListFields())
        else:
            yield rule.name, value


def spoilers(rule: str, bound: Any, field: FieldDescriptor) -> Iterator[Callable[[Message], None]]:
    """What to do with the message that holds the field."""
    name = field.name
    if rule == "required":
        yield lambda message: message.ClearField(name)
    elif rule == "repeated.min_items":
        yield lambda message: shorten(getattr(message, name), bound - 1)
    elif rule == "repeated.max_items":
        yield lambda message: lengthen(getattr(message, name), bound + 1, item(field))
    elif rule.startswith("items."):
        for bad in spoiled_values(rule.removeprefix("items."), bound):
            yield lambda message, bad=bad: refill(getattr(message, name), bad)  # type: ignore[misc]
    else:
        for bad in spoiled_values(rule, bound):
            yield lambda message, bad=bad: setattr(message, name, bad)  # type: ignore[misc]


def spoiled_values(rule: str, bound: Any) -> Iterable[Any]:
    if rule == "cel":
        return by_expression(bound)
    way = SPOILED.get(rule)
    if way is None:
        raise LookupError(f"teach tests/fuzz/breaches.py to break {rule}")
    return way(bound)


def by_expression(expression: str) -> Iterable[str]:
    """CEL in the two forms that the contract uses."""
    if expression == "this != ''":
        return [""]
    if sizes := BYTES_AT_MOST.fullmatch(expression):
        most = int(sizes[1])
        return [letter * (most // len(letter.encode())) + letter for letter in LETTERS]
    raise LookupError(f"teach tests/fuzz/breaches.py to break {expression}")


def beside(choices: Iterable[str]) -> list[str]:
    """Nearly one of the choices."""
    near = [
        changed
        for c in choices
        if c
        for changed in (c.upper(), f"{c} ", f" {c}", f"{c}\n", f"{c}\0", c[:-1], f"{c}\u200b")
    ]
    return [text for text in [*near, "x" * 9999, "ﬁ"] if text not in choices]


def unlike(pattern: str) -> list[str]:
    """Text that surely misses an anchored pattern of plain characters."""
    candidates = ("\n", "a\n", "\0", "é", "a b", "a" * 5000, "١", "a;b", "$", "\u202ea", "")
    return [text for text in candidates if not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text)]


NO_UUIDS = (
    "", "x", MISSING[:-1], f"{MISSING}0", f"{{{MISSING}}}", MISSING.replace("-", ""), f"{MISSING}\n", "\0",
    f"urn:uuid:{MISSING}", MISSING.replace("0", "٠"),
)  # fmt: skip
SPOILED: dict[str, Callable[[Any], Iterable[Any]]] = {
    "string.min_len": lambda least: [letter * (least - 1) for letter in LETTERS[: 1 if least == 1 else 4]],
    "string.max_len": lambda most: [letter * (most + 1) for letter in LETTERS],
    "string.in": beside,
    "string.pattern": unlike,
    "string.uuid": lambda _: NO_UUIDS,
    "int32.gte": lambda least: [least - 1, -(2**31)],
    "int32.lte": lambda most: [most + 1, 2**31 - 1],
    "uint32.gte": lambda least: [least - 1],
    "uint32.lte": lambda most: [most + 1, 2**32 - 1],
    "int64.gte": lambda least: [least - 1, -(2**63)],
    "int64.lte": lambda most: [most + 1, 2**63 - 1],
    "double.gte": lambda least: [math.nextafter(least, -math.inf), -math.inf, math.nan],
    "double.lte": lambda most: [math.nextafter(most, math.inf), math.inf, math.nan],
}  # fmt: skip


def at(path: tuple[str, ...], spoil: Callable[[Message], None]) -> Callable[[Message], None]:
    """Do it to the message at a path: of a list to the first, of what is absent to a new one that keeps the rules."""

    def deep(message: Message) -> None:
        for name in path:
            inner, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
            if field.is_repeated:
                inner = inner[0] if inner else added(inner, least(field.message_type))
            elif not message.HasField(name):
                inner.CopyFrom(least(field.message_type))
            message = inner
        message.SetInParent()
        spoil(message)

    return deep


def added(items: Any, one: Message) -> Message:
    items.append(one)
    first: Message = items[0]
    return first


def shorten(items: Any, size: int) -> None:
    del items[size:]


def lengthen(items: Any, size: int, one: Any) -> None:
    """That many of the one thing."""
    refill(items, one)
    items.extend([one] * (size - 1))


def refill(items: Any, bad: object) -> None:
    del items[:]
    items.append(bad)


def broken_by(request: Message) -> list[tuple[str, str]]:
    """Field and reason of each rule that a request breaks, as protovalidate sees it here."""
    found = []
    for violation in protovalidate.collect_violations(request):
        elements = violation.proto.field.elements if violation.proto.field else []
        field = ".".join(element.field_name for element in elements)
        found.append((field, violation.proto.rule_id if violation.proto.rule_id in CATALOGUE else "REQUEST_INVALID"))
    return found
