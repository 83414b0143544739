"""What the tests share: names, and programs of their own processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any, Callable, Iterator

import pytest

import wigwag

LIMIT = 60.0


@pytest.fixture
def name() -> str:
    return wigwag.testing.name("test")


class Program:
    """A Python program in a process of its own, which says ``ready`` on a line when it is."""

    def __init__(self, code: str, *arguments: str, waits: bool = True) -> None:
        command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(code), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        if waits:
            self.expect("ready")

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def expect(self, line: str) -> None:
        found = self.line()
        assert found == line, f"{found!r} instead of {line!r}; exit {self.process.poll()}"

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)

    def end(self) -> str:
        """Its output, once it has ended well."""
        output, _ = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, f"exit {self.process.returncode}: {output}"
        return output


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    running: list[Program] = []

    def start(code: str, *arguments: str, waits: bool = True) -> Program:
        running.append(Program(code, *arguments, waits=waits))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGCONT)
            one.kill()
        for stream in (one.process.stdout, one.process.stdin):
            if stream is not None:
                stream.close()


@pytest.fixture
def serving() -> Iterator[Callable[..., wigwag.Server]]:
    """Serves in a thread of this process."""
    servers: list[tuple[wigwag.Server, threading.Thread]] = []

    def serve(handler: Any = lambda request: None, *, method: str = "serve", threads: int = 1, **options: Any) -> Any:
        server = wigwag.Server(wigwag.testing.name("server"), **options)
        arguments = {"allow_pickle": True} if method == "serve_objects" else {}
        run = getattr(server, method)
        thread = threading.Thread(target=run, args=(handler,), kwargs={"threads": threads, **arguments}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return server

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join(LIMIT)
        assert not thread.is_alive(), "a server does not end"


def fork(run: Callable[[], None]) -> int:
    """Runs something in a forked child. Its exit code: 0 if it came to its end, else of a signal, negative."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
