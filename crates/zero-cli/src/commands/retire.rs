//! `zero-bus retire`: remove old sealed segments, and leave a record of them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use zero_bus::{
    Checksum, Event, Head, Json, LOG, OpenOptions, RECOVERED_TYPE, RETIRED_TYPE, Reader, Retirable,
    RetireOptions, RetiredPart, Retirement, SEGMENTS,
};
use zero_mirror::Mirror;
use zero_paper::event_types::{CYCLE, OPERATOR_APPLIED, OPERATOR_COMMAND};
use zero_paper::operator::CommandsInForce;
use zero_paper::text::{counted, escape};
use zero_paper::{Clock, SystemClock};
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use super::mirror::open_for_reading;
use crate::event_or_time::EventOrTime;
use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::signing_check::check_signing_goes_on;

/// Remove old sealed segments, and leave a record of them.
///
/// Removes the segments all of whose events are before --before. An event bus.retired in the log
/// says what was removed, when, by whom and where it is kept; segments/retired.json says it too.
/// The log then starts at a later event, and the indexes of the events stay the same. Programs that
/// append or follow meanwhile continue. Without --yes, only prints what it would do.
///
/// The last cycle of a runtime is kept, and so is everything from an operator command on that is
/// still in force. A runtime needs its decision journal to start on such a bus. If checkpoints of
/// the bus were signed, its tree in `tiles` must hold the events, or none could be signed any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus retire bus --before 90d --kept-in /backup/bus
  zero-bus retire bus --before 90d --kept-in /backup/bus --by anna --yes
  zero-bus retire bus --before 120001 --kept-in sqlite:bus.db --yes --json
  zero-bus retire bus --before 2026-01-01T00:00:00Z --kept-in 'tape 17' --without-copy --yes
  zero-bus retire bus --before 2026-01-01T00:00:00Z --without-copy --yes

Seal the bus first: only sealed segments are removed.

Exit codes: 0 passed, 1 failed (the log is damaged, or the copy does not hold the events), 2 could not run.")]
#[command(group(clap::ArgGroup::new("copy").required(true).multiple(true).args(["kept_in", "without_copy"])))]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Retire events before this one: an event (42, evt-000000000042, `last` or -1), a time
    /// (2026-05-01T09:00:00Z, Unix seconds) or an age such as 90d.
    #[arg(long, value_name = "EVENT|TIME", value_parser = EventOrTime::parse, allow_negative_numbers = true)]
    before: EventOrTime,
    /// Where the events are kept: a backup directory or the address of a mirror, which must hold
    /// them. With --without-copy, a text that names another place.
    #[arg(long, value_name = "WHERE")]
    kept_in: Option<String>,
    /// Retire events of which no copy can be checked. The record then names no place, or the one
    /// that --kept-in names in words.
    #[arg(long)]
    without_copy: bool,
    /// The state next to which the checkpoints of the bus are stored. [default:
    /// DIR.checkpoints/signed]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Who retires them.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    by: String,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object: {"bytes", "bytes_sealed", "completed", "copy_checked", "event_index",
    /// "first", "kept_in", "last", "last_checksum", "retired", "segments"}. "completed" is null, or
    /// {"event_index", "first", "last"} of an interrupted retirement that this one has completed.
    #[arg(long)]
    json: bool,
}

/// The result as `--json` prints it.
#[derive(Default, Serialize)]
struct Document {
    bytes: u64,
    bytes_sealed: u64,
    completed: Option<Completed>,
    copy_checked: bool,
    /// The event that records it; null before it is done.
    event_index: Option<u64>,
    /// 0 if there is nothing to retire, like `last`.
    first: u64,
    kept_in: Option<String>,
    last: u64,
    last_checksum: Option<Checksum>,
    /// False without `--yes`, and if there is nothing to retire.
    retired: bool,
    segments: u64,
}

/// An interrupted retirement that this one has completed.
#[derive(Serialize)]
struct Completed {
    event_index: u64,
    first: u64,
    last: u64,
}

