"""Serving: what becomes of exceptions, and several handlers at a time."""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from typing import Any, Callable, Optional

_LOG = logging.getLogger("wigwag")


def failed(error: BaseException, is_fatal: bool) -> str:
    """The text for the caller; the traceback is for whoever runs the server."""
    if not is_fatal:
        # As text: a record with the exception in it would keep the handler's names, and with them its views.
        _LOG.error("a handler failed\n%s", "".join(traceback.format_exception(error)).rstrip())
    kind = type(error).__name__
    text = str(error)
    return f"{kind}: {text}" if text else kind


def log_failure(error: BaseException) -> None:
    """Says what nobody is told otherwise."""
    _LOG.error("%s: %s", type(error).__name__, error)


def serve_on(server: Any, handler: Callable[[Any], Any], threads: int) -> None:
    """This thread receives, and others have the handler answer."""
    from wigwag._wigwag import _answer

    requests: queue.SimpleQueue[Optional[Any]] = queue.SimpleQueue()
    fatal: list[BaseException] = []

    def work() -> None:
        while (request := requests.get()) is not None:
            try:
                _answer(request, handler)
            except BaseException as error:  # noqa: BLE001 - it ends the server, in the thread that serves
                fatal.append(error)
                server.shutdown()
            # a loop variable would keep the last request, and with it its views
            del request

    workers = [threading.Thread(target=work, name=f"wigwag-serve-{number}", daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for request in server:
            requests.put(request)
            del request
    finally:
        for _ in workers:
            requests.put(None)
        for worker in workers:
            worker.join()
    server._end()
    if fatal:
        raise fatal[0]
