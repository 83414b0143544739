"""The same forms for asyncio: `Client`, `Server`, `Sender`, `Receiver`, `Stream`, `StreamListener`, `Publisher`,
`Subscriber`, `Semaphore`.

Each session has a descriptor that tells of replies, messages and ends; the event loop watches it (``add_reader``), so
there is no thread and nothing is polled. A semaphore has no session: a task that has to wait for one waits in a thread.

A task that is cancelled while it waits gives up what it waits for: a call is abandoned, as by a timeout, and its slot
comes back when the server is done with it.

An object of this module belongs to the loop in which it is used first.

>>> import asyncio, wigwag
>>> async def main():
...     async with Server(wigwag.testing.name('upper')) as server:
...         async def upper(request):
...             return request.tobytes().upper()
...         serving = asyncio.create_task(server.serve(upper))
...         async with await Client.connect(server.path) as client:
...             with await client.call(b'hello', timeout=10) as reply:
...                 text = bytes(reply)
...         server.shutdown()
...         await serving
...         return text
>>> asyncio.run(main())
b'HELLO'
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from types import TracebackType
from typing import Any, AsyncIterator, Awaitable, Callable, Optional, Union

from wigwag import _serving, _wigwag
from wigwag._errors import EndedError, FullError, ServerClosedError, make

__all__ = [
    "Client",
    "Publisher",
    "Receiver",
    "Semaphore",
    "Sender",
    "Server",
    "Stream",
    "StreamListener",
    "Subscriber",
]

_Name = Union[str, bytes, "os.PathLike[str]"]


def _timed_out(what: str, timeout: Optional[float], maybe_executed: bool) -> BaseException:
    return make("TimedOut", f"{what} within {timeout} s", maybe_executed, None)


class _Waiters:
    """The tasks that wait for one descriptor, and what takes in that it is readable."""

    def __init__(self) -> None:
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._is_watched = False
        self._fd = -1
        self._steps: dict[object, Callable[[], None]] = {}

    def _watch(self, fd: int, listen: Callable[[], None]) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("this object is used in another event loop: make one for each")
            self._loop, self._fd, self._is_watched = loop, fd, False
        if not self._is_watched:
            # The loop must not keep what it watches.
            loop.add_reader(fd, _rang, weakref.ref(self), listen)
            self._is_watched = True
        return loop

    def _rang(self, listen: Callable[[], None]) -> None:
        try:
            listen()
        except Exception:
            pass  # whoever waits comes upon it in its step
        if not self._steps:
            # Nobody takes what came, and so it stays readable: the loop would not sleep. The next who waits watches.
            self._unwatch()
            return
        self._step_all()

    def _step_all(self) -> None:
        for step in tuple(self._steps.values()):
            step()

    def _unwatch(self) -> None:
        if self._is_watched and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._is_watched = False

    def _ignore(self) -> None:
        self._unwatch()
        self._loop = None

    def __del__(self) -> None:
        loop = self._loop
        if loop is None or not self._is_watched or loop.is_closed():
            return
        try:
            if asyncio._get_running_loop() is loop:
                loop.remove_reader(self._fd)
            else:
                loop.call_soon_threadsafe(loop.remove_reader, self._fd)
        except RuntimeError:
            pass  # it is closing

    async def _until(
        self,
        fd: int,
        listen: Callable[[], None],
        step: Callable[[], Any],
        what: str,
        timeout: Optional[float],
        maybe_executed: Callable[[], bool] = lambda: False,
    ) -> Any:
        """What `step` gives, once it is not `None`."""
        found = step()
        if found is not None:
            return found
        if timeout is not None and timeout <= 0:
            raise _timed_out(what, timeout, maybe_executed())
        loop = self._watch(fd, listen)
        future: asyncio.Future[Any] = loop.create_future()

        def again() -> None:
            if future.done():
                return
            try:
                found = step()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                future.set_exception(error)
            else:
                if found is not None:
                    future.set_result(found)

        key = object()
        self._steps[key] = again
        again()  # what came before the loop watched
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            if future.done() and not future.cancelled() and future.exception() is error:
                raise
            raise _timed_out(what, timeout, maybe_executed()) from None
        finally:
            del self._steps[key]


def _rang(waiters: "weakref.ref[_Waiters]", listen: Callable[[], None]) -> None:
    found = waiters()
    if found is not None:
        found._rang(listen)


# What a session's waiters need: the descriptor, and who waits.
_Session = tuple[_wigwag._Readiness, _Waiters]

_NO_SLOT = "no slot came free, or no server was found,"


async def _step(
    session: _Session,
    step: Callable[[], Any],
    what: str,
    timeout: Optional[float],
    maybe_executed: Callable[[], bool] = lambda: False,
) -> Any:
    ready, waiters = session
    return await waiters._until(ready.fileno(), ready.listen, step, what, timeout, maybe_executed)


class Client:
    """A client of an exchange, for the tasks of one loop: see `wigwag.Client`. Made by ``await Client.connect(name)``."""

    def __init__(self, client: _wigwag.Client) -> None:
        """Takes a connected blocking client over."""
        self._client = client
        self._session = (client._readiness(), _Waiters())

    @classmethod
    async def connect(cls, name: _Name, **options: Any) -> "Client":
        """Connects, with the options of `wigwag.Client`. The handshake is done in a thread.

        Raises what `wigwag.Client` raises.
        """
        return cls(await asyncio.to_thread(_wigwag.Client, name, **options))

    async def call(self, data: Any, timeout: Optional[float] = None) -> _wigwag.Reply:
        """Copies a request in, calls, and gives the reply: see `wigwag.Client.call`.

        Raises what that raises. A cancelled call is given up.
        """
        return await self._call(data, False, timeout)

    async def call_array(self, array: Any, timeout: Optional[float] = None) -> _wigwag.Reply:
        """As ``call``, with an array: see `wigwag.Client.call_array`."""
        return await self._call(array, True, timeout)

    async def loan(self, len: int, timeout: Optional[float] = None) -> _wigwag.Loan:
        """Borrows memory that the server already has: fill it, then ``await client.call_loan(loan)``."""
        wait = _wigwag._Wait(self._session[0])
        found = await _step(self._session, lambda: self._client._try_loan(len, wait), _NO_SLOT, timeout)
        assert isinstance(found, _wigwag.Loan)
        return found

    async def call_loan(self, loan: _wigwag.Loan, timeout: Optional[float] = None) -> _wigwag.Reply:
        """Passes a loan, and gives the reply.

        Raises ``BufferError`` while views of the loan are alive, and what ``call`` raises.
        """
        return await self._reply(loan.send(), timeout)

    async def _call(self, data: Any, is_array: bool, timeout: Optional[float]) -> _wigwag.Reply:
        end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        send = functools.partial(self._client._try_send, data, is_array, _wigwag._Wait(self._session[0]))
        pending = await _step(self._session, send, _NO_SLOT, timeout)
        left = None if end is None else max(0.0, end - asyncio.get_running_loop().time())
        return await self._reply(pending, left)

    async def _reply(self, pending: _wigwag.Pending, timeout: Optional[float]) -> _wigwag.Reply:
        pending._glance()
        session = self._session
        if not pending._is_told_by(session[0]):
            session = (pending._readiness(), _Waiters())  # of another client's loan
        poll = functools.partial(pending._poll, session[0])
        try:
            found = await _step(session, poll, "no reply", timeout, pending._may_be_executed)
            assert isinstance(found, _wigwag.Reply)
            return found
        finally:
            pending.cancel()  # nothing, if its reply was taken

    def stats(self) -> dict[str, int]:
        """What has happened so far: see `wigwag.Client.stats`."""
        return self._client.stats()

    @property
    def capacity(self) -> int:
        """The largest payload in bytes."""
        return self._client.capacity

    @property
    def slots(self) -> int:
        """How many calls can be in flight at a time."""
        return self._client.slots

    def close(self) -> None:
        """Ends the session; calls that wait raise ``ServerClosedError``."""
        self._client.close()
        self._session[1]._step_all()
        self._session[1]._ignore()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace("wigwag.", "wigwag.aio.", 1)


class Server:
    """A server of an exchange whose handlers may await: see `wigwag.Server`, whose options these are."""

    def __init__(self, name: _Name, **options: Any) -> None:
        self._server = _wigwag.Server(name, **options)
        self._waiters = _Waiters()
        self._fd = self._server._fileno()

    async def recv(self, timeout: Optional[float] = None) -> _wigwag.Request:
        """Waits for the next request.

        Raises ``TimedOut``, and ``ServerClosedError`` after ``shutdown()``.
        """
        found = await self._waiters._until(self._fd, _nothing, self._server.try_recv, "no request", timeout)
        assert isinstance(found, _wigwag.Request)
        return found

    async def serve(
        self, handler: Callable[[_wigwag.Request], Union[Any, Awaitable[Any]]], *, concurrent: int = 1024
    ) -> None:
        """Serves until ``shutdown()``; up to ``concurrent`` handlers run at a time, each in a task of its own.

        What a handler returns or raises is as in `wigwag.Server.serve`. If this is cancelled, so are the handlers, and
        their callers are told.
        """
        if concurrent < 1:
            raise ValueError(f"concurrent={concurrent}: at least one handler must run")
        room = asyncio.Semaphore(concurrent)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                await room.acquire()
                try:
                    request = await self.recv()
                except ServerClosedError:
                    break
                task = asyncio.get_running_loop().create_task(_answer(handler, request))
                del request
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: room.release())
            if running:
                await asyncio.gather(*running)
            self._server._end()
        finally:
            for task in tuple(running):
                task.cancel()

    def shutdown(self) -> None:
        """Ends it: what was passed until now is served, and ``serve`` returns."""
        self._server.shutdown()

    def hand_over(self) -> None:
        """As ``shutdown``, when its successor is about to start: see `wigwag.Server.hand_over`."""
        self._server.hand_over()

    def close(self) -> None:
        """Ends all sessions and gives the name back."""
        self._waiters._ignore()
        self._server.close()

    @property
    def path(self) -> os.PathLike[str]:
        """Where the socket is."""
        return self._server.path

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._server).replace("wigwag.", "wigwag.aio.", 1)


def _nothing() -> None:
    """The step itself takes in what rang."""


async def _answer(handler: Callable[[_wigwag.Request], Any], request: _wigwag.Request) -> None:
    try:
        value = handler(request)
        if isinstance(value, Awaitable):
            value = await value
        request._give(value)
    except asyncio.CancelledError:
        request._refuse("CancelledError: the server was cancelled")
        raise
    except Exception as error:
        text = _serving.failed(error, False)
        if request.views:
            error.__traceback__ = None
        request._refuse(text)


class Sender:
    """The sending end of a queue: see `wigwag.Sender`. Made by ``await Sender.connect(name)``."""

    def __init__(self, sender: _wigwag.Sender) -> None:
        """Takes a connected blocking sender over."""
        self._sender = sender
        self._fd = sender._fileno()
        self._waiters = _Waiters()

    @classmethod
    async def connect(cls, name: _Name, **options: Any) -> "Sender":
        """Connects, with the options of `wigwag.Sender`. The handshake is done in a thread."""
        return cls(await asyncio.to_thread(_wigwag.Sender, name, **options))

    async def send(self, data: Any, timeout: Optional[float] = None) -> None:
        """Sends a message, once there is room: see `wigwag.Sender.send`. One that is cancelled was not sent."""
        await self._step(lambda: self._sender._try_send(data, False) or None, "not sent", timeout)

    async def send_array(self, array: Any, timeout: Optional[float] = None) -> None:
        """As ``send``, with an array."""
        await self._step(lambda: self._sender._try_send(array, True) or None, "not sent", timeout)

    async def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until all is acknowledged."""
        await self._step(lambda: self._sender._try_flush() or None, "not all was acknowledged", timeout)

    async def close(self, timeout: Optional[float] = None) -> None:
        """Waits until all is acknowledged, and ends it."""
        if not self._sender.closed:
            await self.flush(timeout)
            self._waiters._ignore()
            self._sender.abandon()

    async def _step(self, step: Callable[[], Any], what: str, timeout: Optional[float]) -> None:
        await self._waiters._until(self._fd, self._sender._listen, step, what, timeout)

    async def __aenter__(self) -> "Sender":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc_type is None:
            await self.close()
        else:
            self._waiters._ignore()
            self._sender.abandon()

    def __repr__(self) -> str:
        return repr(self._sender).replace("wigwag.", "wigwag.aio.", 1)


