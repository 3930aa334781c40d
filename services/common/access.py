"""Who may call a method: its option in the contract, read once."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pool

from services.common.caller import Caller
from services.common.errors import Denied
from soma.common.v1.access_pb2 import access

OPEN_TO_EVERY_ROOM = ("/grpc.health.v1.Health/", "/grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Rule:
    """The access option of one method. No workloads: any of the trust domain."""

    method: str
    workloads: frozenset[str]
    roles: frozenset[str]
    action: str
    public: bool
    token_grace_s: int
    api_keys: bool = False
    """An API key may stand for the person's token."""

    def check_workload(self, service_account: str) -> None:
        """Raise Denied WORKLOAD_REFUSED unless that room may call."""
        if self.workloads and service_account not in self.workloads:
            may = ", ".join(sorted(self.workloads))
            raise Denied("WORKLOAD_REFUSED", f"{service_account} may not call {self.method}; {may} may.")

    def check_roles(self, caller: Caller) -> None:
        """Raise Denied ROLE_REFUSED unless one of the person's roles may call."""
        if not self.roles & caller.roles:
            need = " or ".join(sorted(self.roles))
            raise Denied("ROLE_REFUSED", f"This needs the role {need}. Ask an admin of your tenant for it.")


def rule_of(path: str) -> Rule:
    """The rule of "/package.Service/Method". LookupError for a method without one: it must not be served."""
    if path.startswith(OPEN_TO_EVERY_ROOM):
        return Rule(path, frozenset(), frozenset(), "", public=True, token_grace_s=0)
    service, _, method = path.lstrip("/").partition("/")
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    option = descriptor.GetOptions().Extensions[access]
    if not option.workloads:
        raise LookupError(f"{path} does not say who may call it")
    return Rule(
        method=path,
        workloads=frozenset(option.workloads),
        roles=frozenset(option.roles),
        action=option.audit,
        public=option.public,
        token_grace_s=option.token_grace_s,
        api_keys=option.api_keys,
    )
