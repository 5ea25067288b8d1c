-- Version 2: a column of a view is null unless the payload's field has the documented type. The tables stay as they are.

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
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key
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
       CASE json_type(payload, '$.idempotency_key') WHEN 'text' THEN json_extract(payload, '$.idempotency_key') END AS idempotency_key
FROM events WHERE event_type = 'rejection.record';

CREATE VIEW fills AS
SELECT bus, event_index, trace_id, as_of,
       CASE json_type(payload, '$.symbol') WHEN 'text' THEN json_extract(payload, '$.symbol') END AS symbol,
       CASE json_type(payload, '$.side') WHEN 'text' THEN json_extract(payload, '$.side') END AS side,
       CASE WHEN json_type(payload, '$.quantity') IN ('integer', 'real') THEN json_extract(payload, '$.quantity') END AS quantity,
       CASE WHEN json_type(payload, '$.price') IN ('integer', 'real') THEN json_extract(payload, '$.price') END AS price,
       CASE WHEN json_type(payload, '$.notional_usd') IN ('integer', 'real') THEN json_extract(payload, '$.notional_usd') END AS notional_usd
FROM events WHERE event_type = 'fill.record';

-- One row per symbol that is held after a cycle. `held.value` of another type than an object is not JSON, and
-- json_type would fail on it; so each column checks that type first.
CREATE VIEW positions AS
SELECT events.bus, events.event_index, events.trace_id, events.as_of,
       CASE WHEN held.type <> 'object' THEN NULL WHEN json_type(held.value, '$.symbol') = 'text'
            THEN json_extract(held.value, '$.symbol') END AS symbol,
       CASE WHEN held.type <> 'object' THEN NULL WHEN json_type(held.value, '$.quantity') IN ('integer', 'real')
            THEN json_extract(held.value, '$.quantity') END AS quantity,
       CASE WHEN held.type <> 'object' THEN NULL WHEN json_type(held.value, '$.avg_price') IN ('integer', 'real')
            THEN json_extract(held.value, '$.avg_price') END AS avg_price,
       CASE WHEN held.type <> 'object' THEN NULL WHEN json_type(held.value, '$.notional_usd') IN ('integer', 'real')
            THEN json_extract(held.value, '$.notional_usd') END AS notional_usd
FROM events, json_each(events.payload, '$.positions') AS held
WHERE events.event_type = 'position.snapshot' AND held.type = 'object'
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
       CASE WHEN json_type(payload, '$.learn.open_positions') IN ('integer', 'real') THEN json_extract(payload, '$.learn.open_positions') END AS open_positions
FROM events WHERE event_type = 'runtime.cycle';
