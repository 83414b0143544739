"""A filter for pictures, in place: no copy of the six megabytes of a frame is made.

    python image_filter.py serve          # in one terminal
    python image_filter.py call           # in another
"""

import sys

import numpy as np

import wigwag

NAME = "image-filter"
SHAPE = (1080, 1920, 3)


def invert(request: wigwag.Request) -> None:
    pixels = np.asarray(request.array())  # the client's own pixels, where they lie
    np.subtract(255, pixels, out=pixels)


def serve() -> None:
    server = wigwag.Server(NAME, capacity=8 << 20)
    print(f"serving at {server.path}", flush=True)
    server.serve(invert)


def call() -> None:
    with wigwag.Client(NAME, capacity=8 << 20, server_timeout=10) as client:
        loan = client.loan_array(SHAPE, "uint8")
        frame = np.asarray(loan.array())  # build the picture right there
        frame[:] = np.arange(256, dtype="u1").repeat(1920 * 3 // 256 + 1)[: 1920 * 3].reshape(1920, 3)
        mean = frame.mean()
        del frame  # no view is alive while the server has the memory
        with loan.call(timeout=10) as reply:
            inverted = np.asarray(reply.array())
            print(f"mean {mean:.1f} before, {inverted.mean():.1f} after")
            del inverted


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]]()
