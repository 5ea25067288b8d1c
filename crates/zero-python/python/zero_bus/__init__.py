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
from ._frozen import add_dataclass_attributes as _add_dataclass_attributes
from ._native import VERSION as __version__
from ._native import (
    Bus,
    EventIterator,
    Follow,
    Head,
    Reader,
    RuntimeBusEvent,
    Table,
    Ticket,
    _flush_open,
    canonical,
    check,
    export_parquet,
)
from .errors import BusError

# Type checkers know this name. The module `typing` takes longer to import than the rest of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
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
else:

    def __getattr__(name: str) -> object:
        """Imports what belongs to the old class at its first use."""
        if name in __all__:
            from . import _drop_in

            value: object = getattr(_drop_in, name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_atexit.register(_flush_open)


def _event_dataclass() -> type:
    from ._event_fields import EventFields

    return EventFields


_add_dataclass_attributes(RuntimeBusEvent, _event_dataclass)

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
    "Table",
    "Ticket",
    "append_jsonl",
    "canonical",
    "check",
    "checksum_event",
    "errors",
    "event_core",
    "export_parquet",
    "summarize_events",
    "write_json_atomic",
]
