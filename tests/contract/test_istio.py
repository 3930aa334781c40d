"""gen/istio admits exactly whom the rooms' own guard admits, read by an evaluator that knows Istio's rules alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from services.common.access import OPEN_TO_EVERY_ROOM, rule_of
from services.common.errors import Denied
from services.common.identity import peer_of, service_account
from services.local.workload.ca import Lives, issue, new_root
from tests.contract.requests import DESCRIPTORS, services
from tests.contract.table import METHODS
from tests.house import ROOMS, TRUST_DOMAIN

Policy = Mapping[str, Any]
FOLDER = DESCRIPTORS.with_name("istio")
NAMES = (*ROOMS, "edge", "local", "console", "stranger", "edge2", "Edge")
OURS = tuple(f"spiffe://{TRUST_DOMAIN}/ns/soma/sa/{name}" for name in NAMES)
ELSEWHERE = tuple(f"spiffe://{TRUST_DOMAIN}/ns/{ns}/sa/{name}" for ns in ("default", "soma2") for name in NAMES)
FOREIGN = (
    *(f"spiffe://{domain}/ns/soma/sa/edge" for domain in ("other.local", f"x{TRUST_DOMAIN}", f"{TRUST_DOMAIN}.evil")),
    "spiffe://other.local/ns/soma.local/ns/soma/sa/edge",
    "",
)
EVERY_METHOD = [f"/{service.full_name}/{method.name}" for service in services() for method in service.methods]
OPEN = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/Info")


@dataclass(frozen=True)
class Mesh:
    """The policies of a namespace, as Istio reads them: https://istio.io/latest/docs/reference/config/security."""

    policies: tuple[Policy, ...]

    def admits(self, app: str, principal: str, path: str, verb: str = "POST") -> bool:
        """Some ALLOW policy on the workload must match; where there is none, everybody would be let in."""
        on_it = [
            policy["spec"]
            for policy in self.policies
            if policy["kind"] == "AuthorizationPolicy" and selects(policy, app)
        ]
        assert all(spec.get("action", "ALLOW") == "ALLOW" for spec in on_it)
        return not on_it or any(
            matches(rule, principal, path, verb) for spec in on_it for rule in spec.get("rules", [])
        )


def selects(policy: Policy, app: str) -> bool:
    labels = policy["spec"].get("selector", {}).get("matchLabels", {})
    assert set(labels) <= {"app"}
    return bool(labels.get("app", app) == app)


def matches(rule: Policy, principal: str, path: str, verb: str) -> bool:
    """One of `from` and one of `to`; inside of each, every field."""
    assert set(rule) == {"from", "to"}
    return any(fits(source["source"], principals=principal) for source in rule["from"]) and any(
        fits(operation["operation"], methods=verb, paths=path) for operation in rule["to"]
    )


def fits(wanted: Policy, **is_: str) -> bool:
    assert set(wanted) <= set(is_), "a field that this evaluator does not know"
    return all(any(like(pattern, is_[field]) for pattern in patterns) for field, patterns in wanted.items())


def like(pattern: str, value: str) -> bool:
    """Exact, `prefix*`, `*suffix`, or `*` for anything that is there."""
    if pattern == "*":
        return value != ""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def policies() -> Iterator[Policy]:
    for file in sorted(FOLDER.iterdir()):
        yield from yaml.safe_load_all(file.read_text())


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh(tuple(policies()))


def lets_in(spiffe_id: str, path: str) -> bool:
    """What the guard of a room says: services/common/identity.py, then services/common/access.py."""
    shown = {"peer_spiffe_id": [spiffe_id.encode()], "x509_pem_cert": [certificate(spiffe_id)]} if spiffe_id else {}
    try:
        rule_of(path).check_workload(service_account(peer_of(shown, TRUST_DOMAIN, "soma")))
    except Denied:
        return False
    return True


@cache
def certificate(spiffe_id: str) -> bytes:
    now = datetime.now(UTC)
    root = new_root(TRUST_DOMAIN, Lives(timedelta(hours=1), timedelta(days=1)), now)
    return issue(root, spiffe_id, f"x.{TRUST_DOMAIN}", timedelta(minutes=5), now).leaf.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("room", ROOMS)
def test_istio_and_the_guard_agree_on_every_method_and_workload(mesh: Mesh, room: str) -> None:
    for path in [method for method in METHODS if method.split(".")[1] == room] + list(OPEN):
        for spiffe_id in (*OURS, *ELSEWHERE, *FOREIGN):
            assert mesh.admits(room, principal_of(spiffe_id), path) == lets_in(spiffe_id, path), (spiffe_id, path)


def test_a_room_admits_nobody_to_methods_of_other_rooms_or_of_none(mesh: Mesh) -> None:
    for room in ROOMS:
        others = [path for path in EVERY_METHOD if path.split(".")[1] != room]
        for path in (*others, "/", "/x", f"{METHODS[0]}2", "/metrics"):
            assert not any(mesh.admits(room, principal_of(spiffe_id), path) for spiffe_id in OURS)


def test_nothing_else_in_the_namespace_admits_anybody(mesh: Mesh) -> None:
    assert not mesh.admits("postgres", principal_of(OURS[0]), "/")
    (strict,) = [policy for policy in mesh.policies if policy["kind"] == "PeerAuthentication"]
    assert strict["spec"] == {"mtls": {"mode": "STRICT"}}


def test_other_verbs_than_grpcs_are_refused(mesh: Mesh) -> None:
    for path in METHODS:
        assert not mesh.admits(path.split(".")[1], principal_of(OURS[3]), path, verb="GET")


def test_what_is_open_to_every_room_is_the_same_in_both(mesh: Mesh) -> None:
    for prefix in OPEN_TO_EVERY_ROOM:
        assert all(mesh.admits(room, principal_of(OURS[0]), f"{prefix}x") for room in ROOMS)


def test_every_room_has_its_policy_and_nothing_else_has() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {*ROOMS, "namespace"}


def principal_of(spiffe_id: str) -> str:
    """As Istio writes it: without the scheme. Empty for a caller without a certificate."""
    return spiffe_id.removeprefix("spiffe://")
