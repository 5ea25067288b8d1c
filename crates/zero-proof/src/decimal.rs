//! Decimal numbers without rounding, for sums over disclosed fields.

use std::fmt;

use serde::{Serialize, Serializer};

/// More digits than this do not fit into an `i128`.
const MAX_DIGITS: u32 = 38;

/// An exact decimal number: `digits` divided by 10 to the power of `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    digits: i128,
    /// At most [`MAX_DIGITS`], and 0 if `digits` is 0.
    scale: u32,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { digits: 0, scale: 0 };

    /// The number that a JSON number spells. `None` if it is not one, or needs more than 38 digits.
    ///
    /// ```
    /// use zero_proof::decimal::Decimal;
    /// assert_eq!(Decimal::parse("-1.50e-3").unwrap().to_string(), "-0.0015");
    /// assert!(Decimal::parse("1e+300").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = format!("{integer}{fraction}").parse().ok()?;
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
        match u32::try_from(scale) {
            Ok(scale) => Self { digits, scale }.normalized(),
            Err(_) => Some(Self { digits: shifted(digits, u32::try_from(-scale).ok()?)?, scale: 0 }),
        }
    }

    /// The sum; `None` if it needs more than 38 digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let [one, two] = [self, other].map(|number| shifted(number.digits, scale - number.scale));
        Self { digits: one?.checked_add(two?)?, scale }.normalized()
    }

    /// The nearest double.
    pub fn as_f64(self) -> f64 {
        // The quotient of two integers that doubles hold is rounded once.
        if self.digits.unsigned_abs() < 1 << 53 && self.scale <= 22 {
            return self.digits as f64 / 10_f64.powi(self.scale as i32);
        }
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Without zeros at the end of the fraction. `None` for too many decimal places.
    fn normalized(mut self) -> Option<Self> {
        while self.scale > 0 && self.digits % 10 == 0 {
            self = match self.digits {
                0 => Self::ZERO,
                digits => Self { digits: digits / 10, scale: self.scale - 1 },
            };
        }
        (self.scale <= MAX_DIGITS).then_some(self)
    }
}

impl fmt::Display for Decimal {
    /// All digits, without an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, scale) = (if self.digits < 0 { "-" } else { "" }, self.scale as usize);
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = scale + 1);
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{integer}{point}{fraction}")
    }
}

impl Serialize for Decimal {
    /// As text, because readers of JSON numbers round them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `digits` times 10 to the power of `places`.
fn shifted(digits: i128, places: u32) -> Option<i128> {
    match digits {
        0 => Some(0),
        _ => digits.checked_mul(10_i128.checked_pow(places)?),
    }
}
