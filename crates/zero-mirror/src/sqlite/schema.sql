-- Version 1 of the tables. `bus` is a small number that stands for a bus within this file; `buses` has its name.

CREATE TABLE buses (
    bus           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,     -- the checksum of the first event
    head_index    INTEGER NOT NULL,         -- the last event that is here
    head_checksum TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    bus         INTEGER NOT NULL REFERENCES buses,
    event_index INTEGER NOT NULL,
    event_type  TEXT NOT NULL,
    trace_id    TEXT,
    as_of       REAL NOT NULL,              -- seconds since the Unix epoch
    checksum    TEXT NOT NULL,
    payload     TEXT NOT NULL,              -- canonical JSON
    line        TEXT NOT NULL               -- the event exactly as the log has it
) STRICT;

CREATE UNIQUE INDEX events_in_order ON events (bus, event_index);
CREATE INDEX events_by_type ON events (event_type, bus, event_index);
CREATE INDEX events_by_trace ON events (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX events_by_time ON events (as_of);

CREATE VIEW decisions AS
SELECT bus, event_index, trace_id, as_of,
       json_extract(payload, '$.symbol') AS symbol,
       json_extract(payload, '$.side') AS side,
       json_extract(payload, '$.quantity') AS quantity,
       json_extract(payload, '$.price') AS price,
       json_extract(payload, '$.notional_usd') AS notional_usd,
       json_extract(payload, '$.confidence') AS confidence,
       json_extract(payload, '$.reduce_only') AS reduce_only,
       json_extract(payload, '$.allowed') AS allowed,
       json_extract(payload, '$.reason') AS reason,
       json_extract(payload, '$.source') AS source,
       json_extract(payload, '$.idempotency_key') AS idempotency_key
FROM events WHERE event_type = 'decision.record';

CREATE VIEW rejections AS
SELECT bus, event_index, trace_id, as_of,
       json_extract(payload, '$.symbol') AS symbol,
       json_extract(payload, '$.side') AS side,
       json_extract(payload, '$.quantity') AS quantity,
       json_extract(payload, '$.price') AS price,
       json_extract(payload, '$.notional_usd') AS notional_usd,
       json_extract(payload, '$.confidence') AS confidence,
       json_extract(payload, '$.reduce_only') AS reduce_only,
       json_extract(payload, '$.reason') AS reason,
       json_extract(payload, '$.source') AS source,
       json_extract(payload, '$.idempotency_key') AS idempotency_key
FROM events WHERE event_type = 'rejection.record';

CREATE VIEW fills AS
SELECT bus, event_index, trace_id, as_of,
       json_extract(payload, '$.symbol') AS symbol,
       json_extract(payload, '$.side') AS side,
       json_extract(payload, '$.quantity') AS quantity,
       json_extract(payload, '$.price') AS price,
       json_extract(payload, '$.notional_usd') AS notional_usd
FROM events WHERE event_type = 'fill.record';

-- What was held after a cycle, a row a symbol. A CASE, since what is no object cannot be looked into.
CREATE VIEW positions AS
SELECT events.bus, events.event_index, events.trace_id, events.as_of,
       CASE held.type WHEN 'object' THEN json_extract(held.value, '$.symbol') END AS symbol,
       CASE held.type WHEN 'object' THEN json_extract(held.value, '$.quantity') END AS quantity,
       CASE held.type WHEN 'object' THEN json_extract(held.value, '$.avg_price') END AS avg_price,
       CASE held.type WHEN 'object' THEN json_extract(held.value, '$.notional_usd') END AS notional_usd
FROM events, json_each(events.payload, '$.positions') AS held
WHERE events.event_type = 'position.snapshot' AND held.type = 'object'
  AND json_type(events.payload, '$.positions') = 'array';

CREATE VIEW cycles AS
SELECT bus, event_index, trace_id, as_of,
       json_extract(payload, '$.cycle_id') AS cycle_id,
       json_extract(payload, '$.mode') AS mode,
       json_extract(payload, '$.observe.scenario') AS scenario,
       json_extract(payload, '$.orient.risk_posture') AS risk_posture,
       json_extract(payload, '$.decide.intent.symbol') AS symbol,
       json_extract(payload, '$.act.accepted') AS accepted,
       json_extract(payload, '$.act.reason') AS reason,
       json_extract(payload, '$.learn.decisions') AS decisions,
       json_extract(payload, '$.learn.fills') AS fills,
       json_extract(payload, '$.learn.rejections') AS rejections,
       json_extract(payload, '$.learn.open_positions') AS open_positions
FROM events WHERE event_type = 'runtime.cycle';
