"""The extension module behind this package."""

import os
from concurrent.futures import Future
from types import TracebackType
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Optional,
    Union,
    overload,
)

from typing_extensions import Self, disjoint_base, final  # for type checkers only

__all__ = [
    "Bus",
    "EventIterator",
    "Follow",
    "Head",
    "Reader",
    "RuntimeBusEvent",
    "Table",
    "Ticket",
    "VERSION",
    "_SIGNAL_INTERVAL_S",
    "_flush_open",
    "_run_program",
    "canonical",
    "check",
    "checksum",
    "export_parquet",
]

VERSION: str
_SIGNAL_INTERVAL_S: float

_Path = Union[str, os.PathLike[str]]
_Event = Union[int, str, RuntimeBusEvent, Head]
_Since = Union[_Event, None]
_Types = Union[str, Iterable[str], None]
_ExpectHead = Union[int, RuntimeBusEvent, Head]

def canonical(value: object, *, name: Optional[str] = None, _keys_as_text: bool = False) -> str:
    """The canonical JSON text of a value: the bytes that a log holds for it. `name` names the value in errors ("value" by
    default)."""

def check(file: _Path, policy: _Path) -> dict[str, Any]:
    """Checks a proof or a track record against a policy, as `zero-bus check --json`.

    `ok` tells whether everything is proven; if not, `reason` tells why. Raises `ProofError` if a file cannot be read.
    """

def export_parquet(
    bus: _Path, directory: _Path, *, tables: Union[str, Iterable[str], None] = None
) -> dict[str, Any]:
    """Writes tables as Parquet files, each in a subdirectory; by default all tables. Adds only what is new.

    Returns `events`, the number of events that the tables cover, and `tables` with `files` and `rows` that were added
    to each. A log that does not hold what was exported is refused with `ExportError`.
    """

def checksum(value: object, *, _keys_as_text: bool = False) -> str: ...
def _flush_open() -> None: ...
def _run_program(name: str, arguments: list[str]) -> None: ...

