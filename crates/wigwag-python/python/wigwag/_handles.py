"""Handles across pickles: they connect anew, by their name."""

from __future__ import annotations

from typing import Any


def connect_again(kind: type[Any], name: Any, wishes: dict[str, Any]) -> Any:
    """The handle of a pickle."""
    return kind(name, **wishes)
