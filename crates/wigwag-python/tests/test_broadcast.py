"""Messages to all who listen: read in place, told when lost, and held exactly as long as is said."""

from __future__ import annotations

import gc
import pickle
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import wigwag
from conftest import LIMIT

LONG = bytes(range(256)) * 16

PUBLISHER = """
import sys, time, wigwag
publisher = wigwag.Publisher(sys.argv[1], history=int(sys.argv[2]), capacity=1 << 20)
print("ready", flush=True)
for line in sys.stdin:
    publisher.wait_for_subscribers(int(sys.argv[3]))
    for _ in range(int(line)):
        publisher.send((publisher.stats()["published"] + 1).to_bytes(8, "little") * 100)
    print("sent", flush=True)
"""

SUBSCRIBER = """
import sys, time, wigwag
subscriber = wigwag.Subscriber(sys.argv[1], server_timeout=30)
message = None
if "hold" in sys.argv:
    print("connected", flush=True)
    message = subscriber.recv(30)
    view = memoryview(message)
print("ready", flush=True)
time.sleep(1000)
"""


def until(is_so: Any) -> None:
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_all_who_listen_get_all_in_order(name: str) -> None:
    with wigwag.Publisher(name, history=8) as publisher:
        subscribers = [wigwag.Subscriber(name) for _ in range(3)]
        publisher.wait_for_subscribers(3, LIMIT)
        assert [publisher.send(data) for data in (b"one", bytearray(LONG), b"")] == [1, 2, 3]
        for subscriber in subscribers:
            assert subscriber.lag == 3
            messages = [subscriber.recv(LIMIT) for _ in range(3)]
            assert [bytes(message) for message in messages] == [b"one", LONG, b""]
            assert [message.sequence for message in messages] == [1, 2, 3]
            assert not any(message.lost_before or message.is_of_new_publisher for message in messages)
            assert all(message.readonly for message in messages)
            with pytest.raises(TypeError, match="read-only"):
                messages[1][0] = 1
            assert subscriber.try_recv() is None
            with pytest.raises(wigwag.TimedOut):
                subscriber.recv(0.01)
        assert publisher.stats()["published"] == 3 and publisher.stats()["subscribers"] == 3
        assert [state["lag"] for state in publisher.subscribers()] == [0, 0, 0]
        assert (publisher.history, publisher.capacity) == (8, 64 << 10) == (subscriber.history, subscriber.capacity)
        with pytest.raises(wigwag.CapacityExceededError, match=r"Publisher\(capacity=...\)"):
            publisher.send(bytes(65537))
    assert publisher.closed and "closed" in repr(publisher)
    with pytest.raises(wigwag.ServerClosedError):
        publisher.send(b"x")
    publisher.close()


def test_who_is_slow_is_told_how_many_it_has_lost(name: str) -> None:
    with wigwag.Publisher(name, history=4) as publisher:
        subscriber = wigwag.Subscriber(name)
        late = wigwag.Subscriber(name)
        for number in range(10):
            publisher.send(bytes([number]))
        first = subscriber.recv(LIMIT)
        assert (first[0], first.sequence, first.lost_before) == (6, 7, 6)
        assert [subscriber.recv(LIMIT).lost_before for _ in range(3)] == [0, 0, 0]
        assert subscriber.stats()["lost"] == 6 and subscriber.stats()["received"] == 4
        for start, expected in (("oldest", 6), ("last", 9)):
            with wigwag.Subscriber(name, start=start) as other:
                with other.recv(LIMIT) as message:
                    assert (message[0], message.lost_before) == (expected, 0)
        assert late.recv(LIMIT).lost_before == 6
        with pytest.raises(ValueError, match="'next', 'oldest' or 'last'"):
            wigwag.Subscriber(name, start="first")


def holds(publisher: wigwag.Publisher) -> int:
    return sum(state["holds"] for state in publisher.subscribers())


def test_a_hold_ends_exactly_with_its_block(name: str) -> None:
    with wigwag.Publisher(name, holds=2) as publisher:
        subscriber = wigwag.Subscriber(name)
        publisher.wait_for_subscribers(1, LIMIT)
        for _ in range(8):
            publisher.send(LONG)
        with subscriber.recv(LIMIT) as message:
            assert message.is_in_place and holds(publisher) == 1
        assert holds(publisher) == 0 and len(message) == 0
        kept = []
        with pytest.raises(BufferError, match="1 view of this message is alive"):
            with subscriber.recv(LIMIT) as message:
                kept.append(np.asarray(message))
        assert holds(publisher) == 1
        kept.clear()
        message.release()
        assert holds(publisher) == 0
        with pytest.raises(KeyError):
            with subscriber.recv(LIMIT) as message:
                kept.append(np.asarray(message))
                raise KeyError
        assert holds(publisher) == 1 and bytes(kept[0]) == LONG
        kept.clear()
        assert holds(publisher) == 0, "with the last view"
        first, second = subscriber.recv(LIMIT), subscriber.recv(LIMIT)
        with pytest.raises(wigwag.FullError, match=r"Publisher\(holds=...\)"):
            subscriber.recv(LIMIT)
        copy = subscriber.recv(LIMIT, copy=True)
        assert not copy.is_in_place and copy.sequence == second.sequence + 1, "nothing was lost"
        copy[0] = 99
        assert copy.tobytes()[1:] == LONG[1:] and copy[0] == 99
        del first
        gc.collect()
        assert subscriber.recv(LIMIT).is_in_place
        assert subscriber.stats()["may_hold"] == 2


