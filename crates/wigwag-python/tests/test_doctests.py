"""The examples of every docstring run."""

from __future__ import annotations

import doctest
from typing import Any, Iterator

import pytest

import wigwag
from wigwag import _errors, _wigwag, aio, observe, testing


def _examples() -> Iterator[doctest.DocTest]:
    parser = doctest.DocTestParser()
    for module in (wigwag, _wigwag, _errors, aio, observe, testing):
        things: list[tuple[str, Any]] = [(module.__name__, module)]
        for key, value in vars(module).items():
            if getattr(value, "__module__", None) not in (module.__name__, "wigwag"):
                continue
            things.append((f"{module.__name__}.{key}", value))
            if isinstance(value, type):
                things.extend((f"{module.__name__}.{key}.{name}", member) for name, member in vars(value).items())
        for name, thing in things:
            text = getattr(thing, "__doc__", None)
            if isinstance(text, str) and ">>>" in text:
                globs = {**vars(module), "wigwag": wigwag}
                yield parser.get_doctest(text, globs, name, None, 0)


EXAMPLES = {example.name: example for example in _examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str) -> None:
    assert doctest.DocTestRunner().run(EXAMPLES[name]).failed == 0


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 20
