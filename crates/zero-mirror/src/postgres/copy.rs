//! Writes events as rows of a binary `COPY`: a header, rows of length-prefixed fields, and a
//! trailer (<https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>).

use bytes::{BufMut, BytesMut};

use crate::mirror::Record;

/// The statement for the rows of [`row`].
pub(super) const STATEMENT: &str = "COPY zero.events (bus, event_index, event_type, trace_id, as_of, checksum, payload, \
                                    line) FROM STDIN (FORMAT binary)";

/// Writes the header: signature, no flags, no extension.
pub(super) fn header(out: &mut BytesMut) {
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
}

/// Writes an event as a row.
pub(super) fn row(bus: i32, Record { event, line }: &Record, out: &mut BytesMut) {
    out.put_i16(8);
    out.put_i32(4);
    out.put_i32(bus);
    out.put_i32(8);
    out.put_i64(event.index as i64);
    text(&event.event_type, out);
    match storable_trace(event.trace_id.as_deref()) {
        Some(trace) => text(trace, out),
        None => out.put_i32(-1),
    }
    out.put_i32(8);
    out.put_f64(event.as_of);
    text(&event.checksum.to_string(), out);
    let payload = event.payload.as_str();
    if fits_jsonb(payload) {
        out.put_i32(payload.len() as i32 + 1);
        // The binary form of jsonb is a version number and the text.
        out.put_u8(1);
        out.put_slice(payload.as_bytes());
    } else {
        out.put_i32(-1);
    }
    text(line, out);
}

/// Writes the trailer.
pub(super) fn trailer(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Writes a text field. Lines and payloads are far shorter than the maximum of an `i32`.
fn text(text: &str, out: &mut BytesMut) {
    out.put_i32(text.len() as i32);
    out.put_slice(text.as_bytes());
}

/// The trace as the table stores it: null if it contains a NUL, which `text` cannot represent.
pub(super) fn storable_trace(trace: Option<&str>) -> Option<&str> {
    trace.filter(|trace| !trace.contains('\0'))
}

/// Whether canonical JSON can be stored as `jsonb`. `jsonb` cannot represent a NUL, and stores
/// numbers as `numeric`, with at most 131,072 digits before the point
/// (<https://www.postgresql.org/docs/15/datatype-json.html>).
pub(super) fn fits_jsonb(payload: &str) -> bool {
    const MAX_DIGITS: usize = 131_072;
    !contains_nul(payload)
        && (payload.len() <= MAX_DIGITS || {
            let runs = payload.as_bytes().chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
            // This counts digits in a string too. The column is null then, but the event is still
            // stored.
            runs.map(<[u8]>::len).max().unwrap_or(0) <= MAX_DIGITS
        })
}

/// Whether a string in canonical JSON contains U+0000. It is always escaped, as `u0000` after an
/// odd number of backslashes.
fn contains_nul(payload: &str) -> bool {
    payload.match_indices("u0000").any(|(start, _)| {
        let backslashes = payload.as_bytes()[..start].iter().rev().take_while(|byte| **byte == b'\\').count();
        backslashes % 2 == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_jsonb_refuses_a_nul_and_overlong_numbers() {
        for fits in [r#"{"a":"u0000"}"#, r#"{"a":"\\u0000"}"#, r#"{"a":"\\\\u0000"}"#, r#"{"a":1e308}"#] {
            assert!(fits_jsonb(fits), "{fits}");
        }
        for not in [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":"\\\u0000"}"#] {
            assert!(!fits_jsonb(not), "{not}");
        }
        let number = |digits: usize| format!(r#"{{"a":{}}}"#, "9".repeat(digits));
        assert!(fits_jsonb(&number(131_072)) && !fits_jsonb(&number(131_073)));
    }
}
