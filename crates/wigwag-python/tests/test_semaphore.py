"""Permits: waited for, given back, and recovered from the killed."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

import wigwag
from conftest import LIMIT


def test_permits_are_taken_and_given_back(name: str) -> None:
    semaphore = wigwag.Semaphore(name, 3)
    with semaphore.acquire(2) as permit:
        assert (permit.count, permit.recovered, semaphore.available) == (2, 0, 1)
        assert semaphore.try_acquire(2) is None
        with pytest.raises(wigwag.FullError):
            semaphore.acquire(2, timeout=0)
        with pytest.raises(wigwag.TimedOut):
            semaphore.acquire(2, timeout=0.05)
        assert "1 of 3" in repr(semaphore) and "held" in repr(permit)
    assert semaphore.available == 3
    permit.release()
    with pytest.raises(wigwag.WigwagError):
        wigwag.Semaphore(name, 4)
    again = pickle.loads(pickle.dumps(semaphore))
    held = again.acquire(3)
    thread = threading.Timer(0.05, held.release)
    thread.start()
    semaphore.acquire(timeout=LIMIT).release()


def test_a_killed_holder_gives_back_what_it_had(name: str, program: Any) -> None:
    semaphore = wigwag.Semaphore(name, 1)
    holder = program(
        """
        import sys, time, wigwag
        permit = wigwag.Semaphore(sys.argv[1], 1).acquire()
        print('ready', flush=True)
        time.sleep(1000)
        """,
        name,
    )
    assert semaphore.try_acquire() is None
    holder.kill()
    assert semaphore.acquire(timeout=LIMIT).recovered == 1
