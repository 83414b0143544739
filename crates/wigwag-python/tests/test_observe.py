"""What runs, seen from outside."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

import wigwag
from conftest import LIMIT


def test_a_server_is_seen_while_it_is_stopped(name: str, program: Any) -> None:
    server = program(
        """
        import sys, wigwag
        server = wigwag.Server(sys.argv[1])
        print('ready', flush=True)
        server.serve(lambda request: None)
        """,
        name,
    )
    client = wigwag.Client(name)
    client.call(b"12345", timeout=LIMIT).release()
    end = time.monotonic() + LIMIT
    while wigwag.observe.inspect(name)["bytes_in"] < 5:
        assert time.monotonic() < end, "a call is counted after its reply, and then it is"
    server.send(signal.SIGSTOP)
    pending = client.send(b"x")
    seen = wigwag.observe.inspect(name)
    assert seen["pid"] == server.process.pid and seen["form"] == "exchange" and seen["bytes_in"] >= 5
    (session,) = seen["sessions"]
    assert session["pid"] == os.getpid() and session["slots"] == 16
    server.send(signal.SIGCONT)
    pending.wait(LIMIT).release()


def test_names_are_listed(tmp_path: Any, monkeypatch: Any) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with wigwag.Server("seen"):
        assert [(entry["name"], entry["state"]) for entry in wigwag.observe.list()] == [("seen", "alive")]
    with pytest.raises(wigwag.NotRunningError):
        wigwag.observe.inspect("seen")
