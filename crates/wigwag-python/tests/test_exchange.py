"""Calls: what comes back, what is said when it does not, and when the server dies at any moment."""

from __future__ import annotations

import array
import logging
import pickle
import signal
import threading
import time
from typing import Any, Callable

import numpy as np
import pytest

import wigwag
from conftest import LIMIT

SERVER = """
import sys, time, wigwag
server = wigwag.Server(sys.argv[1])
print("ready", flush=True)
def handle(request):
    if request[:4] == b"hang":
        print("hangs", flush=True)
        time.sleep(1000)
    return bytes(request).upper()
server.serve(handle)
"""


def test_bytes_come_back_changed(serving: Any) -> None:
    server = serving(lambda request: request.tobytes()[::-1])
    with wigwag.Client(server.path) as client:
        for data in (b"", b"x", bytes(range(48)), bytes(range(49)), bytes(100_000)):
            with client.call(data, timeout=LIMIT) as reply:
                assert bytes(reply) == data[::-1] and len(reply) == len(data)
        for other in (bytearray(b"abc"), memoryview(b"abc"), array.array("B", b"abc"), np.frombuffer(b"abc", "u1")):
            assert client.call(other, timeout=LIMIT).tobytes() == b"cba"
        assert client.stats()["calls"] == 9


def test_a_handler_changes_the_clients_own_bytes(serving: Any) -> None:
    def invert(request: wigwag.Request) -> None:
        pixels = np.asarray(request)
        np.subtract(255, pixels, out=pixels)

    server = serving(invert)
    client = wigwag.Client(server.path)
    loan = client.loan(1000)
    pixels = np.asarray(loan)
    pixels[:] = 7
    address = pixels.ctypes.data
    del pixels
    reply = loan.call(LIMIT)
    pixels = np.asarray(reply)
    assert (pixels == 248).all() and pixels.ctypes.data == address, "nothing was copied"


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4), (1, 2, 1, 2, 1, 2, 1, 2)])
def test_arrays_keep_element_and_shape(serving: Any, dtype: str, shape: tuple[int, ...]) -> None:
    server = serving()
    given = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape).astype(dtype)
    with wigwag.Client(server.path) as client:
        reply = client.call_array(given, timeout=LIMIT)
        back = np.asarray(reply.array())
        assert back.dtype == given.dtype and back.shape == given.shape and (back == given).all()
        assert back.ctypes.data % 64 == 0 or back.size == 0
        tensor = np.from_dlpack(reply.array())
        assert tensor.dtype == given.dtype and (tensor == given).all()


def test_arrays_that_are_not_contiguous_are_copied_in_c_order(serving: Any) -> None:
    server = serving()
    client = wigwag.Client(server.path)
    base = np.arange(24, dtype="i4").reshape(2, 3, 4)
    for given in (base.T, base[:, ::-1], base[..., ::2], np.asfortranarray(base)):
        back = np.asarray(client.call_array(given, timeout=LIMIT).array())
        assert back.shape == given.shape and (back == given).all() and back.flags.c_contiguous


def test_loans_of_arrays_and_replies_with_arrays(serving: Any) -> None:
    server = serving(lambda request: np.asarray(request.array()).astype("f8") * 2)
    client = wigwag.Client(server.path)
    for dtype in ("float32", np.float32, np.dtype("f4")):
        loan = client.loan_array((2, 3), dtype)
        np.asarray(loan.array())[:] = [[1, 2, 3], [4, 5, 6]]
        back = loan.call(LIMIT).array()
        assert (back.shape, back.dtype, back.nbytes, len(back)) == ((2, 3), "float64", 48, 2)
        assert np.asarray(back).sum() == 42
    assert client.loan_array(7, "bfloat16").array().dtype == "bfloat16"


def test_arrays_without_a_buffer_come_by_dlpack(serving: Any) -> None:
    class Tensor:
        """As a torch tensor: no buffer, only DLPack."""

        def __init__(self, of: Any) -> None:
            self.of = of

        def __dlpack__(self, **options: Any) -> Any:
            return self.of.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.of.__dlpack_device__()

    client = wigwag.Client(serving().path)
    base = np.arange(12, dtype="f4").reshape(3, 4)
    for given in (base, base.T, base[:, 1:3]):
        back = np.asarray(client.call_array(Tensor(given), timeout=LIMIT).array())
        assert (back == given).all()
    bfloat = client.loan_array((3,), "bfloat16")
    again = client.call_array(Tensor(bfloat.array()), timeout=LIMIT)
    assert again.array().dtype == "bfloat16"
    with pytest.raises(BufferError, match="DLPack"):
        memoryview(again.array())


