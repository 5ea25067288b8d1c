"""The fields of an event as `dataclasses` describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class EventFields:
    """The fields of an event as `dataclasses` describes them."""

    schema_version: str
    event_id: str
    event_index: int
    event_type: str
    as_of: float
    payload: dict[str, Any]
    previous_checksum: Optional[str]
    checksum: str
    trace_id: Optional[str] = None
