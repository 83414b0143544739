"""Jobs that survive: kill a worker at any moment, start another, and each job is done.

    python jobs.py work            # as often as you like, one after the other
    python jobs.py send            # waits until all jobs are done
"""

import sys
import time

import wigwag

NAME = "jobs"


def work() -> None:
    with wigwag.Receiver(NAME) as receiver:
        print("working", flush=True)
        for message in receiver:  # asking for the next acknowledges the one before
            job = message.object(allow_pickle=True)
            if message.is_redelivered:
                print("again:", end=" ")
            print(job, flush=True)
            time.sleep(job["seconds"])


def send() -> None:
    with wigwag.Sender(NAME, server_timeout=60) as sender:
        for number in range(20):
            sender.send_object({"job": number, "seconds": 0.02})
        # the end of the block waits until every job is acknowledged
    print("all jobs are done")


if __name__ == "__main__":
    {"work": work, "send": send}[sys.argv[1]]()
