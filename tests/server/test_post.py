import asyncio
import threading

import pytest

from thermoscope.server.post import Post


def test_nothing_is_lost_and_each_senders_order_is_kept():
    """Four threads and a loop that empties the box meanwhile."""
    got, done = [], asyncio.Event()

    async def listen():
        post = Post(asyncio.get_running_loop())

        def take(item):
            got.append(item)
            if len(got) == 4 * 2_000:
                done.set()

        def say(name):
            for number in range(2_000):
                post.send(take, (name, number))

        senders = [threading.Thread(target=say, args=(name,)) for name in range(4)]
        for sender in senders:
            sender.start()
        await asyncio.wait_for(done.wait(), 20)
        for sender in senders:
            sender.join()

    asyncio.run(listen())
    for name in range(4):
        assert [number for sender, number in got if sender == name] == list(range(2_000))


def test_what_is_said_before_the_loop_looks_is_one_knock():
    knocks, got = [], []

    class Loop:
        call_soon_threadsafe = staticmethod(knocks.append)

    post = Post(Loop())
    for number in range(5):
        post.send(got.append, number)
    assert len(knocks) == 1
    knocks[0]()
    assert got == [0, 1, 2, 3, 4]
    post.send(got.append, 5)
    assert len(knocks) == 2


def test_a_loop_that_is_closed_is_an_error_for_the_sender():
    loop = asyncio.new_event_loop()
    loop.close()
    post = Post(loop)
    for number in range(3):  # and for every one
        with pytest.raises(RuntimeError):
            post.send(print, number)
