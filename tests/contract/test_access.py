"""The deny table asked of the real rooms: every RPC x workload x role x whose resource it is about."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import pytest_asyncio

from services.common.errors import Refusal
from services.common.validation import check
from tests.contract.belongings import Others, belongings, others_of
from tests.contract.requests import about, name_of, place_of, sample, services
from tests.contract.table import ASKER, METHODS, TABLE, Row, answer, refusal_of, tokens
from tests.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=events/)[0-9]+|(?<=policies/)[0-9]+")
MISSING = [row for row in TABLE if row.resource == "nobody's"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def others(house: House) -> Others:
    return await others_of(house)


async def test_the_table_holds_every_method_that_is_served(house: House) -> None:
    ours = [service for service in services() if service.full_name.split(".")[1] in house.rooms]
    assert sorted(METHODS) == sorted(f"/{s.full_name}/{m.name}" for s in ours for m in s.methods)


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_each_row_of_the_table_is_what_the_room_answers(house: House, others: Others, row: Row) -> None:
    request = await others.request(house, row)
    check(request)
    for metadata in tokens(house, row):
        assert await answer(house, row, metadata, request) == row.answer


@pytest.mark.parametrize("row", MISSING, ids=str)
async def test_what_is_not_yours_looks_as_if_it_were_not_there(house: House, others: Others, row: Row) -> None:
    (metadata,) = tokens(house, row)
    said = set()
    for whose in (other.resource for other in TABLE if other == replace(row, resource=other.resource)):
        refusal = await refusal_of(house, row, metadata, await others.request(house, row, whose))
        said.add(in_full(refusal))
    assert len(said) == 1


@pytest.mark.parametrize("row", [row for row in MISSING if row.role == "member"], ids=str)
async def test_what_is_not_yours_is_not_found_inside_of_what_is(house: House, others: Others, row: Row) -> None:
    """conversations/<mine>/panes/<yours>, and conversations/<yours>/panes/<mine>."""
    place = place_of(row.descriptor)
    assert place
    path, template = place
    (metadata,) = tokens(house, row)
    mine = await belongings(house.person(name=ASKER))
    for collection in re.findall(r"(\w+)/\*", template):
        if collection != "versions":
            name = name_of(template, {**mine, collection: others.neighbours[collection]})
            request = about(sample(row.descriptor.input_type), path, name)
            assert await answer(house, row, metadata, request) == row.answer, name


def in_full(refusal: Refusal | None) -> str:
    """All that the caller hears, without the ids that were asked for."""
    assert refusal
    return ID.sub("…", f"{refusal.code} {refusal.reason} {refusal.message} {refusal.metadata}")
