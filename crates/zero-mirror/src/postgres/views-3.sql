-- Version 3: columns for runs on market data, and views of their equity, candles, orders and failures. A column is null
-- unless the payload's field has the documented type. The tables stay as they are.

CREATE OR REPLACE VIEW zero.decisions AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd,
       zero.number(payload -> 'confidence') AS confidence,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       zero.truth(payload -> 'allowed') AS allowed,
       zero.string(payload -> 'reason') AS reason,
       zero.string(payload -> 'source') AS source,
       zero.string(payload -> 'idempotency_key') AS idempotency_key,
       zero.string(payload -> 'order_id') AS order_id,
       zero.string(payload -> 'strategy_reason') AS strategy_reason,
       zero.number(payload -> 'limit_price') AS limit_price,
       zero.string(payload -> 'limit' -> 'name') AS limit_name,
       zero.number(payload -> 'limit' -> 'bound') AS limit_bound,
       zero.number(payload -> 'limit' -> 'value') AS limit_value
FROM zero.events WHERE event_type = 'decision.record';

CREATE OR REPLACE VIEW zero.rejections AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd,
       zero.number(payload -> 'confidence') AS confidence,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       zero.string(payload -> 'reason') AS reason,
       zero.string(payload -> 'source') AS source,
       zero.string(payload -> 'idempotency_key') AS idempotency_key,
       zero.string(payload -> 'order_id') AS order_id,
       zero.string(payload -> 'strategy_reason') AS strategy_reason,
       zero.number(payload -> 'limit_price') AS limit_price,
       zero.string(payload -> 'limit' -> 'name') AS limit_name,
       zero.number(payload -> 'limit' -> 'bound') AS limit_bound,
       zero.number(payload -> 'limit' -> 'value') AS limit_value
FROM zero.events WHERE event_type = 'rejection.record';

CREATE OR REPLACE VIEW zero.fills AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd,
       zero.string(payload -> 'fill_id') AS fill_id,
       zero.string(payload -> 'order_id') AS order_id,
       zero.number(payload -> 'reference_price') AS reference_price,
       zero.number(payload -> 'fee_usd') AS fee_usd,
       zero.number(payload -> 'realized_pnl_usd') AS realized_pnl_usd
FROM zero.events WHERE event_type = 'fill.record';

-- One row per symbol that is held after a cycle.
CREATE OR REPLACE VIEW zero.positions AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(item.value -> 'symbol') AS symbol,
       zero.number(item.value -> 'quantity') AS quantity,
       zero.number(item.value -> 'avg_price') AS avg_price,
       zero.number(item.value -> 'notional_usd') AS notional_usd,
       zero.number(item.value -> 'mark_price') AS mark_price,
       zero.number(item.value -> 'unrealized_pnl_usd') AS unrealized_pnl_usd
FROM zero.events
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(payload -> 'positions') WHEN 'array' THEN payload -> 'positions' END
) AS item (value)
WHERE event_type = 'position.snapshot' AND jsonb_typeof(item.value) = 'object';

CREATE OR REPLACE VIEW zero.cycles AS
SELECT bus, event_index, trace_id, as_of,
       zero.number(payload -> 'cycle_id') AS cycle_id,
       zero.string(payload -> 'mode') AS mode,
       zero.string(payload -> 'observe' -> 'scenario') AS scenario,
       zero.string(payload -> 'orient' -> 'risk_posture') AS risk_posture,
       zero.string(payload -> 'decide' -> 'intent' -> 'symbol') AS symbol,
       zero.truth(payload -> 'act' -> 'accepted') AS accepted,
       zero.string(payload -> 'act' -> 'reason') AS reason,
       zero.number(payload -> 'learn' -> 'decisions') AS decisions,
       zero.number(payload -> 'learn' -> 'fills') AS fills,
       zero.number(payload -> 'learn' -> 'rejections') AS rejections,
       zero.number(payload -> 'learn' -> 'open_positions') AS open_positions,
       zero.string(payload -> 'observe' -> 'market_source') AS market_source,
       zero.string(payload -> 'decide' -> 'strategy' -> 'name') AS strategy,
       zero.string(payload -> 'decide' -> 'hold_reason') AS hold_reason,
       zero.number(payload -> 'observe' -> 'cash_usd') AS cash_usd,
       zero.number(payload -> 'observe' -> 'equity_usd') AS equity_usd,
       zero.number(payload -> 'orient' -> 'gross_exposure_usd') AS gross_exposure_usd,
       zero.number(payload -> 'orient' -> 'drawdown_pct') AS drawdown_pct,
       zero.number(payload -> 'orient' -> 'daily_loss_usd') AS daily_loss_usd,
       zero.truth(payload -> 'orient' -> 'stale_data') AS stale_data,
       zero.number(payload -> 'learn' -> 'open_orders') AS open_orders,
       zero.number(payload -> 'learn' -> 'failures') AS failures
FROM zero.events WHERE event_type = 'runtime.cycle';

CREATE OR REPLACE VIEW zero.equity AS
SELECT bus, event_index, trace_id, as_of,
       zero.number(payload -> 'cash_usd') AS cash_usd,
       zero.number(payload -> 'equity_usd') AS equity_usd,
       zero.number(payload -> 'realized_pnl_usd') AS realized_pnl_usd,
       zero.number(payload -> 'unrealized_pnl_usd') AS unrealized_pnl_usd,
       zero.number(payload -> 'fees_usd') AS fees_usd,
       zero.number(payload -> 'peak_equity_usd') AS peak_equity_usd,
       zero.number(payload -> 'drawdown_pct') AS drawdown_pct
FROM zero.events WHERE event_type = 'position.snapshot';

-- One row per candle.
CREATE OR REPLACE VIEW zero.candles AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(item.value -> 'symbol') AS symbol,
       zero.number(item.value -> 'ts') AS ts,
       zero.number(item.value -> 'open') AS open,
       zero.number(item.value -> 'high') AS high,
       zero.number(item.value -> 'low') AS low,
       zero.number(item.value -> 'close') AS close,
       zero.number(item.value -> 'volume') AS volume
FROM zero.events
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(payload -> 'candles') WHEN 'array' THEN payload -> 'candles' END
) AS item (value)
WHERE event_type = 'market.observation' AND jsonb_typeof(item.value) = 'object';

CREATE OR REPLACE VIEW zero.orders AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'order_id') AS order_id,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'limit_price') AS limit_price,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       zero.number(payload -> 'opened_as_of') AS opened_as_of,
       zero.string(payload -> 'idempotency_key') AS idempotency_key
FROM zero.events WHERE event_type = 'order.open';

CREATE OR REPLACE VIEW zero.expiries AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'order_id') AS order_id,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'limit_price') AS limit_price,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       zero.number(payload -> 'opened_as_of') AS opened_as_of,
       zero.string(payload -> 'reason') AS reason,
       zero.string(payload -> 'idempotency_key') AS idempotency_key
FROM zero.events WHERE event_type = 'order.expired';

CREATE OR REPLACE VIEW zero.strategy_failures AS
SELECT bus, event_index, trace_id, as_of,
       zero.number(payload -> 'cycle_id') AS cycle_id,
       zero.string(payload -> 'strategy' -> 'name') AS strategy,
       zero.string(payload -> 'kind') AS kind,
       zero.string(payload -> 'reason') AS reason,
       zero.string(payload -> 'on_failure') AS on_failure
FROM zero.events WHERE event_type = 'strategy.failed';

UPDATE zero.version SET version = 3;
