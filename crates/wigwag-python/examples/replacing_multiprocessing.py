"""What `multiprocessing.Queue` and `multiprocessing.shared_memory` are used for, without pickles, leaks and leftovers.

    python replacing_multiprocessing.py
"""

import multiprocessing

import numpy as np

import wigwag

# Before:
#
#   tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
#   tasks.put(frame)                                  # pickled, sent through a pipe, unpickled
#   frame = results.get()                             # once more; hangs if the worker was killed
#
#   memory = shared_memory.SharedMemory(create=True, size=frame.nbytes)
#   ...                                               # and a lock, a name to pass on, close(), unlink(), and what is
#                                                     # left in /dev/shm when somebody was killed


def worker(name: str) -> None:
    def double(request: wigwag.Request) -> None:
        frame = np.asarray(request.array())
        frame *= 2

    wigwag.Server(name, capacity=16 << 20).serve(double)


def main() -> None:
    name = wigwag.testing.name("worker")
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(name,), daemon=True)
    process.start()
    client = wigwag.Client(name, capacity=16 << 20, server_timeout=30)
    frame = np.arange(1_000_000, dtype="float64")
    with client.call_array(frame, timeout=10) as reply:
        print("sum", np.asarray(reply.array()).sum())
    pending = client.send(b"this worker is killed")
    process.kill()
    try:
        pending.wait(timeout=10)
    except wigwag.WigwagError as error:
        print(f"{type(error).__name__}, at once")


if __name__ == "__main__":
    main()
