"""TCP ports of this machine: which are free."""

from __future__ import annotations

import itertools
import os
import secrets
import socket

from services.local.fault import Fault

_TURNS = itertools.count(secrets.randbelow(10_000))


def free_port() -> int:
    """One of SOMA_PORTS, which lie below those that the system gives to outgoing calls: it stays ours while its part
    restarts. Each is given once before one is given again, since who asked may not listen yet."""
    ports = _ports()
    for turn in itertools.islice(_TURNS, len(ports)):
        if is_free(port := ports[turn % len(ports)]):
            return port
    raise Fault(f"Every port of {ports[0]}-{ports[-1]} is taken. Name others, such as SOMA_PORTS=30000-31000.")


def _ports() -> range:
    said = os.environ.get("SOMA_PORTS", "20000-29999")
    first, last = (int(end) if end.isdecimal() else 0 for end in said.partition("-")[::2])
    if not 0 < first <= last < 65536:
        raise Fault(f"SOMA_PORTS is a first and a last port, such as 20000-29999, and not {said}.")
    return range(first, last + 1)


def is_free(port: int) -> bool:
    """Whether a server could listen there, as servers do: connections that are just ending do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def has_ipv6(port: int) -> bool:
    """Whether this machine has IPv6's loopback, with that port free there."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("::1", port))
    except OSError:
        return False
    return True
