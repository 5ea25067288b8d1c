//! Recorded candles: files merged by time, with one candle of each file in memory.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::candle::{Bar, Candle};
use crate::feed::candle_file::{CandleFile, NextCandle, is_candle_file};
use crate::feed::check::{Checks, Irregularity, MAX_SYMBOLS, Place, format_time};
use crate::feed::interface::{DEFAULT_INTERVAL_S, Feed, FeedError, Next};

/// A feed of one or more files, or of standard input.
pub(super) struct RecordedFeed {
    source: String,
    files: Vec<CandleFile>,
    /// The next candle of each file.
    heads: Vec<Head>,
    /// The candles of the bar that is being put together, all with one time.
    candles: Vec<(Candle, Place)>,
    /// Complete bars. The first one waits here until the second one shows the interval.
    bars: VecDeque<Vec<Candle>>,
    interval_s: Option<f64>,
    checks: Checks,
    /// Why the feed delivers nothing any more.
    failure: Option<FeedError>,
    at_end: bool,
}

/// The next candle of a file.
enum Head {
    Unread,
    Candle(Candle, Place),
    End,
}

impl RecordedFeed {
    /// Opens a file, or all files `*.jsonl` and `*.csv` of a directory.
    pub(super) fn open(source: &str) -> Result<Self, FeedError> {
        let path = Path::new(source);
        if !path.is_dir() {
            return Ok(Self::new(source, vec![CandleFile::open(path)?]));
        }
        let paths =
            candle_files(path).map_err(|error| FeedError::new(source, format!("cannot read it: {error}")))?;
        if paths.is_empty() {
            return Err(FeedError::new(source, "contains no file *.jsonl or *.csv"));
        }
        let files = paths.iter().map(|path| CandleFile::open(path)).collect::<Result<_, _>>()?;
        Ok(Self::new(source, files))
    }

    /// Reads standard input.
    pub(super) fn standard_input(source: &str) -> Result<Self, FeedError> {
        Ok(Self::new(source, vec![CandleFile::standard_input()?]))
    }

    fn new(source: &str, files: Vec<CandleFile>) -> Self {
        Self {
            source: source.to_owned(),
            heads: files.iter().map(|_| Head::Unread).collect(),
            files,
            candles: Vec::new(),
            bars: VecDeque::new(),
            interval_s: None,
            checks: Checks::default(),
            failure: None,
            at_end: false,
        }
    }

    fn advance(&mut self, deadline: Option<Instant>) -> Result<Next, FeedError> {
        loop {
            if let Some(interval_s) = self.interval_s
                && let Some(candles) = self.bars.pop_front()
            {
                return Ok(Next::Bar(Bar { ts: candles[0].ts, interval_s, candles }));
            }
            if self.at_end {
                return Ok(Next::End);
            }
            match self.read_bar(deadline)? {
                NextBar::Read => {}
                NextBar::Pending => return Ok(Next::Pending),
                NextBar::End => {
                    self.at_end = true;
                    self.interval_s.get_or_insert(DEFAULT_INTERVAL_S);
                    self.checks.reports().finish(&self.source);
                }
            }
            if let (None, [first, second]) = (self.interval_s, self.bars.make_contiguous()) {
                self.interval_s = Some(second[0].ts - first[0].ts);
            }
        }
    }

    /// Puts the next bar together and adds it to `bars`.
    fn read_bar(&mut self, deadline: Option<Instant>) -> Result<NextBar, FeedError> {
        loop {
            for source in 0..self.heads.len() {
                if matches!(self.heads[source], Head::Unread) && !self.read_head(source, deadline)? {
                    return Ok(NextBar::Pending);
                }
            }
            let times = self.heads.iter().filter_map(|head| match head {
                Head::Candle(candle, _) => Some(candle.ts),
                _ => None,
            });
            let Some(ts) = self.candles.first().map(|(first, _)| first.ts).or(times.reduce(f64::min)) else {
                return Ok(NextBar::End);
            };
            let mut found = false;
            for head in &mut self.heads {
                if matches!(head, Head::Candle(candle, _) if candle.ts == ts)
                    && let Head::Candle(candle, place) = std::mem::replace(head, Head::Unread)
                {
                    self.candles.push((candle, place));
                    found = true;
                }
            }
            if !found {
                return self.finish_bar().map(|()| NextBar::Read);
            }
        }
    }

    /// Reads the next candle of a file. Returns whether it was there in time.
    fn read_head(&mut self, source: usize, deadline: Option<Instant>) -> Result<bool, FeedError> {
        let file = &mut self.files[source];
        let deadline = deadline.filter(|_| file.waits);
        self.heads[source] = match file.next(deadline)? {
            NextCandle::Pending => return Ok(false),
            NextCandle::End => {
                if matches!(self.heads[source], Head::Unread) && !file.has_candles() {
                    let warning = format!("{}: contains no candle", file.name());
                    self.checks.reports().add_always(warning);
                }
                Head::End
            }
            NextCandle::Candle(read, line) => {
                if let Some(named) = read.interval_s {
                    let interval_s = *self.interval_s.get_or_insert(named);
                    if interval_s != named {
                        let problem = format!("interval_s: is {named}, but the feed's is {interval_s}");
                        return Err(FeedError::new(&file.place(line), problem));
                    }
                }
                Head::Candle(read.candle, Place { source, line })
            }
        };
        for warning in self.files[source].take_unknown_fields() {
            self.checks.reports().add(Irregularity::UnknownField, || warning);
        }
        Ok(true)
    }

    /// Checks the candles of the bar against each other and against those before.
    fn finish_bar(&mut self) -> Result<(), FeedError> {
        let files = &self.files;
        let place_name = |place: &Place| files[place.source].place(place.line);
        for (candle, place) in &self.candles {
            let checked = self.checks.check(candle, place.clone(), self.interval_s, || place_name(place));
            if let Err(repeated) = checked {
                // The times of each file rise, and the files are merged by time.
                let time = format_time(repeated.ts);
                let earlier = place_name(&repeated.earlier);
                let problem = format!("{}: duplicate bar {time}; the first is {earlier}", candle.symbol);
                return Err(FeedError::new(&place_name(place), problem));
            }
        }
        if self.checks.symbols() > MAX_SYMBOLS {
            return Err(FeedError::new(&self.source, format!("has more than {MAX_SYMBOLS} symbols")));
        }
        let mut candles: Vec<Candle> = self.candles.drain(..).map(|(candle, _)| candle).collect();
        candles.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        self.bars.push_back(candles);
        Ok(())
    }
}

/// What [`RecordedFeed::read_bar`] did.
enum NextBar {
    Read,
    Pending,
    End,
}

impl Feed for RecordedFeed {
    fn source(&self) -> &str {
        &self.source
    }

    fn next(&mut self, wait: Duration) -> Result<Next, FeedError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let next = self.advance(Instant::now().checked_add(wait));
        self.failure = next.as_ref().err().cloned();
        next
    }

    fn is_live(&self) -> bool {
        false
    }

    fn warnings(&mut self) -> Vec<String> {
        self.checks.reports().take()
    }
}

/// The candle files of a directory, ordered by name.
fn candle_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| is_candle_file(path));
    paths.sort();
    Ok(paths)
}
