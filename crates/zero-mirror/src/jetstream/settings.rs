//! What the stream of a bus is called, and how it is set: so that it keeps every event, in order, for good.

use std::fmt::Write as _;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zero_bus::Checksum;

/// With what every subject of a bus begins.
const SUBJECTS: &str = "zero.runtime";

/// What is written `%XX` in a part of an event type, by RFC 3986: all but letters, digits, `-` and `_`.
const WRITTEN_IN_HEX: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The 64 digits of a checksum.
fn digits(bus: Checksum) -> String {
    bus.as_bytes().iter().fold(String::new(), |mut digits, byte| {
        // Into a string, which takes everything.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The stream of a bus: the address's prefix, `-`, and the bus.
pub(super) fn stream_name(prefix: &str, bus: Checksum) -> String {
    format!("{prefix}-{}", digits(bus))
}

/// The bus of a stream; `None` where it is none of this prefix.
pub(super) fn bus_of(prefix: &str, stream: &str) -> Option<Checksum> {
    let digits = stream.strip_prefix(prefix)?.strip_prefix('-')?;
    Checksum::parse(&format!("sha256:{digits}"))
}

/// With what the subjects of one bus begin, including the last dot.
pub(super) fn subjects_of(bus: Checksum) -> String {
    format!("{SUBJECTS}.{}.", digits(bus))
}

/// Appends an event type as a subject has it. Its dots separate parts there as they do in the type, so that
/// `zero.runtime.*.fill.>` finds every fill; whatever could mean something else in a subject, also a dot without a part
/// before or behind it, is written `%XX`. Two types never give the same text.
pub(super) fn write_event_type(event_type: &str, subject: &mut String) {
    let mut parts = event_type.split('.').peekable();
    while let Some(part) = parts.next() {
        subject.extend(utf8_percent_encode(part, WRITTEN_IN_HEX));
        if let Some(next) = parts.peek() {
            subject.push_str(if part.is_empty() || next.is_empty() { "%2E" } else { "." });
        }
    }
}

/// The settings of a bus's stream, as it is created.
pub(super) fn config(prefix: &str, bus: Checksum, replicas: usize) -> Config {
    Config {
        name: stream_name(prefix, bus),
        description: Some(format!("bus {bus}: one message an event, its sequence is the event's index")),
        subjects: vec![format!("{}>", subjects_of(bus))],
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

/// What of a stream's settings does not keep a bus; `None` where they do. More replicas than wanted are welcome, and
/// so is what says nothing of keeping.
pub(super) fn objection(found: &Config, wanted: &Config) -> Option<String> {
    let told = |setting: &str, found: &dyn std::fmt::Display, wanted: &str| {
        Some(format!("its {setting} is {found}, but must be {wanted}"))
    };
    let unlimited = |limit: i64| limit <= 0;
    if found.subjects != wanted.subjects {
        return told("subjects", &format!("{:?}", found.subjects), &format!("{:?}", wanted.subjects));
    }
    if found.storage != StorageType::File {
        return told("storage", &"memory", "file");
    }
    if found.num_replicas < wanted.num_replicas {
        let least = format!("at least {}; raise it, or ask for fewer with ?replicas=", wanted.num_replicas);
        return told("number of replicas", &found.num_replicas, &least);
    }
    if found.retention != RetentionPolicy::Limits {
        return told("retention", &"by interest or work queue", "by limits");
    }
    if found.discard != DiscardPolicy::New {
        return told("discard policy", &"old", "new");
    }
    for (setting, limit) in [
        ("max_age", i64::try_from(found.max_age.as_nanos()).unwrap_or(i64::MAX)),
        ("max_msgs", found.max_messages),
        ("max_bytes", found.max_bytes),
        ("max_msgs_per_subject", found.max_messages_per_subject),
    ] {
        if !unlimited(limit) {
            return told(setting, &limit, "unlimited");
        }
    }
    for (setting, found, wanted) in [
        ("deny_delete", found.deny_delete, true),
        ("deny_purge", found.deny_purge, true),
        ("allow_rollup_hdrs", found.allow_rollup, false),
        ("no_ack", found.no_ack, false),
        ("sealed", found.sealed, false),
        ("mirror", found.mirror.is_some(), false),
        ("sources", found.sources.is_some(), false),
    ] {
        if found != wanted {
            return told(setting, &found, if wanted { "true" } else { "false" });
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
    fn every_event_type_has_a_subject_of_its_own() {
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
        // All types of up to six letters from these.
        let mut types: Vec<String> = vec![String::new()];
        let mut last = types.clone();
        for _ in 0..6 {
            let longer = |start: &String| ["a", ".", "%", ">", "2E"].map(|letter| format!("{start}{letter}"));
            last = last.iter().flat_map(longer).collect();
            types.extend(last.clone());
        }
        let types: BTreeSet<String> = types.into_iter().filter(|event_type| !event_type.is_empty()).collect();
        let subjects: BTreeSet<String> = types.iter().map(|event_type| subject(event_type)).collect();
        assert_eq!(types.len(), subjects.len());
        for subject in subjects {
            assert!(subject.split('.').all(|part| !part.is_empty()), "{subject}");
            assert!(!subject.contains([' ', '*', '>']), "{subject}");
        }
    }

    #[test]
    fn a_streams_name_tells_its_bus() {
        let bus = Checksum::of(b"bus");
        let name = stream_name("FLEET", bus);
        assert_eq!(bus_of("FLEET", &name), Some(bus));
        assert_eq!(bus_of("FLEE", &name), None);
        assert_eq!(bus_of("FLEET", "FLEET-"), None);
        assert_eq!(bus_of("FLEET", "FLEET-é"), None);
        assert_eq!(bus_of("FLEET", &name.to_uppercase()), None);
    }

    #[test]
    fn a_stream_that_would_forget_is_objected_to() {
        let wanted = config("FLEET", Checksum::of(b"bus"), 3);
        assert_eq!(objection(&wanted, &wanted), None);
        let more = Config { num_replicas: 5, description: None, ..wanted.clone() };
        assert_eq!(objection(&more, &wanted), None);
        let changed = |change: &dyn Fn(&mut Config)| {
            let mut found = wanted.clone();
            change(&mut found);
            objection(&found, &wanted).unwrap()
        };
        let subjects = changed(&|found| found.subjects.push("more.>".to_owned()));
        assert!(subjects.contains("more.>"), "{subjects}");
        let replicas = changed(&|found| found.num_replicas = 1);
        assert!(replicas.contains("replicas is 1, but must be at least 3"), "{replicas}");
        for (problem, word) in [
            (changed(&|found| found.storage = StorageType::Memory), "memory"),
            (changed(&|found| found.retention = RetentionPolicy::WorkQueue), "retention"),
            (changed(&|found| found.discard = DiscardPolicy::Old), "discard"),
            (changed(&|found| found.max_age = Duration::from_secs(1)), "max_age"),
            (changed(&|found| found.max_messages = 7), "max_msgs"),
            (changed(&|found| found.max_bytes = 7), "max_bytes"),
            (changed(&|found| found.max_messages_per_subject = 7), "max_msgs_per_subject"),
            (changed(&|found| found.deny_delete = false), "deny_delete"),
            (changed(&|found| found.deny_purge = false), "deny_purge"),
            (changed(&|found| found.allow_rollup = true), "allow_rollup"),
            (changed(&|found| found.no_ack = true), "no_ack"),
            (changed(&|found| found.sealed = true), "sealed"),
        ] {
            assert!(problem.contains(word), "{problem}");
        }
    }
}
