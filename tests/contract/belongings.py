"""What people have: one resource of each collection, made through the rooms, and requests about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from google.protobuf.message import Message

from soma.canvas.v1.canvas_pb2 import Pane
from soma.canvas.v1.canvas_service_pb2 import CreatePaneRequest
from soma.router.v1.budget_pb2 import Budget, Limit
from soma.router.v1.budget_service_pb2 import CreateBudgetRequest
from soma.router.v1.key_pb2 import Key
from soma.router.v1.key_service_pb2 import CreateKeyRequest
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.policy_service_pb2 import CreatePolicyRequest, ListPoliciesRequest
from tests.asking import ask
from tests.contract.requests import about, name_of, nobodys, place_of, sample
from tests.contract.table import ASKER, Row
from tests.house import House, Person
from tests.sealing import seal

Ids = Mapping[str, str]
"""By collection: conversations, turns, panes, versions, events, keys, policies, budgets, providers, decisions."""
FAR = 1_000_000
"""A version of a policy that no tenant comes to by counting."""


async def belongings(person: Person) -> Ids:
    """A conversation with a turn, a pane and a version; the tenant's newest sealed event; what its administrator has.
    A new collection is made here too."""
    accepted = (await ask(person, "hello"))[0].accepted
    wanted = CreatePaneRequest(parent=accepted.conversation, pane=Pane(text="x"))
    pane = await person.canvas.CreatePane(wanted, metadata=person.metadata, timeout=10)
    sealed = await person.house.rows("SELECT max(index) AS index FROM soma.audit WHERE tenant = $1", person.tenant)
    governed = "/".join([await a_key(person), await a_policy(person), await a_budget(person), "providers/openai"])
    trail = f"versions/1/events/{sealed[0]['index']}"
    decision = f"decisions/{await decided(person, accepted.turn)}"
    return dict(re.findall(r"(\w+)/([^/]+)", f"{accepted.turn}/{pane.name}/{trail}/{governed}/{decision}"))


async def a_key(person: Person) -> str:
    admin = person.house.person(person.tenant, "admin", ("admin",))
    wanted = CreateKeyRequest(key=Key(person=person.name))
    return str((await admin.keys.CreateKey(wanted, metadata=admin.metadata, timeout=10)).name)


async def a_budget(person: Person) -> str:
    admin = person.house.person(person.tenant, "admin", ("admin",))
    wanted = Budget(scope="task", of=str(uuid4()), window="total", limit=Limit(requests=1))
    made = await admin.budgets.CreateBudget(CreateBudgetRequest(budget=wanted), metadata=admin.metadata, timeout=10)
    return str(made.name)


async def decided(person: Person, turn: str) -> str:
    """Which decision the turn's answer came from."""
    rows = await person.house.rows(f"SELECT id FROM t_{person.tenant}.decisions WHERE turn = $1", turn)
    return str(rows[0]["id"])


async def a_policy(person: Person) -> str:
    """The tenant's newest, made if there is none but the one built in."""
    admin = person.house.person(person.tenant, "admin", ("admin",))
    newest = ListPoliciesRequest(page_size=1)
    found = (await admin.policies.ListPolicies(newest, metadata=admin.metadata, timeout=10)).policies[0]
    if found.name == "policies/0":
        wanted = CreatePolicyRequest(policy=Policy())
        found = await admin.policies.CreatePolicy(wanted, metadata=admin.metadata, timeout=10)
    return str(found.name)


async def go_far(house: House, tenant: str) -> None:
    """Number the tenant's next policy far above any other tenant's."""
    await house.rows(
        "INSERT INTO soma.policies (tenant, version, body, digest, author, note) "
        "VALUES ($1, $2, '', sha256(''), 'a test', '') ON CONFLICT DO NOTHING", tenant, FAR
    )  # fmt: skip


@dataclass(frozen=True)
class Others:
    """What those have who do not ask."""

    neighbours: Ids
    strangers: Ids

    async def request(self, house: House, row: Row, whose: str = "") -> Message:
        """A request of the row's method about a resource of that person: the row's, if nobody is named."""
        request, place = sample(row.descriptor.input_type), place_of(row.descriptor)
        if place is None:
            return request
        path, template = place
        ids = await self.ids(house, whose or row.resource, template)
        return about(request, path, name_of(template, ids))

    async def ids(self, house: House, whose: str, template: str) -> Ids:
        if whose == "own":
            return await belongings(house.person(name=ASKER))
        known = {"another person's": self.neighbours, "another tenant's": self.strangers}
        if whose == "another person's" and template == "budgets/*":  # which may be deleted by whoever may see it
            return {"budgets": (await a_budget(house.person(name="neighbour"))).removeprefix("budgets/")}
        return known.get(whose) or nobodys(template)


async def others_of(house: House) -> Others:
    """The strangers' trail is the longer one: the newest event there is at a place that the asker's has not. So it is
    with their policies."""
    neighbour, stranger = house.person(name="neighbour"), house.person("globex")
    await ask(neighbour, "hello")
    for question in ("hello", "and again"):
        await ask(stranger, question)
    await seal(house)
    await go_far(house, stranger.tenant)
    return Others(await belongings(neighbour), await belongings(stranger))
