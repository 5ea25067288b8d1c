//! What a receiver says to its operator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Says something to the operator.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What something that is said is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    Store,
    Tokens,
    Fork,
}

/// Says at most one thing a second about each, since clients can cause them as often as they like.
pub(super) struct Operator {
    log: Log,
    told: Mutex<HashMap<About, Instant>>,
}

impl Operator {
    pub(super) fn new(log: Log) -> Self {
        Self { log, told: Mutex::default() }
    }

    pub(super) fn tell(&self, about: About, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&about).is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            told.insert(about, Instant::now());
            (self.log)(text);
        }
    }
}
