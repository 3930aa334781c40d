"""What a policy's row says, or that it is corrupt. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from services.common.errors import Invalid
from services.common.validation import check
from services.router.policies.rules import Rules
from soma.router.v1.policy_pb2 import Policy

CORRUPT_NOTE = "This version is corrupt and is not used."
PREFIX = "policies/"
DIGITS = 9


class Corrupt(Exception):  # noqa: N818 - a sentence for the log
    """A row that cannot be used. Its text says why."""


class Row(Protocol):
    """A row of soma.policies, by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any: ...


class Unlearned(Corrupt):
    """Its learned part alone cannot be used."""

    def __init__(self, why: str, policy: Policy) -> None:
        super().__init__(why)
        self.rules = Rules(policy)
        """All that it says besides: what it closes stays closed."""


Check = Callable[[bytes], object]
"""Raises ValueError for a learned part that cannot be read."""


def rules_of(row: Row, check_learned: Check) -> Rules:
    """Raises Corrupt, and Unlearned where the rules hold all the same."""
    policy = policy_of(row)
    learned = row["learned_body"]
    if row["learned"] is None:
        return Rules(policy)
    if learned is None or hashlib.sha256(learned).digest() != row["learned"]:
        raise Unlearned("Its learned part is missing, or was altered.", policy)
    try:
        check_learned(learned)
    except ValueError as fault:
        raise Unlearned(f"Its learned part cannot be read: {fault}", policy) from fault
    return Rules(policy, learned)


def policy_of(row: Row) -> Policy:
    """The policy with what the other columns say. Raises Corrupt, also for what would not be taken from a person."""
    if hashlib.sha256(row["body"]).digest() != row["digest"]:
        raise Corrupt("Its body is not what was written.")
    try:
        policy = Policy.FromString(row["body"])
        check(with_columns(policy, row))
    except DecodeError as fault:
        raise Corrupt("Its body is no policy.") from fault
    except Invalid as fault:
        raise Corrupt(fault.message) from fault
    return policy


def shown(row: Row) -> Policy:
    """For people: of a corrupt one what its columns say."""
    try:
        return policy_of(row)
    except Corrupt:
        policy = with_columns(Policy(), row)
        policy.note = CORRUPT_NOTE
        return policy


def with_columns(policy: Policy, row: Row) -> Policy:
    made: datetime = row["create_time"]
    policy.name, policy.author, policy.note = name_of(row["version"]), row["author"], row["note"]
    policy.learned = row["learned"].hex() if row["learned"] else ""
    policy.create_time.FromDatetime(made)
    return policy


def name_of(version: int) -> str:
    return f"{PREFIX}{version}"


def version_of(name: str) -> int | None:
    """None for what names no version."""
    number = name.removeprefix(PREFIX)
    plain = name.startswith(PREFIX) and number.isascii() and number.isdecimal() and len(number) <= DIGITS
    return int(number) if plain and number == str(int(number)) else None