class Receiver:
    """The receiving end of a queue: see `wigwag.Receiver`, whose options these are.

    ``async for message in receiver`` acknowledges each message when it asks for the next.
    """

    def __init__(self, name: _Name, **options: Any) -> None:
        self._receiver = _wigwag.Receiver(name, **options)
        self._fd = self._receiver._fileno()
        self._waiters = _Waiters()
        self._in_hand: Optional[_wigwag.Message] = None

    async def recv(self, timeout: Optional[float] = None) -> _wigwag.Message:
        """Waits for the next message.

        Raises ``TimedOut``, and ``ServerClosedError`` after ``shutdown()``.
        """
        found = await self._waiters._until(self._fd, _nothing, self._receiver.try_recv, "no message", timeout)
        assert isinstance(found, _wigwag.Message)
        return found

    def __aiter__(self) -> AsyncIterator[_wigwag.Message]:
        return self

    async def __anext__(self) -> _wigwag.Message:
        in_hand, self._in_hand = self._in_hand, None
        if in_hand is not None:
            in_hand._let_go()
            del in_hand
        try:
            self._in_hand = await self.recv()
        except ServerClosedError:
            raise StopAsyncIteration from None
        return self._in_hand

    def shutdown(self) -> None:
        """Ends it: what was sent until now is still given out, and then ``async for`` ends."""
        self._receiver.shutdown()

    def hand_over(self) -> None:
        """As ``shutdown``, when its successor is about to start: see `wigwag.Receiver.hand_over`."""
        self._receiver.hand_over()

    def close(self) -> None:
        """Gives the name back; a message that a loop had in hand is given back, too."""
        self._waiters._ignore()
        self._in_hand = None
        self._receiver.close()

    @property
    def path(self) -> os.PathLike[str]:
        """Where the socket is."""
        return self._receiver.path

    async def __aenter__(self) -> "Receiver":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._receiver).replace("wigwag.", "wigwag.aio.", 1)


