//! Master files (RFC 1035 §5, RFC 2308 §4, RFC 3597 §5), read in one pass without stopping at the first problem.
//!
//! ```text
//!   text ── Scanner ──▶ Entry (owner, TTL, type, words) ── Parser ──▶ records
//!                         │                                   ▲
//!                         └ $ORIGIN $TTL $GENERATE            │
//!                           $INCLUDE ──▶ include(name, from) ─┘  one level deeper, own origin and owner
//! ```
//!
//! This module opens no files: the caller resolves `$INCLUDE` and decides what may be read. A long file may come in parts ([`parse_stream`]): what
//! is kept of it is a window that ends where an entry does.

mod error;
mod generate;
mod scan;

use std::path::{Path, PathBuf};

pub use error::{MasterError, MasterFault};
use scan::{BYTE_ORDER_MARK, Entry, Head, Scanner, Step};

use super::rdata::{self, Field};
use super::token::{period, shown, unescape_into};
use super::{MAX_TTL, Place, Records, Ttl};
use crate::dns::name::{is_at_or_below, parse_into};
use crate::dns::{Name, RecordType};

/// How deep files may include files: deeper nesting is a mistake.
pub const MAX_INCLUDE_DEPTH: usize = 10;
/// The most `$INCLUDE` in one zone: files that include others many times over would multiply without bound.
pub const MAX_INCLUDES: usize = 4096;
/// The most problems that are listed for one zone; nobody reads more.
pub const MAX_ERRORS: usize = 100;
/// The most words of one record: 65,535 empty texts fill one, and every type once fits a bitmap.
pub const MAX_WORDS: usize = 70_000;

/// How much of a long file is in memory at a time; an entry that is longer makes it grow.
const WINDOW_LEN: usize = 1 << 18;
/// How much is read first: most files are shorter, and there may be a hundred thousand of them.
const FIRST_WINDOW_LEN: usize = 1 << 13;

/// A master file to read.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Its octets; with [`parse_stream`] the first of them.
    pub text: &'a [u8],
    /// As the user named it.
    pub file: PathBuf,
    /// The apex of the zone, and the origin of relative names until `$ORIGIN`.
    pub origin: Name,
    /// For records when neither they nor `$TTL`, a record above or a SOA above say one.
    pub default_ttl: Option<Ttl>,
    /// The index of `file` in the zone's list of files; included ones follow it.
    pub first_file: u16,
}

/// What was read, the records apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The file and everything it includes, each once; the first has the index [`Source::first_file`].
    pub files: Vec<PathBuf>,
    /// All problems in the order of reading, at most [`MAX_ERRORS`] and then [`MasterFault::More`].
    pub errors: Vec<MasterError>,
    /// An entry went on in a line that does not begin with a blank: such a line need not be the beginning of one.
    pub is_loose: bool,
}

/// Resolves an `$INCLUDE`: the name as written and the including file give the file's name and octets, or the reason why not.
pub type Include<'a> = dyn FnMut(&str, &Path) -> Result<(PathBuf, Vec<u8>), String> + 'a;

/// Gives the next octets of a file: fills the front of what it gets and says how many; 0 at the end. An error in words ends the file.
pub type More<'a> = dyn FnMut(&mut [u8]) -> Result<usize, String> + 'a;

/// Reads a master file; adds every good record to `records`, in order. Linear in the octets.
pub fn parse(source: Source<'_>, include: &mut Include<'_>, records: &mut Records) -> Parsed {
    run(source, include, records, |parser, text, open| {
        parser.part(text, true, open);
    })
}

/// [`parse`] of a file whose octets behind [`Source::text`] come from `more`.
pub fn parse_stream(source: Source<'_>, more: &mut More<'_>, include: &mut Include<'_>, records: &mut Records) -> Parsed {
    run(source, include, records, |parser, text, open| parser.stream(text, more, open))
}

