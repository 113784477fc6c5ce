"""A leader that has lost its lease puts its heartbeat down, also one that did not hear the first cancel."""

import asyncio

from replication.jobs import service
from replication.jobs.service import ServiceProcess


def test_a_cancel_that_was_lost_is_said_again() -> None:
    heard = 0

    async def hard_of_hearing() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard += 1
                if heard > 1:
                    raise

    async def put_down() -> None:
        process = ServiceProcess.__new__(ServiceProcess)
        process._task = asyncio.ensure_future(hard_of_hearing())
        await asyncio.sleep(0)
        await asyncio.wait_for(process._put_down(), 5 * service.PUT_DOWN_AGAIN)
        assert process._task is None

    asyncio.run(put_down())
    assert heard == 2
