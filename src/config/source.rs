//! One TOML file as a tree of values that know their line, and the walk over it.
//!
//! A walk never stops at a problem: every reader returns `None` where the value is not what it should be, and has already reported it.
//! A [`Table`] remembers which keys were asked for, so that [`Table::finish`] reports the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Severity};
use super::suggest;
use super::values::{duration_words, parse_duration};

/// A line of a file, as problems name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: Arc<Path>,
    pub(super) line: u32,
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Located<T> {
    pub(super) at: Spot,
    pub(super) value: T,
}

/// Where it stands plays no part.
impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Located<T>) -> bool {
        self.value == other.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Located<T> {
    /// The value alone: the content hash of a zone must not move when a line above does.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Sink {
    problems: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
}

impl Sink {
    pub(super) fn add(&self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn error(&self, at: &Spot, subject: &[String], text: impl Into<String>) {
        self.put(Severity::Error, at, subject, text.into());
    }

    pub(super) fn warning(&self, at: &Spot, subject: &[String], text: impl Into<String>) {
        self.put(Severity::Warning, at, subject, text.into());
    }

    fn put(&self, severity: Severity, at: &Spot, subject: &[String], text: String) {
        self.add(Problem { severity, file: at.file.to_path_buf(), line: at.line, subject: subject.to_vec(), text });
    }

    /// True when nothing was said so far.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// How many errors so far: a definition is sound when reading it adds none.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// What all values of one file share.
#[derive(Debug)]
pub(super) struct Doc<'d> {
    /// As problems name it.
    pub(super) file: Arc<Path>,
    /// The folder that relative paths in it start from.
    pub(super) folder: PathBuf,
    pub(super) sink: &'d Sink,
    line_starts: Vec<usize>,
    /// Lines that are no TOML; what else is wrong with them follows from that.
    broken: BTreeSet<u32>,
}

impl<'d> Doc<'d> {
    /// Parses `text` and reports what is no TOML. The tree holds whatever could be read.
    pub(super) fn parse(file: &Path, folder: &Path, text: &'d str, sink: &'d Sink) -> (Doc<'d>, DeTable<'d>) {
        let line_starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)).collect();
        let mut doc = Doc { file: file.into(), folder: folder.to_path_buf(), sink, line_starts, broken: BTreeSet::new() };
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(0, |span| doc.line_of(span.start.min(text.len())));
            // The first problem of a line is the cause, the rest its shadow.
            if doc.broken.insert(line) {
                sink.error(&doc.spot(line), &[], format!("not TOML: {}", toml_words(&error, text)));
            }
        }
        (doc, tree.into_inner())
    }

    /// True when every line was TOML.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    pub(super) fn spot(&self, line: u32) -> Spot {
        Spot { file: self.file.clone(), line }
    }

    fn line_of(&self, offset: usize) -> u32 {
        self.line_starts.partition_point(|start| *start <= offset) as u32
    }

    /// The top of the tree.
    pub(super) fn root(&'d self, tree: &'d DeTable<'d>) -> Table<'d> {
        Table { doc: self, subject: Vec::new(), line: 0, map: tree, known: RefCell::default() }
    }
}

/// The parser's words, and ours where they would leave an operator guessing.
fn toml_words(error: &toml::de::Error, text: &str) -> String {
    let found = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
    match error.message() {
        "duplicate key" if !found.is_empty() => format!("the key {found:?} is given twice"),
        message if message.starts_with("string values must be quoted") && found.is_empty() => "a value is missing behind \"=\"".into(),
        message => message.to_string(),
    }
}

/// A table, and which of its keys were asked for.
#[derive(Debug)]
pub(super) struct Table<'d> {
    pub(super) doc: &'d Doc<'d>,
    pub(super) subject: Vec<String>,
    pub(super) line: u32,
    map: &'d DeTable<'d>,
    known: RefCell<Vec<&'static str>>,
}

impl<'d> Table<'d> {
    /// The value of a key that the table may have.
    pub(super) fn take(&self, key: &'static str) -> Option<Value<'d>> {
        self.known.borrow_mut().push(key);
        let (spanned, value) = self.map.get_key_value(key)?;
        Some(self.value(spanned.span().start, key.to_string(), value.get_ref()))
    }

    fn value(&self, offset: usize, label: String, value: &'d DeValue<'d>) -> Value<'d> {
        let mut subject = self.subject.clone();
        if !label.is_empty() {
            subject.push(label);
        }
        Value { doc: self.doc, subject, line: self.doc.line_of(offset), value }
    }

    /// All entries in the order of the file; `label` makes the subject of each from its key.
    pub(super) fn entries(&self, label: impl Fn(&str) -> String) -> Vec<(&'d str, Value<'d>)> {
        let mut all: Vec<_> = self.map.iter().collect();
        all.sort_by_key(|(key, _)| key.span().start);
        all.into_iter().map(|(key, value)| (key.get_ref().as_ref(), self.value(key.span().start, label(key.get_ref()), value.get_ref()))).collect()
    }

    pub(super) fn spot(&self) -> Spot {
        self.doc.spot(self.line)
    }

    pub(super) fn error(&self, text: impl Into<String>) {
        self.doc.sink.error(&self.spot(), &self.subject, text);
    }

