"""The class of the old runtime, on the library's log."""

from __future__ import annotations

import os

from . import _native
from ._native import RuntimeBusEvent
from .errors import (
    BusError,
    ChangedError,
    DamagedError,
    NotABusError,
    PoisonedError,
    StorageError,
    StorageNotFoundError,
)

# Modules that take long to import are imported where they are used. Type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from pathlib import Path
    from typing import Any, Callable, Iterable, Mapping, Optional, TypeVar, Union

    _T = TypeVar("_T")
else:
    from . import _frozen

    def dataclass(*, frozen: bool) -> object:
        return _frozen.frozen

RUNTIME_EVENT_SCHEMA_VERSION = "zero.runtime.event.v1"
RUNTIME_SNAPSHOT_SCHEMA_VERSION = "zero.runtime.snapshot.v1"
RUNTIME_AUDIT_SCHEMA_VERSION = "zero.runtime.audit.v1"


@dataclass(frozen=True)
class RuntimeBusIntegrity:
    """The integrity verdict of a log: how many events are valid, and what is wrong behind them."""

    ok: bool
    events: int
    last_checksum: Optional[str]
    reason: str = "ok"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a dictionary."""
        return {"ok": self.ok, "events": self.events, "last_checksum": self.last_checksum, "reason": self.reason}

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> RuntimeBusIntegrity:
        """Creates a verdict from a dictionary."""
        last_checksum = payload.get("last_checksum")
        return cls(
            ok=bool(payload["ok"]),
            events=int(payload["events"]),
            last_checksum=str(last_checksum) if last_checksum else None,
            reason=str(payload.get("reason", "ok")),
        )


class DurableRuntimeBus:
    """A bus with the interface of the old class. It can be shared by threads, and used after a fork.

    The files are opened at the first append and stay open. An append costs one write and one sync, however long the
    log is.
    """

    root: Path
    events_path: Path
    snapshot_path: Path

    def __init__(self, root: Union[str, os.PathLike[str]]) -> None:
        from pathlib import Path

        self.root = Path(root)
        self.events_path = self.root / "events.jsonl"
        self.snapshot_path = self.root / "state-snapshot.json"
        # A change of the working directory must not begin a second log.
        self._directory = self.root.absolute()
        self._bus: Optional[_native.Bus] = None
        self._process_id = 0

    def append(
        self,
        event_type: str,
        payload: dict[str, Any],
        *,
        as_of: float,
        trace_id: Optional[str] = None,
    ) -> RuntimeBusEvent:
        """Appends one event. When this returns, the event is durable."""

        if self._bus is None:
            # An invalid payload creates no bus.
            _native.canonical(payload, name="payload", _keys_as_text=True)

        def append(bus: _native.Bus) -> RuntimeBusEvent:
            return bus.append(event_type, payload, as_of=as_of, trace_id=trace_id, _keys_as_text=True)

        return self._with_bus(append)

    def write_snapshot(
        self,
        payload: dict[str, Any],
        *,
        as_of: float,
        source_event_id: Optional[str] = None,
    ) -> dict[str, Any]:
        """Replaces the snapshot with this state, bound to the end of the log. Returns the snapshot."""

        def write(bus: _native.Bus) -> dict[str, Any]:
            if not bus.is_at_end():
                # The snapshot is bound to the end that the handle knows. An open finds the present one.
                bus = self._open()
            written = bus.write_snapshot(
                payload, as_of=as_of, source_event_id=source_event_id, _keys_as_text=True
            )
            names = ("schema_version", "as_of", "source_event_id", "event_count", "last_checksum", "payload")
            return {name: written[name] for name in names}

        return self._with_bus(write)

    def read_snapshot(self) -> Optional[dict[str, Any]]:
        """The snapshot as it was written; None if there is none."""
        try:
            text = (self._directory / self.snapshot_path.name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        import json

        snapshot: dict[str, Any] = json.loads(text)
        return snapshot

    def read_events(self) -> list[RuntimeBusEvent]:
        """All events of the log. Like the old class, it also returns those after a fault: `verify_integrity` judges."""
        reader = self._reader()
        if reader is None:
            return []
        try:
            return reader.read()
        except BusError as error:
            if isinstance(error, StorageError):
                raise
            return list(_unverified(self._directory / self.events_path.name))

    def verify_integrity(self) -> RuntimeBusIntegrity:
        """Verifies the whole log."""
        reader = self._reader()
        if reader is None:
            return RuntimeBusIntegrity(ok=True, events=0, last_checksum=None)
        verdict = reader.verify()
        return RuntimeBusIntegrity(
            ok=verdict["ok"],
            events=verdict["events"],
            last_checksum=verdict["last_checksum"],
            reason=verdict["reason"],
        )

    def verify_snapshot(self) -> dict[str, Any]:
        """Whether the snapshot matches the log."""
        reader = self._reader()
        if reader is None:
            return {"present": False, "consistent": True, "reason": "no snapshot"}
        return dict(reader.verify()["snapshot"])

    def export_audit(self) -> dict[str, Any]:
        """Everything that the bus holds, from disk alone: both verdicts, the counts, the snapshot and all events."""
        reader = self._reader()
        if reader is None:
            integrity = self.verify_integrity().to_dict()
            snapshot, snapshot_integrity = None, self.verify_snapshot()
            events: list[dict[str, Any]] = []
            summary = summarize_events(events)
        else:
            import json

            audit = json.loads(reader.audit_json())
            integrity = RuntimeBusIntegrity.from_dict(audit["integrity"]).to_dict()
            snapshot, snapshot_integrity = audit["snapshot"], audit["snapshot_integrity"]
            events, summary = audit["events"], audit["summary"]
        return {
            "schema_version": RUNTIME_AUDIT_SCHEMA_VERSION,
            "source": "durable-runtime-bus",
            "integrity": integrity,
            "snapshot_integrity": snapshot_integrity,
            "summary": summary,
            "snapshot": snapshot,
            "events": events,
        }

    def close(self) -> None:
        """Closes the files. The next append opens them again."""
        bus, self._bus = self._bus, None
        if bus is not None and self._process_id == os.getpid():
            bus.close()

    def _with_bus(self, work: Callable[[_native.Bus], _T]) -> _T:
        bus = self._bus
        if bus is None or self._process_id != os.getpid():
            return work(self._open())
        try:
            return work(bus)
        except (ChangedError, PoisonedError, StorageNotFoundError):
            # The old class held no files: it used whatever was there. Nothing was written.
            return work(self._open())

    def _open(self) -> _native.Bus:
        bus = _native.Bus.open(self._directory, _anywhere=True)
        self._bus, self._process_id = bus, os.getpid()
        return bus

    def _reader(self) -> Optional[_native.Reader]:
        try:
            return _native.Reader.open(self._directory, _without_log=True)
        except NotABusError:
            if self._directory.exists():
                raise
            return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"

    def __getstate__(self) -> dict[str, Any]:
        # The files belong to this process.
        return {**self.__dict__, "_bus": None, "_process_id": 0}


def _unverified(path: Path) -> Iterable[RuntimeBusEvent]:
    """The lines of a log that is not valid to its end, up to a torn tail."""
    import json

    byte_offset = 0
    with open(path, "rb") as log:
        for number, line in enumerate(log, start=1):
            try:
                if line.strip():
                    yield RuntimeBusEvent.from_dict(json.loads(line))
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                if not line.endswith(b"\n"):
                    return
                message = f"{path}: line {number} (byte {byte_offset} of the log) is not an event: {error}"
                raise DamagedError(message, path=str(path), index=number, byte_offset=byte_offset) from error
            byte_offset += len(line)


def event_core(event: RuntimeBusEvent) -> dict[str, Any]:
    """What the checksum of an event covers: the event as a dictionary, without its checksum."""
    return event._core()


def checksum_event(payload: Mapping[str, Any]) -> str:
    """`sha256:` and the SHA-256 of the canonical form of a dictionary."""
    return _native.checksum(payload, _keys_as_text=True)


def append_jsonl(path: Union[str, os.PathLike[str]], payload: Mapping[str, Any]) -> None:
    """Appends a dictionary to a file as one canonical line, and syncs it. Creates the file with mode 0600."""
    line = (_native.canonical(payload, _keys_as_text=True) + "\n").encode("ascii")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        _write_and_sync(file, line)


def write_json_atomic(path: Union[str, os.PathLike[str]], payload: Mapping[str, Any]) -> None:
    """Replaces a file with a dictionary as one canonical line. A reader finds the old or the new content."""
    import tempfile
    from pathlib import Path

    line = (_native.canonical(payload, _keys_as_text=True) + "\n").encode("ascii")
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name + ".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            _write_and_sync(file, line)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_and_sync(file: Any, line: bytes) -> None:
    remaining = memoryview(line)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    os.fsync(file.fileno())


def summarize_events(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of events, and of events by type."""
    count = 0
    by_type: dict[str, int] = {}
    for event in events:
        count += 1
        event_type = str(event["event_type"])
        by_type[event_type] = by_type.get(event_type, 0) + 1
    return {"events": count, "event_types": by_type}
