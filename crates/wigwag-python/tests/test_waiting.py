"""What waits costs nothing, lets the other threads run, and is ended by Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import pytest

import wigwag
from conftest import LIMIT

WAITS = {
    "call": "client.call(b'hang')",
    "loan": "held = client.loan(1); client.loan(1)",
    "pending": "client.send(b'hang').wait()",
    "recv": "wigwag.Server(path).recv()",
    "serve": "wigwag.Server(path).serve(print)",
    "serve on threads": "wigwag.Server(path).serve(print, threads=2)",
    "iterate": "next(iter(wigwag.Server(path)))",
    "receive": "wigwag.Receiver(path).recv()",
    "messages": "list(wigwag.Receiver(path))",
    "send": "receiver = wigwag.Receiver(path); sender = wigwag.Sender(path, slots=1); sender.send(b'1'); sender.send(b'2')",
    "flush": "receiver = wigwag.Receiver(path); sender = wigwag.Sender(path); sender.send(b'1'); sender.close()",
    "accept": "wigwag.StreamListener(path).accept()",
    "read": "listener = wigwag.StreamListener(path); stream = wigwag.Stream(path); stream.read()",
    "write": "listener = wigwag.StreamListener(path); stream = wigwag.Stream(path); stream.write_all(bytes(1 << 24))",
    "next message": "publisher = wigwag.Publisher(path); wigwag.Subscriber(path).recv()",
    "broadcast": "publisher = wigwag.Publisher(path); list(wigwag.Subscriber(path))",
    "next publisher": "publisher, subscriber = pair(1000); publisher.close(); subscriber.recv()",
    "publish": "publisher, subscriber = pair(); publisher.send(b'1'); publisher.send(b'2'); publisher.send(b'3')",
    "commit": "publisher, subscriber = pair(); three = [publisher.loan(1) for _ in '123']; [one.commit() for one in three]",
    "subscribers": "wigwag.Publisher(path).wait_for_subscribers(1)",
    "acquire": "lock = wigwag.Semaphore(path, 1); held = lock.acquire(); lock.acquire()",
    "connect": "wigwag.Client(path, server_timeout=1000)",
    "await": "import asyncio; asyncio.run(main())",
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_every_wait(what: str, program: Any, name: str, serving: Any) -> None:
    server = serving(lambda request: time.sleep(0.3))
    one = program(
        f"""
        import sys, threading, time, wigwag
        path, server = sys.argv[1:]
        client = wigwag.Client(server, slots=1)
        async def main():
            other = await wigwag.aio.Client.connect(server)
            receiver = wigwag.aio.Receiver(path)
            await receiver.recv()
        def pair(reconnect=None):
            publisher = wigwag.Publisher(path, history=1, overrun=float('inf'))
            subscriber = wigwag.Subscriber(path, reconnect=reconnect)
            publisher.wait_for_subscribers(1)
            return publisher, subscriber
        def say():
            time.sleep(0.2)
            print('ready', flush=True)
        threading.Thread(target=say).start()
        try:
            {WAITS[what]}
        except KeyboardInterrupt:
            print('interrupted', flush=True)
        else:
            print('ended by itself', flush=True)
        """,
        name,
        str(server.path),
    )
    one.send(signal.SIGINT)
    one.expect("interrupted")
    assert one.process.wait(LIMIT) == 0


def test_a_wait_lets_the_other_threads_run_and_costs_nothing(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        thread = threading.Thread(target=lambda: list(receiver))
        thread.start()
        while "receiving" not in repr(receiver):
            time.sleep(0.01)
        time.sleep(0.1)
        switches, cpu = sys.getswitchinterval(), time.process_time()
        time.sleep(0.5)
        assert time.process_time() - cpu < 0.25, "it sleeps, and so costs next to nothing"
        count = sum(1 for _ in range(100_000))
        assert count == 100_000 and switches > 0
        receiver.shutdown()
        thread.join(LIMIT)


def test_who_listens_or_follows_sleeps(name: str) -> None:
    publisher = wigwag.Publisher(name)
    subscriber = wigwag.Subscriber(name, reconnect=LIMIT)
    received: list[int] = []
    thread = threading.Thread(target=lambda: received.extend(message.sequence for message in subscriber))
    thread.start()
    cpu = []
    for end in (lambda: None, publisher.close):
        end()
        time.sleep(0.1)
        begin = time.process_time()
        time.sleep(0.5)
        cpu.append(time.process_time() - begin)
    assert max(cpu) < 0.25, "it sleeps, and so costs next to nothing"
    with wigwag.Publisher(name) as publisher:
        publisher.send(b"x")
        end_at = time.monotonic() + LIMIT
        while not received:
            assert time.monotonic() < end_at
            time.sleep(0.01)
        subscriber.close()
    thread.join(LIMIT)
    assert received == [1] and not thread.is_alive()


def test_a_signal_handler_that_does_not_raise_lets_the_wait_go_on(name: str) -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with wigwag.Receiver(name) as receiver:
            timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
            timer.start()
            with pytest.raises(wigwag.TimedOut):
                receiver.recv(0.3)
            assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, former)
