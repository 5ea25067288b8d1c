"""A flight recorder for Python programs: a local, append-only event log in which checksums chain each event.

    from zero_bus import Bus
    with Bus.open("bus") as bus:
        event = bus.append("door.opened", {"by": "cat"})  # durable when this returns

`DurableRuntimeBus` has the interface of the old runtime's class. `Bus`, `Reader` and `verify` are the native
interface. `zero_bus.errors` has the exceptions.
"""

from __future__ import annotations

import atexit as _atexit

from . import errors
from ._drop_in import (
    RUNTIME_AUDIT_SCHEMA_VERSION,
    RUNTIME_EVENT_SCHEMA_VERSION,
    RUNTIME_SNAPSHOT_SCHEMA_VERSION,
    DurableRuntimeBus,
    RuntimeBusIntegrity,
    append_jsonl,
    checksum_event,
    event_core,
    summarize_events,
    write_json_atomic,
)
from ._native import VERSION as __version__
from ._native import Bus, EventIterator, Follow, Head, Reader, RuntimeBusEvent, Ticket, _flush_open, canonical
from .errors import BusError

_atexit.register(_flush_open)

__all__ = [
    "RUNTIME_AUDIT_SCHEMA_VERSION",
    "RUNTIME_EVENT_SCHEMA_VERSION",
    "RUNTIME_SNAPSHOT_SCHEMA_VERSION",
    "Bus",
    "BusError",
    "DurableRuntimeBus",
    "EventIterator",
    "Follow",
    "Head",
    "Reader",
    "RuntimeBusEvent",
    "RuntimeBusIntegrity",
    "Ticket",
    "append_jsonl",
    "canonical",
    "checksum_event",
    "errors",
    "event_core",
    "summarize_events",
    "write_json_atomic",
]
