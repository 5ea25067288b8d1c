//! Name, subjects and settings of a bus's stream. With these settings it keeps every event, in
//! order, without expiry.

use std::fmt::{Display, Write as _};

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zero_bus::Checksum;

/// First tokens of every subject.
const SUBJECT_ROOT: &str = "zero.runtime";

/// Bytes that are percent-encoded in an event type: all but ASCII letters, digits, `-` and `_`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The 64 hex digits of a checksum.
fn hex_digits(bus: Checksum) -> String {
    bus.as_bytes().iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The name of a bus's stream: the address's prefix, `-`, and the bus in hex digits.
pub(super) fn stream_name(prefix: &str, bus: Checksum) -> String {
    format!("{prefix}-{}", hex_digits(bus))
}

/// The bus of a stream; `None` if the stream is not one of this prefix.
pub(super) fn bus_of_stream(prefix: &str, stream: &str) -> Option<Checksum> {
    let digits = stream.strip_prefix(prefix)?.strip_prefix('-')?;
    Checksum::parse(&format!("sha256:{digits}"))
}

/// What all subjects of a bus start with, including the last dot.
pub(super) fn subject_prefix(bus: Checksum) -> String {
    format!("{SUBJECT_ROOT}.{}.", hex_digits(bus))
}

/// Appends an event type to a subject. The dots of the type separate tokens of the subject too, so
/// that `zero.runtime.*.fill.>` selects every fill. Every byte with another meaning in a subject is
/// percent-encoded, and so is a dot that would leave an empty token. Different types have different
/// subjects.
pub(super) fn write_event_type(event_type: &str, subject: &mut String) {
    let mut tokens = event_type.split('.').peekable();
    while let Some(token) = tokens.next() {
        subject.extend(utf8_percent_encode(token, ENCODED));
        if let Some(next) = tokens.peek() {
            subject.push_str(if token.is_empty() || next.is_empty() { "%2E" } else { "." });
        }
    }
}

/// The settings with which a bus's stream is created.
pub(super) fn stream_config(prefix: &str, bus: Checksum, replicas: usize) -> Config {
    Config {
        name: stream_name(prefix, bus),
        description: Some(format!("bus {bus}: one message an event, its sequence is the event's index")),
        subjects: vec![format!("{}>", subject_prefix(bus))],
        storage: StorageType::File,
        num_replicas: replicas,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// The first setting of a stream that violates the required ones. More replicas than required are
/// accepted, and so is any setting that does not affect which events are kept.
pub(super) fn find_violation(actual: &Config, required: &Config) -> Option<String> {
    let violation = |setting: &str, actual: &dyn Display, required: &str| {
        Some(format!("its {setting} is {actual}, but must be {required}"))
    };
    if actual.subjects != required.subjects {
        let (actual, required) = (format!("{:?}", actual.subjects), format!("{:?}", required.subjects));
        return violation("subjects", &actual, &required);
    }
    if actual.storage != StorageType::File {
        return violation("storage", &"memory", "file");
    }
    if actual.num_replicas < required.num_replicas {
        let minimum = required.num_replicas;
        let required = format!("at least {minimum}; raise it, or set fewer with ?replicas=");
        return violation("number of replicas", &actual.num_replicas, &required);
    }
    if actual.retention != RetentionPolicy::Limits {
        return violation("retention", &"by interest or work queue", "by limits");
    }
    if actual.discard != DiscardPolicy::New {
        return violation("discard policy", &"old", "new");
    }
    for (setting, limit) in [
        ("max_age", i64::try_from(actual.max_age.as_nanos()).unwrap_or(i64::MAX)),
        ("max_msgs", actual.max_messages),
        ("max_bytes", actual.max_bytes),
        ("max_msgs_per_subject", actual.max_messages_per_subject),
    ] {
        let is_unlimited = limit <= 0;
        if !is_unlimited {
            return violation(setting, &limit, "unlimited");
        }
    }
    for (setting, actual, required) in [
        ("deny_delete", actual.deny_delete, true),
        ("deny_purge", actual.deny_purge, true),
        ("allow_rollup_hdrs", actual.allow_rollup, false),
        ("no_ack", actual.no_ack, false),
        ("sealed", actual.sealed, false),
        ("mirror", actual.mirror.is_some(), false),
        ("sources", actual.sources.is_some(), false),
    ] {
        if actual != required {
            return violation(setting, &actual, if required { "true" } else { "false" });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn different_event_types_have_different_subjects() {
        let subject = |event_type: &str| {
            let mut subject = String::new();
            write_event_type(event_type, &mut subject);
            subject
        };
        assert_eq!(subject("decision.record"), "decision.record");
        assert_eq!(subject("a b*c>d"), "a%20b%2Ac%3Ed");
        assert_eq!(subject("50%.é"), "50%25.%C3%A9");
        assert_eq!(subject("."), "%2E");
        assert_eq!(subject(".a"), "%2Ea");
        assert_eq!(subject("a."), "a%2E");
        // All types of up to six of these parts.
        let mut types: Vec<String> = vec![String::new()];
        let mut last = types.clone();
        for _ in 0..6 {
            let longer = |start: &String| ["a", ".", "%", ">", "2E"].map(|part| format!("{start}{part}"));
            last = last.iter().flat_map(longer).collect();
            types.extend(last.clone());
        }
        let types: BTreeSet<String> = types.into_iter().filter(|event_type| !event_type.is_empty()).collect();
        let subjects: BTreeSet<String> = types.iter().map(|event_type| subject(event_type)).collect();
        assert_eq!(types.len(), subjects.len());
        for subject in subjects {
            assert!(subject.split('.').all(|token| !token.is_empty()), "{subject}");
            assert!(!subject.contains([' ', '*', '>']), "{subject}");
        }
    }

    #[test]
    fn a_stream_name_contains_its_bus() {
        let bus = Checksum::of(b"bus");
        let name = stream_name("FLEET", bus);
        assert_eq!(bus_of_stream("FLEET", &name), Some(bus));
        assert_eq!(bus_of_stream("FLEE", &name), None);
        assert_eq!(bus_of_stream("FLEET", "FLEET-"), None);
        assert_eq!(bus_of_stream("FLEET", "FLEET-é"), None);
        assert_eq!(bus_of_stream("FLEET", &name.to_uppercase()), None);
    }

    #[test]
    fn settings_that_would_lose_events_are_violations() {
        let required = stream_config("FLEET", Checksum::of(b"bus"), 3);
        assert_eq!(find_violation(&required, &required), None);
        let more = Config { num_replicas: 5, description: None, ..required.clone() };
        assert_eq!(find_violation(&more, &required), None);
        let violation = |change: &dyn Fn(&mut Config)| {
            let mut actual = required.clone();
            change(&mut actual);
            find_violation(&actual, &required).unwrap()
        };
        let subjects = violation(&|actual| actual.subjects.push("more.>".to_owned()));
        assert!(subjects.contains("more.>"), "{subjects}");
        let replicas = violation(&|actual| actual.num_replicas = 1);
        assert!(replicas.contains("replicas is 1, but must be at least 3"), "{replicas}");
        for (message, word) in [
            (violation(&|actual| actual.storage = StorageType::Memory), "memory"),
            (violation(&|actual| actual.retention = RetentionPolicy::WorkQueue), "retention"),
            (violation(&|actual| actual.discard = DiscardPolicy::Old), "discard"),
            (violation(&|actual| actual.max_age = Duration::from_secs(1)), "max_age"),
            (violation(&|actual| actual.max_messages = 7), "max_msgs"),
            (violation(&|actual| actual.max_bytes = 7), "max_bytes"),
            (violation(&|actual| actual.max_messages_per_subject = 7), "max_msgs_per_subject"),
            (violation(&|actual| actual.deny_delete = false), "deny_delete"),
            (violation(&|actual| actual.deny_purge = false), "deny_purge"),
            (violation(&|actual| actual.allow_rollup = true), "allow_rollup"),
            (violation(&|actual| actual.no_ack = true), "no_ack"),
            (violation(&|actual| actual.sealed = true), "sealed"),
        ] {
            assert!(message.contains(word), "{message}");
        }
    }
}
