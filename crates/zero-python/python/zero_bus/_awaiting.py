"""What asyncio and concurrent.futures need. Imported only by programs that use them."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING

from ._native import _SIGNAL_INTERVAL_S

if TYPE_CHECKING:
    from ._native import Follow, RuntimeBusEvent, Ticket

# How long a thread waits for an event before it looks whether its task was cancelled. Ctrl-C waits for that thread.
_WAIT_S = _SIGNAL_INTERVAL_S


def future_of(ticket: Ticket) -> asyncio.Future[RuntimeBusEvent]:
    """A future of the running loop with the result of a ticket."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[RuntimeBusEvent] = loop.create_future()

    def resolved(_ticket: Ticket) -> None:
        try:
            loop.call_soon_threadsafe(_transfer, ticket, future)
        except RuntimeError:
            # The loop is closed, so nobody awaits the future.
            pass

    ticket.add_done_callback(resolved)
    return future


def concurrent_future_of(ticket: Ticket) -> concurrent.futures.Future[RuntimeBusEvent]:
    """A future of `concurrent.futures` with the result of a ticket. Like the ticket, it cannot be cancelled."""
    future: concurrent.futures.Future[RuntimeBusEvent] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    ticket.add_done_callback(lambda _ticket: _transfer(ticket, future))
    return future


def _transfer(
    ticket: Ticket, future: asyncio.Future[RuntimeBusEvent] | concurrent.futures.Future[RuntimeBusEvent]
) -> None:
    """Gives a future the outcome of a resolved ticket."""
    if future.done():
        return
    error = ticket.exception()
    if error is None:
        future.set_result(ticket.result())
    else:
        future.set_exception(error)


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
