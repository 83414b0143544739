"""Names the views of some memory that are alive, for the text of an error."""

from __future__ import annotations

import gc
from typing import Any

_DEPTH = 4
_MOST = 64


def named(memory: Any) -> str:
    """What holds the memory, as far as the garbage collector knows: ``' (numpy.ndarray (480, 640) uint8)'``."""
    shown: list[str] = []
    seen = {id(memory)}
    level: list[Any] = [memory]
    for _ in range(_DEPTH):
        above: list[Any] = []
        for thing in gc.get_referrers(*level):
            kind = type(thing)
            if id(thing) in seen or kind.__name__ in ("frame", "list", "dict", "tuple", "function", "module"):
                continue
            seen.add(id(thing))
            if kind.__name__ in ("memoryview", "managedbuffer", "ndarray", "Array"):
                above.append(thing)
            if kind.__name__ == "ndarray":
                shown.append(f"numpy.ndarray {thing.shape} {thing.dtype}")
            elif kind.__name__ == "memoryview":
                shown.append(f"memoryview of {thing.nbytes} bytes")
        if not above or len(seen) > _MOST:
            break
        level = above
    arrays = [text for text in shown if text.startswith("numpy")]
    names = arrays or shown
    return f" ({', '.join(names[:3])})" if names else ""