/// Where the events are kept, as the record names it.
struct KeptCopy {
    place: Option<String>,
    is_checked: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let up_to = index_before(arguments.before, &reader)?;
    let needed = Needed::read(&reader)?;
    let Some(retirable) = reader.retirable(up_to.min(needed.up_to))? else {
        return retire_nothing(arguments);
    };
    needed.check(&retirable)?;
    check_signing_goes_on(&arguments.dir, arguments.state.as_deref(), &reader, retirable.head.index)?;
    let copy = match check_copy(arguments, &reader, &retirable)? {
        Ok(copy) => copy,
        Err(problem) => {
            print_message(PROGRAM, &format!("{problem}; nothing was retired"));
            return Ok(Outcome::Failed);
        }
    };
    if !arguments.yes {
        return print_plan(arguments, &retirable, &copy);
    }
    let done = retire(arguments, retirable.head.index, &copy)?;
    print_done(arguments, &done, &copy)
}

/// Retires the events up to an index.
fn retire(arguments: &Arguments, up_to: u64, copy: &KeptCopy) -> Result<Retirement> {
    let bus = OpenOptions::new().create(false).open(&arguments.dir)?;
    for warning in bus.warnings() {
        print_warning(PROGRAM, &warning);
    }
    let mut options = RetireOptions::new(up_to, &arguments.by, SystemClock.now());
    if let Some(place) = &copy.place {
        options = options.kept_in(place);
    }
    let bar = Bar::new("verifying what is retired");
    Ok(bus.retire(&options, &mut |progress| bar.show(progress))?)
}

/// Completes an interrupted retirement, if there is one.
fn retire_nothing(arguments: &Arguments) -> Result<Outcome> {
    let copy = KeptCopy { place: None, is_checked: false };
    let done = if arguments.yes { retire(arguments, 0, &copy)? } else { Retirement::default() };
    print_done(arguments, &done, &copy)
}

/// Returns the index of the last event before a place, all of whose predecessors are before it too.
fn index_before(before: EventOrTime, reader: &Reader) -> Result<u64> {
    let time = match before {
        EventOrTime::Event(event) => return Ok(event.index(reader)?.saturating_sub(1)),
        EventOrTime::Time(time) => time,
    };
    let first = reader.first_index()?;
    let mut last = first - 1;
    // The times of events need not be in order, so all of them are read.
    for event in reader.events(first)? {
        let event = event?;
        // The events of the library itself have the time of the machine, also in a run on old bars.
        let is_of_library = [RETIRED_TYPE, RECOVERED_TYPE].contains(&event.event_type.as_str());
        if event.as_of >= time && !is_of_library {
            break;
        }
        last = event.index;
    }
    Ok(last)
}

/// What a runtime must still find on its bus.
struct Needed {
    /// Events up to this one may go: the last cycle comes after it.
    up_to: u64,
    commands_in_force: CommandsInForce,
}

impl Needed {
    fn read(reader: &Reader) -> Result<Self> {
        let mut needed = Self { up_to: u64::MAX, commands_in_force: CommandsInForce::default() };
        let is_needed = |event_type: &str, _: Option<&str>| {
            [CYCLE, OPERATOR_COMMAND, OPERATOR_APPLIED].contains(&event_type)
        };
        reader.select(reader.first_index()?, is_needed, |event| {
            needed.commands_in_force.apply(&event);
            if event.event_type == CYCLE {
                // Before the record may be the observation of the cycle.
                needed.up_to = event.index.saturating_sub(2);
            }
            Ok::<(), zero_bus::Error>(())
        })?;
        Ok(needed)
    }

    /// Refuses to retire a command that is still in force: a start would not find it.
    fn check(&self, retirable: &Retirable) -> Result<()> {
        let commands = &self.commands_in_force;
        let earliest = commands.governing().into_iter().chain(commands.first_pending());
        let Some(command) = earliest.min_by_key(|command| command.index) else { return Ok(()) };
        if command.index > retirable.head.index {
            return Ok(());
        }
        bail!(
            "event {} is an operator command that is still in force: {}. Withdraw it with `zero-bus command DIR \
             resume`, or name an earlier event with --before",
            command.index,
            command.describe()
        );
    }
}

