"""The one door to protovalidate: a request that breaks a rule of its proto is refused in words."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from services.common.errors import CATALOGUE, Invalid


def check(request: Message) -> None:
    """Raise Invalid for the first broken rule: with the rule's id if that is a reason of ours, else REQUEST_INVALID."""
    try:
        protovalidate.validate(request)
    except protovalidate.ValidationError as fault:
        broken = fault.violations[0].proto
        field = ".".join(element.field_name for element in broken.field.elements) if broken.field else ""
        if broken.rule_id in CATALOGUE:
            raise Invalid(broken.rule_id, broken.message, field=field) from fault
        raise Invalid("REQUEST_INVALID", f"The field {field} is wrong: {broken.message}.", field=field) from fault
