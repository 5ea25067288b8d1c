"""Frozen dataclasses without the module `dataclasses`, whose import takes longer than that of this package."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class DataclassAttribute:
    """An attribute that `dataclasses` looks for in a class. Taken from a real dataclass at the first use."""

    def __init__(self, name: str, dataclass: Callable[[], type]) -> None:
        self._name = name
        self._dataclass = dataclass

    def __get__(self, _instance: object, _class: object) -> object:
        return getattr(self._dataclass(), self._name)


def add_dataclass_attributes(cls: type, dataclass: Callable[[], type]) -> None:
    """Lets `dataclasses.replace`, `asdict` and `fields` take a class for the dataclass that a function returns."""
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        setattr(cls, name, DataclassAttribute(name, dataclass))


def frozen(cls: type) -> Any:
    """Gives a class with annotated fields what `dataclasses.dataclass(frozen=True)` gives it."""
    fields = tuple(cls.__annotations__)
    defaults = {name: getattr(cls, name) for name in fields if hasattr(cls, name)}

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        given = dict(zip(fields, values))
        members = {**defaults, **given, **named}
        unknown = [name for name in named if name not in fields or name in given]
        missing = [name for name in fields if name not in members]
        if len(values) > len(fields) or unknown or missing:
            raise TypeError(f"{cls.__name__}() takes {', '.join(fields)}; missing: {missing}, wrong: {unknown}")
        self.__dict__.update((name, members[name]) for name in fields)

    def values_of(self: Any) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in fields)

    def __eq__(self: Any, other: Any) -> Any:
        return values_of(self) == values_of(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values_of(self))

    def __repr__(self: Any) -> str:
        members = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields)
        return f"{type(self).__qualname__}({members})"

    def __setattr__(_self: Any, name: str, _value: Any) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(_self: Any, name: str) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def dataclass() -> type:
        import dataclasses

        described = [
            (name, cls.__annotations__[name], dataclasses.field(default=defaults[name]))
            if name in defaults
            else (name, cls.__annotations__[name])
            for name in fields
        ]
        return dataclasses.make_dataclass(cls.__name__, described, frozen=True)

    for method in (__init__, __eq__, __hash__, __repr__, __setattr__, __delattr__):
        method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
        setattr(cls, method.__name__, method)
    setattr(cls, "__match_args__", fields)
    add_dataclass_attributes(cls, dataclass)
    return cls