class Stream:
    """A stream of bytes, both ways: see `wigwag.Stream`. Made by ``await Stream.connect(name)``.

    One task reads and another writes at a time.
    """

    def __init__(self, stream: _wigwag.Stream) -> None:
        """Takes a connected blocking stream over."""
        self._stream = stream
        self._reading, self._writing = stream._filenos()
        self._readers, self._writers = _Waiters(), _Waiters()

    @classmethod
    async def connect(cls, name: _Name, **options: Any) -> "Stream":
        """Connects, with the options of `wigwag.Stream`. The handshake is done in a thread."""
        return cls(await asyncio.to_thread(_wigwag.Stream, name, **options))

    async def read(self, most: int = 65536, timeout: Optional[float] = None) -> bytes:
        """Reads what is there, or what comes first; ``b''`` is the end."""
        step = functools.partial(self._stream._try_read, most)
        found = await self._readers._until(self._reading, _nothing, step, "nothing to read", timeout)
        assert isinstance(found, bytes)
        return found

    async def read_exactly(self, count: int) -> bytes:
        """Reads exactly so many bytes.

        Raises ``EOFError`` if the stream ends before.
        """
        parts, missing = [], count
        while missing:
            part = await self.read(missing)
            if not part:
                raise EOFError(f"the stream ended after {count - missing} of {count} bytes")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def write_all(self, data: Any) -> None:
        """Writes all bytes, as room comes free."""
        whole, done = bytes(data), 0
        while done < len(whole):
            step = functools.partial(self._stream._try_write, whole, done)
            done += await self._writers._until(self._writing, _nothing, lambda: step() or None, "no room", None)

    def shutdown(self) -> None:
        """Says that nothing more is written."""
        self._stream.shutdown()

    def abort(self, reason: str) -> None:
        """Gives the stream up in both directions."""
        self._stream.abort(reason)

    def close(self) -> None:
        """Ends the stream."""
        self._readers._ignore()
        self._writers._ignore()
        self._stream.close()

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc_type is not None:
            self.abort("the other side failed while it used the stream")
        self.close()

    def __repr__(self) -> str:
        return repr(self._stream).replace("wigwag.", "wigwag.aio.", 1)


