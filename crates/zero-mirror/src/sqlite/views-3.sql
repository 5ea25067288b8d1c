-- Version 3: columns for runs on market data, and views of their equity, candles, orders and failures. A column is null
-- unless the payload's field has the documented type. The tables stay as they are.

DROP VIEW decisions;
DROP VIEW rejections;
DROP VIEW fills;
DROP VIEW positions;
DROP VIEW cycles;

CREATE VIEW decisions AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.price') IN ('integer', 'real') THEN json_extract(payload, '$.price') END AS price,
       CASE WHEN json_type(payload, '$.notional_usd') IN ('integer', 'real') THEN json_extract(payload, '$.notional_usd') END AS notional_usd,
       CASE WHEN json_type(payload, '$.confidence') IN ('integer', 'real') THEN json_extract(payload, '$.confidence') END AS confidence,
       CASE WHEN json_type(payload, '$.reduce_only') IN ('true', 'false') THEN json_extract(payload, '$.reduce_only') END AS reduce_only,
       CASE WHEN json_type(payload, '$.allowed') IN ('true', 'false') THEN json_extract(payload, '$.allowed') END AS allowed,
       CASE json_type(payload, '$.reason') WHEN 'text' THEN json_extract(payload, '$.reason') END AS reason,
       CASE json_type(payload, '$.source') WHEN 'text' THEN json_extract(payload, '$.source') END AS source,
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key,
       CASE json_type(payload, '$.order_id') WHEN 'text' THEN json_extract(payload, '$.order_id') END AS order_id,
       CASE json_type(payload, '$.strategy_reason') WHEN 'text' THEN json_extract(payload, '$.strategy_reason') END AS strategy_reason,
       CASE WHEN json_type(payload, '$.limit_price') IN ('integer', 'real') THEN json_extract(payload, '$.limit_price') END AS limit_price,
       CASE json_type(payload, '$.limit.name') WHEN 'text' THEN json_extract(payload, '$.limit.name') END AS limit_name,
       CASE WHEN json_type(payload, '$.limit.bound') IN ('integer', 'real') THEN json_extract(payload, '$.limit.bound') END AS limit_bound,
       CASE WHEN json_type(payload, '$.limit.value') IN ('integer', 'real') THEN json_extract(payload, '$.limit.value') END AS limit_value
FROM events WHERE event_type = 'decision.record';

CREATE VIEW rejections AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.price') IN ('integer', 'real') THEN json_extract(payload, '$.price') END AS price,
       CASE WHEN json_type(payload, '$.notional_usd') IN ('integer', 'real') THEN json_extract(payload, '$.notional_usd') END AS notional_usd,
       CASE WHEN json_type(payload, '$.confidence') IN ('integer', 'real') THEN json_extract(payload, '$.confidence') END AS confidence,
       CASE WHEN json_type(payload, '$.reduce_only') IN ('true', 'false') THEN json_extract(payload, '$.reduce_only') END AS reduce_only,
       CASE json_type(payload, '$.reason') WHEN 'text' THEN json_extract(payload, '$.reason') END AS reason,
       CASE json_type(payload, '$.source') WHEN 'text' THEN json_extract(payload, '$.source') END AS source,
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key,
       CASE json_type(payload, '$.order_id') WHEN 'text' THEN json_extract(payload, '$.order_id') END AS order_id,
       CASE json_type(payload, '$.strategy_reason') WHEN 'text' THEN json_extract(payload, '$.strategy_reason') END AS strategy_reason,
       CASE WHEN json_type(payload, '$.limit_price') IN ('integer', 'real') THEN json_extract(payload, '$.limit_price') END AS limit_price,
       CASE json_type(payload, '$.limit.name') WHEN 'text' THEN json_extract(payload, '$.limit.name') END AS limit_name,
       CASE WHEN json_type(payload, '$.limit.bound') IN ('integer', 'real') THEN json_extract(payload, '$.limit.bound') END AS limit_bound,
       CASE WHEN json_type(payload, '$.limit.value') IN ('integer', 'real') THEN json_extract(payload, '$.limit.value') END AS limit_value
FROM events WHERE event_type = 'rejection.record';

CREATE VIEW fills AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.price') IN ('integer', 'real') THEN json_extract(payload, '$.price') END AS price,
       CASE WHEN json_type(payload, '$.notional_usd') IN ('integer', 'real') THEN json_extract(payload, '$.notional_usd') END AS notional_usd,
       CASE json_type(payload, '$.fill_id') WHEN 'text' THEN json_extract(payload, '$.fill_id') END AS fill_id,
       CASE json_type(payload, '$.order_id') WHEN 'text' THEN json_extract(payload, '$.order_id') END AS order_id,
       CASE WHEN json_type(payload, '$.reference_price') IN ('integer', 'real') THEN json_extract(payload, '$.reference_price') END AS reference_price,
       CASE WHEN json_type(payload, '$.fee_usd') IN ('integer', 'real') THEN json_extract(payload, '$.fee_usd') END AS fee_usd,
       CASE WHEN json_type(payload, '$.realized_pnl_usd') IN ('integer', 'real') THEN json_extract(payload, '$.realized_pnl_usd') END AS realized_pnl_usd