fn run<'a>(
    source: Source<'a>,
    include: &'a mut Include<'a>,
    records: &'a mut Records,
    read: impl FnOnce(&mut Parser<'_>, &[u8], &mut Open),
) -> Parsed {
    let Source { text, file, origin, default_ttl, first_file } = source;
    let mut parser = Parser {
        apex: &origin,
        default_ttl,
        first_file,
        include,
        records,
        files: vec![file],
        errors: Vec::new(),
        stack: vec![0],
        includes: 0,
        directive_ttl: None,
        last_ttl: None,
        soa_minimum: None,
        rdata: Vec::new(),
        is_loose: false,
    };
    read(&mut parser, text, &mut Open::new(0, origin.clone()));
    Parsed { files: parser.files, errors: parser.errors, is_loose: parser.is_loose }
}

/// Whose record a line that starts with a blank is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastOwner {
    /// Nobody's: no record stands above.
    None,
    /// That of an owner that was wrong: told once, the lines below it are passed over.
    Bad,
    /// [`Open::owner`].
    Known,
}

/// The state of one file; the zone's is the [`Parser`]'s.
struct Open {
    /// Index into the parser's files.
    file: usize,
    origin: Name,
    last_owner: LastOwner,
    /// Wire form, case as written.
    owner: Vec<u8>,
    /// What the owner was read from under this origin: the records of a name mostly stand together. Empty when that does not hold.
    owner_text: Vec<u8>,
    /// Of the entry that is being looked at, from 1.
    line: u32,
    /// Of the next octet to be scanned.
    next_line: u32,
}

impl Open {
    fn new(file: usize, origin: Name) -> Open {
        Open { file, origin, last_owner: LastOwner::None, owner: Vec::new(), owner_text: Vec::new(), line: 1, next_line: 1 }
    }
}

struct Parser<'a> {
    apex: &'a Name,
    default_ttl: Option<Ttl>,
    first_file: u16,
    include: &'a mut Include<'a>,
    records: &'a mut Records,
    files: Vec<PathBuf>,
    errors: Vec<MasterError>,
    /// The files that are being read, outermost first.
    stack: Vec<usize>,
    includes: usize,
    /// `$TTL`; holds across files.
    directive_ttl: Option<Ttl>,
    /// The last TTL on a record (RFC 1035 §5.1).
    last_ttl: Option<Ttl>,
    soa_minimum: Option<Ttl>,
    /// Room for the data of one record.
    rdata: Vec<u8>,
    is_loose: bool,
}

