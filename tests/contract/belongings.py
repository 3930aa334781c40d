"""What people have: one resource of each collection, made through the rooms, and requests about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from soma.canvas.v1.canvas_pb2 import Pane
from soma.canvas.v1.canvas_service_pb2 import CreatePaneRequest
from tests.asking import ask
from tests.contract.requests import about, name_of, nobodys, place_of, sample
from tests.contract.table import ASKER, Row
from tests.house import House, Person
from tests.sealing import seal

Ids = Mapping[str, str]
"""By collection: conversations, turns, panes, versions, events."""


async def belongings(person: Person) -> Ids:
    """A conversation with a turn, a pane and a version; the tenant's newest sealed event. A new collection is made here
    too."""
    accepted = (await ask(person, "hello"))[0].accepted
    wanted = CreatePaneRequest(parent=accepted.conversation, pane=Pane(text="x"))
    pane = await person.canvas.CreatePane(wanted, metadata=person.metadata, timeout=10)
    sealed = await person.house.rows("SELECT max(index) AS index FROM soma.audit WHERE tenant = $1", person.tenant)
    return dict(re.findall(r"(\w+)/([^/]+)", f"{accepted.turn}/{pane.name}/versions/1/events/{sealed[0]['index']}"))


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
        return known.get(whose) or nobodys(template)


async def others_of(house: House) -> Others:
    """The strangers' trail is the longer one: the newest event there is at a place that the asker's has not."""
    neighbour, stranger = house.person(name="neighbour"), house.person("globex")
    await ask(neighbour, "hello")
    for question in ("hello", "and again"):
        await ask(stranger, question)
    await seal(house)
    return Others(await belongings(neighbour), await belongings(stranger))