class StreamListener:
    """A listener for streams: see `wigwag.StreamListener`, whose options these are."""

    def __init__(self, name: _Name, **options: Any) -> None:
        self._listener = _wigwag.StreamListener(name, **options)
        self._fd = self._listener._fileno()
        self._waiters = _Waiters()

    async def accept(self, timeout: Optional[float] = None) -> Stream:
        """Waits for the next stream."""
        found = await self._waiters._until(self._fd, _nothing, self._listener._try_accept, "no stream", timeout)
        return Stream(found)

    def __aiter__(self) -> AsyncIterator[Stream]:
        return self

    async def __anext__(self) -> Stream:
        try:
            return await self.accept()
        except ServerClosedError:
            raise StopAsyncIteration from None

    def shutdown(self) -> None:
        """Ends it: ``accept`` raises ``ServerClosedError``, and ``async for`` ends."""
        self._listener.shutdown()

    def hand_over(self) -> None:
        """As ``shutdown``, when its successor is about to start: see `wigwag.StreamListener.hand_over`."""
        self._listener.hand_over()

    def close(self) -> None:
        """Gives the name back. Streams that were accepted go on."""
        self._waiters._ignore()
        self._listener.close()

    @property
    def path(self) -> os.PathLike[str]:
        """Where the socket is."""
        return self._listener.path

    async def __aenter__(self) -> "StreamListener":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._listener).replace("wigwag.", "wigwag.aio.", 1)


