"""What runs, seen from outside: it asks nothing of the servers, and works while they hang or are stopped.

>>> import wigwag
>>> with wigwag.testing.echo() as server:
...     with wigwag.Client(server.path) as client:
...         client.call(b'hello', timeout=10).release()
...         seen = inspect(server.path)
...         seen['form'], seen['state'], len(seen['sessions'])
('exchange', 'running', 1)
"""

from __future__ import annotations

from typing import Any, Union

import os

from wigwag._wigwag import list_services, snapshot

__all__ = ["inspect", "list"]


def list() -> "builtins.list[dict[str, Any]]":
    """The names in the user's runtime directory, as dicts with ``name``, ``kind`` and ``state``.

    Raises ``DirectoryUnsafeError``, ``OSError``.

    >>> all(entry.keys() == {'name', 'kind', 'state'} for entry in list())
    True
    """
    return list_services()


def inspect(name: Union[str, bytes, "os.PathLike[str]"]) -> dict[str, Any]:
    """What a server of this user does now, as a dict.

    ``path``, ``form``, ``pid``, ``program``; ``age`` in seconds; ``state`` (``running``, ``stopped``, ``frozen``,
    ``gone``); ``waiting`` and ``in_flight`` requests, ``oldest_waiting`` in seconds, ``blocked`` threads; ``calls``,
    ``bytes_in``, ``bytes_out``, ``failed``; and ``sessions``, a list of dicts with the same counts, ``pid``, ``uid``,
    ``program``, ``age``, ``slots``, ``capacity``, ``in_flight``.

    Of a publisher also ``published`` messages, ``cut_off`` subscribers, the ``history`` and ``capacity`` that it keeps,
    ``pool_bytes``, and ``is_lossless``; its sessions are its subscribers, with ``lag``, ``received``, ``lost``,
    ``holds``, ``outlived_holds`` (messages that it holds for longer than they are kept) and ``is_asleep``.

    Raises ``NotRunningError``, ``RefusedError``, ``OSError``.

    >>> import wigwag
    >>> with wigwag.Receiver(wigwag.testing.name('jobs')) as receiver:
    ...     inspect(receiver.path)['form']
    'queue'
    >>> with wigwag.Publisher(wigwag.testing.name('news')) as publisher:
    ...     subscriber = wigwag.Subscriber(publisher.path)
    ...     publisher.wait_for_subscribers(1, timeout=10)
    ...     number = publisher.send(b'unread')
    ...     seen = inspect(publisher.path)
    ...     seen['form'], seen['published'], seen['sessions'][0]['lag']
    ('broadcast', 1, 1)
    """
    return snapshot(name)


import builtins  # noqa: E402 - `list` above is this module's
