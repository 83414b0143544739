"""Streams: all bytes, both ways, and an error where the other side was killed."""

from __future__ import annotations

import pickle
import threading
from typing import Any, Iterator

import pytest

import wigwag
from conftest import LIMIT


@pytest.fixture
def pair(name: str) -> Iterator[tuple[wigwag.Stream, wigwag.Stream]]:
    with wigwag.StreamListener(name) as listener:
        near = wigwag.Stream(listener.path)
        far = listener.accept(LIMIT)
        yield near, far
        near.close()
        far.close()


def test_bytes_go_both_ways_and_end(pair: Any) -> None:
    near, far = pair
    near.write_all(b"hello")
    assert far.read(timeout=LIMIT) == b"hello"
    far.write_all(memoryview(b"world"), timeout=LIMIT)
    assert near.read_exactly(5, timeout=LIMIT) == b"world"
    with pytest.raises(wigwag.TimedOut):
        near.read(timeout=0.01)
    far.write_all(b"end")
    far.shutdown()
    target = bytearray(8)
    assert near.read_into(target, timeout=LIMIT) == 3 and target[:3] == b"end"
    assert near.read(timeout=LIMIT) == b""
    with pytest.raises(EOFError, match="0 of 4"):
        near.read_exactly(4, timeout=LIMIT)
    near.close()
    assert near.closed and "closed" in repr(near)
    with pytest.raises(wigwag.ServerClosedError):
        near.read()


def test_more_than_the_rings_hold(pair: Any) -> None:
    near, far = pair
    data = bytes(range(256)) * 20_000
    thread = threading.Thread(target=near.write_all, args=(data,))
    thread.start()
    assert far.read_exactly(len(data), timeout=LIMIT) == data
    thread.join(LIMIT)
    with pytest.raises(wigwag.TimedOut, match="of 5120000 bytes"):
        near.write_all(data, timeout=0.05)


def test_the_end_of_a_killed_process_is_an_error(name: str, program: Any) -> None:
    with wigwag.StreamListener(name) as listener:
        other = program(
            """
            import sys, time, wigwag
            stream = wigwag.Stream(sys.argv[1])
            stream.write_all(b'last words')
            print('ready', flush=True)
            time.sleep(1000)
            """,
            name,
        )
        stream = listener.accept(LIMIT)
        other.kill()
        assert stream.read_exactly(10, timeout=LIMIT) == b"last words"
        with pytest.raises((wigwag.PeerDied, ConnectionError)):
            stream.read(timeout=LIMIT)


def test_an_exception_in_a_with_block_is_no_end(pair: Any) -> None:
    near, far = pair
    with pytest.raises(KeyError):
        with near:
            near.write_all(b"half a sen")
            raise KeyError
    with pytest.raises((wigwag.AbortedError, ConnectionError)):
        while far.read(timeout=LIMIT):
            pass


def test_a_listener_ends_and_handles_are_pickled(name: str) -> None:
    listener = wigwag.StreamListener(name)
    stream = pickle.loads(pickle.dumps(wigwag.Stream(name)))
    with pytest.raises(TypeError, match="accepted"):
        pickle.dumps(listener.accept(LIMIT))
    listener.accept(LIMIT)
    with pytest.raises(wigwag.TimedOut):
        listener.accept(0.01)
    timer = threading.Timer(0.05, listener.shutdown)
    timer.start()
    assert list(listener) == []
    with pytest.raises(wigwag.ServerClosedError):
        listener.accept(LIMIT)
    stream.close()
