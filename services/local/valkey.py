"""A real Valkey on one machine: its settings and its command."""

from __future__ import annotations

from pathlib import Path

from services.local.ready import Replies
from services.local.wheels import valkey_program

SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
aof-load-truncated yes
auto-aof-rewrite-min-size 16mb
save ""
maxmemory 256mb
maxmemory-policy volatile-ttl
loglevel notice
logfile ""
"""


def command(settings: Path) -> tuple[str, ...]:
    """The server in the foreground; it writes its log to stdout. SIGTERM stops it in order."""
    return (str(valkey_program()), str(settings))


def prepare(folder: Path, settings: Path, port: int, password: str) -> None:
    """Write the settings, which hold the password and are for the owner's eyes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.touch(mode=0o600)
    settings.write_text(SETTINGS.format(port=port, password=password, folder=f'"{folder.absolute()}"'))


def ready(port: int, password: str) -> Replies:
    """AUTH and PING are answered once the data is loaded."""
    return Replies(port, f"AUTH {password}\r\nPING\r\n".encode(), b"+OK\r\n+PONG\r\n")


def url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"
