"""The fuzz in its house: people with things of their own, calls that are judged and counted, what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf import text_format

from services.common import schema
from tests.fuzz.calls import ALL, TRACES, Outcome, call, each
from tests.fuzz.governed import furnish_governed
from tests.fuzz.methods import Method, forms, served_methods
from tests.fuzz.rubbish import parses
from tests.fuzz.tally import Tally
from tests.fuzz.values import Values
from tests.fuzz.world import World, furnish
from tests.house import ROOMS, House, Person

METHODS = served_methods()
FORMS = forms(METHODS)
STILL_S = 20.0
TABLES = """
SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables
WHERE table_schema IN ('soma', 't_acme', 't_globex', 't_governed') AND table_type = 'BASE TABLE'
    AND table_name <> 'ledgers' ORDER BY 1
"""
"""All but that in which the router notes when it let go of holds, which it does by itself."""
CONTENT = "SELECT '{0}' AS name, md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM {0} AS t"


@dataclass(frozen=True, slots=True)
class Fuzz:
    house: House
    tally: Tally
    worlds: dict[tuple[str, str], World] = field(default_factory=dict)

    async def seat(self, method: Method) -> tuple[Person, Values]:
        """Somebody with things of their own, and a stranger with others. Those who only read share theirs. Who governs
        has a tenant for it: what they do there bounds nobody else."""
        name = "reader" if method.reads else f"writer-{method}".lower()
        tenant = "acme" if not method.governs else "governed" if method.reads else f"governed_{method}".lower()
        person = self.house.person(tenant, name, (method.role,))
        mine, theirs = await self._world(person), await self._world(self.house.person(name="stranger"))
        return person, Values(method, FORMS, mine, theirs)

    async def _world(self, person: Person) -> World:
        place = person.tenant, person.name
        if place not in self.worlds:
            self.worlds[place] = await self._furnished(*place)
        return self.worlds[place]

    async def _furnished(self, tenant: str, name: str) -> World:
        if tenant == "acme":
            return await furnish(self.house.person(name=name))
        await schema.add_tenant(self.house.admin_url, tenant, ROOMS)
        return await furnish_governed(self.house.person(tenant, name, ("admin",)))

    async def try_all(self, person: Person, method: Method, bodies: Iterable[bytes]) -> list[tuple[bytes, Outcome]]:
        """Every call is judged; the complaints come together at the end. Of every third stream all is read."""
        outcomes: list[tuple[bytes, Outcome]] = []

        async def one(numbered: tuple[int, bytes]) -> None:
            n, body = numbered
            outcome = await call(person, method, body, TRACES[n % len(TRACES)], (ALL, 1, 0)[n % 3])
            self.tally.count(method, outcome.reason, outcome.took_s)
            outcomes.append((body, outcome))

        await each(enumerate(bodies), one)
        complaints = [f"{o.complaint}\n  {shown(method, body)}" for body, o in outcomes if o.complaint]
        assert not complaints, f"{len(complaints)} of {len(outcomes)}:\n" + "\n".join(complaints[:12])
        return outcomes

    async def still(self) -> None:
        """Wait until no turn runs any more."""
        async with asyncio.timeout(STILL_S):
            while await self.house.rows("SELECT FROM soma.leases"):
                await asyncio.sleep(0.05)

    async def rows(self) -> Mapping[str, str]:
        """A fingerprint of each table."""
        tables = [row["name"] for row in await self.house.rows(TABLES)]
        found = await self.house.rows(" UNION ALL ".join(map(CONTENT.format, tables)))
        return {row["name"]: row["md5"] for row in found}

    def faults(self) -> list[str]:
        """What the rooms' logs say of faults that nobody foresaw."""
        logs = ((room, (self.house.folder / f"{room}.log").read_text().splitlines()) for room in self.house.rooms)
        return [f"{room}: {line[:2000]}" for room, lines in logs for line in lines if is_fault(line)]


FORESEEN = ("model broke", "an SLO is missed")


def is_fault(line: str) -> bool:
    """What is foreseen is none: a model that breaks, since it is told to in tests, and a busy machine's delays."""
    words = ("unexpected", "Traceback", " broke", "never retrieved", '"level": "error"', "never awaited")
    foreseen = any(event in line for event in FORESEEN)
    return not foreseen and any(word in line for word in words)


def shown(method: Method, body: bytes) -> str:
    """A request for whoever wants to send it again."""
    text = ""
    if parses(method.request, body):
        text = text_format.MessageToString(method.request.FromString(body), as_one_line=True)[:600]
    return f"{method.path} {text or 'no message'} = bytes.fromhex('{body.hex()[:600]}'){'…' if len(body) > 300 else ''}"