/// Checks that the copy holds what is to be retired. The inner error is why it does not.
fn check_copy(
    arguments: &Arguments,
    reader: &Reader,
    retirable: &Retirable,
) -> Result<Result<KeptCopy, String>> {
    let Some(place) = &arguments.kept_in else {
        return Ok(Ok(KeptCopy { place: None, is_checked: false }));
    };
    if place.trim().is_empty() {
        bail!("--kept-in: is blank; name a backup directory or the address of a mirror");
    }
    let scheme = place.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_mirror = ["sqlite", "postgres", "postgresql", "nats", "tls", "http", "https"].contains(&scheme);
    let path = Path::new(place);
    if arguments.without_copy && (is_mirror || path.is_dir()) {
        bail!("--without-copy: {place} can be checked; leave the option away");
    }
    if is_mirror {
        return check_mirror(place, reader, retirable);
    }
    if path.is_dir() {
        return check_backup(path, arguments, retirable);
    }
    if path.exists() || place.contains('/') || place.starts_with(['.', '~']) {
        bail!("{place}: is not a directory; name a backup directory, a mirror, or a place in words");
    }
    if !arguments.without_copy {
        bail!(
            "{place}: there is no directory of this name, and it is not the address of a mirror, so nothing can be \
             checked. If the events are kept in a place that is called so, give --without-copy, too"
        );
    }
    Ok(Ok(KeptCopy { place: Some(place.clone()), is_checked: false }))
}

/// Verifies a backup.
fn check_backup(
    path: &Path,
    arguments: &Arguments,
    retirable: &Retirable,
) -> Result<Result<KeptCopy, String>> {
    let resolve = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    let place = resolve(path)?;
    let Some(name) = place.to_str() else { bail!("{}: not a name in UTF-8", place.display()) };
    if place.starts_with(resolve(&arguments.dir)?) {
        bail!("{name}: is in the bus itself; name another directory");
    }
    if let Some(file) = shared_file(&arguments.dir, &place)? {
        bail!(
            "{name}: is the bus itself under another name: {file} is the same file; name another directory"
        );
    }
    let backup = Reader::open(&place)?;
    let bar = Bar::new("verifying the copy");
    let verdict = backup.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    let Head { index: last, .. } = retirable.head;
    let problem = if !verdict.integrity.ok() {
        verdict.integrity.reason()
    } else if verdict.integrity.head.index < last {
        format!("it ends at event {}, before event {last}", verdict.integrity.head.index)
    } else if backup.first_index()? > retirable.first {
        format!("it starts at event {}, after event {}", backup.first_index()?, retirable.first)
    } else if !backup.contains(retirable.head)? {
        format!("its event {last} is another one")
    } else {
        return Ok(Ok(KeptCopy { place: Some(name.to_owned()), is_checked: true }));
    };
    Ok(Err(format!("{name}: does not hold the events {} to {last}: {problem}", retirable.first)))
}

/// Returns a file or a directory that two buses share: the second one is a bind mount of the first,
/// or made of links to its files.
fn shared_file(bus: &Path, copy: &Path) -> Result<Option<String>> {
    let mut names = vec![String::new(), LOG.to_owned(), SEGMENTS.to_owned()];
    if let Ok(segments) = fs::read_dir(bus.join(SEGMENTS)) {
        let of_segment = |name: String| Some(name).filter(|name| name.ends_with(".zst"));
        let found = segments.filter_map(|entry| of_segment(entry.ok()?.file_name().into_string().ok()?));
        names.extend(found.map(|name| format!("{SEGMENTS}/{name}")));
    }
    for name in names {
        let identity = |directory: &Path| match fs::metadata(directory.join(&name)) {
            Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| directory.join(&name).display().to_string()),
        };
        let (ours, theirs) = (identity(bus)?, identity(copy)?);
        if ours.is_some() && ours == theirs {
            return Ok(Some(copy.join(name).display().to_string()));
        }
    }
    Ok(None)
}

