"""One program hands arrays to all of its workers, as an inference server hands them each step: every worker reads the
same memory, and waits for the next step asleep. One that is killed keeps nobody waiting; one that hangs is cut off.

    python fan_out.py publish              # a step each 10 ms
    python fan_out.py work                 # in other terminals; kill them at any moment, and start others
    python fan_out.py check 60             # all of it for a minute: workers are killed and stopped, and all is checked
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np

import wigwag

STEPS, FRAMES, REPORTS = "steps", "frames", "reports"
SHAPE = (128, 1024)


def steps() -> wigwag.Publisher:
    # Every worker gets every step: the publisher waits for a slow one, half a second at most within eight steps.
    return wigwag.Publisher(STEPS, history=8, capacity=1 << 20, overrun=0.5)


def frames() -> wigwag.Publisher:
    # Whoever looks at frames sees the newest ones, and is told how many it has missed. Nobody is waited for.
    return wigwag.Publisher(FRAMES, history=4, capacity=1 << 20)


def publish_one(publisher: wigwag.Publisher, number: int) -> None:
    with publisher.loan_array(SHAPE, "int32") as draft:
        np.asarray(draft.array())[:] = number  # written where all will read it; the end of the block publishes it


def publish() -> None:
    with steps() as publisher:
        print("publishing", flush=True)
        number = 0
        while True:
            number += 1
            publish_one(publisher, number)
            time.sleep(0.01)


def work(name: str = STEPS, seconds: str = "0", reports: str = "") -> None:
    sender = wigwag.Sender(reports, slots=256, server_timeout=60) if reports else None
    with wigwag.Subscriber(name, server_timeout=60, reconnect=60) as subscriber:
        print("working", flush=True)
        for message in subscriber:
            numbers = np.asarray(message.array())  # where the publisher wrote it
            number, is_whole = int(numbers[0, 0]), bool((numbers == numbers[0, 0]).all())
            del numbers
            time.sleep(float(seconds))  # what a worker does
            if sender is None:
                print(f"step {number}, {message.lost_before} lost before", flush=True)
            else:
                sender.send_object((os.getpid(), name, message.sequence, message.lost_before, number, is_whole))


class Check:
    """Starts workers, kills and stops them, and counts what each of them got."""

    def __init__(self) -> None:
        self.workers: list[subprocess.Popen[str]] = []
        self.last: dict[int, int] = {}
        self.received, self.lost, self.wrong, self.killed, self.started = 0, 0, 0, 0, 0

    def start(self, name: str, seconds: str) -> None:
        command = [sys.executable, __file__, "work", name, seconds, REPORTS]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None and worker.stdout.readline() == "working\n"
        self.workers.append(worker)
        self.started += 1

    def take_reports(self, receiver: wigwag.Receiver) -> None:
        for message in receiver:
            pid, name, sequence, lost_before, number, is_whole = message.object(allow_pickle=True)
            before = self.last.get(pid, sequence - lost_before - 1)
            # Each message is the one after the former, but for those that it was told to have lost.
            is_right = is_whole and number == sequence == before + lost_before + 1
            if name == STEPS and lost_before > 0:
                is_right = False  # of these none may be lost
            self.last[pid] = sequence
            self.received += 1
            self.lost += lost_before
            self.wrong += not is_right

    def disturb(self, chance: random.Random) -> None:
        """Kills a worker, or stops it until it is cut off, and starts another."""
        victim = self.workers.pop(chance.randrange(len(self.workers)))
        name, seconds = victim.args[3], victim.args[4]  # type: ignore[index]
        if chance.random() < 0.2:
            victim.send_signal(signal.SIGSTOP)
            time.sleep(0.7)
        victim.kill()
        victim.communicate()
        self.killed += 1
        self.start(name, seconds)

    def cpu_seconds(self) -> float:
        """What this process and its workers have used."""
        used = 0
        for pid in (os.getpid(), *(worker.pid for worker in self.workers)):
            with open(f"/proc/{pid}/stat") as stat:
                used += sum(int(ticks) for ticks in stat.read().rsplit(")", 1)[1].split()[11:13])
        return used / os.sysconf("SC_CLK_TCK")


def check(seconds: str = "60", seed: str = "1") -> None:
    checked, chance, is_over = Check(), random.Random(int(seed)), threading.Event()
    with wigwag.Receiver(REPORTS) as receiver, steps() as all_steps, frames() as all_frames:
        reporting = threading.Thread(target=checked.take_reports, args=(receiver,))
        reporting.start()
        for name, pause in ((STEPS, "0"), (STEPS, "0.002"), (STEPS, "0"), (FRAMES, "0.02")):
            checked.start(name, pause)

        def publish_all() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                publish_one(all_steps, number)
                publish_one(all_frames, number)
                time.sleep(0.002)

        publishing = threading.Thread(target=publish_all)
        publishing.start()
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            time.sleep(0.2)
            checked.disturb(chance)
        is_over.set()
        publishing.join()
        published, cut_off = all_steps.stats()["published"], all_steps.stats()["cut_off"]
        end = time.monotonic() + 30
        while any(state["lag"] for state in (*all_steps.subscribers(), *all_frames.subscribers())):
            assert time.monotonic() < end, "a worker hangs"
            time.sleep(0.01)
        time.sleep(0.5)
        before = checked.cpu_seconds()
        time.sleep(1.0)
        idle = checked.cpu_seconds() - before
        for worker in checked.workers:
            worker.kill()
            worker.communicate()
        receiver.shutdown()
        reporting.join()
    print(f"{published} steps, {checked.received} messages read by {checked.started} workers: {checked.killed} killed,")
    print(f"{cut_off} cut off, {checked.lost} frames lost and told, {checked.wrong} wrong")
    print(f"idle for a second: {idle:.2f} s of processor time")
    sys.exit(checked.wrong > 0 or checked.received == 0 or idle > 0.1)


if __name__ == "__main__":
    {"publish": publish, "work": work, "check": check}[sys.argv[1]](*sys.argv[2:])
