"""What those who are listening hear when the mesh goes down."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.system.edge import Client, Event, kind
from tests.system.mesh import Mesh, wait_until


def test_down_in_mid_answer_ends_the_stream_in_band(own_mesh: Callable[[], Mesh]) -> None:
    mesh = own_mesh()
    client, heard = Client.of(mesh), list[Event]()
    listening = threading.Thread(
        target=lambda: heard.extend(
            client.stream("POST", "/v1/chat:stream", {"text": "script:words=3000 script:pace=10"})
        )
    )
    listening.start()
    wait_until(lambda: any("text" in event for event in heard), what="the answer's beginning")

    mesh.down()
    listening.join(timeout=20)

    assert kind(heard[-1]) == "error"
    assert heard[-1]["error"]["reason"] == "INTERRUPTED"
