"""Names and servers for tests and for trying things out."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from types import TracebackType
from typing import Any, Optional

from wigwag._wigwag import Server

__all__ = ["echo", "name"]


def name(base: str) -> str:
    """A path for a socket that nobody else has, in the directory for temporary files.

    >>> name('jobs') != name('jobs')
    True
    """
    directory = os.path.join(tempfile.gettempdir(), f"wigwag-python-{os.geteuid()}")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return os.path.join(directory, f"{base}-{os.getpid()}-{secrets.token_hex(4)}.sock")


class echo:
    """A server that gives every request back as it is, in a thread, for a ``with`` block.

    >>> import wigwag
    >>> with echo() as server, wigwag.Client(server.path) as client:
    ...     client.call(b'?', timeout=10).tobytes()
    b'?'
    """

    def __init__(self, **options: Any) -> None:
        self._server = Server(name("echo"), **options)
        self._thread = threading.Thread(target=self._server.serve, args=(lambda request: None,), name="wigwag-echo")

    def __enter__(self) -> Server:
        self._thread.start()
        return self._server

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.close()
