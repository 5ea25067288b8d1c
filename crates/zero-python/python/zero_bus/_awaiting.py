"""What asyncio needs. Imported only by programs that use it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._native import Follow, RuntimeBusEvent, Ticket

# How long a thread waits for an event before it looks whether its task was cancelled.
_WAIT_S = 0.2


def future_of(ticket: Ticket) -> asyncio.Future[RuntimeBusEvent]:
    """A future of the running loop with the result of a ticket."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[RuntimeBusEvent] = loop.create_future()

    def transfer() -> None:
        if future.done():
            return
        error = ticket.exception()
        if error is None:
            future.set_result(ticket.result())
        else:
            future.set_exception(error)

    def resolved(_ticket: Ticket) -> None:
        try:
            loop.call_soon_threadsafe(transfer)
        except RuntimeError:
            # The loop is closed, so nobody awaits the future.
            pass

    ticket.add_done_callback(resolved)
    return future


async def next_event(follow: Follow) -> RuntimeBusEvent:
    """The next event of a follower. A cancelled task loses no event: it stays ready for the next call."""
    loop = asyncio.get_running_loop()
    while True:
        event = follow._take()
        if event is not None:
            return event
        if follow.cancelled:
            raise StopAsyncIteration
        await loop.run_in_executor(None, follow._wait, _WAIT_S)
