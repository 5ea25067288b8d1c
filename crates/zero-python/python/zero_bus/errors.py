"""The exceptions of this package.

Each class names what the caller can do next. Where a file operation or a value of Python would raise, the class is
also of that type: a full disk is an `OSError`, an invalid payload a `ValueError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

__all__ = [
    "AmbiguousError",
    "BusError",
    "BusNotFoundError",
    "ChangedError",
    "ClosedError",
    "DamagedError",
    "ExportError",
    "ForkError",
    "HeadMismatchError",
    "InvalidEventError",
    "LockedError",
    "MissingError",
    "NotABusError",
    "PayloadError",
    "PayloadTypeError",
    "PoisonedError",
    "ProofError",
    "StorageError",
    "StorageIsADirectoryError",
    "StorageNotADirectoryError",
    "StorageNotFoundError",
    "StoragePermissionError",
]


class BusError(Exception):
    """Every error of this package."""

    path: Optional[str] = None
    """The file or directory, if there is one."""
    index: Optional[int] = None
    """The number of the event, counted from 1, if the error is about one."""
    byte_offset: Optional[int] = None
    """Where its line begins in the log."""

    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        self._attributes = attributes
        for name, value in attributes.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.args[0], self._attributes)


def _rebuild(error_class: type[BusError], message: str, attributes: dict[str, Any]) -> BusError:
    return error_class(message, **attributes)


class StorageError(BusError, OSError):
    """The system refused a file operation. A failed append has acknowledged no event."""


class StoragePermissionError(StorageError, PermissionError):
    """A file may not be read or written."""


class StorageNotFoundError(StorageError, FileNotFoundError):
    """A file or directory is missing."""


class StorageIsADirectoryError(StorageError, IsADirectoryError):
    """There is a directory where a file should be."""


class StorageNotADirectoryError(StorageError, NotADirectoryError):
    """There is a file where a directory should be."""


class NotABusError(BusError, OSError):
    """The path does not lead to a bus."""


class BusNotFoundError(NotABusError, FileNotFoundError):
    """There is no such directory, or no log in it."""


class InvalidEventError(BusError, ValueError):
    """The event cannot be appended. Correct it; nothing of it was written."""

    field: str = ""
    """The invalid field, such as `event_type` or `payload.orders[2].price`."""


class PayloadError(InvalidEventError):
    """A value has no exact JSON form, such as NaN."""


class PayloadTypeError(PayloadError, TypeError):
    """A value is of a type that has no JSON form, such as a set."""


class DamagedError(BusError, ValueError):
    """The log is damaged. The events before the fault are valid; nothing can be appended."""

    reason: str = ""
    """What is wrong, as in the integrity verdict."""


class AmbiguousError(DamagedError):
    """A crash or tampering could have left the tail of the log. `zero-bus repair` quarantines it."""


class MissingError(BusError, ValueError):
    """The log is shorter than a file next to it records: its end is missing."""

    events: int = 0
    """Events in the log."""
    recorded: int = 0
    """Events that the log once held."""


class ChangedError(BusError, OSError):
    """The log is no longer the file that was opened. Open the bus again."""


class HeadMismatchError(BusError, ValueError):
    """The log does not end where `expect_head` says. Nothing was appended; read the new events and decide again."""

    expected: Any = None
    """The `Head` that the caller expected."""
    actual: Any = None
    """The `Head` of the log."""


class LockedError(BusError, TimeoutError):
    """Another process has held the lock of the bus for too long. Nothing was appended."""

    holder: Optional[int] = None
    """The id of that process, if the system knows it."""
    waited: float = 0.0
    """Seconds that this process has waited."""


class PoisonedError(BusError, OSError):
    """An earlier write or sync on this handle failed. Open the bus again, which recovers the log."""


class ForkError(BusError, RuntimeError):
    """The handle belongs to the parent of this process. Open the bus again in the child."""


class ClosedError(BusError, ValueError):
    """The handle is closed."""


class ExportError(BusError, ValueError):
    """The directory cannot take the export: it belongs to another log, is in use, or is not a whole export."""


class ProofError(BusError, ValueError):
    """A proof cannot be made, or a file about proofs cannot be read. A proof that does not hold is no error: `check`
    returns `ok` as false."""