def test_a_loop_lets_go_of_each_message_and_ends_with_the_broadcast(name: str) -> None:
    publisher = wigwag.Publisher(name, holds=1, history=16)
    subscriber = wigwag.Subscriber(name)
    publisher.wait_for_subscribers(1, LIMIT)
    for number in range(10):
        publisher.send(bytes([number]) + LONG)
    seen = []
    for message in subscriber:
        assert message.is_in_place and holds(publisher) == 1
        seen.append(message[0])
        if len(seen) == 10:
            break
    assert seen == list(range(10))
    subscriber.close()
    assert holds(publisher) == 0, "the one in hand"
    subscriber = wigwag.Subscriber(name, start="last")
    publisher.close()
    assert [bytes(message)[0] for message in subscriber] == [9]
    with pytest.raises(wigwag.EndedError) as raised:
        subscriber.recv(LIMIT)
    assert isinstance(raised.value, EOFError) and raised.value.kind == "Ended" and not raised.value.maybe_executed
    subscriber.close()
    assert list(subscriber) == []
    with pytest.raises(wigwag.ServerClosedError):
        subscriber.recv(LIMIT)


def test_drafts_are_written_where_they_will_be_read(name: str) -> None:
    with wigwag.Publisher(name, capacity=1 << 20, history=2) as publisher:
        subscriber = wigwag.Subscriber(name)
        publisher.wait_for_subscribers(1, LIMIT)
        with publisher.loan_array((100, 200), "float32") as draft:
            view = np.asarray(draft.array())
            view[:] = 7
            with pytest.raises(BufferError, match="publish a draft while 1 view"):
                draft.commit()
            del view
        with subscriber.recv(LIMIT) as message:
            assert message.is_in_place
            array = np.asarray(message.array())
            assert array.shape == (100, 200) and (array == 7).all() and not array.flags.writeable
            assert (np.from_dlpack(message.array()) == 7).all()
            del array
        with pytest.raises(KeyError):
            with publisher.loan(3) as draft:
                raise KeyError
        draft = publisher.loan(3)
        draft[:] = b"abc"
        assert draft.commit() == 2, "what an exception ended was not published"
        with pytest.raises(ValueError, match="published"):
            draft.commit()
        short, long = publisher.loan(1), publisher.loan(5000)
        long[:] = b"l" * 5000
        short[:] = b"s"
        assert (long.commit(), short.commit()) == (3, 4), "in the order of the commits"
        assert [subscriber.recv(LIMIT)[0:1] for _ in range(3)] == [b"a", b"l", b"s"]
        drafts = []
        with pytest.raises(wigwag.FullError, match="drafts"):
            while True:
                drafts.append(publisher.loan(1000))
        assert len(drafts) >= 64
        drafts.clear()
        publisher.loan(1000).release()


def test_arrays_and_objects(name: str) -> None:
    frame = np.arange(5000, dtype="f4").reshape(50, 100)
    with wigwag.Publisher(name) as publisher:
        subscriber = pickle.loads(pickle.dumps(wigwag.Subscriber(name, start="next", reconnect=1.5)))
        publisher.wait_for_subscribers(1, LIMIT)
        publisher.send_array(frame[::2, ::3])
        with subscriber.recv(LIMIT) as message:
            array = np.asarray(message.array())
            assert (array == frame[::2, ::3]).all()
            del array
        assert publisher.send_object({"frame": frame, "step": 3}) == 2
        message = subscriber.recv(LIMIT)
        with pytest.raises(PermissionError, match="allow_pickle"):
            message.object()
        found = message.object(allow_pickle=True)
        assert found["step"] == 3 and (found["frame"] == frame).all() and not found["frame"].flags.writeable
        assert message.views == 1 and holds(publisher) == 1
        del message
        assert (found["frame"] == frame).all() and holds(publisher) == 1, "the array holds it"
        del found
        gc.collect()
        assert holds(publisher) == 0
        publisher.send_object({"frame": frame})
        copied = subscriber.recv(LIMIT, copy=True).object(allow_pickle=True)
        copied["frame"][:] = 1
        publisher.send(b"no object")
        with subscriber.recv(LIMIT) as message, pytest.raises(wigwag.EncodingError):
            message.object(allow_pickle=True)


