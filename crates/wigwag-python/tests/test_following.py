"""Clients that outlive their servers, and queues whose both ends are killed."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

import wigwag
from conftest import LIMIT, fork
from wigwag import aio

SERVER = """
import sys, time, wigwag
server = wigwag.Server(sys.argv[1])
print("ready", flush=True)
server.serve(lambda request: time.sleep(1000) if request[:4] == b"hang" else sys.argv[2].encode())
"""

KEEPER = """
import sys, time, wigwag
with wigwag.Keeper(sys.argv[1]) as keeper:
    print("ready", flush=True)
    time.sleep(1000)
"""


def test_a_client_that_reconnects_goes_on_at_the_next_server(name: str, program: Any) -> None:
    server = program(SERVER, name, "first")
    client = pickle.loads(pickle.dumps(wigwag.Client(name, reconnect=LIMIT)))
    ends = wigwag.Client(name)
    reply = client.call(b"x", timeout=LIMIT)
    loan, view = client.loan(100), memoryview(reply)
    pending = client.send(b"hang")
    server.kill()
    with pytest.raises(wigwag.PeerDied) as raised:
        pending.wait(LIMIT)
    assert raised.value.maybe_executed, "nothing is passed twice"
    starts = threading.Timer(0.1, program, (SERVER, name, "second"))
    starts.start()
    assert client.call(b"x", timeout=LIMIT).tobytes() == b"second", "it waits for the next"
    starts.join(LIMIT)
    assert bytes(view) == b"first", "what is of the former session stays"
    assert loan.call(LIMIT).tobytes() == b"second", "a loan was not passed: it goes to the next server"
    assert client.stats()["reconnects"] == 1 and client.stats()["moved"] == 0
    with pytest.raises(wigwag.PeerDied):
        ends.call(b"x", timeout=LIMIT)

    def child() -> None:
        with pytest.raises(wigwag.ForkedError):
            client.call(b"x")

    assert fork(child) == 0
    threads = [threading.Thread(target=client.call, args=(b"x", LIMIT)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    client.close()
    with pytest.raises(wigwag.ServerClosedError):
        client.call(b"x")


def test_a_client_for_which_no_server_comes_is_told(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, reconnect=0.05)
    with pytest.raises(wigwag.ServerClosedError, match="none came within 50 ms.*reconnect") as raised:
        client.call(b"x", timeout=LIMIT)
    assert not raised.value.maybe_executed
    with wigwag.Server(name) as server:
        pending = client.send(b"x")
        server.recv(LIMIT).reply(b"found")
        assert pending.wait(LIMIT).tobytes() == b"found", "the next call looks again"
    with pytest.raises(ValueError, match="reconnect"):
        wigwag.Client(name, reconnect=-1)


def test_tasks_go_on_at_the_next_server(name: str, program: Any) -> None:
    async def main() -> None:
        server = program(SERVER, name, "first")
        async with await aio.Client.connect(name, reconnect=LIMIT) as client:
            assert (await client.call(b"x")).tobytes() == b"first"
            hanging = [asyncio.create_task(client.call(b"hang")) for _ in range(3)]
            await asyncio.sleep(0.05)
            server.kill()
            outcomes = await asyncio.gather(*hanging, return_exceptions=True)
            assert all(isinstance(outcome, wigwag.PeerDied) for outcome in outcomes)
            calls = [asyncio.create_task(client.call(b"x")) for _ in range(5)]
            await asyncio.sleep(0.05)
            calls.pop().cancel()
            await asyncio.to_thread(program, SERVER, name, "second")
            replies = await asyncio.gather(*calls)
            assert [reply.tobytes() for reply in replies] == [b"second"] * 4

    asyncio.run(main())


def test_a_keeper_hands_on_what_both_ends_left(name: str, program: Any) -> None:
    with pytest.raises(wigwag.NotRunningError):
        wigwag.Receiver(name, kept_by=name)
    with wigwag.Receiver(name, kept_by=name, allow_unkept=True):
        pass
    keeper = program(KEEPER, name)
    receiving = program(
        """
        import sys, time, wigwag
        receiver = wigwag.Receiver(sys.argv[1], kept_by=sys.argv[1])
        print("ready", flush=True)
        receiver.recv()
        print("received", flush=True)
        time.sleep(1000)
        """,
        name,
    )
    sending = program(
        """
        import sys, time, wigwag
        sender = wigwag.Sender(sys.argv[1])
        for number in range(5): sender.send(bytes([number]))
        print("ready", flush=True)
        time.sleep(1000)
        """,
        name,
    )
    receiving.expect("received")
    sending.kill()
    receiving.kill()
    with wigwag.Receiver(name, kept_by=name) as receiver:
        for number in range(5):
            with receiver.recv(LIMIT) as message:
                assert (message[0], message.is_redelivered) == (number, number == 0)
                assert message.peer[0] == keeper.process.pid


def test_keepers_are_counted_and_closed(name: str) -> None:
    with wigwag.Keeper(name, max_sessions=5) as keeper:
        assert keeper.stats()["left"] == 0 and "0 sessions" in repr(keeper)
        with pytest.raises(wigwag.NameTakenError):
            wigwag.Keeper(name)
    assert keeper.closed and "closed" in repr(keeper)
    with pytest.raises(wigwag.ServerClosedError):
        keeper.stats()


def test_how_long_a_sender_lingers_is_said(name: str) -> None:
    with wigwag.Receiver(name):
        with pytest.raises(ValueError, match="linger"):
            wigwag.Sender(name, linger=-1)
        sender = pickle.loads(pickle.dumps(wigwag.Sender(name, linger=0.5)))
        sender.send(b"x")
        sender.abandon()