def test_many_calls_are_under_way_and_answered_in_any_order(serving: Any) -> None:
    client = wigwag.Client(serving(lambda request: request.tobytes() + b"!", threads=3).path, slots=8)
    pending = [client.send(str(number).encode()) for number in range(8)]
    for number, one in reversed(list(enumerate(pending))):
        assert one.wait(LIMIT).tobytes() == f"{number}!".encode()
    with pytest.raises(ValueError, match="taken"):
        pending[0].wait()


def test_threads_share_a_client(serving: Any) -> None:
    client = wigwag.Client(serving(threads=2).path, slots=2)
    wrong: list[Any] = []

    def call(number: int) -> None:
        for turn in range(300):
            data = f"{number} {turn}".encode()
            if client.call(data, timeout=LIMIT).tobytes() != data:
                wrong.append(data)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert not wrong and client.stats()["calls"] == 1500


def test_exceptions_of_a_handler_go_to_the_caller(serving: Any, caplog: Any) -> None:
    def fail(request: wigwag.Request) -> None:
        raise KeyError("no such picture")

    client = wigwag.Client(serving(fail).path)
    with caplog.at_level(logging.ERROR, "wigwag"), pytest.raises(wigwag.HandlerFailedError) as raised:
        client.call(b"", timeout=LIMIT)
    assert str(raised.value) == "KeyError: 'no such picture'" and raised.value.kind == "HandlerFailed"
    assert "no such picture" in caplog.text and "Traceback" in caplog.text
    client = wigwag.Client(serving(lambda request: 42).path)
    with pytest.raises(wigwag.HandlerFailedError, match="int has no bytes"):
        client.call(b"", timeout=LIMIT)


def test_a_request_that_is_dropped_is_told_of(name: str) -> None:
    with wigwag.Server(name) as server:
        pending = wigwag.Client(name).send(b"?")
        server.recv(LIMIT).release()
        with pytest.raises(wigwag.UnansweredError):
            pending.wait(LIMIT)


def test_what_is_over_says_so(serving: Any, name: str) -> None:
    client = wigwag.Client(serving().path, slots=1, capacity=4096)
    with pytest.raises(wigwag.CapacityExceededError, match="4097.*4096"):
        client.call(bytes(4097))
    loan = client.loan(8)
    with pytest.raises(wigwag.FullError):
        client.loan(8, timeout=0)
    with pytest.raises(wigwag.TimedOut) as raised:
        client.loan(8, timeout=0.01)
    assert not raised.value.maybe_executed and isinstance(raised.value, TimeoutError)
    loan.release()
    assert "loan" in repr(loan).lower() and "released" in repr(loan)
    with pytest.raises(ValueError, match="released"):
        loan.call()
    client.close()
    assert client.closed and "closed" in repr(client)
    with pytest.raises(wigwag.ServerClosedError):
        client.call(b"")
    with pytest.raises(wigwag.NotRunningError):
        wigwag.Client(name)
    with wigwag.Server(name), pytest.raises(wigwag.NameTakenError):
        wigwag.Server(name)
    with pytest.raises(wigwag.NameInvalidError):
        wigwag.Client("a/b")
    with pytest.raises(ValueError, match="adaptive"):
        wigwag.Client(name, wait="quickly")
    with pytest.raises(ValueError, match="seconds"):
        wigwag.Client(name, timeout=-1)


def test_a_slot_that_comes_free_in_another_thread_is_waited_for(serving: Any) -> None:
    client = wigwag.Client(serving().path, slots=1)
    loan = client.loan(8)
    timer = threading.Timer(0.05, loan.release)
    timer.start()
    assert client.loan(8, timeout=LIMIT) is not None


