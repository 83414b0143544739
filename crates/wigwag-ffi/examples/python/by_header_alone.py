#!/usr/bin/env python3
"""Wigwag from Python by nothing but the C header: ctypes, no module, no compiler.

    by_header_alone.py LIBRARY DIRECTORY

It shows that the header is enough for a language that can call C: an exchange with a handler written in Python, a reply
that is read where it lies, an error with its sentence, a queue, and an event loop by select.
"""

import ctypes as c
import select
import sys
import threading

FOREVER = -1
HANDLER = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p)


class Wigwag:
    """The functions of the header that are used here: all return int unless stated otherwise."""

    def __init__(self, path):
        self.library = c.CDLL(path)
        for name in ("wigwag_error_new", "wigwag_pending_user"):
            getattr(self.library, name).restype = c.c_void_p
        for name in ("wigwag_version", "wigwag_error_text", "wigwag_code_name"):
            getattr(self.library, name).restype = c.c_char_p
        self.error = c.c_void_p(self.library.wigwag_error_new())

    def __call__(self, name, *arguments):
        """Calls a function that takes an error last. Returns what it returned, or raises what it says."""
        code = getattr(self.library, "wigwag_" + name)(*arguments, self.error)
        if code < 0:
            text = self.library.wigwag_error_text(self.error).decode()
            raise RuntimeError(f"{self.library.wigwag_code_name(code).decode()}: {text}")
        return code

    def free(self, name, handle):
        assert getattr(self.library, "wigwag_" + name)(handle) == 0


def handle():
    return c.c_void_p()


def upper(wigwag):
    """A handler: the request's bytes, changed where they lie."""

    @HANDLER
    def called(request, _user):
        data, length = c.c_void_p(), c.c_size_t()
        wigwag.library.wigwag_request_data(c.c_void_p(request), c.byref(data), c.byref(length), None)
        view = memoryview((c.c_char * length.value).from_address(data.value)).cast("B")
        view[:] = bytes(view).upper()
        return 0

    return called


def exchange(wigwag, name):
    server, stop, client = handle(), handle(), handle()
    wigwag("server_bind", name, None, c.byref(server))
    wigwag("server_stop", server, c.byref(stop))
    handler = upper(wigwag)
    serving = threading.Thread(
        target=lambda: wigwag.library.wigwag_server_serve(server, handler, None, None)
    )
    serving.start()
    wigwag("client_connect", name, None, c.byref(client))

    reply, data, length = handle(), c.c_void_p(), c.c_size_t()
    text = b"shared memory"
    wigwag(
        "client_call", client, text, c.c_size_t(len(text)), c.c_int64(FOREVER),
        c.byref(reply), c.byref(data), c.byref(length),
    )
    print("exchange:", c.string_at(data, length.value).decode())
    wigwag.free("reply_release", reply)
    try:
        wigwag("client_loan", client, c.c_size_t(1 << 40), c.c_int64(0), c.byref(reply), c.byref(data))
    except RuntimeError as error:
        print("error:", error)
    wigwag.free("client_free", client)
    wigwag.free("stop_shutdown", stop)
    serving.join()
    wigwag.free("stop_free", stop)
    wigwag.free("server_free", server)


def queue(wigwag, name):
    receiver, sender, message = handle(), handle(), handle()
    data, length = c.c_void_p(), c.c_size_t()
    wigwag("receiver_bind", name, None, c.byref(receiver))
    wigwag("sender_connect", name, None, c.byref(sender))
    descriptor = wigwag("receiver_fd", receiver)
    wigwag("receiver_process", receiver, c.byref(message), c.byref(data), c.byref(length))
    assert not message
    wigwag("sender_send", sender, b"by select", c.c_size_t(9), c.c_int64(0))
    while not message:
        select.select([descriptor], [], [], 10)
        wigwag("receiver_process", receiver, c.byref(message), c.byref(data), c.byref(length))
    print("queue:", c.string_at(data, length.value).decode())
    wigwag.free("message_ack", message)
    wigwag("sender_close", sender)
    wigwag.free("receiver_free", receiver)


def main():
    library, directory = sys.argv[1:]
    wigwag = Wigwag(library)
    print("wigwag", wigwag.library.wigwag_version().decode())
    exchange(wigwag, f"{directory}/upper".encode())
    queue(wigwag, f"{directory}/jobs".encode())
    wigwag.free("error_free", wigwag.error)


if __name__ == "__main__":
    main()
