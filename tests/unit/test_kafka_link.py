"""A room shows the brokers the SVID that it has now."""

from __future__ import annotations

import asyncio
import errno
import ssl
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from services.common.background import alongside
from services.common.identity import Identity
from services.common.log.kafka import link
from services.common.workload import Material
from services.local.workload.ca import LIVES, Root, issue, new_root

DOMAIN = "laws.test"


async def test_a_new_svid_that_could_not_be_loaded_is_loaded_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    load, faults, loaded = link.load, [OSError(errno.ENOSPC, "No space left on device")], asyncio.Event()
    loop = asyncio.get_running_loop()

    def load_at_last(context: ssl.SSLContext, material: Material) -> None:
        if faults:
            raise faults.pop()
        load(context, material)
        loop.call_soon_threadsafe(loaded.set)

    monkeypatch.setattr(link, "load", load_at_last)
    monkeypatch.setattr(link, "LOAD_AGAIN_S", 0.01)
    root = new_root(DOMAIN, LIVES, datetime.now(UTC))
    identity = Identity(DOMAIN, a_material(root))
    context = ssl.create_default_context()
    async with alongside(link.renew(context, identity, identity.version), name="kafka-tls"), asyncio.timeout(20):
        identity.accept(a_material(root))
        await loaded.wait()


def a_material(root: Root) -> Material:
    svid = issue(root, f"spiffe://{DOMAIN}/ns/soma/sa/agent", "", LIVES.leaf, datetime.now(UTC))
    key = load_der_private_key(svid.key_der, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain, bundle = (one.public_bytes(Encoding.PEM) for one in (svid.leaf, root.certificate))
    return Material(svid.spiffe_id, key, chain, bundle, svid.ends.timestamp())
