"""Each example does what it says, in processes of their own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from conftest import LIMIT

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def start(tmp_path: Any) -> Any:
    tmp_path.chmod(0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    running = []

    def start(example: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(LIMIT)
        process.stdout.close()


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    return output


def test_the_image_filter(start: Any) -> None:
    server = start("image_filter", "serve")
    assert server.stdout.readline().startswith("serving at")
    assert "before" in ended(start("image_filter", "call"))


def test_the_async_service(start: Any) -> None:
    server = start("async_service", "serve")
    assert server.stdout.readline().startswith("serving at")
    assert ended(start("async_service", "call")).startswith("50 answers")


def test_jobs_survive_their_workers(start: Any) -> None:
    first = start("jobs", "work")
    assert first.stdout.readline() == "working\n"
    sender = start("jobs", "send")
    assert "'job': 0" in first.stdout.readline()
    first.kill()
    second = start("jobs", "work")
    assert ended(sender) == "all jobs are done\n"
    second.kill()
    assert "'job': 19" in second.stdout.read()


def test_the_fan_out_outlives_its_workers_and_its_publisher(start: Any) -> None:
    publisher = start("fan_out", "publish")
    assert publisher.stdout.readline() == "publishing\n"
    victim, worker = start("fan_out", "work"), start("fan_out", "work")
    for process in (victim, worker):
        assert process.stdout.readline() == "working\n"
        assert "0 lost before" in process.stdout.readline()
    victim.kill()
    assert "0 lost before" in worker.stdout.readline()
    publisher.kill()
    publisher.wait(LIMIT)
    publisher = start("fan_out", "publish")
    assert publisher.stdout.readline() == "publishing\n"
    while not worker.stdout.readline().startswith("step 1,"):
        pass  # what was published before the kill


def test_the_fan_out_under_kills(start: Any) -> None:
    said = ended(start("fan_out", "check", "3", "5"))
    assert "0 wrong" in said and "messages read" in said


@pytest.mark.parametrize(("example", "said"), [
    ("replacing_multiprocessing", "at once"), ("tensors", "(3, 4)")])
def test_examples_that_need_one_terminal(start: Any, example: str, said: str) -> None:
    assert said in ended(start(example))


def test_no_example_is_forgotten() -> None:
    tested = pathlib.Path(__file__).read_text()
    assert all(f'"{example.stem}"' in tested for example in EXAMPLES.glob("*.py"))
