//! Verifies a batch: decompresses it, splits it into lines, and verifies each as the next event of
//! the chain.

use zero_bus::{Checksum, Event, Head};
use zero_http::Problem;

use super::limits::Limits;
use super::problem::invalid_line;
use crate::mirror::Record;
use crate::wire::{self, DecompressError, Encoding};

/// Verifies that a batch is a valid chain directly after `after`. Does not access the store.
pub(super) fn verify(
    bus: Checksum,
    after: Head,
    encoding: Encoding,
    body: Vec<u8>,
    limits: &Limits,
) -> Result<Vec<Record>, Problem> {
    let body = wire::decompress(encoding, body, limits.max_batch_bytes).map_err(|error| match error {
        DecompressError::TooLong => Problem::payload_too_large(format!(
            "decompressed, the body is longer than {} bytes; send fewer lines",
            limits.max_batch_bytes
        )),
        DecompressError::WindowTooLarge => Problem::bad_request(
            "the body is compressed with a zstd window of more than 8 MiB, which decoders need not support (RFC 8878); \
             compress it without --long, or with --long=23 at most",
        ),
        DecompressError::Corrupt(_) => {
            Problem::bad_request("the body does not match its content-encoding, or is truncated")
        }
    })?;
    let mut head = after;
    let mut records = Vec::new();
    for (number, line) in (1..).zip(wire::lines(&body)) {
        if number > limits.max_batch_lines as u64 {
            let detail = format!("the batch has more than {} lines", limits.max_batch_lines);
            return Err(Problem::payload_too_large(detail));
        }
        let event = Event::read(line, head)
            .map_err(|fault| invalid_line(number, format!("line {number}: {fault}")))?;
        if event.index == 1 && event.checksum != bus {
            let detail = "line 1: the id of a bus is the checksum of its first event, but this is the first of another \
                          bus";
            return Err(invalid_line(number, detail));
        }
        head = event.head();
        let line = std::str::from_utf8(line)
            .map_err(|_| invalid_line(number, format!("line {number}: not UTF-8")))?;
        records.push(Record { event, line: line.to_owned() });
    }
    Ok(records)
}
