"""Measures Wigwag beside what Python has: the same work, in the same run, in turns.

``python -m wigwag.bench`` shows a table of round trips; ``--goal Y1``, ``Y2`` or ``Y3`` a figure, its goal and the
verdict, last and on one line. The exit code is 0 if the goal is met, 1 if it is not.

Each contender has a process of its own that answers. A round trip writes every byte of the payload, has the other side
change every byte, and reads every byte of the answer.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from multiprocessing import shared_memory
from typing import Any, Callable, Optional

import wigwag

_CONTEXT = multiprocessing.get_context("spawn")
_ROUNDS = 15
# The payload of Y1.
_SMALL = 48


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        sys.exit("wigwag.bench needs numpy: pip install numpy")
    return numpy


# Behind the payload: how long the other side worked, in nanoseconds.
_TRAILER = 8


def _change(array: Any) -> None:
    """What the other side does to each byte, and how long that took it."""
    begin = time.perf_counter_ns()
    payload = array[:-_TRAILER]
    _numpy().add(payload, 1, out=payload)
    array[-_TRAILER:].view("u8")[0] = time.perf_counter_ns() - begin


class Contender:
    """A way to another process and back."""

    name = ""

    def __init__(self, size: int) -> None:
        self.size = size
        self.process: Any = None

    def start(self, target: Callable[..., None], *arguments: Any) -> None:
        self.process = _CONTEXT.Process(target=target, args=(self.size, *arguments), daemon=True)
        self.process.start()

    def room(self) -> Any:
        """Memory for a payload, as an array of bytes."""
        raise NotImplementedError

    def call(self, payload: Any) -> Any:
        """The payload, changed."""
        raise NotImplementedError

    def done(self) -> None:
        """Nobody looks at the answer any more."""

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


def _serve_wigwag(size: int, name: str) -> None:
    numpy = _numpy()
    server = wigwag.Server(name, capacity=max(size, 4096))
    if size == _SMALL:
        server.serve(_handle_small)
        return

    def handle(request: wigwag.Request) -> None:
        _change(numpy.asarray(request))

    server.serve(handle)


def _handle_small(request: wigwag.Request) -> None:
    request[0] = (request[0] + 1) & 255


class Wigwag(Contender):
    """A loan that is filled, called and read in place."""

    name = "wigwag"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        name = wigwag.testing.name("bench")
        self.start(_serve_wigwag, name)
        self.client = wigwag.Client(name, capacity=max(size, 4096), server_timeout=60)
        self.reply: Any = None
        self.loan: Any = None

    def room(self) -> Any:
        self.loan = self.client.loan(self.size)
        return _numpy().asarray(self.loan)

    def call(self, payload: Any) -> Any:
        loan, self.loan = self.loan, None
        self.reply = loan.call()
        return _numpy().asarray(self.reply)

    def done(self) -> None:
        self.reply = None


def _serve_pipe(size: int, end: Any) -> None:
    numpy = _numpy()
    while size == _SMALL:
        answer = bytearray(end.recv_bytes())
        answer[0] = (answer[0] + 1) & 255
        end.send_bytes(answer)
    while True:
        array = numpy.frombuffer(bytearray(end.recv_bytes()), "u1")
        _change(array)
        end.send_bytes(array)


class Pipe(Contender):
    """``multiprocessing.Pipe``, with ``send_bytes``: without a pickle."""

    name = "multiprocessing.Pipe"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.end, other = _CONTEXT.Pipe()
        self.start(_serve_pipe, other)
        self.array = _numpy().zeros(size, "u1")

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        self.end.send_bytes(payload)
        return _numpy().frombuffer(self.end.recv_bytes(), "u1")


def _serve_queue(size: int, there: Any, back: Any) -> None:
    while True:
        array = there.get()
        _change(array)
        back.put(array)


class Queue(Contender):
    """Two of ``multiprocessing.Queue``."""

    name = "multiprocessing.Queue"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.there, self.back = _CONTEXT.Queue(), _CONTEXT.Queue()
        self.start(_serve_queue, self.there, self.back)
        self.array = _numpy().zeros(size, "u1")

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        self.there.put(payload)
        return self.back.get()


def _serve_polled(size: int, name: str) -> None:
    numpy = _numpy()
    memory = shared_memory.SharedMemory(name)
    array = numpy.frombuffer(memory.buf, "u1", size, 64)
    turn: Any = memory.buf
    while True:
        while turn[0] != 1:
            pass
        if size == _SMALL:
            turn[64] = (turn[64] + 1) & 255
        else:
            _change(array)
        turn[0] = 0


class Polled(Contender):
    """``multiprocessing.shared_memory``, and a byte in it that both sides poll: what is written by hand."""

    name = "shared_memory, polled"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.memory = shared_memory.SharedMemory(create=True, size=64 + size)
        self.array = _numpy().frombuffer(self.memory.buf, "u1", size, 64)
        self.start(_serve_polled, self.memory.name)

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        turn: Any = self.memory.buf
        turn[0] = 1
        while turn[0]:
            pass
        return self.array

    def stop(self) -> None:
        super().stop()
        del self.array
        try:
            self.memory.close()
        except BufferError:
            pass
        self.memory.unlink()


def _serve_semaphore(size: int, name: str, there: Any, back: Any) -> None:
    numpy = _numpy()
    memory = shared_memory.SharedMemory(name)
    array = numpy.frombuffer(memory.buf, "u1", size)
    while True:
        there.acquire()
        _change(array)
        back.release()


class WithSemaphore(Contender):
    """``multiprocessing.shared_memory`` with two of ``multiprocessing.Semaphore``."""

    name = "shared_memory, semaphores"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.memory = shared_memory.SharedMemory(create=True, size=size)
        self.array = _numpy().frombuffer(self.memory.buf, "u1", size)
        self.there, self.back = _CONTEXT.Semaphore(0), _CONTEXT.Semaphore(0)
        self.start(_serve_semaphore, self.memory.name, self.there, self.back)

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        self.there.release()
        self.back.acquire()
        return self.array

    def stop(self) -> None:
        super().stop()
        del self.array
        try:
            self.memory.close()
        except BufferError:
            pass
        self.memory.unlink()


def _receive(end: socket.socket, target: memoryview) -> None:
    done = 0
    while done < len(target):
        done += end.recv_into(target[done:])


def _serve_socket(size: int, end: socket.socket) -> None:
    array = _numpy().zeros(size, "u1")
    view = memoryview(array)
    while size == _SMALL:
        _receive(end, view)
        view[0] = (view[0] + 1) & 255
        end.sendall(view)
    while True:
        _receive(end, view)
        _change(array)
        end.sendall(array)


class UnixSocket(Contender):
    """A Unix stream socket."""

    name = "Unix socket"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.end, other = socket.socketpair()
        self.start(_serve_socket, other)
        other.close()
        self.array = _numpy().zeros(size, "u1")

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        # What is larger than the socket's buffer needs both directions at a time.
        if self.size > 100_000:
            sender = threading.Thread(target=self.end.sendall, args=(payload,))
            sender.start()
            sender.join()
        else:
            self.end.sendall(payload)
        _receive(self.end, memoryview(self.array))
        return self.array


def _serve_zmq(size: int, path: str) -> None:
    zmq = importlib.import_module("zmq")
    numpy = _numpy()
    end = zmq.Context().socket(zmq.REP)
    end.bind(f"ipc://{path}")
    while True:
        array = numpy.frombuffer(bytearray(end.recv()), "u1")
        _change(array)
        end.send(array)


class Zmq(Contender):
    """pyzmq over ``ipc://``, where it is installed."""

    name = "pyzmq ipc"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        zmq = importlib.import_module("zmq")
        path = wigwag.testing.name("zmq")
        self.start(_serve_zmq, path)
        self.end = zmq.Context().socket(zmq.REQ)
        self.end.connect(f"ipc://{path}")
        self.array = _numpy().zeros(size, "u1")

    def room(self) -> Any:
        return self.array

    def call(self, payload: Any) -> Any:
        self.end.send(payload)
        return _numpy().frombuffer(self.end.recv(), "u1")