/// Verifies the events in a mirror: each line, its links, and that they end as those of the log do.
fn check_mirror(address: &str, reader: &Reader, retirable: &Retirable) -> Result<Result<KeptCopy, String>> {
    let mut mirror = open_for_reading(address)?;
    let bus = reader.bus_id()?.ok_or_else(|| anyhow!("the log is empty"))?;
    let last = retirable.head;
    let mut expected = match reader.event(retirable.first)? {
        Some(first) => Head { index: first.index - 1, checksum: first.previous_checksum },
        None => bail!("the log does not hold event {}", retirable.first),
    };
    while expected.index < last.index {
        let page = mirror.lines(bus, expected.index + 1)?;
        let problem = |index| format!("{}: does not hold event {index} as the log does", mirror.name());
        if page.is_empty() {
            return Ok(Err(problem(expected.index + 1)));
        }
        for (index, line) in &page {
            if expected.index == last.index {
                break;
            }
            let event = Event::read_alone(line.as_bytes(), *index).ok();
            let follows = |event: &Event| {
                event.index == expected.index + 1 && event.previous_checksum == expected.checksum
            };
            match event.filter(follows) {
                Some(event) => expected = event.head(),
                None => return Ok(Err(problem(expected.index + 1))),
            }
        }
    }
    if expected != last {
        return Ok(Err(format!("{}: its event {} is another one", mirror.name(), last.index)));
    }
    // The record is for others to read, so it must not have the password of the address.
    Ok(Ok(KeptCopy { place: Some(mirror.name()), is_checked: true }))
}

fn describe_copy(copy: &KeptCopy) -> String {
    match &copy.place {
        None => "no copy is kept".to_owned(),
        Some(place) if copy.is_checked => format!("kept in {}, which holds them", escape(place)),
        Some(place) => format!("kept in {}, which was not checked", escape(place)),
    }
}

/// Prints what would be done.
fn print_plan(arguments: &Arguments, retirable: &Retirable, copy: &KeptCopy) -> Result<Outcome> {
    let Retirable { first, head, segments, bytes, bytes_sealed } = *retirable;
    let text = format!(
        "would retire events {first} to {} in {}: {}, {bytes_sealed} on the disk; {}\nnothing was done; give --yes to do \
         it",
        head.index,
        counted(segments, "segment"),
        counted(bytes, "byte"),
        describe_copy(copy)
    );
    let document = Document {
        bytes,
        bytes_sealed,
        completed: None,
        copy_checked: copy.is_checked,
        event_index: None,
        first,
        kept_in: copy.place.clone(),
        last: head.index,
        last_checksum: head.checksum,
        retired: false,
        segments,
    };
    print_result(arguments, &text, &document)
}

/// Prints what was done. If nothing was to be retired, the figures are those of an interrupted
/// retirement that was completed.
fn print_done(arguments: &Arguments, done: &Retirement, copy: &KeptCopy) -> Result<Outcome> {
    let Retirement { completed, retired } = done;
    let Some(part) = retired.as_ref().or(completed.as_ref()) else {
        let text = "nothing to retire: no sealed segment has only events that may go";
        return print_result(arguments, text, &Document::default());
    };
    let RetiredPart { event, payload, .. } = part;
    let mut lines: Vec<String> = completed.iter().map(describe_completed).collect();
    if retired.is_some() {
        lines.push(format!(
            "retired events {} to {} in {}: {}, {} on the disk; {}",
            payload.first,
            payload.last,
            counted(payload.segments, "segment"),
            counted(payload.bytes, "byte"),
            payload.bytes_sealed,
            describe_copy(copy)
        ));
    }
    lines.push(format!("the log starts at event {}; event {} records it", payload.last + 1, event.index));
    let document = Document {
        bytes: payload.bytes,
        bytes_sealed: payload.bytes_sealed,
        completed: completed.as_ref().map(|part| Completed {
            event_index: part.event.index,
            first: part.payload.first,
            last: part.payload.last,
        }),
        // An interrupted retirement had a copy of its own.
        copy_checked: retired.is_some() && copy.is_checked,
        event_index: Some(event.index),
        first: payload.first,
        kept_in: payload.kept_in.clone(),
        last: payload.last,
        last_checksum: Some(payload.checksum),
        retired: true,
        segments: payload.segments,
    };
    print_result(arguments, &lines.join("\n"), &document)
}

fn describe_completed(part: &RetiredPart) -> String {
    let RetiredPart { event, payload, .. } = part;
    let kept = match &payload.kept_in {
        Some(place) => format!("kept in {}", escape(place)),
        None => "without a copy".to_owned(),
    };
    format!(
        "completed an interrupted retirement of the events {} to {} in {}, {kept}; event {} records it",
        payload.first,
        payload.last,
        counted(payload.segments, "segment"),
        event.index
    )
}

fn print_result(arguments: &Arguments, text: &str, document: &Document) -> Result<Outcome> {
    if arguments.json {
        print(Json::of(document)?.as_str(), Outcome::Passed)
    } else {
        print(text, Outcome::Passed)
    }
}
