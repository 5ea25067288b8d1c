"""Readers of the model's inputs: candles, run files, strategy files."""

import json
import math
import re
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

LIMIT_DEFAULTS = {"max_notional_usd": 1000.0, "max_position_notional_usd": 2500.0, "max_leverage": 1.0,
                  "min_confidence": 0.60}
FURTHER_LIMITS = ("max_gross_exposure_usd", "max_daily_loss_usd", "max_drawdown_pct", "max_orders_per_minute",
                  "max_data_age_s")
PRICES = ["open", "high", "low", "close"]


def parse_time(value):
    """Epoch seconds of a number, a string that holds a number, or an RFC 3339 time."""
    try:
        return float(value)
    except ValueError:
        return pd.Timestamp(value).tz_convert("UTC").timestamp()


def format_time(seconds):
    time = datetime.fromtimestamp(seconds, timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%S" + (".%f" if time.microsecond else "") + "Z")


def read_candle_file(path):
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        # pandas' own JSON and CSV readers may be one unit in the last place off, so Python parses every number.
        frame = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
    elif path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, skipinitialspace=True)
    else:
        raise ValueError(f"{path}: neither .jsonl nor .csv")
    frame = frame.rename(columns=lambda name: str(name).strip().lower())
    frame = frame.rename(columns={name: "ts" for name in ("date", "time", "timestamp") if name in frame})
    for column, default in (("symbol", path.stem), ("volume", 0)):
        frame[column] = frame[column].fillna(default) if column in frame else default
    frame["symbol"] = frame["symbol"].map(lambda name: str(name).strip().upper())
    frame["ts"] = frame["ts"].map(parse_time)
    for column in (*PRICES, "volume"):
        frame[column] = frame[column].map(float)
    return frame[["symbol", "ts", *PRICES, "volume"]]


def load_candles(source):
    """All candles of a file or a directory, sorted by time, then by symbol. Raises ValueError on bad ones."""
    source = Path(source)
    files = sorted(source.glob("*.jsonl")) + sorted(source.glob("*.csv")) if source.is_dir() else [source]
    frame = pd.concat([read_candle_file(path) for path in files], ignore_index=True)
    bad = ~frame[["ts", *PRICES, "volume"]].map(math.isfinite).all(axis=1)
    bad |= (frame[PRICES] <= 0).any(axis=1) | (frame["volume"] < 0)
    bad |= (frame["high"] < frame[PRICES].max(axis=1)) | (frame["low"] > frame[PRICES].min(axis=1))
    bad |= frame.groupby("symbol")["ts"].diff() <= 0
    if bad.any():
        raise ValueError(f"{source}: invalid candle: {frame[bad].iloc[0].to_dict()}")
    return frame.sort_values(["ts", "symbol"], ignore_index=True)


def bar_length(candles):
    steps = candles.groupby("symbol")["ts"].diff().dropna()
    if steps.empty:
        raise ValueError("unknown bar length: every symbol has only one bar; give --bar-seconds")
    return float(steps.min())


def load_run(path):
    raw = path if isinstance(path, dict) else json.loads(Path(path).read_text(encoding="utf-8"))
    limits = {**LIMIT_DEFAULTS, **raw.get("limits", {})}
    unknown = set(limits) - {*LIMIT_DEFAULTS, *FURTHER_LIMITS}
    if unknown or any(not 0 < value < math.inf for value in limits.values()) or limits["min_confidence"] > 1:
        raise ValueError(f"{path}: invalid limits: {limits}")
    if raw.get("fill", "next_open") not in ("next_open", "close"):
        raise ValueError(f"{path}: fill must be next_open or close")
    return {"limits": limits, "costs": {"fee_bps": 0, "half_spread_bps": 0, "slippage_bps": 0, **raw.get("costs", {})},
            "fill": raw.get("fill", "next_open"), "start_cash_usd": float(raw.get("start_cash_usd", 10000)),
            "limit_bars": raw.get("limit_bars", 1)}  # not used: there are no limit orders


def parse_scalar(text):
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"")


def parse_flat_yaml(text):
    """Keys and scalars; one level of nesting, indented or as `{a: b, c: d}`."""
    result, section = {}, None
    for line in text.splitlines():
        body = re.sub(r"(^|\s)#.*", "", line).strip()
        key, _, value = (part.strip() for part in body.partition(":"))
        target = section if line[:1] in " \t" and section is not None else result
        if value.startswith("{"):
            pairs = (pair.partition(":") for pair in value.strip("{}").split(","))
            target[key] = {name.strip(): parse_scalar(scalar) for name, _, scalar in pairs}
        elif value:
            target[key] = parse_scalar(value)
        elif body.endswith(":"):
            section = result[key] = {}
    return result
