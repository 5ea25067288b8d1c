//! A batch as it comes in: unpacked, cut into lines, each judged as the next event of the chain.

use zero_bus::{Checksum, Event, Head};

use super::Limits;
use super::problem::Problem;
use crate::mirror::Record;
use crate::wire::{self, Encoding, Spoilt};

/// Reads a batch that is to stand behind a head. No store is asked: the batch must be sound in itself.
pub(super) fn read(
    bus: Checksum,
    behind: Head,
    encoding: Encoding,
    packed: Vec<u8>,
    limits: &Limits,
) -> Result<Vec<Record>, Problem> {
    let body = wire::unpack(encoding, packed, limits.batch_bytes).map_err(|spoilt| match spoilt {
        Spoilt::TooLong => Problem::size(format!(
            "unpacked it is longer than {} bytes; send fewer lines",
            limits.batch_bytes
        )),
        Spoilt::Broken(_) => Problem::request("the body is not what its content-encoding says"),
    })?;
    let mut head = behind;
    let mut records = Vec::new();
    for (number, line) in (1..).zip(wire::lines(&body)) {
        if number > limits.batch_lines as u64 {
            return Err(Problem::size(format!("it has more than {} lines", limits.batch_lines)));
        }
        let event = Event::read(line, head)
            .map_err(|fault| Problem::line(number, format!("line {number}: {fault}")))?;
        if event.index == 1 && event.checksum != bus {
            return Err(Problem::line(
                number,
                "line 1: a bus is known by the checksum of its first event, and this is the first of another",
            ));
        }
        head = event.head();
        let line = std::str::from_utf8(line)
            .map_err(|_| Problem::line(number, format!("line {number}: not UTF-8")))?;
        records.push(Record { event, line: line.to_owned() });
    }
    Ok(records)
}
