"""Both sides of the Python contender: `python3 -c PROGRAM serve|measure poll|block ORDERS`; see python.rs.

The semaphores are multiprocessing's own. They are passed on by name, as multiprocessing itself does for a child that
it spawns; these two processes are no relatives.
"""

import collections
import json
import multiprocessing
import multiprocessing.shared_memory
import multiprocessing.synchronize
import os
import resource
import sys
import time

PLUS_ONE = bytes((value + 1) % 256 for value in range(256))
now = time.monotonic_ns

part, polls, orders = sys.argv[1], sys.argv[2] == "poll", json.loads(sys.argv[3])
case, size = orders["case"], orders["case"]["size"]
names = os.path.join(orders["directory"], "names")
# For a few bytes one call into numpy costs more than bytes.translate in whole.
vectors = size >= 1024
if vectors:
    try:
        import numpy
    except ImportError:
        vectors = False


def say(text):
    print(text, flush=True)


def taker(semaphore):
    """What waits for a semaphore."""
    acquire = semaphore.acquire
    if not polls:
        return acquire

    def take():
        while not acquire(False):
            pass

    return take


def serve():
    context = multiprocessing.get_context("spawn")
    requests, replies = context.Semaphore(0), context.Semaphore(0)
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=size)
    with open(names, "w") as file:
        json.dump([memory.name, requests._semlock.name, replies._semlock.name], file)
    view = memory.buf[:size]
    take, give = taker(requests), replies.release
    say("ready")
    if vectors:
        lying, add = numpy.frombuffer(view, numpy.uint8), numpy.add
        while True:
            take()
            add(lying, 1, lying)
            give()
    while True:
        take()
        view[:] = bytes(view).translate(PLUS_ONE)
        give()


def semaphore_of(name):
    semaphore = object.__new__(multiprocessing.synchronize.Semaphore)
    semaphore._is_fork_ctx = False
    # Type 1 is a semaphore, as against a recursive mutex.
    semaphore.__setstate__((0, 1, multiprocessing.synchronize.SEM_VALUE_MAX, name))
    return semaphore


def connect():
    """Gives a function that makes the call of a number and checks the whole reply."""
    with open(names) as file:
        memory_name, requests, replies = json.load(file)
    memory = multiprocessing.shared_memory.SharedMemory(name=memory_name)
    view = memory.buf[:size]
    give, take = semaphore_of(requests).release, taker(semaphore_of(replies))
    patterns = [bytes((17 * number + place) % 256 for place in range(8)) for number in range(4)]
    asked = [(pattern * (size // 8 + 1))[:size] for pattern in patterns]
    expected = [request.translate(PLUS_ONE) for request in asked]

    is_expected = lambda number: bytes(view) == expected[number & 3]
    if vectors:
        lying, same = numpy.frombuffer(view, numpy.uint8), numpy.empty(size, bool)
        wanted = [numpy.frombuffer(reply, numpy.uint8) for reply in expected]
        is_expected = lambda number: numpy.equal(lying, wanted[number & 3], same).all()

    def call(number):
        view[:] = asked[number & 3]
        give()
        take()
        if not is_expected(number):
            raise ValueError(f"the reply to request {number} is not what was asked for")

    call.memory = memory
    return call


def used(process):
    """Processor time and context switches of a process so far."""
    if process == os.getpid():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.process_time_ns(), usage.ru_nvcsw + usage.ru_nivcsw
    switches = 0
    for task in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{task}/status") as file:
            switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return time.clock_gettime_ns((~process << 3) | 2), switches


class Meter:
    def __init__(self):
        self.latency, self.first = collections.Counter(), collections.Counter()
        self.number = self.calls = self.elapsed = 0

    def timed(self, call):
        start = time.perf_counter_ns()
        call(self.number)
        took = time.perf_counter_ns() - start
        self.latency[took * 1000] += 1
        self.number += 1
        self.calls += 1
        return took

    def lap(self, call, nanos, calls):
        begin = due = now()
        while True:
            self.elapsed = now() - begin
            if self.calls and (self.calls >= calls or self.elapsed >= nanos):
                return
            if case["load"] == "paced":
                due = max(due + int(1e9 / case["rate"]), now())
                time.sleep(max(0, due - now()) / 1e9)
                self.timed(call)
            elif case["load"] == "bursts":
                self.first[self.timed(call) * 1000] += 1
                for _ in range(1, case["burst"]):
                    self.timed(call)
                time.sleep(case["pause_ns"] / 1e9)
            else:
                self.timed(call)

    def report(self, client=(0, 0), server=(0, 0)):
        usage = lambda pair: {"cpu": pair[0], "switches": pair[1]}
        say(json.dumps({
            "calls": self.calls, "elapsed": self.elapsed, "batch": 1,
            "latency": sorted(self.latency.items()), "first": sorted(self.first.items()),
            "client": usage(client), "server": usage(server), "session_rates": [],
        }))


def measure():
    extent, server, meter = orders["extent"], orders["server"], Meter()
    if case["load"] == "start":
        call = None
        start = now()
        call = connect()
        call(0)
        meter.latency[(now() - start) * 1000] += 1
        meter.calls, meter.elapsed = 1, now() - start
        return meter.report()
    call = connect()
    if case["load"] == "until-death":
        call(0)
        say("ready")
        while True:
            call(0)
    meter.lap(call, extent["warm_up"], extent["calls"])
    number, meter = meter.number, Meter()
    meter.number = number
    before = used(os.getpid()), used(server)
    meter.lap(call, extent["nanos"], extent["calls"])
    after = used(os.getpid()), used(server)
    meter.report(*[tuple(late - early for late, early in zip(*pair)) for pair in zip(after, before)])


try:
    serve() if part == "serve" else measure()
except Exception as error:
    say(f"failed: Python says {type(error).__name__}: {error}".replace("\n", " "))
# Not by way of the resource tracker, which would take away what the server still has.
sys.stdout.flush()
os._exit(0)
