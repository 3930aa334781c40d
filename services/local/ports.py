"""TCP ports of this machine: which are free."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """A port that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def inner_port() -> int:
    """A free port below those that the system gives to outgoing calls: it stays ours while its part restarts."""
    while not is_free(port := 20_000 + secrets.randbelow(10_000)):
        pass
    return port


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
