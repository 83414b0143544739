"""Every method with every wrong type: an exception, and never a crash."""

from __future__ import annotations

import inspect
import signal
import threading
from typing import Any

import numpy as np
import pytest

import wigwag
from wigwag import _wigwag
from conftest import LIMIT


class Liar:
    """Says that it has everything, and has nothing."""

    __dlpack__ = __dlpack_device__ = lambda self, *a, **k: 7

    def __index__(self) -> int:
        return -(1 << 70)

    def __len__(self) -> int:
        raise ZeroDivisionError

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


WRONG: list[Any] = [
    None, -1, 1 << 70, 3.5, float("nan"), float("-inf"), "text", "\0", "\udcff", b"bytes", b"\0", [], [1], {}, object(),
    Liar(), type, np.array(["text"]), np.array([object()]), np.zeros((1,) * 12), np.arange(4, dtype=">i4"),
    np.zeros(3, [("a", "i4")]), np.datetime64("2026-01-01"), memoryview(b"abcd")[::2], (), (-1,), lambda *a: None,
]  # fmt: skip

def _handles(serving: Any, name: str) -> list[Any]:
    server = serving(slots=64)
    receiver = wigwag.Receiver(name)
    sender = wigwag.Sender(name)
    sender.send(b"message")
    listener = wigwag.StreamListener(wigwag.testing.name("l"))
    client = wigwag.Client(server.path, slots=64)
    semaphore = wigwag.Semaphore(wigwag.testing.name("s"), 3)
    request_server = wigwag.Server(wigwag.testing.name("r"))
    requester = wigwag.Client(request_server.path)
    pending = requester.send(b"request")
    publisher = wigwag.Publisher(wigwag.testing.name("p"), holds=64)
    subscriber = wigwag.Subscriber(publisher.path)
    publisher.wait_for_subscribers(1, LIMIT)
    for _ in range(3):
        publisher.send_array(np.arange(100))
    return [
        client,
        client.loan_array((2, 2), "f4"),
        client.call_array(np.arange(4), timeout=LIMIT),
        client.call_array(np.arange(4), timeout=LIMIT).array(),
        client.send(b"x"),
        sender,
        receiver,
        receiver.recv(LIMIT),
        wigwag.Stream(listener.path),
        listener,
        semaphore,
        semaphore.acquire(),
        request_server,
        request_server.recv(LIMIT),
        pending,
        publisher.loan_array((2, 2), "f4"),
        publisher.loan(5),
        subscriber.recv(LIMIT),
        subscriber.recv(LIMIT).array(),
        subscriber.recv(LIMIT, copy=True),
        subscriber,
        publisher,
        wigwag.Keeper(wigwag.testing.name("k")),
    ]


class Stuck(Exception):
    """Raised by a timer, as Ctrl-C would be."""


def test_every_method_with_every_wrong_type(serving: Any, name: str) -> None:
    """Where a wrong argument is a right one, the call may wait: a signal ends that."""

    is_armed = False

    def give_up(number: int, frame: Any) -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False  # once: it may come while an exception is handled
            raise Stuck

    former = signal.signal(signal.SIGALRM, give_up)
    tried = 0
    try:
        for handle in _handles(serving, name):
            # What may end it comes last.
            for method in sorted(dir(type(handle)), key=lambda method: method == "__exit__"):
                if method in ("__class__", "__new__", "__init__", "__init_subclass__", "__subclasshook__", "__del__"):
                    continue
                for wrong in WRONG:
                    for arguments in ((wrong,), (wrong, wrong), (wrong, 0.0), (b"x", wrong)):
                        tried += 1
                        is_armed = True
                        try:
                            try:
                                signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
                                getattr(handle, method)(*arguments)
                                is_armed = False
                            except Exception:
                                is_armed = False
                        except Stuck:
                            pass
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert tried > 5000


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
def test_every_constructor_with_every_wrong_type(wrong: Any) -> None:
    for kind in (wigwag.Client, wigwag.Server, wigwag.Sender, wigwag.Receiver, wigwag.Stream, wigwag.StreamListener,
                 wigwag.Publisher, wigwag.Subscriber, wigwag.Keeper, wigwag.Semaphore):  # fmt: skip
        with pytest.raises(Exception):
            made = kind(wrong)
            raise ValueError(made)  # some of these are names
        for option in inspect.signature(kind).parameters:
            if option != "name":
                with pytest.raises(Exception):
                    made = kind(wigwag.testing.name("w"), **{option: wrong})
                    raise ValueError(made)
    for kind in (_wigwag.Loan, _wigwag.Reply, _wigwag.Request, _wigwag.Message, _wigwag.Memory, _wigwag.Array,
                 _wigwag.Pending, _wigwag.Permit, _wigwag._Readiness, _wigwag.Draft,
                 _wigwag.BroadcastMessage):  # fmt: skip
        with pytest.raises(TypeError):
            kind(wrong)


def test_errors_of_arrays_name_the_cure(serving: Any) -> None:
    client = wigwag.Client(serving().path)
    for wrong, said in [
        (np.array(["text"]), "numbers"),
        (np.arange(4, dtype=">i4"), "byte order"),
        (np.zeros((1,) * 9), "8 are the most"),
        (object(), "has no bytes"),
    ]:
        with pytest.raises((TypeError, ValueError), match=said):
            client.call_array(wrong)
    with pytest.raises(TypeError, match="uint8"):
        client.loan_array((2, 2), "text")
    with pytest.raises(wigwag.EncodingError, match="no array"):
        client.call(b"text", timeout=LIMIT).array()
    with pytest.raises(TypeError, match="has no bytes.*pickle"):
        client.call({"a": 1})


def test_all_is_documented() -> None:
    missing = []
    for public in wigwag.__all__:
        thing = getattr(wigwag, public)
        if isinstance(thing, type):
            members = [thing, *(value for key, value in vars(thing).items() if not key.startswith("_"))]
        else:
            members = [thing]
        for member in members:
            if not isinstance(member, str) and not getattr(member, "__doc__", None):
                missing.append((public, member))
    assert not missing


def test_a_thread_that_waits_holds_no_lock_that_others_need(name: str) -> None:
    with wigwag.Server(name) as server:
        thread = threading.Thread(target=server.serve, args=(print,))
        thread.start()
        for _ in range(1000):
            assert "sessions" in repr(server) and server.stats()["calls"] == 0
        with pytest.raises(RuntimeError, match="another thread"):
            for _ in range(100_000):
                server.try_recv()
        server.shutdown()
        thread.join(LIMIT)
        assert not thread.is_alive()
