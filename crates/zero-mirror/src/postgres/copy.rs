//! Events as rows of a binary `COPY`
//! (<https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>): a header, rows of fields with their lengths, and
//! an end.

use bytes::{BufMut, BytesMut};

use crate::mirror::Record;

/// The table and the columns that [`row`] writes.
pub(super) const STATEMENT: &str = "COPY zero.events (bus, event_index, event_type, trace_id, as_of, checksum, payload, \
                                    line) FROM STDIN (FORMAT binary)";

/// The signature, no flags, no extension.
pub(super) fn header(out: &mut BytesMut) {
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
}

/// An event as a row.
pub(super) fn row(bus: i32, Record { event, line }: &Record, out: &mut BytesMut) {
    out.put_i16(8);
    out.put_i32(4);
    out.put_i32(bus);
    out.put_i32(8);
    out.put_i64(event.index as i64);
    text(&event.event_type, out);
    match kept_trace(event.trace_id.as_deref()) {
        Some(trace) => text(trace, out),
        None => out.put_i32(-1),
    }
    out.put_i32(8);
    out.put_f64(event.as_of);
    text(&event.checksum.to_string(), out);
    let payload = event.payload.as_str();
    if fits_jsonb(payload) {
        out.put_i32(payload.len() as i32 + 1);
        // The version of jsonb's binary form, which is its text.
        out.put_u8(1);
        out.put_slice(payload.as_bytes());
    } else {
        out.put_i32(-1);
    }
    text(line, out);
}

/// What stands behind the last row.
pub(super) fn end(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Lines and payloads are far below what a length can say.
fn text(text: &str, out: &mut BytesMut) {
    out.put_i32(text.len() as i32);
    out.put_slice(text.as_bytes());
}

/// The trace as the table has it: text cannot hold a NUL.
pub(super) fn kept_trace(trace: Option<&str>) -> Option<&str> {
    trace.filter(|trace| !trace.contains('\0'))
}

/// Whether canonical JSON can be a `jsonb`, which holds no NUL and keeps numbers as `numeric`, of at most 131,072 digits
/// before the point (<https://www.postgresql.org/docs/15/datatype-json.html>).
pub(super) fn fits_jsonb(payload: &str) -> bool {
    const MAX_DIGITS: usize = 131_072;
    !holds_a_nul(payload)
        && (payload.len() <= MAX_DIGITS || {
            let longest = payload.as_bytes().chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
            // Digits within a string count too, which costs a column and no event.
            longest.map(<[u8]>::len).max().unwrap_or(0) <= MAX_DIGITS
        })
}

/// Whether a string of canonical JSON holds U+0000, which is written as an escape there.
fn holds_a_nul(payload: &str) -> bool {
    payload.match_indices("u0000").any(|(at, _)| {
        let backslashes = payload.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        backslashes % 2 == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_cannot_hold_is_known() {
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
