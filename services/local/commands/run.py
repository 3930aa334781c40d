"""`soma run ROOM`: a part in this terminal, in place of the managed one, for as long as it lives."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from services.local.by_hand import OVERRIDES
from services.local.control import Call
from services.local.fault import Fault
from services.local.stack import control_socket_of


def run(home: Path, part: str) -> int:
    """The exit code of the part. What you set in your terminal (SOMA_…, PYTHON…) wins over what the mesh would set."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(OVERRIDES)}
    request = {"do": "run", "part": part, "environment": environment, "folder": str(Path.cwd())}
    call = Call(control_socket_of(home), request, files=(0, 1, 2))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: call.say({"signal": received}))
    for line in call:
        if "fault" in line:
            raise Fault(line["fault"])
        if "exit" in line:
            code = int(line["exit"])
            sys.stderr.write(f"{part} {'was ended by signal' if code < 0 else 'ended with'} {abs(code)}.\n")
            return 128 - code if code < 0 else code
    raise Fault("The mesh went down, and the part with it.")
