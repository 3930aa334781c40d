"""`soma tenant add`, `soma reset`: what the mesh holds."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from services.local import leftovers
from services.local.control import Call
from services.local.fault import Fault
from services.local.stack import OURS, check_version, control_socket_of, load_stack


def add(home: Path, name: str) -> None:
    """Make a tenant, or bring its tables up to date. Fault when it cannot be done."""
    from services.local.database import add_tenant

    asyncio.run(add_tenant(load_stack(home), name))


def reset(home: Path) -> None:
    """Forget everything in a folder of ours. Fault while a mesh runs there, or when it is no folder of ours."""
    if not (home / "version").exists():
        raise Fault(f"There is no mesh in {home}.")
    check_version(home)
    try:
        Call(control_socket_of(home), {"do": "status"}).connection.close()
    except Fault:
        asyncio.run(leftovers.clear(home / "run"))
    else:
        raise Fault("The mesh is up. End it first: soma down")
    for name in OURS:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not any(home.iterdir()):
        home.rmdir()
