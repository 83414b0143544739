"""Tensors by DLPack: torch where it is installed, else numpy.

    python tensors.py
"""

import threading

import wigwag

try:
    import torch

    def tensor_of(array: wigwag.Array):  # type: ignore[no-untyped-def]
        return torch.from_dlpack(array)

    def ones():  # type: ignore[no-untyped-def]
        return torch.ones(3, 4, dtype=torch.bfloat16)

except ImportError:
    import numpy as np

    print("torch is not installed: numpy stands in")

    def tensor_of(array: wigwag.Array):  # type: ignore[no-untyped-def, misc]
        return np.from_dlpack(array)

    def ones():  # type: ignore[no-untyped-def, misc]
        return np.ones((3, 4), "float32")


def handle(request: wigwag.Request) -> None:
    tensor = tensor_of(request.array())  # the caller's memory
    tensor += 1


def main() -> None:
    server = wigwag.Server(wigwag.testing.name("tensors"))
    thread = threading.Thread(target=server.serve, args=(handle,))
    thread.start()
    with wigwag.Client(server.path) as client:
        with client.call_array(ones(), timeout=10) as reply:
            result = tensor_of(reply.array())
            print(reply.array(), float(result.sum()))
            del result
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
