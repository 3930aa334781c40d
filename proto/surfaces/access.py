"""The deny table: who is answered what, for every RPC x workload x role x whose resource it asks for.

A row holds for all that its stars stand for: an earlier check has decided. tests/contract asks the real rooms.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from proto.surfaces.contract import Contract, Method
from proto.surfaces.reasons import Reason, catalogue, not_found

ANY, NOBODY, OTHER = "*", "none", "other"
STRANGER = "stranger"
"""A workload of the trust domain that no method names."""
FOREIGN = ("another person's", "another tenant's", "nobody's")
"""From the nearest to the farthest."""


class Row(NamedTuple):
    """One line of gen/access.csv."""

    method: str
    workload: str
    role: str
    """A role of the contract, `other` for any that is not in it, `none` for a call without a token."""
    resource: str
    """Whose: own, another person's, another tenant's, nobody's; or the caller's tenant is not served."""
    answer: str
    """OK, or the reason of the refusal."""


def write_table(gen: Path, contract: Contract) -> None:
    with (gen / "access.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(table(contract))


def table(contract: Contract) -> Iterator[Row]:
    workloads = sorted({*contract.rooms, STRANGER, *(w for m in contract.methods for w in m.rule.workloads)})
    roles = [*sorted({role for method in contract.methods for role in method.rule.roles}), OTHER]
    known = catalogue(contract)
    for method in contract.methods:
        for workload in workloads:
            yield from (Row(method.path, workload, *rest) for rest in answers(method, workload, roles, known))


def answers(
    method: Method, workload: str, roles: list[str], known: Mapping[str, Reason]
) -> Iterator[tuple[str, str, str]]:
    """In the order of the guard: the workload, the token, the role, then the room."""
    if workload not in method.rule.workloads:
        yield ANY, ANY, "WORKLOAD_REFUSED"
        return
    if method.rule.public:
        yield ANY, ANY, "OK"
        return
    yield NOBODY, ANY, "TOKEN_REFUSED"
    for role in roles:
        if role in method.rule.roles:
            yield from ((role, resource, answer) for resource, answer in in_the_room(method, known))
        else:
            yield role, ANY, "ROLE_REFUSED"


def in_the_room(method: Method, known: Mapping[str, Reason]) -> Iterator[tuple[str, str]]:
    yield "own", "OK"
    if unknown := not_found(method, known):
        nearest = next((n for n, whose in enumerate(FOREIGN) if f"also for {whose}" in known[unknown].means), None)
        if nearest is not None:
            yield from ((resource, "OK") for resource in FOREIGN[:nearest])
            yield from ((resource, unknown) for resource in FOREIGN[nearest:])
    yield "tenant not served", "TENANT_UNKNOWN"


def check_options(contract: Contract) -> None:
    """Exit with a sentence for each method that does not say who may call it."""
    if faults := [fault for method in contract.every_method for fault in faults_of(method)]:
        sys.exit("\n".join(faults))


def faults_of(method: Method) -> Iterator[str]:
    if not method.rule.workloads:
        yield f"{method.descriptor.full_name}: no workload may call it. Add option (soma.common.v1.access)."
    elif bool(method.rule.roles) == method.rule.public:
        yield f"{method.descriptor.full_name}: say either which roles may call it or that it is public."