def _contenders(kinds: list[type[Contender]], size: int) -> list[Contender]:
    made = []
    for kind in kinds:
        try:
            made.append(kind(size))
        except ImportError as error:
            print(f"{kind.name} is not there: {error}", file=sys.stderr)
    return made


def _round_trip(contender: Contender, number: int) -> tuple[int, int]:
    """Nanoseconds of one round trip in which each byte is written, changed and read, and of the way: what the call
    took beyond the other side's work."""
    begin = time.perf_counter_ns()
    room = contender.room()
    room.fill(number)
    room = None if isinstance(contender, Wigwag) else room
    called = time.perf_counter_ns()
    back = contender.call(room)
    came = time.perf_counter_ns()
    total = int(back[:-_TRAILER].sum(dtype="u8"))
    end = time.perf_counter_ns()
    if total != (contender.size - _TRAILER) * (number + 1):
        sys.exit(f"{contender.name}: the bytes that came back are wrong")
    work = int(back[-_TRAILER:].view("u8")[0])
    del back
    contender.done()
    return end - begin, came - called - work


def _in_turns(contenders: list[Contender], count: int) -> dict[str, tuple[float, float]]:
    """The medians of each, of the round trip and of the way, in microseconds."""
    times: dict[str, list[tuple[int, int]]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        for number in range(5):
            _round_trip(contender, number)
    for _ in range(_ROUNDS):
        for contender in contenders:
            times[contender.name] += [_round_trip(contender, number % 200) for number in range(count)]
    medians = {}
    for name, both in times.items():
        whole, way = zip(*both)
        medians[name] = statistics.median(whole) / 1000, statistics.median(way) / 1000
    return medians


def _small_calls(count: int) -> dict[str, float]:
    """48 bytes there and back, closed loop: bytes in, bytes out. The median, in microseconds."""
    size, data = _SMALL, bytes(_SMALL)
    contenders = _contenders([Wigwag, Pipe, Polled, UnixSocket], size)
    by_name = {contender.name: contender for contender in contenders}
    client = by_name[Wigwag.name].client  # type: ignore[attr-defined]
    end = by_name[Pipe.name].end  # type: ignore[attr-defined]
    memory = by_name[Polled.name].memory.buf  # type: ignore[attr-defined]
    near = by_name[UnixSocket.name].end  # type: ignore[attr-defined]

    def wigwag_call() -> bytes:
        return client.call(data).tobytes()  # type: ignore[no-any-return]

    def pipe_call() -> bytes:
        end.send_bytes(data)
        return end.recv_bytes()  # type: ignore[no-any-return]

    def polled_call() -> bytes:
        memory[64:112] = data
        memory[0] = 1
        while memory[0]:
            pass
        return bytes(memory[64:112])

    def socket_call() -> bytes:
        near.sendall(data)
        return near.recv(size)  # type: ignore[no-any-return]

    calls = {
        Wigwag.name: wigwag_call,
        Pipe.name: pipe_call,
        Polled.name: polled_call,
        UnixSocket.name: socket_call,
    }
    times: dict[str, list[int]] = {name: [] for name in calls}
    clock = time.perf_counter_ns
    try:
        for turn in range(_ROUNDS + 1):
            for name, call in calls.items():
                # A side that polls would take the processor of the others.
                polled = by_name[Polled.name].process.pid
                os.kill(polled, signal.SIGCONT if name == Polled.name else signal.SIGSTOP)
                for _ in range(50):
                    call()
                for _ in range(count if turn else 50):
                    begin = clock()
                    answer = call()
                    times[name].append(clock() - begin)
                if answer[0] != 1:
                    sys.exit(f"{name}: the bytes that came back are wrong")
    finally:
        for contender in contenders:
            contender.stop()
    return {name: statistics.median(all_times) / 1000 for name, all_times in times.items()}


def _verdict(goal: str, parts: list[tuple[str, bool]]) -> int:
    is_met = all(fine for _, fine in parts)
    print(f"{goal}: {'; '.join(text for text, _ in parts)}: {'met' if is_met else 'NOT met'}")
    return 0 if is_met else 1


def goal_y1() -> int:
    """48 bytes, closed loop."""
    medians = _small_calls(2000)
    for name, median in medians.items():
        print(f"{name:28} {median:10.2f} us")
    own = medians[Wigwag.name]
    pipe, polled = medians[Pipe.name] / own, medians[Polled.name] / own
    return _verdict(
        "Y1",
        [
            (f"p50 {own:.2f} us (<= 1.00)", own <= 1.0),
            (f"multiprocessing.Pipe takes {pipe:.1f} x (>= 30)", pipe >= 30),
            (f"shared_memory polled by hand takes {polled:.2f} x (>= 1.00)", polled >= 1.0),
        ],
    )


def goal_y2() -> int:
    """A frame of 6.2 MB there and back."""
    contenders = _contenders([Wigwag, Queue, WithSemaphore], 1920 * 1080 * 3 + _TRAILER)
    try:
        medians = _in_turns(contenders, 8)
    finally:
        for contender in contenders:
            contender.stop()
    for name, (whole, way) in medians.items():
        print(f"{name:28} {whole:10.1f} us with the work of both sides, the way takes {way:10.1f} us")
    own, queue = medians[Wigwag.name][1], medians[Queue.name][1]
    ratio = queue / max(own, 0.1)
    return _verdict(
        "Y2",
        [
            (f"the way adds {own:.1f} us (<= 50)", own <= 50),
            (f"multiprocessing.Queue's adds {ratio:.0f} x (>= 50)", ratio >= 50),
        ],
    )


_WAITING = """
import sys, threading, time, wigwag
receiver = wigwag.Receiver(sys.argv[1])
{threads}
time.sleep(0.2)
print("ready", flush=True)
sys.stdin.readline()
before = time.process_time_ns(), time.perf_counter_ns()
{work}
print(time.process_time_ns() - before[0], time.perf_counter_ns() - before[1], flush=True)
receiver.shutdown()
"""

_INTERRUPTED = """
import sys, time, wigwag
server = wigwag.Server(sys.argv[1])
print("ready", flush=True)
try:
    server.recv()
except KeyboardInterrupt:
    print(time.perf_counter_ns(), flush=True)
"""


def _program(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, wigwag.testing.name("bench")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        sys.exit("a process of the measurement did not begin")
    return process


def _measured(code: str) -> tuple[int, int]:
    process = _program(code)
    output, _ = process.communicate("go\n")
    cpu, wall = output.split()
    return int(cpu), int(wall)


def goal_y3() -> int:
    """Waiting: processor time, another thread's progress, Ctrl-C."""
    waits = "threading.Thread(target=lambda: list(receiver)).start()"
    work = "sum(number * number for number in range(5_000_000))"
    idle = max(_measured(_WAITING.format(threads=waits, work="time.sleep(2)"))[0] for _ in range(3)) / 2e9
    ratios = []
    for _ in range(7):
        alone, _wall = _measured(_WAITING.format(threads="", work=work))
        beside, _wall = _measured(_WAITING.format(threads=waits, work=work))
        ratios.append(alone / beside)
    progress = statistics.median(ratios)
    delays = []
    for _ in range(20):
        process = _program(_INTERRUPTED)
        time.sleep(0.02)
        begin = time.perf_counter_ns()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        delays.append((int(output) - begin) / 1e6)
    delay = max(delays)
    print(f"processor time while waiting   {100 * idle:8.3f} %")
    print(f"another thread's progress      {progress:8.3f}")
    print(f"Ctrl-C, the longest of 20      {delay:8.3f} ms")
    return _verdict(
        "Y3",
        [
            # A sleep of two seconds has a cost of its own: some 100 us.
            (f"{100 * idle:.3f} % of a processor (0.0)", idle < 0.0005),
            (f"another thread's progress {progress:.3f} (>= 0.95)", progress >= 0.95),
            (f"Ctrl-C after {delay:.1f} ms (<= 50)", delay <= 50),
        ],
    )


def table(sizes: list[int]) -> int:
    """Round trips of all contenders."""
    kinds: list[type[Contender]] = [Wigwag, WithSemaphore, UnixSocket, Pipe, Queue, Zmq]
    print(f"{'bytes':>10} " + " ".join(f"{kind.name:>26}" for kind in kinds))
    for size in sizes:
        contenders = _contenders(kinds, size + _TRAILER)
        try:
            medians = _in_turns(contenders, 30 if size < 1_000_000 else 4)
        finally:
            for contender in contenders:
                contender.stop()
        cells = [f"{medians[kind.name][0]:23.1f} us" if kind.name in medians else f"{'-':>26}" for kind in kinds]
        print(f"{size:>10} " + " ".join(cells), flush=True)
    return 0


def main(arguments: Optional[list[str]] = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m wigwag.bench", description=__doc__.split("\n")[0])
    goals = {"Y1": goal_y1, "Y2": goal_y2, "Y3": goal_y3}
    parser.add_argument("--goal", choices=sorted(goals), help="measure one goal, and say whether it is met")
    parser.add_argument("--sizes", default="48,4096,65536,1048576,6220800", help="bytes of the table's payloads")
    options = parser.parse_args(arguments)
    if options.goal:
        return goals[options.goal]()
    return table([int(size) for size in options.sizes.split(",")])


if __name__ == "__main__":
    sys.exit(main())
