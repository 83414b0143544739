"""Servers that are restarted, in order and by a kill, under clients that call: counted against a ledger."""

from __future__ import annotations

import asyncio
import os
import pathlib
import pickle
import random
import signal
import threading
import time
from collections import Counter
from typing import Any, Callable

import pytest

import wigwag
from conftest import LIMIT, fork
from wigwag import aio

# Writes each request down before it does anything else; a line of a file that is appended to is never half there.
SERVER = """
import os, sys, time, wigwag
ledger = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def handle(request):
    os.write(ledger, bytes(request) + b"\\n")
    time.sleep(0.002)
    return bytes(request)
server = wigwag.Server(sys.argv[1], replace=10)
print("ready", flush=True)
server.serve(handle)
"""

HANGS = """
import sys, time, wigwag
server = wigwag.Server(sys.argv[1])
requests = []
print("ready", flush=True)
sys.stdin.readline()
requests.append(server.recv())
print("begun", flush=True)
time.sleep(1000)
"""


# Loses all its connections, as a program may that closes descriptors which are not its own, and lives on.
HANGS_UP = """
import os, stat, sys, time, wigwag
server = wigwag.Server(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        if fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.close(fd)
    except OSError:
        pass
print("closed", flush=True)
time.sleep(1000)
"""


class Ledger:
    """What the servers have executed, and what the callers were told."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.answered: list[str] = []
        self.told: list[str] = []
        self._lock = threading.Lock()

    def answer(self, number: str, reply: bytes) -> None:
        assert reply == number.encode()
        with self._lock:
            self.answered.append(number)

    def failure(self, number: str, error: wigwag.WigwagError) -> None:
        assert isinstance(error, wigwag.PeerDied) and error.maybe_executed, f"{number}: {error!r}"
        with self._lock:
            self.told.append(number)

    def check(self, passed: set[str]) -> None:
        """Nothing is executed twice, nothing is lost, and what was begun and not answered is told."""
        executed = Counter(self.path.read_text().split())
        assert [number for number, times in executed.items() if times > 1] == [], "executed twice"
        assert Counter(self.answered + self.told) == Counter(passed), "each call ends once"
        assert set(self.answered) <= set(executed), "answered, and not executed"
        assert set(executed) <= set(self.answered) | set(self.told)


def moved_to(server: wigwag.Server, pending: Any) -> Any:
    """The request of a call that is not waited for, once its looks have brought it to that server."""
    end = time.monotonic() + LIMIT
    while (request := server.try_recv()) is None:
        assert pending.try_wait() is None and time.monotonic() < end, "the call does not come"
    return request


class Restarts:
    """Restarts the server of a name, with a sign of life of the callers between two."""

    def __init__(self, start: Callable[[], Any], ledger: Ledger) -> None:
        self.start, self.ledger = start, ledger
        self.server = start()

    def _until_calls_go_on(self) -> None:
        seen = len(self.ledger.answered)
        end = time.monotonic() + LIMIT
        while len(self.ledger.answered) < seen + 20:
            assert time.monotonic() < end, "no call goes on"
            time.sleep(0.001)
        time.sleep(random.random() * 0.01)

    def in_order(self, times: int) -> None:
        for _ in range(times):
            self._until_calls_go_on()
            former, self.server = self.server, self.start()
            former.end()
        self._until_calls_go_on()

    def by_kills(self, times: int) -> None:
        for _ in range(times):
            self._until_calls_go_on()
            self.server.kill()
            self.server = self.start()
        self._until_calls_go_on()


@pytest.fixture
def ledger(tmp_path: pathlib.Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def restarts(name: str, program: Any, ledger: Ledger) -> Restarts:
    return Restarts(lambda: program(SERVER, name, str(ledger.path)), ledger)


def call_until(stop: threading.Event, client: wigwag.Client, caller: int, ledger: Ledger, passed: set[str]) -> None:
    turn = 0
    while not stop.is_set():
        # Several under way, so that a kill finds some that are begun and some that are not.
        numbers = [f"{caller}.{turn}.{index}" for index in range(4)]
        passed.update(numbers)
        pending = []
        for number in numbers:
            pending.append(client.send(number.encode()))
        for number, call in zip(numbers, pending):
            try:
                with call.wait(LIMIT) as reply:
                    ledger.answer(number, bytes(reply))
            except wigwag.WigwagError as error:
                ledger.failure(number, error)
        turn += 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("way", ["in_order", "by_kills"])
def test_threads_lose_nothing_and_repeat_nothing(
    name: str, ledger: Ledger, restarts: Restarts, threads: int, way: str
) -> None:
    client, stop = wigwag.Client(name, follow_restarts=LIMIT), threading.Event()
    passed: list[set[str]] = [set() for _ in range(threads)]
    failed: list[BaseException] = []

    def run(caller: int) -> None:
        try:
            call_until(stop, client, caller, ledger, passed[caller])
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    callers = [threading.Thread(target=run, args=(caller,)) for caller in range(threads)]
    for thread in callers:
        thread.start()
    try:
        restarts.in_order(2) if way == "in_order" else restarts.by_kills(5)
    finally:
        stop.set()
        for thread in callers:
            thread.join(LIMIT)
    assert not failed, failed
    ledger.check(set().union(*passed))
    times = 2 if way == "in_order" else 5
    stats = client.stats()
    assert stats["reconnects"] == times and stats["in_flight"] == 0
    assert stats["calls"] == sum(map(len, passed)), "a call that goes on is one"
    if way == "in_order":
        assert ledger.told == [], "the former server answers what it has begun"
    else:
        assert stats["moved"] > 0 and f"{stats['moved']} calls moved" in repr(client)
    restarts.server.kill()


@pytest.mark.parametrize("way", ["in_order", "by_kills"])
def test_tasks_lose_nothing_and_repeat_nothing(name: str, ledger: Ledger, restarts: Restarts, way: str) -> None:
    passed: set[str] = set()

    async def run(client: aio.Client, stop: asyncio.Event, caller: int) -> None:
        turn = 0
        while not stop.is_set():
            number = f"{caller}.{turn}"
            passed.add(number)
            try:
                with await client.call(number.encode(), timeout=LIMIT) as reply:
                    ledger.answer(number, bytes(reply))
            except wigwag.WigwagError as error:
                ledger.failure(number, error)
            turn += 1

    async def main() -> dict[str, int]:
        async with await aio.Client.connect(name, follow_restarts=LIMIT) as client:
            stop = asyncio.Event()
            callers = [asyncio.create_task(run(client, stop, caller)) for caller in range(6)]
            try:
                await asyncio.to_thread(lambda: restarts.in_order(2) if way == "in_order" else restarts.by_kills(5))
            finally:
                stop.set()
                await asyncio.gather(*callers)
            return client.stats()

    stats = asyncio.run(main())
    ledger.check(passed)
    assert stats["reconnects"] == (2 if way == "in_order" else 5) and stats["in_flight"] == 0
    assert stats["calls"] == len(passed), "a call that goes on is one"
    assert ledger.told == [] if way == "in_order" else stats["moved"] > 0


@pytest.mark.parametrize("follows", [None, LIMIT])
def test_who_only_looks_learns_of_the_end(name: str, program: Any, follows: Any) -> None:
    server = program(HANGS, name)
    pending = wigwag.Client(name, follow_restarts=follows).send(b"x")
    server.process.stdin.write("\n")
    server.process.stdin.flush()
    server.expect("begun")
    assert pending.try_wait() is None
    server.kill()
    end = time.monotonic() + LIMIT
    with pytest.raises(wigwag.PeerDied) as raised:
        while pending.try_wait() is None:
            assert time.monotonic() < end, "nobody tells of the end"
    assert raised.value.maybe_executed


def test_what_was_begun_is_told_and_the_rest_goes_on(name: str, program: Any) -> None:
    server = program(HANGS, name)
    client = wigwag.Client(name, follow_restarts=LIMIT, slots=4)
    view = memoryview(client.loan(100))
    begun, unbegun = client.send(b"begun"), client.send(b"x" * 5000)
    loan = client.loan(3)
    loan[:] = b"abc"
    server.process.stdin.write("\n")
    server.process.stdin.flush()
    server.expect("begun")
    server.kill()
    with wigwag.Server(name) as successor:
        thread = threading.Thread(target=successor.serve, args=(lambda request: bytes(request).upper(),))
        thread.start()
        with pytest.raises(wigwag.PeerDied) as raised:
            begun.wait(LIMIT)
        assert raised.value.maybe_executed
        assert unbegun.wait(LIMIT).tobytes() == b"X" * 5000
        assert loan.call(LIMIT).tobytes() == b"ABC", "a loan goes to the next server with its bytes"
        assert bytes(view) == bytes(100), "what is of the former session stays"
        stats = client.stats()
        assert (stats["moved"], stats["reconnects"], stats["calls"]) == (1, 1, 3), "the loan was not passed before"
        client = pickle.loads(pickle.dumps(client))
        assert client.call(b"x", timeout=LIMIT).tobytes() == b"X"
        successor.hand_over()
        thread.join(LIMIT)
    pending = None
    with wigwag.Server(name) as third:
        pending = client.send(b"after the hand-over")
        third.recv(LIMIT).reply()
        assert pending.wait(LIMIT).tobytes() == b"after the hand-over"


def test_a_server_that_hangs_up_and_lives_may_still_execute_it(name: str, program: Any) -> None:
    async def main() -> None:
        server = program(HANGS_UP, name)
        client = wigwag.Client(name, follow_restarts=0.2)
        pending = client.send(b"x")
        async with await aio.Client.connect(name, follow_restarts=0.2) as tasks:
            calling = asyncio.create_task(tasks.call(b"x", timeout=LIMIT))
            await asyncio.sleep(0)
            server.process.stdin.write("\n")
            server.process.stdin.flush()
            server.expect("closed")
            with pytest.raises(wigwag.PeerDied, match="has not ended since") as raised:
                pending.wait(LIMIT)
            assert raised.value.maybe_executed
            with pytest.raises(wigwag.PeerDied, match="has not ended since") as raised:
                await calling
            assert raised.value.maybe_executed and server.process.poll() is None

    asyncio.run(main())


def test_a_timeout_says_that_nobody_has_begun_it(name: str, program: Any) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=LIMIT)
        pending = client.send(b"x")
        with pytest.raises(wigwag.TimedOut) as raised:
            pending.wait(0.01)
        assert raised.value.maybe_executed
    with pytest.raises(wigwag.TimedOut) as raised:
        pending.wait(0.01)
    assert not raised.value.maybe_executed, "its server has ended, and had not begun it"
    with pytest.raises(wigwag.TimedOut) as raised:
        client.call(b"x", timeout=0.01)
    assert not raised.value.maybe_executed
    with pytest.raises(wigwag.ServerClosedError):
        client.loan(1, timeout=0)

    async def main() -> None:
        with wigwag.Server(name):
            tasks = await aio.Client.connect(name, follow_restarts=LIMIT)
            calling = asyncio.create_task(tasks.call(b"x", timeout=0.1))
            await asyncio.sleep(0)
        with pytest.raises(wigwag.TimedOut) as raised:
            await calling
        assert not raised.value.maybe_executed
        tasks.close()

    asyncio.run(main())
    with wigwag.Server(name) as server:
        moved_to(server, pending).reply(b"found")
        assert pending.wait(LIMIT).tobytes() == b"found", "the call goes on after a timeout of its wait"


def test_if_no_server_comes_all_who_wait_are_told(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=0.05)
        pending = [client.send(b"x") for _ in range(4)]
    errors: list[wigwag.WigwagError] = []

    def run(call: Callable[[], Any]) -> None:
        with pytest.raises(wigwag.ServerClosedError, match="follow_restarts") as raised:
            call()
        errors.append(raised.value)

    calls = [one.wait for one in pending] + [lambda: client.call(b"y")] * 4
    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert [error.maybe_executed for error in errors] == [False] * 8

    async def main() -> None:
        with wigwag.Server(name):
            tasks = await aio.Client.connect(name, follow_restarts=0.05)
            calling = [asyncio.create_task(tasks.call(b"x")) for _ in range(40)]  # most wait for a slot
            await asyncio.sleep(0)
        for outcome in await asyncio.gather(*calling, return_exceptions=True):
            assert isinstance(outcome, wigwag.ServerClosedError) and not outcome.maybe_executed, outcome
        tasks.close()

    asyncio.run(main())


def test_a_cancelled_task_is_passed_to_nobody(name: str) -> None:
    async def main() -> None:
        with wigwag.Server(name):
            client = await aio.Client.connect(name, follow_restarts=LIMIT)
            calling = {word: asyncio.create_task(client.call(word)) for word in (b"kept", b"left", b"late")}
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # they look for the next server
        assert not any(task.done() for task in calling.values())
        calling[b"left"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling[b"left"]
        seen: list[bytes] = []

        async def handle(request: Any) -> bytes:
            seen.append(bytes(request))
            return bytes(request).upper()

        async with aio.Server(name) as server:
            serving = asyncio.create_task(server.serve(handle))
            for word in (b"kept", b"late"):
                with await calling[word] as reply:
                    assert bytes(reply) == word.upper()
            with await client.call(b"new", timeout=LIMIT) as reply:
                assert bytes(reply) == b"NEW"
            assert sorted(seen) == [b"kept", b"late", b"new"]
            assert client.stats()["moved"] == 2 and client.stats()["abandoned"] == 1
            server.hand_over()
            await serving
        client.close()

    asyncio.run(main())


def test_a_client_that_is_closed_while_it_looks_tells_its_callers(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=LIMIT)
        pending = client.send(b"x")
        loan = client.loan(3)
    outcomes: list[BaseException] = []

    def run(call: Callable[[], Any]) -> None:
        try:
            outcomes.append(AssertionError(call()))
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            outcomes.append(error)

    waits = [threading.Thread(target=run, args=(call,)) for call in (pending.wait, lambda: client.call(b"y"))]
    for thread in waits:
        thread.start()
    time.sleep(0.05)
    assert outcomes == [], "they look for the next server"
    client.close()
    for thread in waits:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a closed client has callers that wait"
    assert [type(outcome) for outcome in outcomes] == [wigwag.ServerClosedError] * 2
    assert [outcome.maybe_executed for outcome in outcomes] == [False] * 2  # type: ignore[attr-defined]
    with pytest.raises(wigwag.ServerClosedError):
        loan.call(LIMIT)

    async def main() -> None:
        with wigwag.Server(name):
            tasks = await aio.Client.connect(name, follow_restarts=LIMIT)
            calling = asyncio.create_task(tasks.call(b"x"))
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        tasks.close()
        with pytest.raises(wigwag.ServerClosedError):
            await calling

    asyncio.run(main())


def test_a_signal_ends_the_search_and_the_call_goes_on(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=LIMIT)
        pending = client.send(b"x")

    def rang(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, rang)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            pending.wait(LIMIT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    with wigwag.Server(name) as server:
        moved_to(server, pending).reply(b"found")
        assert pending.wait(LIMIT).tobytes() == b"found"


def test_a_forked_child_follows_nobody(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=LIMIT)
        pending, other, loan = client.send(b"x"), client.send(b"x"), client.loan(3)
    with pytest.raises(wigwag.TimedOut):
        pending.wait(0.01)  # a search is under way

    def child() -> None:
        for use in (lambda: client.call(b"x"), pending.wait, other.try_wait, loan.call, lambda: client.loan(1)):
            with pytest.raises(wigwag.ForkedError):
                use()
        assert repr(client) and repr(pending) and client.stats()["calls"] == 0
        pending.cancel()
        client.close()

    assert fork(child) == 0
    with wigwag.Server(name) as server:
        moved_to(server, pending).reply(b"found")
        assert pending.wait(LIMIT).tobytes() == b"found", "the parent's goes on"


def test_a_successor_with_less_room_says_so(name: str) -> None:
    with wigwag.Server(name):
        client = wigwag.Client(name, follow_restarts=LIMIT)
        large, small = client.send(b"x" * 10_000), client.send(b"x")
    with wigwag.Server(name, capacity=4096) as server:
        with pytest.raises(wigwag.CapacityExceededError, match="successor"):
            large.wait(LIMIT)
        moved_to(server, small).reply(b"y")
        assert small.wait(LIMIT).tobytes() == b"y" and client.capacity == 4096


def test_many_servers_leave_nothing_behind(name: str) -> None:
    client = None
    for turn in range(12):
        with wigwag.Server(name) as server:
            client = client or wigwag.Client(name, follow_restarts=LIMIT)
            pending = client.send(b"x")
            server.recv(LIMIT).reply()
            pending.wait(LIMIT).release()
            moving = client.send(b"moves")
        with wigwag.Server(name) as server:
            moved_to(server, moving).reply()
            moving.wait(LIMIT).release()
        if turn == 1:
            before = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert client is not None and client.stats()["moved"] == 12


def test_wishes_that_make_no_sense_are_refused(name: str) -> None:
    with wigwag.Server(name) as server:
        with pytest.raises(ValueError, match="follow_restarts.*-1"):
            wigwag.Client(name, follow_restarts=-1)
        with pytest.raises(ValueError, match="reconnect=1.* and follow_restarts=2"):
            wigwag.Client(name, reconnect=1, follow_restarts=2)
        wrong: Any
        for wrong in ("soon", [], b"1"):
            with pytest.raises(TypeError):
                wigwag.Client(name, follow_restarts=wrong)
            with pytest.raises(TypeError):
                wigwag.Server(name, replace=wrong)
        with pytest.raises(wigwag.NameTakenError):
            wigwag.Server(name, replace=False)
        thread = threading.Thread(target=server.serve, args=(print,))
        thread.start()
        with wigwag.Server(name, replace=True):
            thread.join(LIMIT)
            assert not thread.is_alive(), "it has been replaced"


def test_receivers_and_listeners_are_replaced_and_hand_over(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = wigwag.Sender(name)
        sender.send(b"first")
        assert [bytes(receiver.recv(LIMIT))] == [b"first"]
        receiver.hand_over()
    with wigwag.Receiver(name) as receiver:
        sender.send(b"second")
        # With a receiver of its own process a sender goes on in its calls only.
        flushing = threading.Thread(target=sender.flush, args=(LIMIT,))
        flushing.start()
        words = []
        for _ in range(2):
            with receiver.recv(LIMIT) as message:
                words.append(bytes(message))
        flushing.join(LIMIT)
        assert words == [b"first", b"second"], "what was not acknowledged comes again"
        assert sender.stats()["reconnects"] == 1
    with wigwag.StreamListener(name + ".s") as listener:
        listener.hand_over()
        assert list(listener) == []
        with wigwag.StreamListener(name + ".s", replace=True) as second:
            stream = wigwag.Stream(name + ".s")
            second.accept(LIMIT).close()
            stream.close()
