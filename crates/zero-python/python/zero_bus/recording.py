"""Records what a program logs and does: a `logging.Handler`, and the decorator `step`."""

from __future__ import annotations

import functools
import inspect
import logging
import traceback
from typing import Any, Callable, Optional, TypeVar, cast

from ._native import Bus, Ticket
from .errors import BusError

__all__ = ["BusHandler", "step"]

F = TypeVar("F", bound=Callable[..., Any])


class BusHandler(logging.Handler):
    """Records log lines as events of the type `log.line`.

    With `durable`, a line is on disk when the logging call returns. Otherwise it is submitted, and on disk shortly
    afterwards; `flush` waits for that. Each payload has `level`, `logger`, `message`, and `exception` if there is one.
    """

    def __init__(
        self, bus: Bus, *, event_type: str = "log.line", durable: bool = False, level: int = logging.NOTSET
    ) -> None:
        super().__init__(level)
        self._bus = bus
        self._event_type = event_type
        self._durable = durable

    def emit(self, record: logging.LogRecord) -> None:
        """Records one log line. A failure is reported as logging reports failures of handlers."""
        try:
            payload = {"level": record.levelname, "logger": record.name, "message": _text(record.getMessage())}
            if record.exc_info and record.exc_info[0] is not None:
                payload["exception"] = _text("".join(traceback.format_exception(*record.exc_info)))
            if self._durable:
                self._bus.append(self._event_type, payload, as_of=record.created)
            else:
                self._bus.submit(self._event_type, payload, as_of=record.created)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Waits until every submitted line is on disk."""
        try:
            self._bus.flush()
        except BusError:
            # The bus is closed, which has waited already, or belongs to the parent of this process.
            pass


def _text(text: str) -> str:
    """The text without lone surrogates, which file names can have and events cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def step(
    bus: Bus,
    name: Optional[str] = None,
    *,
    arguments: Optional[Callable[..., Any]] = None,
    result: Optional[Callable[[Any], Any]] = None,
) -> Callable[[F], F]:
    """Records a function: the intent before each call, and the result or the exception after it.

    The function runs only once its intent is durable (`step.intent`). Then `step.result` or `step.failed` follows,
    with the same trace. A crash in between leaves an intent without an outcome. If a part of the result cannot be
    recorded, the event has `unrecorded` with the reason instead, and the caller gets the result as always.

    `name` is the function's name by default. `arguments(*args, **kwargs)` returns what of the arguments is recorded,
    and `result(value)` what of the result: nothing by default, since both may hold secrets. Works with functions and
    with coroutine functions.
    """

    if not isinstance(bus, Bus):
        raise TypeError("step: expects a Bus: @step(bus)")

    def decorate(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"step: {function.__qualname__} is a generator function, whose calls return before it runs")
        step_name = name or function.__qualname__

        def intent_of(args: Any, kwargs: Any) -> dict[str, Any]:
            payload: dict[str, Any] = {"step": step_name}
            if arguments is not None:
                payload["arguments"] = arguments(*args, **kwargs)
            return payload

        def submit_result(trace: str, value: Any) -> Ticket:
            payload: dict[str, Any] = {"step": step_name}
            if result is not None:
                try:
                    return bus.submit("step.result", {**payload, "result": result(value)}, trace_id=trace)
                except Exception as error:
                    # The function has run, so this must not look like a crash or a failure of it.
                    payload["unrecorded"] = _describe(error)
            return bus.submit("step.result", payload, trace_id=trace)

        def fail(trace: str, error: BaseException) -> None:
            bus.append("step.failed", {"step": step_name, "exception": _describe(error)}, trace_id=trace)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                trace = _new_trace()
                intent = bus.submit("step.intent", intent_of(args, kwargs), trace_id=trace)
                try:
                    await intent
                    value = await function(*args, **kwargs)
                except BaseException as error:
                    # Not awaited: a cancelled task would not get to the record.
                    fail(trace, error)
                    raise
                await submit_result(trace, value)
                return value

            return cast(F, run_async)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            trace = _new_trace()
            bus.append("step.intent", intent_of(args, kwargs), trace_id=trace)
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                fail(trace, error)
                raise
            submit_result(trace, value).result()
            return value

        return cast(F, run)

    return decorate


def _describe(error: BaseException) -> dict[str, str]:
    return {"class": type(error).__qualname__, "message": _text(str(error))}


def _new_trace() -> str:
    """A new trace for a call."""
    import uuid

    return f"step-{uuid.uuid4().hex}"
