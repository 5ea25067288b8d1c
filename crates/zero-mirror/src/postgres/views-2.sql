-- Version 2: a column of a view is null unless the payload's field has the documented type. The tables stay as they are.

CREATE FUNCTION zero.string(jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE pg_catalog.jsonb_typeof($1) WHEN 'string' THEN $1 OPERATOR(pg_catalog.#>>) '{}' END $$;

-- A time beyond the range of timestamptz is null, so that one event cannot make a query fail.
CREATE FUNCTION zero.time_of(as_of double precision) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE WHEN $1 OPERATOR(pg_catalog.>=) -210866803200::pg_catalog.float8
                    AND $1 OPERATOR(pg_catalog.<) 9224318015999::pg_catalog.float8
              THEN pg_catalog.to_timestamp($1) END $$;

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
       zero.string(payload -> 'idempotency_key') AS idempotency_key
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
       zero.string(payload -> 'idempotency_key') AS idempotency_key
FROM zero.events WHERE event_type = 'rejection.record';

CREATE OR REPLACE VIEW zero.fills AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(payload -> 'symbol') AS symbol,
       zero.string(payload -> 'side') AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd
FROM zero.events WHERE event_type = 'fill.record';

-- One row per symbol that is held after a cycle.
CREATE OR REPLACE VIEW zero.positions AS
SELECT bus, event_index, trace_id, as_of,
       zero.string(held.value -> 'symbol') AS symbol,
       zero.number(held.value -> 'quantity') AS quantity,
       zero.number(held.value -> 'avg_price') AS avg_price,
       zero.number(held.value -> 'notional_usd') AS notional_usd
FROM zero.events
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(payload -> 'positions') WHEN 'array' THEN payload -> 'positions' END
) AS held (value)
WHERE event_type = 'position.snapshot' AND jsonb_typeof(held.value) = 'object';

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
       zero.number(payload -> 'learn' -> 'open_positions') AS open_positions
FROM zero.events WHERE event_type = 'runtime.cycle';

UPDATE zero.version SET version = 2;
