"""Wigwag: shared memory for Python programs that talk to each other on one machine.

A client lends its bytes to a server, which changes them where they lie. numpy sees them in place, nothing is copied
while both sides are awake the kernel is asked for nothing, and nothing is left behind by a process that is killed.

=============  ======================================  =====================================================
form           classes                                 use it for
=============  ======================================  =====================================================
exchange       `Server`, `Client`                      requests, also large ones; many under way
queue          `Receiver`, `Sender`                    jobs that survive a killed receiver
stream         `StreamListener`, `Stream`              protocols that speak through a socket today
broadcast      `Publisher`, `Subscriber`               one to all who listen, read in place
semaphore      `Semaphore`                             locks between processes
=============  ======================================  =====================================================

`Keeper` has the messages of queues whose both ends are killed. `wigwag.aio` has the same for asyncio, `wigwag.observe`
what runs, `wigwag.testing` names for tests.

>>> import wigwag, threading
>>> server = wigwag.Server(wigwag.testing.name('invert'))
>>> def invert(request):
...     with memoryview(request) as view:
...         view[:] = bytes(255 - byte for byte in view)
>>> thread = threading.Thread(target=server.serve, args=(invert,))
>>> thread.start()
>>> with wigwag.Client(server.path) as client:
...     with client.call(bytes([0, 1, 2]), timeout=10) as reply:
...         list(reply)
[255, 254, 253]
>>> server.shutdown(); thread.join()
"""

from wigwag import aio, observe, testing
from wigwag._errors import (
    AbortedError,
    BusyError,
    CapacityExceededError,
    ContractMismatchError,
    DirectoryUnsafeError,
    EncodingError,
    EndedError,
    ForkedError,
    FullError,
    HandlerFailedError,
    HandlerPanickedError,
    InvalidConfigurationError,
    NameInvalidError,
    NameLostError,
    NameTakenError,
    NotAgreedError,
    NotRunningError,
    PathInvalidError,
    PeerDied,
    RefusedError,
    ServerClosedError,
    SystemError_,
    TimedOut,
    UnansweredError,
    VersionMismatchError,
    ViolationError,
    WigwagError,
)
from wigwag._wigwag import (
    Array,
    BroadcastMessage,
    Client,
    Draft,
    Keeper,
    Loan,
    Memory,
    Message,
    Pending,
    Permit,
    Publisher,
    Receiver,
    Reply,
    Request,
    Semaphore,
    Sender,
    Server,
    Stream,
    StreamListener,
    Subscriber,
    __version__,
)

__all__ = [
    "AbortedError",
    "aio",
    "Array",
    "BroadcastMessage",
    "BusyError",
    "CapacityExceededError",
    "Client",
    "ContractMismatchError",
    "DirectoryUnsafeError",
    "Draft",
    "EncodingError",
    "EndedError",
    "ForkedError",
    "FullError",
    "HandlerFailedError",
    "HandlerPanickedError",
    "InvalidConfigurationError",
    "Keeper",
    "Loan",
    "Memory",
    "Message",
    "NameInvalidError",
    "NameLostError",
    "NameTakenError",
    "NotAgreedError",
    "NotRunningError",
    "observe",
    "PathInvalidError",
    "PeerDied",
    "Pending",
    "Permit",
    "Publisher",
    "Receiver",
    "RefusedError",
    "Reply",
    "Request",
    "Semaphore",
    "Sender",
    "Server",
    "ServerClosedError",
    "Stream",
    "StreamListener",
    "Subscriber",
    "SystemError_",
    "testing",
    "TimedOut",
    "UnansweredError",
    "VersionMismatchError",
    "ViolationError",
    "WigwagError",
    "__version__",
]