def test_a_killed_server_ends_each_waiting_call(name: str, program: Any) -> None:
    server = program(SERVER, name)
    clients = [wigwag.Client(name) for _ in range(3)]
    assert clients[0].call(b"hello", timeout=LIMIT).tobytes() == b"HELLO"
    outcomes: list[Any] = []

    def call(client: wigwag.Client) -> None:
        try:
            client.call(b"hang")
        except wigwag.PeerDied as error:
            outcomes.append((error.kind, error.maybe_executed))

    threads = [threading.Thread(target=call, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    server.expect("hangs")
    server.kill()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert len(outcomes) == 3 and ("PeerDied", True) in outcomes
    with pytest.raises(wigwag.PeerDied) as raised:
        clients[0].call(b"later")
    assert not raised.value.maybe_executed


def test_a_stopped_server_costs_the_time_that_the_caller_gives_it(name: str, program: Any) -> None:
    server = program(SERVER, name)
    client = wigwag.Client(name)
    server.send(signal.SIGSTOP)
    with pytest.raises(wigwag.TimedOut) as raised:
        client.call(b"hello", timeout=0.05)
    assert raised.value.maybe_executed and "0.05 s" in str(raised.value)
    server.send(signal.SIGCONT)
    assert client.call(b"again", timeout=LIMIT).tobytes() == b"AGAIN"


def test_killed_clients_cost_the_server_nothing(serving: Any, program: Any) -> None:
    server = serving(lambda request: request.tobytes())
    for _ in range(3):
        client = program(
            """
            import sys, wigwag
            client = wigwag.Client(sys.argv[1])
            print("ready", flush=True)
            while True:
                client.call(bytes(1000))
            """,
            str(server.path),
        )
        time.sleep(0.02)
        client.kill()
    assert wigwag.Client(server.path).call(b"on", timeout=LIMIT).tobytes() == b"on"


def test_a_pickled_client_connects_anew(serving: Any) -> None:
    server = serving()
    client = wigwag.Client(server.path, slots=3, capacity=10_000)
    again = pickle.loads(pickle.dumps(client))
    assert again is not client and (again.slots, again.capacity) == (3, 10_000)
    assert again.call(b"x", timeout=LIMIT).tobytes() == b"x"


def test_objects_travel_with_their_arrays_out_of_band(serving: Any) -> None:
    server = serving(lambda value: {**value, "frame": value["frame"] + 1, "same": value["frame"]}, method="serve_objects",
                     capacity=8 << 20)
    client = wigwag.Client(server.path, capacity=8 << 20)
    frame = np.arange(100_000, dtype="f8")
    for _ in range(20):
        back = client.call_object({"frame": frame, "name": "one"}, allow_pickle=True, timeout=LIMIT)
        assert back["name"] == "one" and (back["frame"] == frame + 1).all() and (back["same"] == frame).all()
    del back
    with pytest.raises(PermissionError, match="allow_pickle"):
        client.call_object(1)
    with pytest.raises(PermissionError, match="allow_pickle"):
        wigwag.Server(wigwag.testing.name("o")).serve_objects(print)
    with pytest.raises(wigwag.HandlerFailedError, match="EncodingError"):
        client.call(b"no pickle", timeout=LIMIT)


def test_a_handler_may_answer_by_itself_or_later(name: str) -> None:
    with wigwag.Server(name) as server:
        client = wigwag.Client(name)
        pending = client.send(b"abc")
        request = server.recv(LIMIT)
        assert request.peer[1:] != () and not request.is_from_other_user and request.time_left is None
        request.resize(2)
        assert len(request) == 2 and request[:] == b"ab" and request[0] == 97
        request[0] = 98
        request[1:2] = b"c"
        threading.Thread(target=request.reply).start()
        assert pending.wait(LIMIT).tobytes() == b"bc"
        pending = client.send(b"abc")
        server.recv(LIMIT).reply_array(np.arange(3, dtype="i2"))
        assert np.asarray(pending.wait(LIMIT).array()).tolist() == [0, 1, 2]
        pending = client.send(b"abc")
        server.recv(LIMIT).fail("not today")
        with pytest.raises(wigwag.HandlerFailedError, match="not today"):
            pending.wait(LIMIT)
        pending = client.send(b"abc")
        request = server.recv(LIMIT)
        pending.cancel()
        assert request.is_abandoned
        with pytest.raises(wigwag.TimedOut):
            server.recv(0.01)
        assert server.try_recv() is None


def test_the_iteration_ends_with_the_shutdown(name: str) -> None:
    with wigwag.Server(name) as server:
        client = wigwag.Client(name)
        pending = [client.send(bytes([number])) for number in range(3)]
        server.shutdown()
        for request in server:
            request.reply(b"done")
        assert [one.wait(LIMIT).tobytes() for one in pending] == [b"done"] * 3


def test_the_newest_slot_says_what_it_is(serving: Any) -> None:
    client = wigwag.Client(serving().path)
    reply: Callable[..., Any] = client.call(b"abc", timeout=LIMIT)
    view = memoryview(reply)
    assert repr(reply) == "<wigwag.Reply of 3 bytes, 1 view alive>"
    view.release()
    again = reply.loan().call(LIMIT)
    assert again.tobytes() == b"abc"
