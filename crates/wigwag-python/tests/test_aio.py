"""The forms for asyncio: awaited, cancelled, and ended by kills."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any, Awaitable, Callable

import numpy as np
import pytest

import wigwag
from wigwag import aio
from conftest import LIMIT

SERVER = """
import sys, time, wigwag
server = wigwag.Server(sys.argv[1])
print("ready", flush=True)
server.serve(lambda request: time.sleep(1000) if request[:4] == b"hang" else None)
"""


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await main()

    return asyncio.run(limited(), debug=True)


def test_many_tasks_call_at_once(name: str) -> None:
    async def main() -> None:
        async def handle(request: wigwag.Request) -> Any:
            if request[:1] == b"f":
                raise ValueError("no")
            await asyncio.sleep(0.001)
            return request.tobytes() + b"!"

        async with aio.Server(name) as server:
            serving = asyncio.create_task(server.serve(handle, concurrent=8))
            async with await aio.Client.connect(name, slots=4) as client:
                assert (client.slots, client.capacity) == (4, 1 << 20)
                replies = await asyncio.gather(*(client.call(str(number).encode()) for number in range(50)))
                # each has its slot, so more calls than slots wait until one is dropped
                raise AssertionError(len(replies))

    async def with_release() -> None:
        async def handle(request: wigwag.Request) -> Any:
            if request[:1] == b"f":
                raise ValueError("no")
            await asyncio.sleep(0.001)
            return request.tobytes() + b"!"

        async with aio.Server(name) as server:
            serving = asyncio.create_task(server.serve(handle, concurrent=8))
            async with await aio.Client.connect(name, slots=4) as client:

                async def call(number: int) -> bytes:
                    with await client.call(str(number).encode()) as reply:
                        return bytes(reply)

                replies = await asyncio.gather(*(call(number) for number in range(50)))
                assert replies == [f"{number}!".encode() for number in range(50)]
                with pytest.raises(wigwag.HandlerFailedError, match="ValueError: no"):
                    await client.call(b"f")
                loan = await client.loan(3)
                loan[:] = b"abc"
                assert (await client.call_loan(loan)).tobytes() == b"abc!"
                assert "aio.Client" in repr(client)
            server.shutdown()
            await serving

    del main
    run(with_release)


def test_arrays_and_plain_handlers(name: str) -> None:
    async def main() -> None:
        async with aio.Server(name) as server:
            serving = asyncio.create_task(server.serve(lambda request: np.asarray(request.array()) * 2))
            client = await aio.Client.connect(name)
            reply = await client.call_array(np.arange(5, dtype="i2"))
            assert np.asarray(reply.array()).tolist() == [0, 2, 4, 6, 8]
            server.shutdown()
            await serving
            client.close()

    run(main)


def test_a_killed_server_ends_what_is_awaited_and_the_loop_sleeps(name: str, program: Any) -> None:
    async def main() -> None:
        server = program(SERVER, name)
        client = await aio.Client.connect(name)
        with pytest.raises(wigwag.TimedOut) as raised:
            await client.call(b"hang", timeout=0.05)
        assert raised.value.maybe_executed
        calls = [asyncio.create_task(client.call(b"hang")) for _ in range(3)]
        await asyncio.sleep(0.05)
        server.kill()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, wigwag.PeerDied) for outcome in outcomes), outcomes
        import time

        cpu = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - cpu < 0.15, "the descriptor of a dead process does not spin the loop"
        with pytest.raises(wigwag.PeerDied):
            await client.call(b"x")

    run(main)


def test_a_cancelled_call_is_given_up(name: str) -> None:
    async def main() -> None:
        async with aio.Server(name) as server:
            client = await aio.Client.connect(name, slots=1)
            call = asyncio.create_task(client.call(b"x"))
            request = await server.recv(LIMIT)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert request.is_abandoned
            waiting = asyncio.create_task(client.loan(1))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            request.reply()
            assert len(await waiting) == 1, "the slot is back"
            with pytest.raises(wigwag.TimedOut):
                await server.recv(0.01)

    run(main)


def test_a_cancelled_server_tells_its_callers(name: str) -> None:
    async def main() -> None:
        async def hang(request: wigwag.Request) -> None:
            await asyncio.sleep(1000)

        async with aio.Server(name) as server:
            serving = asyncio.create_task(server.serve(hang))
            client = await aio.Client.connect(name)
            call = asyncio.create_task(client.call(b"x"))
            await asyncio.sleep(0.05)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises(wigwag.HandlerFailedError, match="cancelled"):
                await call

    run(main)


def test_queues(name: str) -> None:
    async def main() -> None:
        async with aio.Receiver(name) as receiver:
            async with await aio.Sender.connect(name, slots=2) as sender:

                async def send() -> None:
                    for number in range(20):
                        await sender.send(bytes([number]))
                    await sender.send_array(np.arange(3))
                    await sender.flush()
                    receiver.shutdown()

                sending = asyncio.create_task(send())
                seen = [bytes(message) async for message in receiver]
                await sending
                assert [one[0] for one in seen[:20]] == list(range(20)) and len(seen) == 21
                assert "aio.Sender" in repr(sender) and "aio.Receiver" in repr(receiver)

    run(main)


def test_a_sender_waits_for_the_next_receiver(name: str, program: Any) -> None:
    code = """
    import sys, wigwag
    receiver = wigwag.Receiver(sys.argv[1])
    print("ready", flush=True)
    for message in receiver: pass
    """

    async def main() -> None:
        worker = program(code, name)
        sender = await aio.Sender.connect(name, slots=2, server_timeout=LIMIT)
        worker.kill()
        waiting = asyncio.create_task(sender.send(b"x"))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(program, code, name)
        await waiting
        await sender.close()

    run(main)


def test_a_sender_of_a_shared_name_is_woken_by_any_worker_and_outlives_one(name: str, program: Any) -> None:
    code = """
    import sys, time, wigwag
    receiver = wigwag.Receiver(sys.argv[1], shared=True)
    print("ready", flush=True)
    for message in receiver:
        print(bytes(message).decode(), message.is_redelivered, flush=True)
        if sys.argv[2] == "hang": time.sleep(1000)
    """

    async def main() -> None:
        first, second = program(code, name, "hang"), program(code, name, "work")
        async with await aio.Sender.connect(name, slots=2, server_timeout=LIMIT) as sender:
            had = asyncio.create_task(asyncio.to_thread(first.line))
            # Read as it comes: a worker whose pipe is full takes nothing more.
            lines = asyncio.create_task(asyncio.to_thread(second.process.stdout.readlines))
            sent = 0
            while not had.done() or sent < 20:
                await sender.send(str(sent).encode())
                sent += 1
            await sender.send(str(sent).encode())  # the other one's places come free all the time
            first.kill()
            await sender.flush()
        second.kill()
        seen = [line.split() for line in await lines if line.strip()]
        assert sorted(int(text) for text, _ in seen) == list(range(sent + 1))
        marked = [text for text, is_redelivered in seen if is_redelivered == "True"]
        assert marked == [(await had).split()[0]]

    run(main)


def test_streams(name: str) -> None:
    async def main() -> None:
        async with aio.StreamListener(name) as listener:

            async def echo() -> None:
                async for stream in listener:
                    async with stream:
                        while part := await stream.read():
                            await stream.write_all(part)

            echoing = asyncio.create_task(echo())
            async with await aio.Stream.connect(name) as stream:
                data = bytes(range(256)) * 10_000

                async def write() -> None:
                    await stream.write_all(data)
                    stream.shutdown()

                writing = asyncio.create_task(write())
                assert await stream.read_exactly(len(data)) == data
                await writing
                assert await stream.read() == b""
            listener.shutdown()
            await echoing

    run(main)


def test_what_nobody_waits_for_does_not_spin_the_loop(name: str) -> None:
    async def main() -> None:
        async def in_vain(waiting: Awaitable[Any]) -> None:
            with pytest.raises(wigwag.TimedOut):
                await waiting

        receiver = aio.Receiver(name)
        sender = await aio.Sender.connect(name)
        server = aio.Server(wigwag.testing.name("server"))
        client = wigwag.Client(server.path)
        listener = aio.StreamListener(wigwag.testing.name("listener"))
        near = await aio.Stream.connect(listener.path)
        far = await listener.accept()
        publisher = aio.Publisher(wigwag.testing.name("publisher"))
        subscriber = await aio.Subscriber.connect(publisher.path)
        await publisher.wait_for_subscribers(1)
        await in_vain(receiver.recv(0.02))
        await in_vain(server.recv(0.02))
        await in_vain(listener.accept(0.02))
        await in_vain(far.read(timeout=0.02))
        await in_vain(subscriber.recv(0.02))
        await in_vain(publisher.wait_for_subscribers(2, 0.02))
        # From here on each has something, and nobody waits for it.
        await sender.send(b"message")
        pending = client.send(b"request")
        await near.write_all(b"bytes")
        await publisher.send(b"news")
        others = [await aio.Stream.connect(listener.path), await aio.Subscriber.connect(publisher.path)]
        await asyncio.sleep(0.05)
        wakes = 0

        def count() -> None:
            nonlocal wakes
            wakes += 1
            loop.call_later(0.05, count)

        loop = asyncio.get_running_loop()
        selected = loop._selector.select  # type: ignore[attr-defined]
        rounds = 0

        def select(timeout: Any = None) -> Any:
            nonlocal rounds
            rounds += 1
            return selected(timeout)

        loop._selector.select = select  # type: ignore[attr-defined]
        count()
        await asyncio.sleep(0.5)
        assert rounds < 100, f"the loop went round {rounds} times, for {wakes} timers"
        (await receiver.recv(LIMIT)).ack()
        request = await server.recv(LIMIT)
        request.reply()
        pending.wait(LIMIT).release()
        assert await far.read() == b"bytes"
        assert bytes(await subscriber.recv(LIMIT)) == b"news"
        await publisher.wait_for_subscribers(2, LIMIT)
        await sender.close()
        for one in (receiver, server, near, far, listener, subscriber, publisher, *others):
            one.close()
        client.close()

    run(main)


def test_broadcasts(name: str) -> None:
    async def main() -> None:
        async with aio.Publisher(name, history=64) as publisher:
            subscribers = [await aio.Subscriber.connect(name) for _ in range(3)]
            await publisher.wait_for_subscribers(3, LIMIT)

            async def read(subscriber: aio.Subscriber) -> list[int]:
                return [message.sequence async for message in subscriber]

            reading = [asyncio.create_task(read(subscriber)) for subscriber in subscribers]
            for number in range(20):
                assert await publisher.send(bytes([number])) == number + 1
                await asyncio.sleep(0)
            await publisher.send_array(np.arange(1000))
            await publisher.send_object({"a": 1})
            draft = await publisher.loan(5000)
            draft[:] = bytes(5000)
            draft.commit()
            with await publisher.loan_array((10, 10), "f4") as draft:
                np.asarray(draft.array())[:] = 1
            assert len(publisher.subscribers()) == 3
            assert "aio.Publisher" in repr(publisher) and "aio.Subscriber" in repr(subscribers[0])
        assert await asyncio.gather(*reading) == [list(range(1, 25))] * 3
        with pytest.raises(wigwag.EndedError):
            await subscribers[0].recv(LIMIT)
        for subscriber in subscribers:
            subscriber.close()

    run(main)


def test_a_cancelled_recv_takes_nothing_and_a_close_ends_it(name: str) -> None:
    async def main() -> None:
        async with aio.Publisher(name) as publisher:
            subscriber = await aio.Subscriber.connect(name)
            for _ in range(3):
                waiting = asyncio.create_task(subscriber.recv())
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await publisher.send(b"one")
            copy = await subscriber.recv(LIMIT, copy=True)
            assert (copy.sequence, copy.lost_before, copy.readonly) == (1, 0, False)
            waiting = asyncio.create_task(subscriber.recv())
            await asyncio.sleep(0.01)
            subscriber.close()
            with pytest.raises(wigwag.ServerClosedError):
                await waiting
            assert [message async for message in subscriber] == []

    run(main)


def test_a_task_that_publishes_waits_for_who_is_slow_and_cuts_off_who_stops(name: str) -> None:
    async def main() -> None:
        async with aio.Publisher(name, history=2, overrun=0.3) as publisher:
            slow = await aio.Subscriber.connect(name)
            await publisher.wait_for_subscribers(1)
            for _ in range(3):
                await publisher.send(b"x", timeout=LIMIT)
                if publisher._publisher._has_room(0) is False:
                    break
            with pytest.raises(wigwag.TimedOut):
                await publisher.send(b"x", timeout=0.02)
            waiting = [asyncio.create_task(publisher.send(b"x")) for _ in range(2)]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
            assert not waiting[1].done()
            first = await slow.recv(LIMIT)
            assert first.lost_before == 0
            await waiting[1]
            # It reads no more, and so it is cut off.
            for _ in range(10):
                await publisher.send(b"x")
            assert publisher.stats()["cut_off"] == 1
            with pytest.raises(wigwag.RefusedError):
                async for message in slow:
                    pass
            slow.close()

    run(main)


def test_tasks_that_publish_at_once_take_turns_for_room(name: str) -> None:
    async def main() -> None:
        async with aio.Publisher(name, history=1, overrun=LIMIT) as publisher:
            subscriber = await aio.Subscriber.connect(name)
            await publisher.wait_for_subscribers(1)
            sending = [asyncio.create_task(publisher.send(bytes([number]))) for number in range(30)]
            seen = []
            async for message in subscriber:
                seen.append(message[0])
                if len(seen) == 30:
                    break
            assert sorted(await asyncio.gather(*sending)) == list(range(1, 31)) and sorted(seen) == list(range(30))
            subscriber.close()

    run(main)


def test_the_next_publisher_is_looked_for_by_the_loop(name: str, program: Any) -> None:
    code = """
    import sys, time, wigwag
    publisher = wigwag.Publisher(sys.argv[1])
    print("ready", flush=True)
    publisher.wait_for_subscribers(1)
    publisher.send(b"x" * 1000)
    time.sleep(1000)
    """

    async def main() -> None:
        first = program(code, name)
        async with await aio.Subscriber.connect(name, reconnect=LIMIT, start="oldest") as subscriber:
            message = await subscriber.recv(LIMIT)
            first.kill()
            threads = threading.active_count()
            waiting = asyncio.create_task(subscriber.recv())
            await asyncio.sleep(0.1)
            assert threading.active_count() == threads and not waiting.done()
            second = await asyncio.to_thread(program, code, name)
            following = await waiting
            assert following.is_of_new_publisher and following.sequence == 1
            assert bytes(message) == bytes(following) == b"x" * 1000
            second.kill()
            with pytest.raises(wigwag.TimedOut):
                await subscriber.recv(0.05)

    run(main)


def test_semaphores(name: str) -> None:
    async def main() -> None:
        semaphore = aio.Semaphore(name, 1)
        permit = await semaphore.acquire()
        with pytest.raises(wigwag.TimedOut):
            await semaphore.acquire(timeout=0.05)
        waiting = asyncio.create_task(semaphore.acquire())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        permit.release()
        for _ in range(200):
            if semaphore.available:
                break
            await asyncio.sleep(0.01)
        (await semaphore.acquire(timeout=LIMIT)).release()

    run(main)


def test_a_client_belongs_to_one_loop_and_goes_without_a_trace(serving: Any) -> None:
    server = serving(lambda request: None)
    client = asyncio.run(aio.Client.connect(server.path))

    async def call() -> bytes:
        reply = await client.call(b"x", LIMIT)
        return reply.tobytes()

    assert asyncio.run(call()) == asyncio.run(call()) == b"x", "the former loop is closed"
    started, done = threading.Event(), threading.Event()

    async def hold() -> None:
        await call()
        started.set()
        await asyncio.to_thread(done.wait, LIMIT)

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    assert started.wait(LIMIT)

    async def elsewhere() -> None:
        # a call that is answered at once needs no loop
        with pytest.raises(RuntimeError, match="another event loop"):
            for _ in range(1000):
                pending = client._client.send(b"x")
                await aio._step(client._session, lambda: None, "x", 1.0)
                pending.cancel()

    asyncio.run(elsewhere())
    done.set()
    thread.join(LIMIT)

    async def drop() -> None:
        other = await aio.Client.connect(server.path)
        await other.call(b"x", LIMIT)
        del other
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(drop())