    /// A key is missing. Not said of a file that could not be read whole: the key may stand where it broke.
    pub(super) fn missing(&self, text: impl Into<String>) {
        if self.doc.is_whole() {
            self.error(text);
        } else {
            self.doc.sink.errors.set(self.doc.sink.errors() + 1);
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        if self.subject.is_empty() && !self.doc.is_whole() {
            // Keys fall to the top when the header above them is broken.
            return;
        }
        for (key, value) in self.entries(|_| String::new()) {
            if !known.contains(&key) {
                let hint = suggest::did_you_mean(key, known.iter().copied());
                let hint = if hint.is_empty() { format!("; known here: {}", list_words(&known)) } else { hint };
                value.error(format!("unknown key {key:?}{hint}"));
            }
        }
    }
}

fn list_words(words: &[&str]) -> String {
    words.join(", ")
}

/// A value, where it stands and what it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Value<'d> {
    pub(super) doc: &'d Doc<'d>,
    pub(super) subject: Vec<String>,
    pub(super) line: u32,
    value: &'d DeValue<'d>,
}

impl<'d> Value<'d> {
    pub(super) fn spot(&self) -> Spot {
        self.doc.spot(self.line)
    }

    pub(super) fn located<T>(&self, value: T) -> Located<T> {
        Located { at: self.spot(), value }
    }

    pub(super) fn error(&self, text: impl Into<String>) {
        if !self.doc.broken.contains(&self.line) {
            self.doc.sink.error(&self.spot(), &self.subject, text);
        }
    }

    pub(super) fn warning(&self, text: impl Into<String>) {
        self.doc.sink.warning(&self.spot(), &self.subject, text);
    }

    /// Reports that this is not what was expected.
    pub(super) fn expected(&self, what: impl std::fmt::Display) {
        self.error(format!("found {}, expected {what}", self.describe()));
    }

    /// What was found, short enough for a line.
    pub(super) fn describe(&self) -> String {
        const MAX_QUOTED_CHARS: usize = 60;
        match self.value {
            DeValue::String(text) if text.chars().count() > MAX_QUOTED_CHARS => {
                format!("{:?}…", text.chars().take(MAX_QUOTED_CHARS).collect::<String>())
            }
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(date) => format!("the date {date}"),
            DeValue::Array(items) if items.is_empty() => "an empty list".into(),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        }
    }

    /// The same value under a further word of the subject.
    pub(super) fn named(mut self, label: impl Into<String>) -> Value<'d> {
        self.subject.push(label.into());
        self
    }

    pub(super) fn as_str(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        match self.value {
            DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or_else(|_| {
                // Out of range of i64 is out of every range here.
                if number.as_str().starts_with('-') { i64::MIN } else { i64::MAX }
            })),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => self.as_integer().map(|number| number as f64),
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn as_list(&self) -> Option<Vec<Value<'d>>> {
        match self.value {
            DeValue::Array(items) => Some(
                items
                    .iter()
                    .map(|item| Value {
                        doc: self.doc,
                        subject: self.subject.clone(),
                        line: self.doc.line_of(item.span().start),
                        value: item.get_ref(),
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    pub(super) fn as_table(&self) -> Option<Table<'d>> {
        match self.value {
            DeValue::Table(map) => Some(Table { doc: self.doc, subject: self.subject.clone(), line: self.line, map, known: RefCell::default() }),
            _ => None,
        }
    }

    /// A table, or a report that says what it should look like.
    pub(super) fn table(&self, like: &str) -> Option<Table<'d>> {
        let table = self.as_table();
        if table.is_none() {
            self.expected(format_args!("a table{like}"));
        }
        table
    }

    pub(super) fn string(&self, what: &str) -> Option<&'d str> {
        let text = self.as_str();
        if text.is_none() {
            self.expected(what);
        }
        text
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.as_bool();
        if value.is_none() {
            self.expected("true or false");
        }
        value
    }

    /// A whole number within `range`; `unit` stands behind the numbers of the report (" s", or nothing).
    pub(super) fn integer(&self, range: RangeInclusive<i64>, unit: &str) -> Option<i64> {
        let (least, most) = (range.start(), range.end());
        match self.as_integer() {
            Some(number) if range.contains(&number) => Some(number),
            Some(number) => {
                self.error(format!("found {number}{unit}, expected {least} to {most}{unit}"));
                None
            }
            None => {
                self.expected(format_args!("a whole number from {least} to {most}"));
                None
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (duration_words(*range.start()), duration_words(*range.end()));
        let Some(text) = self.as_str() else {
            let fix = self.as_integer().map_or_else(String::new, |n| format!("; write \"{n}s\" for seconds"));
            self.error(format!("found {}, expected a duration such as \"10s\", {least} to {most}{fix}", self.describe()));
            return None;
        };
        match parse_duration(text) {
            Some(duration) if range.contains(&duration) => Some(duration),
            Some(duration) => {
                self.error(format!("found {}, expected {least} to {most}", duration_words(duration)));
                None
            }
            None => {
                self.expected(format_args!("a duration such as \"10s\", \"500ms\", \"5m\" or \"1h\", {least} to {most}"));
                None
            }
        }
    }

    /// A list, or one value that stands for a list of one.
    pub(super) fn one_or_many(&self) -> Vec<Value<'d>> {
        self.as_list().unwrap_or_else(|| vec![self.clone()])
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let found = self.as_str();
        if let Some((_, value)) = words.iter().find(|(name, _)| Some(*name) == found) {
            return Some(*value);
        }
        let hint = found.map_or_else(String::new, |text| suggest::did_you_mean(text, names.iter().copied()));
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        self.error(format!("found {}, expected {}{hint}", self.describe(), or_list(&quoted)));
        None
    }
}

/// `a, b or c`.
pub(super) fn or_list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}