class Publisher:
    """Messages to all who listen: see `wigwag.Publisher`, whose options these are.

    Only a publisher that waits for its subscribers (``overrun``) ever waits.

    >>> import asyncio, wigwag
    >>> async def main():
    ...     async with Publisher(wigwag.testing.name('prices')) as publisher:
    ...         async with await Subscriber.connect(publisher.path) as subscriber:
    ...             await publisher.send(b'1.07')
    ...             with await subscriber.recv(timeout=10) as message:
    ...                 return bytes(message)
    >>> asyncio.run(main())
    b'1.07'
    """

    def __init__(self, name: _Name, **options: Any) -> None:
        self._publisher = _wigwag.Publisher(name, **options)
        self._fd = self._publisher._fileno()
        self._waiters = _Waiters()

    async def loan(self, len: int, timeout: Optional[float] = None) -> _wigwag.Draft:
        """Borrows memory for a message: fill it, and commit it, as with `wigwag.Publisher.loan`. A commit waits, and
        the loop with it, if the publisher waits for its subscribers and other tasks have published since."""
        draft = await self._with_room(lambda: self._publisher.loan(len, timeout=0), timeout)
        assert isinstance(draft, _wigwag.Draft)
        return draft

    async def loan_array(self, shape: Any, dtype: Any, timeout: Optional[float] = None) -> _wigwag.Draft:
        """Borrows memory for an array: see `wigwag.Publisher.loan_array`."""
        draft = await self._with_room(lambda: self._publisher.loan_array(shape, dtype, timeout=0), timeout)
        assert isinstance(draft, _wigwag.Draft)
        return draft

    async def send(self, data: Any, timeout: Optional[float] = None) -> int:
        """Publishes a copy of the bytes, once there is room: see `wigwag.Publisher.send`. One that is cancelled was not
        published."""
        return int(await self._with_room(lambda: self._publisher.send(data, timeout=0), timeout))

    async def send_array(self, array: Any, timeout: Optional[float] = None) -> int:
        """As ``send``, with an array."""
        return int(await self._with_room(lambda: self._publisher.send_array(array, timeout=0), timeout))

    async def send_object(self, object: Any, timeout: Optional[float] = None) -> int:
        """As ``send``, with any object that can be pickled."""
        return int(await self._with_room(lambda: self._publisher.send_object(object, timeout=0), timeout))

    async def wait_for_subscribers(self, count: int = 1, timeout: Optional[float] = None) -> None:
        """Waits until at least ``count`` subscribers are there.

        Raises ``TimedOut``, ``ServerClosedError``.
        """

        def step() -> Optional[bool]:
            return self._publisher._has_subscribers(count) or None

        await self._waiters._until(self._fd, _nothing, step, f"not {count} subscribers came", timeout)

    async def _with_room(self, do: Callable[[], Any], timeout: Optional[float]) -> Any:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            if not self._publisher._has_room(0):
                await self._room(end, timeout)
            try:
                return do()
            except FullError:
                if self._publisher._has_room(0):
                    raise  # it is something else that is full
            # Another task had the room before this one came to its turn.

    async def _room(self, end: Optional[float], timeout: Optional[float]) -> None:
        loop = asyncio.get_running_loop()

        def step() -> Optional[bool]:
            return self._publisher._has_room(0) or None

        try:
            while True:
                # Whoever has had all of the publisher's patience is cut off by a step at that time.
                times = [self._publisher._patience_left(), None if end is None else max(0.0, end - loop.time())]
                left = min((time for time in times if time is not None), default=None)
                try:
                    await self._waiters._until(self._fd, _nothing, step, "not published", left)
                    return
                except TimeoutError:
                    if end is not None and loop.time() >= end:
                        raise _timed_out("not published", timeout, False) from None
        finally:
            if not self._publisher.closed:
                self._publisher._stop_waiting()
                if self._waiters._steps:
                    self._publisher._has_room(0)  # the others go on waiting

    def subscribers(self) -> list[dict[str, Any]]:
        """Who listens: see `wigwag.Publisher.subscribers`."""
        return self._publisher.subscribers()

    def stats(self) -> dict[str, int]:
        """What has happened so far: see `wigwag.Publisher.stats`."""
        return self._publisher.stats()

    def close(self) -> None:
        """Ends the broadcast in good order; tasks that wait raise ``ServerClosedError``."""
        self._publisher.close()
        self._waiters._step_all()
        self._waiters._ignore()

    @property
    def path(self) -> os.PathLike[str]:
        """Where the socket is."""
        return self._publisher.path

    async def __aenter__(self) -> "Publisher":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._publisher).replace("wigwag.", "wigwag.aio.", 1)


