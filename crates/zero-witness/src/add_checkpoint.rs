//! The body of a request to `add-checkpoint`: the size that the witness cosigned last, a consistency
//! proof from there, and the new checkpoint.

use std::fmt::Write as _;

use zero_proof::{Error, Hash, Position, Result, SignedCheckpoint};

/// Maximum number of hashes of a consistency proof.
pub const MAX_PROOF_HASHES: usize = 63;

/// Maximum bytes of a body. It has room for 63 hashes and 32 of the largest signatures.
pub const MAX_BODY_BYTES: usize = 256 << 10;

const WHAT: &str = "add-checkpoint request";

/// A request to cosign a checkpoint. Nothing of it was verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as the client believes; 0 for none.
    pub old_size: u64,
    /// The consistency proof from the old size to that of the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with the signatures of its log.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// The body.
    ///
    /// ```
    /// use zero_proof::{Checkpoint, Hash, SignedCheckpoint, SigningKey};
    /// use zero_witness::AddCheckpoint;
    ///
    /// let key = SigningKey::from_seeds("example.com/bus", &[1; 32], None)?;
    /// let checkpoint = Checkpoint::new("example.com/bus", 0, Hash::EMPTY_TREE);
    /// let checkpoint = SignedCheckpoint::sign(checkpoint, &key, 1777593600)?;
    /// let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    /// let body = request.encode();
    /// assert!(body.starts_with("old 0\n\nexample.com/bus\n0\n"));
    /// assert_eq!(AddCheckpoint::parse(body.as_bytes()), Ok(request));
    /// # Ok::<(), zero_proof::Error>(())
    /// ```
    pub fn encode(&self) -> String {
        let mut body = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            // Writing to a string cannot fail.
            let _ = writeln!(body, "{hash}");
        }
        body.push('\n');
        body.push_str(&self.checkpoint.encode());
        body
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line, or the byte if it is too long or not UTF-8. Lines of the
    /// checkpoint are counted from its first one.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let at_byte = |offset: usize, problem: String| malformed(Position::Byte(offset as u64), problem);
        if body.len() > MAX_BODY_BYTES {
            return Err(at_byte(MAX_BODY_BYTES, format!("is longer than {MAX_BODY_BYTES} bytes")));
        }
        let body = std::str::from_utf8(body)
            .map_err(|error| at_byte(error.valid_up_to(), "is not UTF-8".to_owned()))?;
        // The first empty line ends the proof; the note has empty lines of its own.
        let (head, checkpoint) = body.split_once("\n\n").ok_or_else(|| {
            malformed(Position::Line(1), "an empty line and the checkpoint after it are missing")
        })?;
        let mut lines = head.split('\n').zip(1..);
        let (first, _) = lines.next().unwrap_or_default();
        let old_size = first.strip_prefix("old ").and_then(parse_decimal).ok_or_else(|| {
            malformed(Position::Line(1), "must be `old`, a space and the old size in decimal")
        })?;
        let mut proof = Vec::new();
        for (line, number) in lines {
            if proof.len() == MAX_PROOF_HASHES {
                let problem = format!("the proof has more than {MAX_PROOF_HASHES} hashes");
                return Err(malformed(Position::Line(number), problem));
            }
            let hash = line.parse().map_err(|_| {
                malformed(Position::Line(number), "a line of the proof must be the base64 of 32 bytes")
            })?;
            proof.push(hash);
        }
        Ok(Self { old_size, proof, checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())? })
    }
}

/// A number in decimal, without sign and leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn malformed(position: Position, problem: impl Into<String>) -> Error {
    Error::Malformed { what: WHAT, position, problem: problem.into() }
}