def test_a_publisher_that_waits_loses_nothing_and_cuts_off_who_stops(name: str) -> None:
    with wigwag.Publisher(name, history=4, overrun=0.2) as publisher:
        subscriber, stuck = wigwag.Subscriber(name), wigwag.Subscriber(name)
        publisher.wait_for_subscribers(2, LIMIT)
        received: list[int] = []

        def read() -> None:
            for message in subscriber:
                assert message.lost_before == 0
                received.append(int.from_bytes(message, "little"))

        thread = threading.Thread(target=read)
        thread.start()
        with pytest.raises(wigwag.TimedOut, match="overrun"):
            for number in range(10):
                publisher.send(number.to_bytes(2, "little"), timeout=0.01)
        with pytest.raises(wigwag.FullError, match="overrun"):
            publisher.send(b"x", timeout=0)
        for rest in range(number, 300):
            publisher.send(rest.to_bytes(2, "little"), timeout=LIMIT)
        assert publisher.stats()["cut_off"] == 1
        publisher.close()
        thread.join(LIMIT)
        assert received == list(range(300))
        with pytest.raises(wigwag.RefusedError, match="cut off"):
            while True:
                stuck.recv(LIMIT)


def test_one_with_no_patience_at_all_says_that_it_is_full(name: str) -> None:
    with wigwag.Publisher(name, history=2, overrun=0) as publisher:
        subscriber = wigwag.Subscriber(name)
        publisher.wait_for_subscribers(1, LIMIT)
        with pytest.raises(wigwag.FullError):
            for _ in range(10):
                publisher.send(b"x")
        while subscriber.try_recv() is not None:
            pass
        publisher.send(b"x")
        assert publisher.stats()["cut_off"] == 0


def test_numbers_out_of_their_limits_are_told(name: str) -> None:
    for wrong, kind, said in [
        ({"history": 0}, wigwag.InvalidConfigurationError, r"Publisher\(history=...\)"),
        ({"holds": 65}, wigwag.InvalidConfigurationError, r"Publisher\(holds=...\)"),
        ({"overrun": "wait"}, ValueError, "'drop_oldest', or a number of seconds"),
        ({"overrun": -1}, ValueError, "seconds from 0.0 on"),
        ({"overrun": []}, TypeError, "not list"),
        ({"retain": 1}, wigwag.InvalidConfigurationError, r"Publisher\(overrun=...\)"),
        ({"retain": 5, "history": 4, "overrun": 1}, wigwag.InvalidConfigurationError, r"Publisher\(retain=...\)"),
        ({"retain": -1}, OverflowError, "negative"),
        ({"max_bytes_total": 1000}, wigwag.InvalidConfigurationError, "max_bytes_total"),
    ]:
        with pytest.raises(kind, match=said):
            wigwag.Publisher(name, **wrong)
    wigwag.Publisher(name, overrun=float("inf")).close()
    wigwag.Publisher(name, overrun="drop_oldest").close()


def test_what_everybody_has_taken_is_retained_only_if_it_is_to_be(name: str) -> None:
    large = bytes(2 << 20)
    for retain, first in [(0, 11), (2, 9), (None, 7)]:
        with wigwag.Publisher(name, history=4, capacity=len(large), overrun=10, retain=retain) as publisher:
            subscriber = wigwag.Subscriber(name)
            publisher.wait_for_subscribers(1, timeout=10)
            for number in range(1, 11):
                publisher.send(number.to_bytes(1) * 100)
                with subscriber.recv(timeout=10) as message:
                    assert bytes(message) == number.to_bytes(1) * 100
            until = time.monotonic() + 10
            while True:  # until it is known that nobody else is about to come
                with publisher.loan(100) as draft:
                    draft.release()
                with wigwag.Subscriber(name, start="oldest") as oldest:
                    if oldest.lag == 11 - first:
                        break
                assert time.monotonic() < until, oldest.lag
            subscriber.close()