impl Parser<'_> {
    /// Reads a file in windows.
    fn stream(&mut self, text: &[u8], more: &mut More<'_>, open: &mut Open) {
        let (mut window, mut len) = (text.to_vec(), FIRST_WINDOW_LEN);
        loop {
            let held = window.len();
            // Twice what an unfinished entry has: however long it is, its octets are scanned twice at most.
            window.resize((2 * held).max(std::mem::replace(&mut len, WINDOW_LEN)), 0);
            let (read, trouble) = read_full(more, &mut window[held..]);
            let is_last = held + read < window.len();
            window.truncate(held + read);
            if let Some(reason) = trouble {
                // What was read last may be half an entry.
                open.line = open.next_line;
                return self.complain(open, MasterFault::Unreadable { reason });
            }
            let used = self.part(&window, is_last, open);
            if is_last || self.is_full() {
                return;
            }
            window.drain(..used);
        }
    }

    /// Reads a file or a part of one; returns how many octets are done with.
    fn part(&mut self, text: &[u8], is_last: bool, open: &mut Open) -> usize {
        // Editors on some systems put a byte order mark in front.
        let mark = if open.next_line == 1 && text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut scanner = Scanner::new(&text[mark..], open.next_line, is_last);
        let mut entry = Entry::default();
        while !self.is_full() && scanner.next(&mut entry) == Step::Entry {
            open.line = entry.line;
            let done = match entry.fault.take() {
                Some(fault) => {
                    if let Head::Owner(owner) = entry.head {
                        let _ = self.set_owner(owner.text, open);
                    }
                    Err(fault)
                }
                None => self.entry(&entry, open),
            };
            if let Err(kind) = done {
                self.complain(open, kind);
            }
        }
        self.is_loose |= scanner.is_loose;
        let (used, line) = scanner.place();
        open.next_line = line;
        mark + used
    }

    fn is_full(&self) -> bool {
        self.errors.len() > MAX_ERRORS
    }

    fn complain(&mut self, open: &Open, kind: MasterFault) {
        if self.is_full() {
            return;
        }
        let kind = if self.errors.len() == MAX_ERRORS { MasterFault::More } else { kind };
        self.errors.push(MasterError { file: self.files[open.file].clone(), line: open.line, kind });
    }

    fn entry(&mut self, entry: &Entry<'_>, open: &mut Open) -> Result<(), MasterFault> {
        match entry.head {
            Head::Directive(directive) => return self.directive(directive, &entry.words, open),
            Head::Owner(owner) => self.set_owner(owner.text, open)?,
            Head::SameOwner => {}
        }
        match open.last_owner {
            LastOwner::None => return Err(MasterFault::NoOwner),
            LastOwner::Bad => return Ok(()),
            LastOwner::Known => {}
        }
        let rtype = entry.rtype.ok_or(MasterFault::NoType)?;
        self.record(open, entry.ttl, rtype, &entry.words)
    }

    fn place(&self, open: &Open) -> Place {
        // `files` never outgrows the index.
        Place { file: self.first_file.saturating_add(open.file as u16), line: open.line }
    }

    /// Makes `text` the owner of this record and of those below that give none.
    fn set_owner(&self, text: &[u8], open: &mut Open) -> Result<(), MasterFault> {
        if open.last_owner == LastOwner::Known && open.owner_text == text && !text.is_empty() {
            return Ok(());
        }
        open.last_owner = LastOwner::Bad;
        open.owner.clear();
        parse_into(text, open.origin.as_wire(), &mut open.owner).map_err(|error| MasterFault::Name { found: shown(text), error })?;
        if !is_at_or_below(&open.owner, self.apex.as_wire()) {
            let owner = Name::from_wire(&open.owner).unwrap_or_else(|_| Name::root());
            return Err(MasterFault::OutOfZone { owner, apex: self.apex.clone() });
        }
        open.owner_text.clear();
        open.owner_text.extend_from_slice(text);
        open.last_owner = LastOwner::Known;
        Ok(())
    }

    /// Adds a record of the owner of `open`.
    fn record(&mut self, open: &Open, ttl: Option<Ttl>, rtype: RecordType, words: &[Field<'_>]) -> Result<(), MasterFault> {
        rdata::parse_fields_into(rtype, words, &open.origin, &mut self.rdata).map_err(|error| MasterFault::Rdata { rtype, error })?;
        if rtype == RecordType::SOA
            && let Some(minimum) = self.rdata.last_chunk::<4>()
        {
            self.soa_minimum = Some(u32::from_be_bytes(*minimum).min(MAX_TTL));
        }
        if ttl.is_some() {
            self.last_ttl = ttl;
        }
        let ttl = self.directive_ttl.filter(|_| ttl.is_none()).or(self.last_ttl).or(self.soa_minimum).or(self.default_ttl);
        let ttl = ttl.ok_or(MasterFault::NoTtl)?;
        self.records.push_wire(&open.owner, rtype, ttl, &self.rdata, self.place(open));
        Ok(())
    }

    fn directive(&mut self, directive: Field<'_>, words: &[Field<'_>], open: &mut Open) -> Result<(), MasterFault> {
        match directive.text.to_ascii_uppercase().as_slice() {
            b"$ORIGIN" => match words {
                [name] => {
                    open.origin =
                        Name::parse_octets(name.text, &open.origin).map_err(|error| MasterFault::Name { found: shown(name.text), error })?;
                    open.owner_text.clear();
                    Ok(())
                }
                _ => Err(MasterFault::DirectiveForm { form: "$ORIGIN name" }),
            },
            b"$TTL" => match words {
                [ttl] => {
                    self.directive_ttl = Some(read_ttl(ttl.text)?);
                    Ok(())
                }
                _ => Err(MasterFault::DirectiveForm { form: "$TTL seconds" }),
            },
            b"$INCLUDE" => self.included(words, open),
            b"$GENERATE" => self.generated(words, open),
            _ => Err(MasterFault::UnknownDirective { found: shown(directive.text) }),
        }
    }

    fn included(&mut self, words: &[Field<'_>], open: &Open) -> Result<(), MasterFault> {
        let (name, origin) = match words {
            [name] => (name, open.origin.clone()),
            [name, origin] => {
                let found = || shown(origin.text);
                (name, Name::parse_octets(origin.text, &open.origin).map_err(|error| MasterFault::Name { found: found(), error })?)
            }
            _ => return Err(MasterFault::DirectiveForm { form: "$INCLUDE file or $INCLUDE file origin" }),
        };
        let mut octets = Vec::new();
        let written = if unescape_into(name.text, &mut octets) { String::from_utf8(octets).ok() } else { None };
        let written = written.ok_or(MasterFault::DirectiveForm { form: "$INCLUDE with a file name in UTF-8" })?;
        if self.stack.len() > MAX_INCLUDE_DEPTH {
            return Err(MasterFault::IncludeDepth);
        }
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            return Err(MasterFault::TooManyIncludes);
        }
        let (path, text) =
            (self.include)(&written, &self.files[open.file]).map_err(|reason| MasterFault::Include { found: written.clone(), reason })?;
        let file = match self.files.iter().position(|known| *known == path) {
            Some(file) if self.stack.contains(&file) => return Err(MasterFault::IncludeCycle { found: path }),
            Some(file) => file,
            None if usize::from(self.first_file) + self.files.len() >= usize::from(u16::MAX) => return Err(MasterFault::TooManyIncludes),
            None => {
                self.files.push(path);
                self.files.len() - 1
            }
        };
        self.stack.push(file);
        self.part(&text, true, &mut Open::new(file, origin));
        self.stack.pop();
        Ok(())
    }

    /// `$GENERATE range owner [ttl] [class] type rdata`.
    fn generated(&mut self, words: &[Field<'_>], open: &mut Open) -> Result<(), MasterFault> {
        const FORM: MasterFault = MasterFault::DirectiveForm { form: "$GENERATE start-stop[/step] owner [ttl] [class] type data" };
        let [range, owner, rest @ ..] = words else { return Err(FORM) };
        let range = generate::Range::read(range.text)?;
        let (mut ttl, mut has_class, mut rtype) = (None, false, None);
        let mut used = 0;
        while rtype.is_none() {
            let word = rest.get(used).ok_or(FORM)?;
            scan::read_head(word, &mut ttl, &mut has_class, &mut rtype)?;
            used += 1;
        }
        let rtype = rtype.ok_or(FORM)?;
        let stripped = generate::strip(rtype, &rest[used..]);
        let inner = stripped.as_ref().map(|text| generate::words(text, rdata::has_pairs(rtype)).ok_or(FORM)).transpose()?;
        let data = inner.as_deref().unwrap_or(&rest[used..]);
        let mut one = Open { line: open.line, ..Open::new(open.file, open.origin.clone()) };
        for at in range.values() {
            let done = generate::expand(owner.text, at).and_then(|text| {
                let words = generate::expand_all(data, at)?;
                let words: Vec<Field<'_>> = words.iter().map(|(text, quoted)| Field { text, quoted: *quoted }).collect();
                self.set_owner(&text, &mut one)?;
                self.record(&one, ttl, rtype, &words)
            });
            if let Err(fault) = done {
                return Err(MasterFault::Generated { at, fault: Box::new(fault) });
            }
            // Only owners that got their record are those of the lines below.
            open.owner.clone_from(&one.owner);
            (open.last_owner, open.owner_text) = (LastOwner::Known, Vec::new());
        }
        Ok(())
    }
}

/// Fills `room` as far as there is something; an error in words.
fn read_full(more: &mut More<'_>, room: &mut [u8]) -> (usize, Option<String>) {
    let mut at = 0;
    while at < room.len() {
        match more(&mut room[at..]) {
            Ok(0) => break,
            Ok(read) => at += read.min(room.len() - at),
            Err(reason) => return (at, Some(reason)),
        }
    }
    (at, None)
}

fn read_ttl(text: &[u8]) -> Result<Ttl, MasterFault> {
    period(text).filter(|ttl| *ttl <= MAX_TTL).ok_or_else(|| MasterFault::Ttl { found: shown(text) })
}

#[cfg(test)]
mod tests;
