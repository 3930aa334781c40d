"""The SDK against the rooms: it calls them as the edge does, with the edge's certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from soma_sdk import Soma
from soma_sdk.tokens import Source
from tests.house import TRUST_DOMAIN, House, kind

Connect = Callable[..., AbstractAsyncContextManager[Soma]]


def write_svid(house: House, folder: Path, room: str = "edge") -> Path:
    """The files that `soma svid` writes, each renamed into place."""
    folder.mkdir(exist_ok=True)
    for name, pem in zip(("key.pem", "cert.pem", "ca.pem"), house.authority.svid(room), strict=True):
        (folder / "new").write_bytes(pem)
        (folder / "new").rename(folder / name)
    return folder


@pytest.fixture
def svid(house: House, tmp_path: Path) -> Path:
    return write_svid(house, tmp_path / "svid")


@pytest.fixture
def connect(house: House, svid: Path) -> Connect:
    """Soma.connect to a room, or to an address in front of it, as someone of acme."""

    def to(room: str = "agent", *, token: Source | None = None, at: str = "") -> AbstractAsyncContextManager[Soma]:
        address, name = at or house.environment[room]["SOMA_LISTEN"], f"{kind(room)}.{TRUST_DOMAIN}"
        return Soma.connect(address, svid=svid, token=token or house.token("acme"), server_name=name)

    return to


@pytest_asyncio.fixture(loop_scope="session")
async def soma(connect: Connect) -> AsyncIterator[Soma]:
    async with connect() as soma:
        yield soma
