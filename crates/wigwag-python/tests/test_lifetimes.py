"""Views never dangle, and never see what is not theirs, whatever ends while they are alive."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

import wigwag
from conftest import LIMIT, fork


def test_the_turn_is_not_passed_while_a_view_is_alive(serving: Any) -> None:
    client = wigwag.Client(serving().path, slots=1)
    loan = client.loan(100)
    view = np.asarray(loan)
    for pass_on in (loan.call, loan.send, lambda: loan.resize(5), loan.release):
        with pytest.raises(BufferError, match="1 view of this loan is alive .memoryview of 100 bytes."):
            pass_on()
    assert loan.views == 1
    view[:] = 3
    del view
    reply = loan.call(LIMIT)
    array = memoryview(reply)
    with pytest.raises(BufferError, match="reply"):
        reply.loan()
    with pytest.raises(wigwag.TimedOut):
        client.loan(1, timeout=0.01)  # the slot stays out
    array.release()
    reply.release()
    client.loan(1, timeout=LIMIT).release()


def test_a_with_block_is_exact_and_silent_in_an_exception(serving: Any) -> None:
    client = wigwag.Client(serving().path, slots=1)
    kept = []
    with pytest.raises(BufferError, match="end the `with` block"):
        with client.call(b"abc", timeout=LIMIT) as reply:
            kept.append(memoryview(reply))
    assert bytes(kept.pop()) == b"abc"
    del reply
    with pytest.raises(KeyError):
        with client.call(b"abc", timeout=LIMIT) as reply:
            kept.append(memoryview(reply))
            raise KeyError
    assert bytes(kept[0]) == b"abc"
    with pytest.raises(wigwag.TimedOut):
        client.loan(1, timeout=0.01)
    kept.clear()  # the slot comes back with the last view
    client.loan(1, timeout=LIMIT).release()


def test_views_outlive_everything(name: str, program: Any) -> None:
    server = program(
        """
        import sys, wigwag
        server = wigwag.Server(sys.argv[1])
        print("ready", flush=True)
        server.serve(lambda request: None)
        """,
        name,
    )
    client = wigwag.Client(name)
    reply = client.call_array(np.arange(10_000), timeout=LIMIT)
    view = np.asarray(reply.array())
    tensor = np.from_dlpack(reply.array())
    loan = client.loan(5000)
    raw = memoryview(loan)
    client.close()
    del client, reply, loan
    server.kill()
    gc.collect()
    assert view.sum() == tensor.sum() == 49_995_000
    raw[:] = bytes(5000)
    view[:] = 1
    assert tensor.sum() == 10_000


def test_a_view_of_a_request_that_a_handler_keeps_ends_that_session_alone(name: str, caplog: Any) -> None:
    kept: list[Any] = []

    def keep(request: wigwag.Request) -> None:
        if request[:4] == b"keep":
            kept.append(np.asarray(request))

    server = wigwag.Server(name)
    thread = threading.Thread(target=server.serve, args=(keep,))
    thread.start()
    victim, other = wigwag.Client(name), wigwag.Client(name)
    with pytest.raises(wigwag.WigwagError, match="kept a view"):
        victim.call(b"keep" + bytes(1000), timeout=LIMIT)
    assert other.call(b"fine", timeout=LIMIT).tobytes() == b"fine"
    assert "BufferError" in caplog.text
    kept[0][:] = 9
    server.shutdown()
    thread.join(LIMIT)
    server.close()
    assert kept[0].sum() == 9 * 1004
    kept.clear()


def test_a_view_in_a_cycle_is_collected_before_the_reply(serving: Any) -> None:
    class Node:
        pass

    def cycle(request: wigwag.Request) -> None:
        node = Node()
        node.itself = node  # type: ignore[attr-defined]
        node.view = np.asarray(request)  # type: ignore[attr-defined]
        node.view[:] = 5  # type: ignore[attr-defined]

    gc.disable()
    try:
        client = wigwag.Client(serving(cycle).path)
        assert client.call(bytes(100), timeout=LIMIT).tobytes() == b"\5" * 100
    finally:
        gc.enable()


def test_a_view_in_a_traceback_does_not_end_the_session(serving: Any) -> None:
    def fail(request: wigwag.Request) -> None:
        view = np.asarray(request)
        raise ValueError(f"{view.size} bytes")

    client = wigwag.Client(serving(fail).path)
    for _ in range(3):
        with pytest.raises(wigwag.HandlerFailedError, match="100 bytes"):
            client.call(bytes(100), timeout=LIMIT)


def test_views_die_on_other_threads(serving: Any) -> None:
    client = wigwag.Client(serving().path, slots=4)
    for _ in range(200):
        views = [np.asarray(client.call(bytes(2000), timeout=LIMIT)) for _ in range(4)]
        threads = [threading.Thread(target=views.pop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert client.stats()["in_flight"] == 0
    loans = [client.loan(10, timeout=LIMIT) for _ in range(4)]
    assert len(loans) == 4


def test_memory_goes_with_the_last_view(serving: Any) -> None:
    client = wigwag.Client(serving().path)
    reply = client.call(bytes(100), timeout=LIMIT)
    seen = weakref.ref(reply)
    view = memoryview(reply)[10:20]
    del reply
    gc.collect()
    assert seen() is not None and bytes(view) == bytes(10)
    view.release()
    gc.collect()
    assert seen() is None


def test_a_forked_child_touches_views_and_is_told_of_handles(name: str, serving: Any) -> None:
    server = serving()
    client = wigwag.Client(server.path)
    reply = client.call(b"x" * 5000, timeout=LIMIT)
    short = client.call(b"y" * 20, timeout=LIMIT)
    view, short_view = np.asarray(reply), memoryview(short)
    loan = client.loan(70_000)
    writable = np.asarray(loan)
    writable[:] = 1
    semaphore = wigwag.Semaphore(name, 1)
    queue = wigwag.Receiver(wigwag.testing.name("q"))
    sender = wigwag.Sender(queue.path)
    sender.send(b"m" * 1000)
    message = queue.recv(LIMIT)
    message_view = memoryview(message)

    def child() -> None:
        assert bytes(view) == b"x" * 5000 and bytes(short_view) == b"y" * 20
        assert bytes(message_view) == b"m" * 1000
        view[:] = 7
        writable[:] = 8
        assert view.sum() == 35_000
        for use in (
            lambda: client.call(b""),
            lambda: client.loan(1),
            lambda: sender.send(b""),
            lambda: queue.recv(),
            lambda: server.recv(0.1) and None,
            lambda: semaphore.acquire(),
        ):
            try:
                use()
            except (wigwag.ForkedError, RuntimeError):
                pass
            else:
                raise AssertionError("a handle of the parent")

        def grandchild() -> None:
            assert view.sum() == 35_000, "the child's own bytes"

        assert fork(grandchild) == 0
        again = wigwag.Client(server.path)
        assert again.call(b"child", timeout=LIMIT).tobytes() == b"child"

    assert fork(child) == 0
    assert bytes(view) == b"x" * 5000 and writable.sum() == 70_000, "the child has written to its own memory"
    del writable
    loan.call(LIMIT).release()
    message_view.release()
    message.ack()
    sender.close(LIMIT)
    assert client.call(b"on", timeout=LIMIT).tobytes() == b"on"


def test_a_forked_child_touches_views_of_a_broadcast(name: str) -> None:
    publisher = wigwag.Publisher(name, holds=8)
    subscriber = wigwag.Subscriber(name)
    publisher.wait_for_subscribers(1, LIMIT)
    publisher.send(b"x" * 5000)
    publisher.send(b"y" * 20)
    message, short = subscriber.recv(LIMIT), subscriber.recv(LIMIT)
    assert message.is_in_place
    view, short_view = np.asarray(message), memoryview(short)
    draft = publisher.loan(50_000)
    writable = np.asarray(draft)
    writable[:] = 1

    def child() -> None:
        assert bytes(view) == b"x" * 5000 and bytes(short_view) == b"y" * 20
        assert writable.sum() == 50_000
        writable[:] = 8
        for use in (
            lambda: publisher.send(b""),
            lambda: publisher.loan(100),
            lambda: publisher.wait_for_subscribers(0),
            lambda: subscriber.recv(0.1),
            lambda: subscriber.try_recv(),
            lambda: draft.commit(),
        ):
            try:
                use()
            except (wigwag.ForkedError, BufferError):
                pass
            else:
                raise AssertionError("a handle of the parent")
        subscriber.close()
        publisher.close()

        def grandchild() -> None:
            assert bytes(view) == b"x" * 5000 and writable.sum() == 400_000, "the child's own bytes"

        assert fork(grandchild) == 0
        with wigwag.Subscriber(name, start="oldest") as again:
            assert again.recv(LIMIT).tobytes() == b"x" * 5000

    assert fork(child) == 0
    assert bytes(view) == b"x" * 5000 and writable.sum() == 50_000, "the child has written to its own memory"
    del writable
    draft.commit()
    assert subscriber.recv(LIMIT).tobytes() == b"\1" * 50_000


def _of_listener(subscriber: wigwag.Subscriber) -> bytes:
    return subscriber.recv(LIMIT).tobytes()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_subscriber_goes_to_another_process_by_its_name(name: str, method: str) -> None:
    with wigwag.Publisher(name) as publisher:
        subscriber = wigwag.Subscriber(name, start="oldest")
        publisher.send(b"for all")
        with pytest.raises(TypeError, match="pickle"):
            multiprocessing.reduction.ForkingPickler.dumps(publisher)
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(_of_listener, (subscriber,)) == b"for all" == subscriber.recv(LIMIT).tobytes()


def test_views_of_a_broadcast_outlive_publisher_and_subscriber(name: str) -> None:
    publisher = wigwag.Publisher(name)
    subscriber = wigwag.Subscriber(name)
    publisher.wait_for_subscribers(1, LIMIT)
    publisher.send_array(np.arange(5000))
    view = np.asarray(subscriber.recv(LIMIT).array())
    tensor = np.from_dlpack(subscriber.recv(LIMIT).array()) if publisher.send_array(np.arange(5000)) else None
    copy = np.asarray(subscriber.recv(LIMIT, copy=True).array()) if publisher.send_array(np.arange(5000)) else None
    draft = publisher.loan_array(5000, "i8")
    drawn = np.asarray(draft.array())
    subscriber.close()
    publisher.close()
    del subscriber, publisher
    with pytest.raises(BufferError):
        draft.commit()
    gc.collect()
    drawn[:] = 1
    assert copy is not None and tensor is not None
    copy[0] = 1
    assert view.sum() == tensor.sum() == 12_497_500 == copy.sum() - 1 and drawn.sum() == 5000
    del drawn
    with pytest.raises(wigwag.ServerClosedError):
        draft.commit()


def _of_spawned(client: wigwag.Client, sender: wigwag.Sender) -> bytes:
    sender.send(b"from the child", timeout=LIMIT)
    sender.close(LIMIT)
    return client.call(b"spawned", timeout=LIMIT).tobytes()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_handles_go_to_other_processes_by_their_name(serving: Any, name: str, method: str) -> None:
    server = serving()
    with wigwag.Receiver(name) as receiver:
        handles = (wigwag.Client(server.path), wigwag.Sender(name))
        receiving: list[bytes] = []
        thread = threading.Thread(target=lambda: receiving.extend(bytes(next(receiver)) for _ in range(1)))
        thread.start()
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            waiting = pool.apply_async(_of_spawned, handles)
            thread.join(LIMIT)
            receiver.shutdown()
            for _ in receiver:
                pass
            assert waiting.get(LIMIT) == b"spawned" and receiving == [b"from the child"]


def test_an_interpreter_ends_with_everything_alive(serving: Any, program: Any) -> None:
    server = serving()
    for end in ("pass", "sys.exit(0)", "import os, signal; signal.raise_signal(signal.SIGTERM)"):
        one = program(
            f"""
            import sys, threading, wigwag, gc
            import numpy as np
            gc.disable()
            client = wigwag.Client(sys.argv[1])
            receiver = wigwag.Receiver(wigwag.testing.name('q'))
            sender = wigwag.Sender(receiver.path)
            sender.send(b'unread')
            message = receiver.recv(10)
            reply = client.call_array(np.arange(1000), timeout=10)
            view = np.asarray(reply.array())
            tensor = np.from_dlpack(reply.array())
            raw = memoryview(client.loan(5000))
            publisher = wigwag.Publisher(wigwag.testing.name('p'))
            subscriber = wigwag.Subscriber(publisher.path)
            publisher.wait_for_subscribers(1)
            publisher.send_array(np.arange(1000))
            published = np.asarray(subscriber.recv(10).array())
            draft = np.asarray(publisher.loan(1000))
            pending = client.send(b'x')
            class Late:
                def __del__(self): self.view.sum()
            late = Late(); late.view = view; late.itself = late
            threading.Thread(target=client._readiness().listen, daemon=True).start()
            def hang(receiver):
                for _ in receiver: pass
            threading.Thread(target=hang, args=(receiver,), daemon=True).start()
            threading.Thread(target=hang, args=(subscriber,), daemon=True).start()
            print('ready', flush=True)
            {end}
            """,
            str(server.path),
        )
        assert one.process.wait(LIMIT) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("seed", range(int(os.environ.get("WIGWAG_FUZZ_SEEDS", "6"))))
def test_any_history_of_views_and_ends(seed: int, program: Any, name: str) -> None:
    """Random steps of views, passes, closes, kills, threads and forks: no crash, and each byte is what it was."""
    code = """
    import sys, wigwag
    server = wigwag.Server(sys.argv[1])
    print("ready", flush=True)
    server.serve(lambda request: None)
    """
    chance = random.Random(seed)
    server = program(code, name)
    publisher = wigwag.Publisher(name + "p", history=4, max_holds=8, holds=4)
    subscribers: list[Any] = []
    clients: list[Any] = []
    memories: list[Any] = []
    views: list[tuple[Any, int]] = []

    def step() -> None:
        nonlocal server, publisher
        kind = chance.randrange(22)
        try:
            if kind == 0 and len(clients) < 4:
                clients.append(wigwag.Client(name, slots=4, capacity=200_000))
            elif kind <= 3 and clients:
                size = chance.choice((0, 1, 48, 49, 5000, 150_000))
                memories.append((chance.choice(clients).loan(size, timeout=0.05), None))
            elif kind <= 6 and memories:
                memory, _ = memories[chance.randrange(len(memories))]
                mark = chance.randrange(1, 255)
                if memory.views == 0 and len(memory) and not memory.readonly:
                    array = np.asarray(memory)
                    array[:] = mark
                    views.append((array[chance.randrange(len(array)) :], mark))
            elif kind == 7 and memories:
                memory, _ = memories.pop(chance.randrange(len(memories)))
                if isinstance(memory, wigwag.Loan):
                    memories.append((memory.call(0.5), None))
            elif kind == 8 and memories:
                memories.pop(chance.randrange(len(memories)))
            elif kind == 9 and views:
                views.pop(chance.randrange(len(views)))
            elif kind == 10 and clients:
                clients.pop(chance.randrange(len(clients))).close()
            elif kind == 11 and chance.random() < 0.1:
                server.kill()
                server = program(code, name)
            elif kind == 12:
                gc.collect()
            elif kind == 13 and views:
                gone = views.pop(chance.randrange(len(views)))
                thread = threading.Thread(target=lambda given: given, args=(gone,))
                del gone
                thread.start()
                thread.join()
            elif kind == 14 and chance.random() < 0.2:
                snapshot = list(views)

                def child() -> None:
                    for array, mark in snapshot:
                        assert (array == mark).all()
                        if array.flags.writeable:
                            array[:] = 0

                assert fork(child) == 0
            elif kind == 15 and memories:
                memory, _ = memories[chance.randrange(len(memories))]
                memory.__exit__(*(chance.choice(((None, None, None), (KeyError, KeyError(), None)))))
            elif kind == 16 and len(subscribers) < 3:
                start = chance.choice(("next", "oldest", "last"))
                subscribers.append(wigwag.Subscriber(name + "p", start=start, reconnect=0.01))
            elif kind == 17:
                memories.append((publisher.loan(chance.choice((0, 1, 48, 49, 5000)), timeout=0), None))
            elif kind == 18:
                mark = chance.randrange(1, 255)
                publisher.send(bytes([mark]) * chance.choice((1, 48, 49, 5000)), timeout=0)
            elif kind == 19 and subscribers:
                message = chance.choice(subscribers).try_recv(copy=chance.random() < 0.3)
                if message is not None and len(message):
                    views.append((np.asarray(message), message[0]))
                if message is not None:
                    memories.append((message, None))
            elif kind == 20 and memories:
                memory, _ = memories.pop(chance.randrange(len(memories)))
                if isinstance(memory, wigwag.Draft) and len(memory) and memory.views == 0:
                    mark = chance.randrange(1, 255)
                    memory[:] = bytes([mark]) * len(memory)
                    memory.commit(0)
            elif kind == 21 and chance.random() < 0.2:
                if subscribers and chance.random() < 0.5:
                    subscribers.pop(chance.randrange(len(subscribers))).close()
                else:
                    publisher.close()
                    publisher = wigwag.Publisher(name + "p", history=4, max_holds=8, holds=4)
        except (wigwag.WigwagError, BufferError, ValueError):
            pass
        for array, mark in views:
            assert (array == mark).all()

    for _ in range(400):
        step()
    while views:
        array, mark = views.pop()
        assert (array == mark).all()


def test_no_descriptor_and_no_mapping_is_left(serving: Any) -> None:
    server = serving()

    def counted() -> tuple[int, int]:
        gc.collect()
        with open("/proc/self/maps") as maps:
            mapped = sum("wigwag" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), mapped

    def shown() -> list[str]:
        links = []
        for number in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                pass  # of this very listing
        return sorted(links)

    def use() -> None:
        for _ in range(20):
            client = wigwag.Client(server.path)
            view = np.asarray(client.call(bytes(5000), timeout=LIMIT))
            client.close()
            del client
            view[:] = 1

    use()
    before, links = counted(), shown()
    for _ in range(3):
        use()

    end = time.monotonic() + LIMIT
    while (counted()[0] > before[0] or counted()[1] > before[1]) and time.monotonic() < end:
        time.sleep(0.05)  # the server's half goes with its control thread
    after = counted()
    assert after[0] <= before[0] and after[1] <= before[1], (before, after, links, shown())