FROM events WHERE event_type = 'fill.record';

-- One row per symbol that is held after a cycle. `item.value` of another type than an object is not JSON, and json_type would fail
-- on it; so each column checks that type first.
CREATE VIEW positions AS
SELECT events.bus, events.event_index, events.trace_id, events.as_of,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE json_type(item.value, '$.symbol') WHEN 'text' THEN json_extract(item.value, '$.symbol') END END AS symbol,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.quantity') IN ('integer', 'real') THEN json_extract(item.value, '$.quantity') END END AS quantity,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.avg_price') IN ('integer', 'real') THEN json_extract(item.value, '$.avg_price') END END AS avg_price,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.notional_usd') IN ('integer', 'real') THEN json_extract(item.value, '$.notional_usd') END END AS notional_usd,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.mark_price') IN ('integer', 'real') THEN json_extract(item.value, '$.mark_price') END END AS mark_price,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.unrealized_pnl_usd') IN ('integer', 'real') THEN json_extract(item.value, '$.unrealized_pnl_usd') END END AS unrealized_pnl_usd
FROM events, json_each(events.payload, '$.positions') AS item
WHERE events.event_type = 'position.snapshot' AND item.type = 'object'
  AND json_type(events.payload, '$.positions') = 'array';

CREATE VIEW cycles AS
SELECT bus, event_index, trace_id, as_of,
       CASE WHEN json_type(payload, '$.cycle_id') IN ('integer', 'real') THEN json_extract(payload, '$.cycle_id') END AS cycle_id,
       CASE json_type(payload, '$.mode') WHEN 'text' THEN json_extract(payload, '$.mode') END AS mode,
       CASE json_type(payload, '$.observe.scenario') WHEN 'text' THEN json_extract(payload, '$.observe.scenario') END AS scenario,
       CASE json_type(payload, '$.orient.risk_posture') WHEN 'text' THEN json_extract(payload, '$.orient.risk_posture') END AS risk_posture,
       CASE json_type(payload, '$.decide.intent.symbol') WHEN 'text' THEN json_extract(payload, '$.decide.intent.symbol') END AS symbol,
       CASE WHEN json_type(payload, '$.act.accepted') IN ('true', 'false') THEN json_extract(payload, '$.act.accepted') END AS accepted,
       CASE json_type(payload, '$.act.reason') WHEN 'text' THEN json_extract(payload, '$.act.reason') END AS reason,
       CASE WHEN json_type(payload, '$.learn.decisions') IN ('integer', 'real') THEN json_extract(payload, '$.learn.decisions') END AS decisions,
       CASE WHEN json_type(payload, '$.learn.fills') IN ('integer', 'real') THEN json_extract(payload, '$.learn.fills') END AS fills,
       CASE WHEN json_type(payload, '$.learn.rejections') IN ('integer', 'real') THEN json_extract(payload, '$.learn.rejections') END AS rejections,
       CASE WHEN json_type(payload, '$.learn.open_positions') IN ('integer', 'real') THEN json_extract(payload, '$.learn.open_positions') END AS open_positions,
       CASE json_type(payload, '$.observe.market_source') WHEN 'text' THEN json_extract(payload, '$.observe.market_source') END AS market_source,
       CASE json_type(payload, '$.decide.strategy.name') WHEN 'text' THEN json_extract(payload, '$.decide.strategy.name') END AS strategy,
       CASE json_type(payload, '$.decide.hold_reason') WHEN 'text' THEN json_extract(payload, '$.decide.hold_reason') END AS hold_reason,
       CASE WHEN json_type(payload, '$.observe.cash_usd') IN ('integer', 'real') THEN json_extract(payload, '$.observe.cash_usd') END AS cash_usd,
       CASE WHEN json_type(payload, '$.observe.equity_usd') IN ('integer', 'real') THEN json_extract(payload, '$.observe.equity_usd') END AS equity_usd,
       CASE WHEN json_type(payload, '$.orient.gross_exposure_usd') IN ('integer', 'real') THEN json_extract(payload, '$.orient.gross_exposure_usd') END AS gross_exposure_usd,
       CASE WHEN json_type(payload, '$.orient.drawdown_pct') IN ('integer', 'real') THEN json_extract(payload, '$.orient.drawdown_pct') END AS drawdown_pct,
       CASE WHEN json_type(payload, '$.orient.daily_loss_usd') IN ('integer', 'real') THEN json_extract(payload, '$.orient.daily_loss_usd') END AS daily_loss_usd,
       CASE WHEN json_type(payload, '$.orient.stale_data') IN ('true', 'false') THEN json_extract(payload, '$.orient.stale_data') END AS stale_data,
       CASE WHEN json_type(payload, '$.learn.open_orders') IN ('integer', 'real') THEN json_extract(payload, '$.learn.open_orders') END AS open_orders,
       CASE WHEN json_type(payload, '$.learn.failures') IN ('integer', 'real') THEN json_extract(payload, '$.learn.failures') END AS failures
