"""Every value is exact or refused with its path."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid

import numpy
import pydantic
import pytest
from conftest import SOAK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zero_bus import Bus, canonical
from zero_bus.errors import PayloadError, PayloadTypeError

UTC = datetime.timezone.utc

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def dumps(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@settings(max_examples=200 if SOAK else 100, deadline=None)
@given(json_values)
def test_any_json_value_has_the_bytes_of_json_dumps(value):
    assert canonical(value) == dumps(value)


@settings(max_examples=40 if SOAK else 20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), min_size=1, max_size=3))
def test_any_payload_is_read_back_equal(bus, payloads):
    appended = bus.append_many([("p", payload) for payload in payloads])
    read = bus.reader().read(since=appended[0].event_index - 1)
    assert [event.payload for event in read] == payloads == [event.payload for event in appended]
    assert [event.payload_json for event in read] == [dumps(payload) for payload in payloads]
    # Equal is not enough: 1 == 1.0 == True.
    assert [repr(event.payload) for event in read] == [repr(json.loads(dumps(payload))) for payload in payloads]


@pytest.fixture(scope="module")
def bus(tmp_path_factory):
    with Bus.open(tmp_path_factory.mktemp("payloads") / "bus") as bus:
        yield bus


def test_the_recorded_cases(conformance):
    cases = [json.loads(line) for line in (conformance / "canonical.jsonl").read_text().splitlines()]
    assert len(cases) > 1_000
    for case in cases:
        assert canonical(json.loads(case["input"])) == case["canonical"]
    for line in (conformance / "rejected.jsonl").read_text().splitlines():
        try:
            value = json.loads(json.loads(line)["input"])
        except ValueError:
            continue
        with pytest.raises(PayloadError):
            canonical(value)


class Color(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Order:
    symbol: str
    price: object
    tags: tuple = ()


class Model(pydantic.BaseModel):
    price: decimal.Decimal
    at: datetime.datetime
    order: object = None


EXACT = [
    (decimal.Decimal("0.1"), "0.1"),
    (decimal.Decimal("64000.10"), "64000.1"),
    (decimal.Decimal("5"), "5"),
    (decimal.Decimal("5.0"), "5.0"),
    (decimal.Decimal("-0.0"), "-0.0"),
    (decimal.Decimal("1E+30"), "1" + "0" * 30),
    (decimal.Decimal("1E-7"), "1e-07"),
    (10**400, "1" + "0" * 400),
    (-(2**63), str(-(2**63))),
    (2**64, str(2**64)),
    (datetime.datetime(2026, 5, 1, 12, 0, 0, 250, tzinfo=UTC), '"2026-05-01T12:00:00.000250+00:00"'),
    (datetime.date(2026, 5, 1), '"2026-05-01"'),
    (numpy.int64(-7), "-7"),
    (numpy.uint64(2**64 - 1), str(2**64 - 1)),
    (numpy.float64(0.1), "0.1"),
    (numpy.float32(0.5), "0.5"),
    (numpy.float32(0.1), "0.10000000149011612"),
    (numpy.bool_(True), "true"),
    (numpy.str_("x"), '"x"'),
    (Color.RED, '"red"'),
    (Level.HIGH, "3"),
    ((1, (2,)), "[1,[2]]"),
    (collections.OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
    (Order("BTC", decimal.Decimal("1.5"), ("a",)), '{"price":1.5,"symbol":"BTC","tags":["a"]}'),
    (
        Model(price="1.25", at=datetime.datetime(2026, 5, 1, tzinfo=UTC), order=Order("ETH", 1)),
        '{"at":"2026-05-01T00:00:00+00:00","order":{"price":1,"symbol":"ETH","tags":[]},"price":1.25}',
    ),
]


@pytest.mark.parametrize("value,text", EXACT, ids=[repr(value)[:40] for value, _ in EXACT])
def test_exact_values(value, text):
    assert canonical(value) == text
    assert canonical({"in": [value]}) == '{"in":[' + text + "]}"


REFUSED_VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    numpy.float64("nan"),
    numpy.float32("inf"),
    decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("Infinity"),
    decimal.Decimal("0.12345678901234567890123"),
    decimal.Decimal("1E+100000"),
    datetime.datetime(2026, 5, 1),
    "\ud800",
    {"\udfff": 1},
    10**5000,
]
REFUSED_TYPES = [
    {1},
    b"x",
    object(),
    1j,
    numpy.array([1]),
    numpy.datetime64("2026-05-01T00:00:00.000000001"),
    numpy.timedelta64(5, "ns"),
    numpy.complex128(1),
    datetime.timedelta(1),
    datetime.time(1),
    uuid.UUID(int=1),
    collections.UserDict(a=1),
    enum.Enum("Plain", "A").A,
    Order,
    {1: 2},
    {None: 1},
    {(1, 2): 1},
    (item for item in ()),
]


@pytest.mark.parametrize("value", REFUSED_VALUES, ids=range(len(REFUSED_VALUES)))
def test_values_without_an_exact_form_are_refused_with_their_path(value, bus):
    head = bus.head()
    with pytest.raises(PayloadError) as raised:
        bus.append("p", {"orders": [1, 2, {"price": value}]})
    assert raised.value.field == "payload.orders[2].price"
    assert str(raised.value).startswith("payload.orders[2].price: ")
    assert not isinstance(raised.value, TypeError)
    assert bus.head() == head == bus.reader().head()


@pytest.mark.parametrize("value", REFUSED_TYPES, ids=[ascii(value)[:40] for value in REFUSED_TYPES])
def test_types_without_a_form_are_refused_with_their_path(value, bus):
    with pytest.raises(PayloadTypeError) as raised:
        bus.append("p", {"orders": Order("BTC", [value])})
    assert isinstance(raised.value, TypeError) and isinstance(raised.value, ValueError)
    assert raised.value.field == "payload.orders.price[0]"


def test_a_payload_is_an_object_of_bounded_depth(bus):
    for value in ([1], "x", None, 1):
        with pytest.raises(ValueError):
            bus.append("p", value)
    deep = {}
    for _ in range(2_000):
        deep = {"d": deep}
    with pytest.raises(PayloadError):
        bus.append("p", deep)
    cycle = {}
    cycle["self"] = cycle
    with pytest.raises(PayloadError):
        bus.append("p", cycle)
    level = {}
    for _ in range(500):
        level = {"d": level}
    assert bus.append("p", level).payload == level


def test_what_a_value_raises_is_passed_on():
    class Broken:
        __dataclass_fields__ = {}

        def __getattribute__(self, name):
            if name == "__dataclass_fields__":
                raise KeyboardInterrupt
            return object.__getattribute__(self, name)

    with pytest.raises(KeyboardInterrupt):
        canonical([Broken()])


def test_a_dictionary_that_changes_while_it_is_converted():
    values = {}

    @dataclasses.dataclass
    class Grows:
        @property
        def x(self):
            values[len(values)] = 1
            return 1

    Grows.__dataclass_fields__["x"] = dataclasses.field()
    Grows.__dataclass_fields__["x"].name = "x"
    Grows.__dataclass_fields__["x"]._field_type = dataclasses._FIELD
    values["a"] = Grows()
    assert canonical(values) == '{"a":{"x":1}}'
