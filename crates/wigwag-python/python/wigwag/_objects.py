"""Objects as payloads: pickle 5, with large buffers out of band.

The payload is ``WwP1``, the number of buffers, the length of the pickle, the lengths of the buffers (each a
little-endian 64-bit number), the pickle, and the buffers, each at a multiple of 64. Loaded, the buffers are views of
the memory where they lie.

Unpickling runs what the pickle says. So it is done only where ``allow_pickle=True`` was said, and never for what came
from another user.
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any, Callable, Optional

from wigwag._errors import EncodingError

_MAGIC = b"WwP1\0\0\0\0"
_ALIGNMENT = 64
# Buffers shorter than that are cheaper within the pickle.
_SHORT = 256


def _up(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class _Packed:
    """An object, ready to be written."""

    def __init__(self, value: Any) -> None:
        self.buffers: list[memoryview] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            try:
                raw = buffer.raw()
            except BufferError:
                return True  # not contiguous: within the pickle
            if raw.nbytes < _SHORT:
                return True
            self.buffers.append(raw)
            return False

        self.pickled = pickle.dumps(value, protocol=5, buffer_callback=out_of_band)
        lengths = [len(self.buffers), len(self.pickled), *(buffer.nbytes for buffer in self.buffers)]
        self.head = _MAGIC + struct.pack(f"<{len(lengths)}Q", *lengths)
        self.size = len(self.head) + len(self.pickled)
        self.offsets: list[int] = []
        for buffer in self.buffers:
            self.offsets.append(_up(self.size))
            self.size = self.offsets[-1] + buffer.nbytes

    def write(self, memory: Any) -> None:
        """Into memory of its size."""
        with memoryview(memory) as room:
            end = len(self.head)
            room[:end] = self.head
            room[end : end + len(self.pickled)] = self.pickled
            for offset, buffer in zip(self.offsets, self.buffers):
                room[offset : offset + buffer.nbytes] = buffer


def _unpacked(memory: Any) -> Any:
    view = memoryview(memory)
    try:
        if view.nbytes < 24 or bytes(view[:8]) != _MAGIC:
            raise EncodingError("the payload is no object: call_object, serve_objects and send_object make them")
        count, pickled = struct.unpack_from("<QQ", view, 8)
        begin = 24 + 8 * count
        if count > view.nbytes // 8 or begin + pickled > view.nbytes:
            raise EncodingError(f"an object of {view.nbytes} bytes says that it has {count} buffers and a pickle of {pickled}")
        lengths = struct.unpack_from(f"<{count}Q", view, 24)
        buffers = []
        end = begin + pickled
        for length in lengths:
            offset = _up(end)
            end = offset + length
            if end > view.nbytes:
                raise EncodingError(f"an object of {view.nbytes} bytes says that it has a buffer up to {end}")
            buffers.append(view[offset:end])
        return pickle.loads(view[begin : begin + pickled], buffers=buffers)
    finally:
        # The object's own buffers are views of their own, which keep the memory.
        view.release()


def _check(allow_pickle: bool, uid: Optional[int]) -> None:
    if not allow_pickle:
        raise PermissionError(
            "objects come as pickles, and unpickling runs what the pickle says: say allow_pickle=True if the other "
            "side is trusted, or send bytes or arrays"
        )
    if uid is not None and uid != os.geteuid():
        raise PermissionError(f"objects are never taken from another user (uid {uid}): send bytes or arrays")


def load(memory: Any, allow_pickle: bool, uid: int) -> Any:
    """The object in a message."""
    _check(allow_pickle, uid)
    return _unpacked(memory)


def send(sender: Any, value: Any, timeout: Optional[float]) -> None:
    """Sends an object as a message."""
    packed = _Packed(value)
    payload = bytearray(packed.size)
    packed.write(payload)
    sender.send(payload, timeout)


def publish(publisher: Any, value: Any, timeout: Optional[float]) -> Any:
    """Publishes an object, written where it will be read."""
    packed = _Packed(value)
    draft = publisher.loan(packed.size, timeout)
    packed.write(draft)
    return draft.commit(timeout)


def call(client: Any, value: Any, allow_pickle: bool, timeout: Optional[float]) -> Any:
    """Calls with an object."""
    # A client connects to servers of its own user, unless `server_user` says another.
    _check(allow_pickle, client._server_uid)
    packed = _Packed(value)
    loan = client.loan(packed.size, timeout)
    packed.write(loan)
    return _unpacked(loan.call(timeout))


def serve(server: Any, handler: Callable[[Any], Any], allow_pickle: bool, threads: int) -> None:
    """Serves objects."""
    _check(allow_pickle, None)

    def answer(request: Any) -> None:
        _check(True, request.peer[1])
        result = _Packed(handler(_unpacked(request)))
        if any(True for buffer in result.buffers if _is_of(buffer, request)):
            # what it returns lies in the request itself: written beside it first
            payload = bytearray(result.size)
            result.write(payload)
            del result
            request.reply(payload)
            return
        _reply(request, result)

    server.serve(answer, threads=threads)


def _is_of(buffer: memoryview, request: Any) -> bool:
    return request.views > 0 and buffer.nbytes > 0


def _reply(request: Any, result: _Packed) -> None:
    request.resize(result.size)
    result.write(request)
    request.reply()
