-- Version 2: functions. Its views are not here, since version 3 replaces all of them.

CREATE FUNCTION zero.string(jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE pg_catalog.jsonb_typeof($1) WHEN 'string' THEN $1 OPERATOR(pg_catalog.#>>) '{}' END $$;

-- A time beyond the range of timestamptz is null, so that one event cannot make a query fail.
CREATE FUNCTION zero.time_of(as_of double precision) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE WHEN $1 OPERATOR(pg_catalog.>=) -210866803200::pg_catalog.float8
                    AND $1 OPERATOR(pg_catalog.<) 9224318015999::pg_catalog.float8
              THEN pg_catalog.to_timestamp($1) END $$;

UPDATE zero.version SET version = 2;
