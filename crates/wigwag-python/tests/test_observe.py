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


def test_a_publisher_and_who_listens_are_seen(name: str, program: Any) -> None:
    with wigwag.Publisher(name, history=4, capacity=5000, overrun=5.0) as publisher:
        reader = wigwag.Subscriber(name)
        stopped = program(
            """
            import sys, time, wigwag
            subscriber = wigwag.Subscriber(sys.argv[1])
            print('ready', flush=True)
            time.sleep(1000)
            """,
            name,
        )
        publisher.wait_for_subscribers(2, LIMIT)
        stopped.send(signal.SIGSTOP)
        for _ in range(3):
            publisher.send(bytes(1000))
        kept = reader.recv(LIMIT)
        seen = wigwag.observe.inspect(name)
        assert (seen["form"], seen["published"], seen["cut_off"]) == ("broadcast", 3, 0)
        assert (seen["history"], seen["capacity"], seen["is_lossless"]) == (4, 5000, True)
        assert seen["pool_bytes"] > 5 * 5000
        by_pid = {session["pid"]: session for session in seen["sessions"]}
        own, other = by_pid[os.getpid()], by_pid[stopped.process.pid]
        assert (own["received"], own["holds"], own["lost"], own["outlived_holds"]) == (1, 1, 0, 0)
        assert (other["received"], other["lag"], other["holds"]) == (0, 3, 0)
        kept.release()
    assert "published" not in wigwag.observe.inspect(wigwag.Server(wigwag.testing.name("no")).path)
