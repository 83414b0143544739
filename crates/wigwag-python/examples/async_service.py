"""A service for asyncio: many requests at a time, in one thread, woken by the event loop.

    python async_service.py serve
    python async_service.py call
"""

import asyncio
import json
import sys

import wigwag
from wigwag import aio

NAME = "async-service"


async def answer(request: wigwag.Request) -> bytes:
    asked = json.loads(request.tobytes())
    await asyncio.sleep(asked["seconds"])  # a database, another service
    return json.dumps({"slept": asked["seconds"]}).encode()


async def serve() -> None:
    async with aio.Server(NAME, slots=64) as server:
        print(f"serving at {server.path}", flush=True)
        await server.serve(answer)


async def call() -> None:
    async with await aio.Client.connect(NAME, slots=64, server_timeout=10) as client:

        async def ask(seconds: float) -> float:
            with await client.call(json.dumps({"seconds": seconds}).encode(), timeout=10) as reply:
                return float(json.loads(bytes(reply))["slept"])

        slept = await asyncio.gather(*(ask(number / 1000) for number in range(50)))
        print(f"{len(slept)} answers, {sum(slept):.3f} s of sleep together")


if __name__ == "__main__":
    try:
        asyncio.run({"serve": serve, "call": call}[sys.argv[1]]())
    except KeyboardInterrupt:
        pass