FROM events WHERE event_type = 'runtime.cycle';

CREATE VIEW equity AS
SELECT bus, event_index, trace_id, as_of,
       CASE WHEN json_type(payload, '$.cash_usd') IN ('integer', 'real') THEN json_extract(payload, '$.cash_usd') END AS cash_usd,
       CASE WHEN json_type(payload, '$.equity_usd') IN ('integer', 'real') THEN json_extract(payload, '$.equity_usd') END AS equity_usd,
       CASE WHEN json_type(payload, '$.realized_pnl_usd') IN ('integer', 'real') THEN json_extract(payload, '$.realized_pnl_usd') END AS realized_pnl_usd,
       CASE WHEN json_type(payload, '$.unrealized_pnl_usd') IN ('integer', 'real') THEN json_extract(payload, '$.unrealized_pnl_usd') END AS unrealized_pnl_usd,
       CASE WHEN json_type(payload, '$.fees_usd') IN ('integer', 'real') THEN json_extract(payload, '$.fees_usd') END AS fees_usd,
       CASE WHEN json_type(payload, '$.peak_equity_usd') IN ('integer', 'real') THEN json_extract(payload, '$.peak_equity_usd') END AS peak_equity_usd,
       CASE WHEN json_type(payload, '$.drawdown_pct') IN ('integer', 'real') THEN json_extract(payload, '$.drawdown_pct') END AS drawdown_pct
FROM events WHERE event_type = 'position.snapshot';

-- One row per candle. `item.value` of another type than an object is not JSON, and json_type would fail
-- on it; so each column checks that type first.
CREATE VIEW candles AS
SELECT events.bus, events.event_index, events.trace_id, events.as_of,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE json_type(item.value, '$.symbol') WHEN 'text' THEN json_extract(item.value, '$.symbol') END END AS symbol,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.ts') IN ('integer', 'real') THEN json_extract(item.value, '$.ts') END END AS ts,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.open') IN ('integer', 'real') THEN json_extract(item.value, '$.open') END END AS open,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.high') IN ('integer', 'real') THEN json_extract(item.value, '$.high') END END AS high,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.low') IN ('integer', 'real') THEN json_extract(item.value, '$.low') END END AS low,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.close') IN ('integer', 'real') THEN json_extract(item.value, '$.close') END END AS close,
       CASE WHEN item.type <> 'object' THEN NULL ELSE CASE WHEN json_type(item.value, '$.volume') IN ('integer', 'real') THEN json_extract(item.value, '$.volume') END END AS volume
FROM events, json_each(events.payload, '$.candles') AS item
WHERE events.event_type = 'market.observation' AND item.type = 'object'
  AND json_type(events.payload, '$.candles') = 'array';

CREATE VIEW orders AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.order_id') WHEN 'text' THEN json_extract(payload, '$.order_id') END AS order_id,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.limit_price') IN ('integer', 'real') THEN json_extract(payload, '$.limit_price') END AS limit_price,
       CASE WHEN json_type(payload, '$.reduce_only') IN ('true', 'false') THEN json_extract(payload, '$.reduce_only') END AS reduce_only,
       CASE WHEN json_type(payload, '$.opened_as_of') IN ('integer', 'real') THEN json_extract(payload, '$.opened_as_of') END AS opened_as_of,
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key
FROM events WHERE event_type = 'order.open';

CREATE VIEW expiries AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.order_id') WHEN 'text' THEN json_extract(payload, '$.order_id') END AS order_id,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.limit_price') IN ('integer', 'real') THEN json_extract(payload, '$.limit_price') END AS limit_price,
       CASE WHEN json_type(payload, '$.reduce_only') IN ('true', 'false') THEN json_extract(payload, '$.reduce_only') END AS reduce_only,
       CASE WHEN json_type(payload, '$.opened_as_of') IN ('integer', 'real') THEN json_extract(payload, '$.opened_as_of') END AS opened_as_of,
       CASE json_type(payload, '$.reason') WHEN 'text' THEN json_extract(payload, '$.reason') END AS reason,
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key
FROM events WHERE event_type = 'order.expired';

CREATE VIEW strategy_failures AS
SELECT bus, event_index, trace_id, as_of,
       CASE WHEN json_type(payload, '$.cycle_id') IN ('integer', 'real') THEN json_extract(payload, '$.cycle_id') END AS cycle_id,
       CASE json_type(payload, '$.strategy.name') WHEN 'text' THEN json_extract(payload, '$.strategy.name') END AS strategy,
       CASE json_type(payload, '$.kind') WHEN 'text' THEN json_extract(payload, '$.kind') END AS kind,
       CASE json_type(payload, '$.reason') WHEN 'text' THEN json_extract(payload, '$.reason') END AS reason,
       CASE json_type(payload, '$.on_failure') WHEN 'text' THEN json_extract(payload, '$.on_failure') END AS on_failure
FROM events WHERE event_type = 'strategy.failed';