@final
class Head:
    """The end of a log: the number of events, and the checksum of the last one."""

    def __new__(cls, index: int, checksum: Optional[str] = None) -> Self: ...
    @property
    def index(self) -> int:
        """The index of the last event; 0 for an empty log."""
    @property
    def checksum(self) -> Optional[str]:
        """The checksum of the last event; None for an empty log."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class RuntimeBusEvent:
    """One event. Immutable; equal to an event with the same fields."""

    __match_args__ = (
        "schema_version",
        "event_id",
        "event_index",
        "event_type",
        "as_of",
        "payload",
        "previous_checksum",
        "checksum",
        "trace_id",
    )

    def __new__(
        cls,
        schema_version: str,
        event_id: str,
        event_index: int,
        event_type: str,
        as_of: float,
        payload: dict[str, Any],
        previous_checksum: Optional[str],
        checksum: str,
        trace_id: Optional[str] = None,
    ) -> Self: ...
    @property
    def schema_version(self) -> str:
        """The format of the event: `zero.runtime.event.v1`."""
    @property
    def event_id(self) -> str:
        """`evt-` and the index, zero-padded to at least twelve digits."""
    @property
    def event_index(self) -> int:
        """1 for the first event of a bus, then one more for each event."""
    @property
    def event_type(self) -> str:
        """The kind of event, by convention a dotted name."""
    @property
    def as_of(self) -> float:
        """When it happened, in seconds since the Unix epoch."""
    @property
    def payload(self) -> dict[str, Any]:
        """What happened. The dictionary is created at the first use, and is the same from then on."""
    @property
    def payload_json(self) -> str:
        """The payload as canonical JSON: the bytes that the log holds."""
    @property
    def previous_checksum(self) -> Optional[str]:
        """The checksum of the previous event; None for the first one."""
    @property
    def checksum(self) -> str:
        """`sha256:` and the SHA-256 of the canonical form of all other fields."""
    @property
    def trace_id(self) -> Optional[str]:
        """Groups related events; None if the producer gave none."""
    def to_dict(self) -> dict[str, Any]:
        """The event as a dictionary; `trace_id` only if there is one."""
    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Self:
        """Creates an event from a dictionary. Ignores unknown members."""
    def _core(self) -> dict[str, Any]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Ticket(Awaitable[RuntimeBusEvent]):
    """The future of a submitted event.

    It has the methods of `concurrent.futures.Future`, and can be awaited. It cannot be cancelled: the event is on its
    way to the disk.
    """

    def result(self, timeout: Optional[float] = None) -> RuntimeBusEvent:
        """Waits until the event is durable, and returns it."""
    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """Waits until the event is durable or has failed, and returns the exception or None."""
    def done(self) -> bool:
        """Whether the event is durable or has failed."""
    def cancel(self) -> bool:
        """Always false: the event is on its way to the disk."""
    def cancelled(self) -> bool:
        """Always false."""
    def running(self) -> bool:
        """Whether the event is on its way to the disk."""
    def add_done_callback(self, callback: Callable[[Ticket], object]) -> None:
        """Calls `callback(ticket)` once the event is durable or has failed: at once, or on a thread of the bus."""
    def future(self) -> Future[RuntimeBusEvent]:
        """A future with the same outcome, for `concurrent.futures.wait` and `as_completed`, which take no other class."""
    def __await__(self) -> Generator[Any, None, RuntimeBusEvent]: ...

@final
class Bus:
    """A bus opened for appending.

    Any number of threads can share one handle, and any number of processes can append to one bus.
    """

    @classmethod
    def open(
        cls, path: _Path, *, create: bool = True, lock_timeout: float = 30.0, _anywhere: bool = False
    ) -> Bus:
        """Opens a bus for appending. Creates it if it is missing, unless `create` is false.

        A directory with other files and no bus is refused. An open or an append waits up to `lock_timeout` seconds for
        a process that holds the lock of the bus; then `LockedError`.
        """
    @property
    def path(self) -> os.PathLike[str]:
        """The directory of the bus, as an absolute path."""
    def append(
        self,
        event_type: str,
        payload: object,
        *,
        as_of: Optional[float] = None,
        trace_id: Optional[str] = None,
        expect_head: Optional[_ExpectHead] = None,
        _keys_as_text: bool = False,
    ) -> RuntimeBusEvent:
        """Appends one event. When this returns, the event has been synced.

        `as_of` is the present time if it is missing. With `expect_head`, the event is appended only if the log ends
        there; otherwise `HeadMismatchError`.
        """
    def append_many(
        self,
        events: Iterable[Union[tuple[str, object], dict[str, Any]]],
        *,
        as_of: Optional[float] = None,
        trace_id: Optional[str] = None,
    ) -> list[RuntimeBusEvent]:
        """Appends events next to each other, with one write and one sync. Each is a pair `(event_type, payload)`, or a
        dictionary with the names of the parameters of `append`."""
    def submit(
        self,
        event_type: str,
        payload: object,
        *,
        as_of: Optional[float] = None,
        trace_id: Optional[str] = None,
    ) -> Ticket:
        """Enqueues one event and returns without waiting for its sync. The ticket is a future: its result is the event,
        once it is durable. Waits while 1 MiB is pending."""
    def flush(self) -> None:
        """Waits until every submitted event is durable, or has failed."""
    def head(self) -> Head:
        """The end of the log when this handle last saw it."""
    def is_at_end(self) -> bool:
        """Whether no other handle has appended since this handle last saw the end of the log."""
    def warnings(self) -> list[str]:
        """What the operator should know, one sentence each: quarantined tails, and permissions that let other users
        write to the bus."""
    def reader(self) -> Reader:
        """A reader of the same bus."""
    def write_snapshot(
        self,
        payload: object,
        *,
        as_of: float,
        source_event_id: Optional[str] = None,
        _keys_as_text: bool = False,
    ) -> dict[str, Any]:
        """Replaces the snapshot with the producer's state, bound to the head that this handle last saw. Returns the
        snapshot as it was written."""
    def close(self) -> None:
        """Waits until every submitted event is durable, and closes the handle. Closing it again does nothing."""
    def __enter__(self) -> Bus: ...
    def __exit__(
        self,
        exception_type: Optional[type[BaseException]],
        exception: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> None: ...
    def __fspath__(self) -> str: ...

@final
class EventIterator(Iterator[RuntimeBusEvent]):
    """Verified events in order, up to the end that the log had at the start."""

    def __iter__(self) -> EventIterator: ...
    def __next__(self) -> RuntimeBusEvent: ...

@final
class Follow(Iterator[RuntimeBusEvent], AsyncIterator[RuntimeBusEvent]):
    """Events as they become durable: an iterator, and an asynchronous one.

    It ends after a `cancel()`, which any thread may call, and after an error.
    """

    def __iter__(self) -> Follow: ...
    def __next__(self) -> RuntimeBusEvent: ...
    def __aiter__(self) -> Follow: ...
    def __anext__(self) -> Awaitable[RuntimeBusEvent]: ...
    def next(self, timeout: Optional[float] = None) -> Optional[RuntimeBusEvent]:
        """Returns the next event, and waits for it for at most `timeout` seconds. None if the timeout ended, or if the
        follower was cancelled."""
    def cancel(self) -> None:
        """Ends the follower, for good, from any thread."""
    @property
    def cancelled(self) -> bool:
        """Whether the follower was cancelled."""
    def warning(self) -> Optional[str]:
        """A warning if the follower has to poll, because the system has no inotify watch left."""
    def _wait(self, timeout: float) -> bool: ...
    def _take(self) -> Optional[RuntimeBusEvent]: ...
    def __enter__(self) -> Follow: ...
    def __exit__(
        self,
        exception_type: Optional[type[BaseException]],
        exception: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> None: ...

@final
class Table:
    """A table of a log, up to the end that the log had when the table was created.

    Any library that reads Arrow takes it, as often as it likes: `pyarrow.table(t)`, `polars.DataFrame(t)`,
    `pandas.DataFrame.from_arrow(t)`, and the name of the variable in DuckDB. Each reading verifies the events anew.
    """

    @property
    def name(self) -> str:
        """The name of the table."""
    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
    def __arrow_c_schema__(self) -> object:
        """The schema, as a capsule of Arrow's C data interface."""
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows, as a capsule of Arrow's C stream interface. The types are those of the table, whatever schema is
        requested."""

@final
class Reader:
    """A bus opened for reading: a sequence of verified events. It changes nothing, and stays usable in a child after a
    fork."""

    @classmethod
    def open(cls, path: _Path, *, _without_log: bool = False) -> Reader:
        """Opens a bus for reading. A directory without a log is no bus: `BusNotFoundError`.

        Every call that reads waits up to 30 seconds for a process that holds the lock of the bus; then `LockedError`.
        """
    @property
    def path(self) -> os.PathLike[str]:
        """The directory of the bus, as an absolute path."""
    def head(self) -> Head:
        """The end of the log. Reads only the tail."""
    def __len__(self) -> int: ...
    def __iter__(self) -> EventIterator: ...
    @overload
    def __getitem__(self, position: int, /) -> RuntimeBusEvent: ...
    @overload
    def __getitem__(self, position: slice, /) -> list[RuntimeBusEvent]: ...
    def event(self, event_id: str) -> Optional[RuntimeBusEvent]:
        """The event with an id such as `evt-000000000001`; None if the log does not hold it."""
    def events(self, *, since: _Since = None, types: _Types = None) -> EventIterator:
        """Iterates over the verified events after `since`, up to the present end of the log.

        `since` is an event, its id or its index. In `types`, `*` stands for any text.
        """
    def read(self, *, since: _Since = None, types: _Types = None) -> list[RuntimeBusEvent]:
        """The verified events after `since` as a list. Verifies on several threads."""
    def follow(self, *, since: _Since = None, types: _Types = None) -> Follow:
        """Returns the events after `since`, and then each new one as it becomes durable."""
    def contains(self, head: _ExpectHead) -> bool:
        """Whether the log holds the event that a head names: this index with this checksum."""
    def snapshot(self) -> Optional[dict[str, Any]]:
        """The newest snapshot as a dictionary; None if there is no readable one."""
    def verify(self, progress: Optional[Callable[[int, int], object]] = None) -> dict[str, Any]:
        """Verifies the whole log and the snapshot.

        Calls `progress(bytes, bytes_total)` about twenty times a second on the calling thread. Returns `ok`, `events`,
        `last_checksum`, `reason`, `byte_offset`, `torn_bytes`, and `snapshot` with `present`, `consistent`, `reason`.
        """
    def state(self, *, at: Optional[_Event] = None) -> dict[str, Any]:
        """The runtime's state after an event, or after the last one. `at` names it as in `prove`."""
    def explain(self, cycle: Union[int, str]) -> dict[str, Any]:
        """Explains a cycle, by its number or its trace: what the runtime observed, which limit decided, and what
        changed."""
    def replay(self, *, limits: Optional[Mapping[str, float]] = None) -> dict[str, Any]:
        """Runs the recorded run again and compares it with the record; with `limits`, shows the run under them side by
        side."""
    def report(self) -> dict[str, Any]:
        """Profit and loss, costs, drawdown, trades and rejections of the last run. `ValueError` if there is none."""
    def to_arrow(self, table: str = "events", *, since: _Since = None) -> Table:
        """A table of the events after `since`, up to the present end of the log, for any library that reads Arrow.

        The tables are `events`, `decisions`, `rejections`, `fills`, `positions`, `cycles`, `equity`, `candles`,
        `orders`, `expiries` and `strategy_failures`.
        """
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table of all events, as a capsule of Arrow's C stream interface."""
    def prove(
        self,
        event: _Event,
        *,
        secret: _Path,
        output: _Path,
        reveal: Optional[Iterable[str]] = None,
        checkpoint: Optional[_Path] = None,
        policy: Optional[_Path] = None,
        state: Optional[_Path] = None,
    ) -> dict[str, Any]:
        """Writes a proof of one event, which discloses only the fields in `reveal`, as `zero-bus prove --json`.

        The event is named by its index (1 is the first one, -1 the last one), by its id, by `"last"`, or by itself.
        Without `reveal`, nothing is disclosed, and a `UserWarning` says so; pass `[]` if that is meant. `secret` is the file with the disclosure secret of the bus. The proof is bound to the newest stored checkpoint,
        unless `checkpoint` or `state` names another. With `policy`, it must accept the checkpoint. Returns `bytes`,
        `checkpoint`, `cosigned_by`, `events`, `first`, `last`, `output`, `reveal`.
        """
    def prove_all(
        self,
        *,
        secret: _Path,
        output: _Path,
        reveal: Iterable[str],
        first: Optional[_Event] = None,
        last: Optional[_Event] = None,
        checkpoint: Optional[_Path] = None,
        policy: Optional[_Path] = None,
        state: Optional[_Path] = None,
    ) -> dict[str, Any]:
        """Writes a track record: a proof of all events, or of those from `first` to `last`."""
    def audit_json(self) -> str:
        """The audit document as canonical JSON."""
    def __fspath__(self) -> str: ...