def test_a_killed_publisher_is_read_out_and_followed(name: str, program: Any) -> None:
    publisher = program(PUBLISHER, name, "4", "2")
    ends, follows = wigwag.Subscriber(name), wigwag.Subscriber(name, reconnect=LIMIT)
    publisher.process.stdin.write("6\n")
    publisher.process.stdin.flush()
    publisher.expect("sent")
    publisher.kill()
    held = []
    for subscriber in (ends, follows):
        message = subscriber.recv(LIMIT)
        assert (message.sequence, message.lost_before, message.is_in_place) == (3, 2, True)
        held.append(np.asarray(message))
        assert [subscriber.recv(LIMIT).sequence for _ in range(3)] == [4, 5, 6]
    with pytest.raises(wigwag.PeerDied) as raised:
        ends.recv(LIMIT)
    assert not raised.value.maybe_executed
    with pytest.raises(wigwag.PeerDied):
        next(ends)
    with pytest.raises(wigwag.TimedOut):
        follows.recv(0.05)
    ends.close()
    del ends
    gc.collect()
    assert all((view.view("<u8") == 3).all() for view in held), "views outlive the publisher and the subscriber"
    waiting = threading.Timer(0.1, lambda: program(PUBLISHER, name, "4", "0").process.communicate("7\n"))
    waiting.start()
    message = follows.recv(LIMIT)
    assert message.is_of_new_publisher and message.lost_before == message.sequence - 1
    waiting.join(LIMIT)
    # its input has ended, and so it ended in good order: the next is looked for
    while message.sequence < 7:
        message = follows.recv(LIMIT)
    with wigwag.Publisher(name) as publisher:
        publisher.send(b"third")
        message = follows.recv(LIMIT)
        assert message.is_of_new_publisher and bytes(message) == b"third"
        assert follows.stats()["publishers"] == 2
    follows.close()


def test_nobody_who_follows_in_time_is_told(name: str) -> None:
    publisher = wigwag.Publisher(name)
    subscriber = wigwag.Subscriber(name, reconnect=0.1)
    publisher.close()
    with pytest.raises(wigwag.NotRunningError):
        subscriber.recv(LIMIT)


def test_subscribers_that_are_killed_or_stopped_cost_nothing(name: str, program: Any) -> None:
    with wigwag.Publisher(name, history=4, max_holds=8, holds=4) as publisher:
        others = [program(SUBSCRIBER, name, "hold", waits=False) for _ in range(2)]
        for other in others:
            other.expect("connected")
        publisher.wait_for_subscribers(2, LIMIT)
        publisher.send(LONG)
        for other in others:
            other.expect("ready")
        others[0].send(signal.SIGSTOP)
        others[1].kill()
        for _ in range(100):
            publisher.send(LONG, timeout=LIMIT)
        until(lambda: publisher.stats()["subscribers"] == 1)
        (state,) = publisher.subscribers()
        assert state["pid"] == others[0].process.pid and state["lag"] == 100 and state["holds"] == 1
        subscriber = wigwag.Subscriber(name)
        publisher.send(LONG)
        assert subscriber.recv(LIMIT).sequence == 102


def test_threads_and_closing(name: str) -> None:
    publisher = wigwag.Publisher(name, history=1, overrun=float("inf"))
    subscriber = wigwag.Subscriber(name)
    publisher.wait_for_subscribers(1, LIMIT)
    outcomes: list[Any] = []

    def catch(run: Any) -> None:
        try:
            outcomes.append(run())
        except BaseException as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=catch, args=(subscriber.recv,))
    thread.start()
    until(lambda: "receiving" in repr(subscriber))
    with pytest.raises(RuntimeError, match="another thread"):
        subscriber.try_recv()
    subscriber.close()
    thread.join(LIMIT)
    assert outcomes == [wigwag.ServerClosedError]
    stuck = wigwag.Subscriber(name)
    publisher.wait_for_subscribers(1, LIMIT)
    thread = threading.Thread(target=catch, args=(lambda: [publisher.send(b"x") for _ in range(10)],))
    thread.start()
    until(lambda: "in use" in repr(publisher))
    publisher.close()
    thread.join(LIMIT)
    assert outcomes[1:] == [wigwag.ServerClosedError]
    assert bytes(stuck.recv(LIMIT)) == b"x"


def test_a_publisher_gives_its_name_to_the_next(name: str) -> None:
    publisher = wigwag.Publisher(name)
    with pytest.raises(wigwag.NameTakenError):
        wigwag.Publisher(name)
    subscriber = wigwag.Subscriber(name, reconnect=LIMIT)
    published = 3
    for _ in range(published):
        publisher.send(b"x")
    second = wigwag.Publisher(name, replace=LIMIT)
    with pytest.raises(wigwag.ServerClosedError):  # once its thread knows that the next one serves
        for _ in range(int(LIMIT * 100)):
            publisher.send(b"x")
            published += 1
            time.sleep(0.01)
    publisher.close()
    second.send(b"y")
    seen = 0
    while not (message := subscriber.recv(LIMIT)).is_of_new_publisher:
        assert bytes(message) == b"x"
        seen += 1 + message.lost_before
    assert bytes(message) == b"y" and seen == published
    assert message.lost_before == 0 and subscriber.publisher[1] >= 0