class Subscriber:
    """Takes a publisher's messages: see `wigwag.Subscriber`. Made by ``await Subscriber.connect(name)``.

    ``async for message in subscriber`` lets go of each message when it asks for the next, and ends with the broadcast.
    """

    def __init__(self, subscriber: _wigwag.Subscriber) -> None:
        """Takes a connected blocking subscriber over."""
        self._subscriber = subscriber
        self._fd = subscriber._fileno()
        self._waiters = _Waiters()
        self._in_hand: Optional[_wigwag.BroadcastMessage] = None

    @classmethod
    async def connect(cls, name: _Name, **options: Any) -> "Subscriber":
        """Connects, with the options of `wigwag.Subscriber`. The handshake is done in a thread; with ``reconnect`` the
        next publisher is looked for by the loop."""
        return cls(await asyncio.to_thread(_wigwag.Subscriber, name, **options))

    async def recv(self, timeout: Optional[float] = None, *, copy: bool = False) -> _wigwag.BroadcastMessage:
        """Waits for the next message: see `wigwag.Subscriber.recv`. One that is cancelled has taken none."""
        step = functools.partial(self._subscriber.try_recv, copy=copy)
        found = await self._waiters._until(self._fd, _nothing, step, "no message", timeout)
        assert isinstance(found, _wigwag.BroadcastMessage)
        return found

    def __aiter__(self) -> AsyncIterator[_wigwag.BroadcastMessage]:
        return self

    async def __anext__(self) -> _wigwag.BroadcastMessage:
        self._let_go()
        if self._subscriber.closed:
            raise StopAsyncIteration
        try:
            self._in_hand = await self.recv()
        except EndedError:
            raise StopAsyncIteration from None
        return self._in_hand

    def _let_go(self) -> None:
        in_hand, self._in_hand = self._in_hand, None
        if in_hand is not None:
            in_hand._let_go()

    @property
    def lag(self) -> int:
        """How many messages were published and not taken yet."""
        return self._subscriber.lag

    def stats(self) -> dict[str, int]:
        """What has happened so far: see `wigwag.Subscriber.stats`."""
        return self._subscriber.stats()

    def close(self) -> None:
        """Ends it; a task that waits raises ``ServerClosedError``."""
        self._let_go()
        self._subscriber.close()
        self._waiters._step_all()
        self._waiters._ignore()

    async def __aenter__(self) -> "Subscriber":
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._subscriber).replace("wigwag.", "wigwag.aio.", 1)


class Semaphore:
    """Named permits: see `wigwag.Semaphore`. A task that has to wait waits in a thread."""

    def __init__(self, name: _Name, permits: int = 1) -> None:
        self._semaphore = _wigwag.Semaphore(name, permits)

    async def acquire(self, permits: int = 1, *, timeout: Optional[float] = None) -> _wigwag.Permit:
        """Waits for permits, all at once. A task that is cancelled gets none.

        Raises ``TimedOut``, and what `wigwag.Semaphore.acquire` raises.
        """
        permit = self._semaphore.try_acquire(permits)
        if permit is not None:
            return permit
        is_given_up = threading.Event()
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout

        def wait() -> Optional[_wigwag.Permit]:
            while not is_given_up.is_set():
                left = 0.1 if end is None else min(0.1, end - loop.time())
                if left <= 0:
                    return None
                try:
                    found = self._semaphore.acquire(permits, timeout=left)
                except TimeoutError:
                    continue
                if is_given_up.is_set():
                    found.release()
                    return None
                return found
            return None

        try:
            permit = await asyncio.to_thread(wait)
        finally:
            is_given_up.set()
        if permit is None:
            raise _timed_out("no permit came free", timeout, False)
        return permit

    @property
    def available(self) -> int:
        """How many are free now."""
        return self._semaphore.available

    @property
    def permits(self) -> int:
        """How many there are."""
        return self._semaphore.permits

    def __repr__(self) -> str:
        return repr(self._semaphore).replace("wigwag.", "wigwag.aio.", 1)
