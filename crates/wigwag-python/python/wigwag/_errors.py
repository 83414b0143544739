"""The exceptions of Wigwag: one base, and a class for each kind.

Each has ``kind``, the name of the kind, and ``maybe_executed``: whether the server may have executed the request, so
that doing it once more could do it twice.
"""

from __future__ import annotations

import os
import re
from typing import Optional

__all__ = [
    "AbortedError",
    "BusyError",
    "CapacityExceededError",
    "ContractMismatchError",
    "DirectoryUnsafeError",
    "EncodingError",
    "EndedError",
    "ForkedError",
    "FullError",
    "HandlerFailedError",
    "HandlerPanickedError",
    "InvalidConfigurationError",
    "NameInvalidError",
    "NameLostError",
    "NameTakenError",
    "NotAgreedError",
    "NotRunningError",
    "PathInvalidError",
    "PeerDied",
    "RefusedError",
    "ServerClosedError",
    "SystemError_",
    "TimedOut",
    "UnansweredError",
    "VersionMismatchError",
    "ViolationError",
    "WigwagError",
]


class WigwagError(Exception):
    """What every exception of Wigwag is.

    >>> import wigwag
    >>> try:
    ...     wigwag.Client(wigwag.testing.name('nobody'))
    ... except wigwag.WigwagError as error:
    ...     error.kind, error.maybe_executed
    ('NotRunning', False)
    """

    kind: str = "Other"
    maybe_executed: bool = False


class NameInvalidError(WigwagError, ValueError):
    """The name cannot be one: what it may contain is in the text."""


class PathInvalidError(WigwagError, ValueError):
    """The path cannot be that of a socket."""


class DirectoryUnsafeError(WigwagError, PermissionError):
    """The directory of names could be changed by other users."""


class NotRunningError(WigwagError, ConnectionRefusedError):
    """No server has the name."""


class NameTakenError(WigwagError, OSError):
    """Another server has the name."""


class NameLostError(WigwagError, OSError):
    """The name leads to another file by now."""


class RefusedError(WigwagError, PermissionError):
    """The server does not let this client in: why is in the text."""


class BusyError(WigwagError, ConnectionError):
    """The server has as many clients as it may have."""


class ContractMismatchError(WigwagError, ConnectionError):
    """Client and server do not mean the same form or payload."""


class VersionMismatchError(WigwagError, ConnectionError):
    """Client and server have no version in common."""


class CapacityExceededError(WigwagError, ValueError):
    """The payload is longer than the session's capacity."""


class FullError(WigwagError, BlockingIOError):
    """There is no room now, and nobody was to wait for it."""


class NotAgreedError(WigwagError):
    """The two sides have not agreed on that feature."""


class TimedOut(WigwagError, TimeoutError):
    """The time is over. ``maybe_executed`` says whether the server has the request.

    >>> import wigwag
    >>> with wigwag.Server(wigwag.testing.name('slow')) as server:
    ...     try:
    ...         wigwag.Client(server.path).call(b'', timeout=0.01)
    ...     except TimeoutError as error:
    ...         error.maybe_executed
    True
    """


class PeerDied(WigwagError, ConnectionResetError):
    """The other process is gone. ``maybe_executed`` says whether it may have executed the request."""


class ServerClosedError(WigwagError, ConnectionError):
    """The other side has shut down, or this handle was closed."""


class AbortedError(WigwagError, ConnectionAbortedError):
    """The other side gave the stream up: why is in the text."""


class HandlerFailedError(WigwagError):
    """The server's handler raised an exception: the text is its."""


class HandlerPanickedError(WigwagError):
    """The server's handler, written in Rust, panicked."""


class UnansweredError(WigwagError):
    """The server dropped the request without an answer."""


class EndedError(WigwagError, EOFError):
    """The publisher has ended the broadcast, and all that it published was read."""


class ForkedError(WigwagError, RuntimeError):
    """The handle was made before a fork: connect or bind anew in the child, or unpickle it there."""


class ViolationError(WigwagError, ConnectionError):
    """The other side broke the protocol."""


class EncodingError(WigwagError, ValueError):
    """The payload is not what it was taken for: an array, an object."""


class InvalidConfigurationError(WigwagError, ValueError):
    """The arguments do not go together, or are out of their limits."""


class SystemError_(WigwagError, OSError):
    """The system refused something: ``errno`` says what."""


_CLASSES: dict[str, type[WigwagError]] = {
    "NameInvalid": NameInvalidError,
    "PathInvalid": PathInvalidError,
    "DirectoryUnsafe": DirectoryUnsafeError,
    "NotRunning": NotRunningError,
    "NameTaken": NameTakenError,
    "NameLost": NameLostError,
    "Refused": RefusedError,
    "Busy": BusyError,
    "ContractMismatch": ContractMismatchError,
    "VersionMismatch": VersionMismatchError,
    "CapacityExceeded": CapacityExceededError,
    "Full": FullError,
    "NotAgreed": NotAgreedError,
    "TimedOut": TimedOut,
    "PeerDied": PeerDied,
    "ServerClosed": ServerClosedError,
    "Aborted": AbortedError,
    "HandlerFailed": HandlerFailedError,
    "HandlerPanicked": HandlerPanickedError,
    "Unanswered": UnansweredError,
    "Ended": EndedError,
    "Forked": ForkedError,
    "Violation": ViolationError,
    "Encoding": EncodingError,
    "InvalidConfiguration": InvalidConfigurationError,
    "Io": SystemError_,
}


def make(kind: str, text: str, maybe_executed: bool, number: Optional[int]) -> WigwagError:
    """The exception of a kind."""
    # The library says what to change in Rust's words.
    text = re.sub(r"\b(Client|Server|Sender|Receiver|Stream|StreamListener|Publisher|Subscriber|Semaphore)Builder::(\w+)", r"\1(\2=...)", text)
    error = _CLASSES.get(kind, WigwagError)(text)
    error.kind = kind
    error.maybe_executed = maybe_executed
    if number is not None and isinstance(error, OSError):
        error.errno = number
        error.strerror = os.strerror(number)
        error.args = (text,)
    return error
