-- Version 1 of the tables, in the schema `zero`. `bus` is a small number that stands for a bus within this database;
-- `buses` has its name.

CREATE TABLE zero.version (version integer NOT NULL);
INSERT INTO zero.version VALUES (1);

CREATE TABLE zero.buses (
    bus           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text NOT NULL UNIQUE,     -- the checksum of the first event
    head_index    bigint NOT NULL,          -- the last event that is here
    head_checksum text NOT NULL
);

CREATE TABLE zero.events (
    bus         integer NOT NULL,
    event_index bigint NOT NULL,
    event_type  text NOT NULL,
    trace_id    text,                       -- null also where it holds a NUL, which text cannot
    as_of       double precision NOT NULL,  -- seconds since the Unix epoch
    checksum    text NOT NULL,
    payload     jsonb,                      -- null where jsonb cannot hold it: a NUL, or a number of very many digits
    line        text NOT NULL,              -- the event exactly as the log has it
    PRIMARY KEY (bus, event_index)
);

CREATE INDEX events_by_type ON zero.events (event_type, bus, event_index);
-- A hash, as a trace may be longer than a B-tree takes.
CREATE INDEX events_by_trace ON zero.events USING hash (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX events_by_time ON zero.events (as_of);

-- What is no number is none, so that a payload cannot make a view fail.
CREATE FUNCTION zero.number(jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE pg_catalog.jsonb_typeof($1) WHEN 'number' THEN $1::pg_catalog.numeric END $$;
CREATE FUNCTION zero.truth(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE pg_catalog.jsonb_typeof($1) WHEN 'boolean' THEN $1::pg_catalog.bool END $$;

CREATE VIEW zero.decisions AS
SELECT bus, event_index, trace_id, as_of,
       payload ->> 'symbol' AS symbol,
       payload ->> 'side' AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd,
       zero.number(payload -> 'confidence') AS confidence,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       zero.truth(payload -> 'allowed') AS allowed,
       payload ->> 'reason' AS reason,
       payload ->> 'source' AS source,
       payload ->> 'idempotency_key' AS idempotency_key
FROM zero.events WHERE event_type = 'decision.record';

CREATE VIEW zero.rejections AS
SELECT bus, event_index, trace_id, as_of,
       payload ->> 'symbol' AS symbol,
       payload ->> 'side' AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd,
       zero.number(payload -> 'confidence') AS confidence,
       zero.truth(payload -> 'reduce_only') AS reduce_only,
       payload ->> 'reason' AS reason,
       payload ->> 'source' AS source,
       payload ->> 'idempotency_key' AS idempotency_key
FROM zero.events WHERE event_type = 'rejection.record';

CREATE VIEW zero.fills AS
SELECT bus, event_index, trace_id, as_of,
       payload ->> 'symbol' AS symbol,
       payload ->> 'side' AS side,
       zero.number(payload -> 'quantity') AS quantity,
       zero.number(payload -> 'price') AS price,
       zero.number(payload -> 'notional_usd') AS notional_usd
FROM zero.events WHERE event_type = 'fill.record';

-- What was held after a cycle, a row a symbol.
CREATE VIEW zero.positions AS
SELECT bus, event_index, trace_id, as_of,
       held.value ->> 'symbol' AS symbol,
       zero.number(held.value -> 'quantity') AS quantity,
       zero.number(held.value -> 'avg_price') AS avg_price,
       zero.number(held.value -> 'notional_usd') AS notional_usd
FROM zero.events
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(payload -> 'positions') WHEN 'array' THEN payload -> 'positions' END
) AS held (value)
WHERE event_type = 'position.snapshot' AND jsonb_typeof(held.value) = 'object';

CREATE VIEW zero.cycles AS
SELECT bus, event_index, trace_id, as_of,
       zero.number(payload -> 'cycle_id') AS cycle_id,
       payload ->> 'mode' AS mode,
       payload -> 'observe' ->> 'scenario' AS scenario,
       payload -> 'orient' ->> 'risk_posture' AS risk_posture,
       payload -> 'decide' -> 'intent' ->> 'symbol' AS symbol,
       zero.truth(payload -> 'act' -> 'accepted') AS accepted,
       payload -> 'act' ->> 'reason' AS reason,
       zero.number(payload -> 'learn' -> 'decisions') AS decisions,
       zero.number(payload -> 'learn' -> 'fills') AS fills,
       zero.number(payload -> 'learn' -> 'rejections') AS rejections,
       zero.number(payload -> 'learn' -> 'open_positions') AS open_positions
FROM zero.events WHERE event_type = 'runtime.cycle';
