"""Messages: none is lost by kills, and each is acknowledged exactly when it is said to be."""

from __future__ import annotations

import pickle
import select
import threading
import time
from typing import Any

import numpy as np
import pytest

import wigwag
from conftest import LIMIT

WORKER = """
import sys, time, wigwag
receiver = wigwag.Receiver(sys.argv[1], shared="shared" in sys.argv)
print("ready", flush=True)
for message in receiver:
    print(bytes(message).decode(), message.is_redelivered, flush=True)
    if sys.argv[2] == "hang":
        time.sleep(1000)
"""


def test_messages_come_in_order_and_are_acknowledged(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = wigwag.Sender(name, slots=4)
        sender.send(b"one")
        sender.send(bytearray(b"two"))
        assert sender.unacknowledged == 2
        with receiver.recv(LIMIT) as message:
            assert bytes(message) == b"one" and message.readonly and not message.is_redelivered
            with pytest.raises(TypeError):
                message[0] = 1
        assert sender.unacknowledged == 1
        message = receiver.recv(LIMIT)
        view = memoryview(message)
        assert view.readonly
        with pytest.raises(BufferError, match="acknowledge"):
            message.ack()
        view.release()
        message.ack()
        with pytest.raises(ValueError, match="acknowledged"):
            message.nack()
        assert receiver.try_recv() is None
        with pytest.raises(wigwag.TimedOut):
            receiver.recv(0.01)
        sender.close(LIMIT)
        assert sender.closed and "closed" in repr(sender)
        sender.close()
        assert receiver.stats()["received"] == 2


def test_an_exception_gives_the_message_back(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = wigwag.Sender(name)
        sender.send(b"job")
        with pytest.raises(KeyError):
            with receiver.recv(LIMIT):
                raise KeyError
        message = receiver.recv(LIMIT)
        assert message.is_redelivered
        del message  # dropped with neither: given back
        with receiver.recv(LIMIT) as message:
            assert message.is_redelivered and bytes(message) == b"job"
        sender.close(LIMIT)


def test_a_loop_acknowledges_when_it_asks_for_the_next_and_a_break_gives_back(name: str) -> None:
    receiver = wigwag.Receiver(name)
    sender = wigwag.Sender(name)
    for number in range(4):
        sender.send(bytes([number]))
    kept = None
    for message in receiver:
        # The second one stays out from the third on, for its view.
        assert sender.unacknowledged == 4 - message[0] + (kept is not None)
        if message[0] == 1:
            kept = memoryview(message)
        if message[0] == 2:
            break
    del message
    assert kept is not None and bytes(kept) == b"\1"
    assert sender.unacknowledged == 3, "one has a view, one is in hand, one is not received"
    kept.release()
    assert sender.unacknowledged == 2
    receiver.close()
    receiver = wigwag.Receiver(name)
    flushing = threading.Thread(target=sender.flush, args=(LIMIT,))
    flushing.start()
    assert [bytes(next(receiver)) for _ in range(2)] == [b"\2", b"\3"]
    receiver.shutdown()
    assert list(receiver) == []
    flushing.join(LIMIT)
    sender.close(LIMIT)


def test_a_full_queue_waits_for_room(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = wigwag.Sender(name, slots=2)
        for _ in range(2):
            sender.send(b"x", timeout=0)
        with pytest.raises(wigwag.FullError):
            sender.send(b"x", timeout=0)
        with pytest.raises(wigwag.TimedOut) as raised:
            sender.send(b"x", timeout=0.01)
        assert not raised.value.maybe_executed
        with pytest.raises(wigwag.TimedOut, match="2 messages"):
            sender.close(0.01)
        timer = threading.Timer(0.05, lambda: receiver.recv(LIMIT).ack())
        timer.start()
        sender.send(b"x", timeout=LIMIT)
        timer.join()
        for _ in range(2):
            receiver.recv(LIMIT).ack()
        sender.close(LIMIT)


def test_what_a_killed_worker_had_goes_to_the_next(name: str, program: Any) -> None:
    worker = program(WORKER, name, "hang")
    sender = wigwag.Sender(name, server_timeout=LIMIT)
    for text in (b"one", b"two", b"three"):
        sender.send(text)
    worker.expect("one False")
    worker.kill()
    worker = program(WORKER, name, "work")
    sender.send(b"four", timeout=LIMIT)
    sender.flush(LIMIT)
    lines = [worker.line() for _ in range(4)]
    assert lines[0] == "one True" and [line.split()[0] for line in lines] == ["one", "two", "three", "four"]
    sender.close(LIMIT)


def test_workers_that_are_killed_again_and_again_lose_nothing(name: str, program: Any) -> None:
    worker = program(WORKER, name, "work")
    sender = wigwag.Sender(name, slots=8, server_timeout=LIMIT)
    seen: set[str] = set()
    for number in range(60):
        sender.send(str(number).encode(), timeout=LIMIT)
        if number % 10 == 9:
            time.sleep(0.01)
            worker.kill()
            seen |= {line.split()[0] for line in worker.process.stdout if line.strip()}
            worker = program(WORKER, name, "work")
    sender.close(LIMIT)
    worker.kill()
    seen |= {line.split()[0] for line in worker.process.stdout if line.strip()}
    assert seen == {str(number) for number in range(60)}


def test_workers_share_a_name_and_what_a_killed_one_had_goes_to_the_other(name: str, program: Any) -> None:
    first = program(WORKER, name, "hang", "shared")
    second = program(WORKER, name, "work", "shared")
    sender = wigwag.Sender(name, slots=8, server_timeout=LIMIT)
    sent = 0
    while not select.select([first.process.stdout], [], [], 0.01)[0]:
        sender.send(str(sent).encode(), timeout=LIMIT)
        sent += 1
    had = first.line().split()
    assert had[1] == "False"
    for _ in range(4):
        sender.send(str(sent).encode(), timeout=LIMIT)
        sent += 1
    first.kill()
    sender.close(LIMIT)
    second.kill()
    seen = [line.split() for line in second.process.stdout if line.strip()]
    assert sorted(int(text) for text, _ in seen) == list(range(sent))
    assert [text for text, is_redelivered in seen if is_redelivered == "True"] == [had[0]]


def test_what_a_killed_worker_left_reaches_the_next_while_the_sender_is_idle(name: str, program: Any) -> None:
    worker = program(WORKER, name, "hang")
    sender = wigwag.Sender(name, server_timeout=LIMIT)
    sender.send(b"one")
    sender.send(b"two")
    worker.expect("one False")
    worker.kill()
    worker = program(WORKER, name, "work")
    worker.expect("one True")
    worker.expect("two False")
    sender.send(b"three", timeout=LIMIT)
    worker.expect("three False")
    sender.close(LIMIT)
    assert sender.closed


def test_nobody_who_comes_in_time_is_told(name: str) -> None:
    receiver = wigwag.Receiver(name)
    sender = wigwag.Sender(name, slots=1, server_timeout=0.05)
    sender.send(b"one")
    receiver.close()
    with pytest.raises(wigwag.NotRunningError):
        sender.send(b"two")
    with pytest.raises(wigwag.NotRunningError):
        sender.flush()
    assert sender.unacknowledged == 1
    with wigwag.Receiver(name) as receiver:
        thread = threading.Thread(target=lambda: [receiver.recv(LIMIT).ack() for _ in range(2)])
        thread.start()
        sender.send(b"two")
        sender.close(LIMIT)
        thread.join(LIMIT)


def test_a_killed_sender_leaves_what_it_sent(name: str, program: Any) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = program(
            """
            import sys, time, wigwag
            sender = wigwag.Sender(sys.argv[1])
            for number in range(5): sender.send(bytes([number]))
            print('ready', flush=True)
            time.sleep(1000)
            """,
            name,
        )
        sender.kill()
        assert [bytes(receiver.recv(LIMIT)) for _ in range(1)] == [b"\0"]


def test_a_sender_that_is_garbage_waits_for_nothing(name: str) -> None:
    with wigwag.Receiver(name):
        sender = wigwag.Sender(name)
        sender.send(b"x")
        del sender
        again = wigwag.Sender(name)
        again.send(b"x")
        again.abandon()
        with pytest.raises(KeyError):
            with wigwag.Sender(name) as sender:
                sender.send(b"x")
                raise KeyError


def test_arrays_and_objects(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        sender = pickle.loads(pickle.dumps(wigwag.Sender(name)))
        frame = np.arange(5000, dtype="f4").reshape(50, 100)
        sender.send_array(frame)
        message = receiver.recv(LIMIT)
        back = np.asarray(message.array())
        assert (back == frame).all() and not back.flags.writeable
        tensor = np.from_dlpack(message.array())
        assert message.views == 1, "a tensor of read-only memory is a copy"
        assert (tensor == frame).all()
        del back
        message.ack()
        sender.send_object({"frame": frame})
        message = receiver.recv(LIMIT)
        with pytest.raises(PermissionError, match="allow_pickle"):
            message.object()
        found = message.object(allow_pickle=True)
        assert (found["frame"] == frame).all() and not found["frame"].flags.writeable
        with pytest.raises(BufferError):
            message.ack()
        del found
        message.ack()
        sender.send(b"no object")
        with receiver.recv(LIMIT) as message, pytest.raises(wigwag.EncodingError):
            message.object(allow_pickle=True)
        sender.close(LIMIT)


def test_one_thread_receives_at_a_time(name: str) -> None:
    with wigwag.Receiver(name) as receiver:
        thread = threading.Thread(target=lambda: list(receiver))
        thread.start()
        end = time.monotonic() + LIMIT
        while "receiving" not in repr(receiver):
            assert time.monotonic() < end
        with pytest.raises(RuntimeError, match="another thread"):
            receiver.recv()
        receiver.shutdown()
        thread.join(LIMIT)
        assert not thread.is_alive()
