"""The pace of requests to an API server that is busy, over real sockets."""

import socket
import time
from pathlib import Path
from threading import Event

import pytest

from raw_server import Pauses, Request, answer, raw_server
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.engines.port import Surroundings

EMPTY_LIST = answer(200, '{"items": [], "metadata": {}}', "Content-Type: application/json")


def test_what_a_server_takes_sets_the_pace_of_the_next_requests(tmp_path: Path) -> None:
    """After an answer 429, three quarters of the requests that the server took in the last second."""
    pauses, is_busy = Pauses(), Event()

    def answering(request: Request, connection: socket.socket) -> bytes:
        if is_busy.is_set():
            is_busy.clear()
            return answer(429, "", "Retry-After: 3")
        return EMPTY_LIST

    with raw_server(answering) as server:
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(
            f"{{clusters: [{{name: c, cluster: {{server: '{server.url}'}}}}], current-context: c, "
            "contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}"
        )
        target = PLUGIN.target(
            {"kubeconfig": str(kubeconfig), "namespace": "batch", "allowOldServer": True}, str(tmp_path)
        )
        around = Surroundings({}, pauses, lambda text: None, lambda: 0.0, time.time, 1, None, str(tmp_path / "state"))
        with PLUGIN.open(target, around) as engine:
            engine.observe("a")
            taken = len(server.requests)
            is_busy.set()
            engine.observe("b")
    assert pauses[0] == 3.0
    assert pauses[1] == pytest.approx(1 / (0.75 * taken))
