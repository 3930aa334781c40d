"""The access options as Istio's AuthorizationPolicies: a file a room, and one for what holds in the whole namespace.

Istio looks at workloads alone. Roles are the room's matter: the person's token is verified there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from proto.surfaces.contract import Contract, Method

TRUST_DOMAIN, NAMESPACE = "soma.local", "soma"
OPEN_TO_EVERY_ROOM = ("/grpc.health.v1.Health/*", "/grpc.reflection.*")
"""What the guard of every room lets any room of the mesh call."""

HEAD = """\
# Made by `make gen` from the access options of proto/soma/{room}. For another trust domain or namespace:
# sed -e 's#soma\\.local/ns/soma/#my.domain/ns/mine/#; s#namespace: soma#namespace: mine#'
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: {room}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app: {room}
  action: ALLOW
  rules:
"""
NAMESPACE_WIDE = f"""\
# Made by `make gen`. In the namespace nobody is served but by mTLS, and by a policy that names the caller.
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: {NAMESPACE}
spec:
  mtls:
    mode: STRICT
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: nobody-else
  namespace: {NAMESPACE}
spec: {{}}
"""


def write_policies(gen: Path, contract: Contract) -> None:
    folder = gen / "istio"
    folder.mkdir()
    by_room: dict[str, list[Method]] = defaultdict(list)
    for method in contract.methods:
        by_room[method.room].append(method)
    for room, methods in by_room.items():
        (folder / f"{room}.yaml").write_text(policy(room, methods))
    (folder / "namespace.yaml").write_text(NAMESPACE_WIDE)


def policy(room: str, methods: list[Method]) -> str:
    """A rule for each set of callers, then what is open to every workload."""
    by_callers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for method in methods:
        by_callers[tuple(sorted(method.rule.workloads))].append(method.path)
    rules = [
        *(([account(name) for name in callers], paths) for callers, paths in sorted(by_callers.items())),
        ([account("*")], list(OPEN_TO_EVERY_ROOM)),
    ]
    body = "".join(line for principals, paths in rules for line in rule(principals, paths))
    return HEAD.format(room=room, namespace=NAMESPACE) + body


def account(workload: str) -> str:
    """A SPIFFE ID without its scheme, as Istio writes principals."""
    return f"{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{workload}"


def rule(principals: list[str], paths: list[str]) -> Iterator[str]:
    yield "  - from:\n    - source:\n        principals:\n"
    yield from (f"        - {principal}\n" for principal in principals)
    yield '    to:\n    - operation:\n        methods: ["POST"]\n        paths:\n'
    yield from (f"        - {path}\n" for path in paths)
