//! Master files (RFC 1035 §5, RFC 2308 §4, RFC 3597 §5), read in one pass without stopping at the first problem.
//!
//! ```text
//!   text ── Scanner ──▶ Entry (owner, TTL, type, words) ── Parser ──▶ records
//!                         │                                   ▲
//!                         └ $ORIGIN $TTL $GENERATE            │
//!                           $INCLUDE ──▶ include(name, from) ─┘  one level deeper, own origin and owner
//! ```
//!
//! This module opens no files: the caller resolves `$INCLUDE` and decides what may be read.

mod error;
mod generate;
mod scan;

use std::path::{Path, PathBuf};

pub use error::{MasterError, MasterFault};
use scan::{Entry, Head, Scanner};

use super::rdata::{self, Field};
use super::token::{period, shown, unescape_into};
use super::{MAX_TTL, Place, Records, Ttl};
use crate::dns::{Name, RecordType};

/// How deep files may include files: deeper nesting is a mistake.
pub const MAX_INCLUDE_DEPTH: usize = 10;
/// The most `$INCLUDE` in one zone: files that include others many times over would multiply without bound.
pub const MAX_INCLUDES: usize = 4096;
/// The most problems that are listed for one zone; nobody reads more.
pub const MAX_ERRORS: usize = 100;
/// The most words of one record: 65,535 empty texts fill one, and every type once fits a bitmap.
pub const MAX_WORDS: usize = 70_000;

/// A master file to read.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Its octets.
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
}

/// Resolves an `$INCLUDE`: the name as written and the including file give the file's name and octets, or the reason why not.
pub type Include<'a> = dyn FnMut(&str, &Path) -> Result<(PathBuf, Vec<u8>), String> + 'a;

/// Reads a master file; adds every good record to `records`, in order. Linear in the octets.
pub fn parse(source: Source<'_>, include: &mut Include<'_>, records: &mut Records) -> Parsed {
    let Source { text, file, origin, default_ttl, first_file } = source;
    let mut parser = Parser {
        apex: &origin,
        default_ttl,
        first_file,
        include,
        records,
        files: vec![file],
        errors: Vec::new(),
        stack: Vec::new(),
        includes: 0,
        directive_ttl: None,
        last_ttl: None,
        soa_minimum: None,
    };
    parser.file(text, 0, origin.clone());
    Parsed { files: parser.files, errors: parser.errors }
}

/// Whose record a line that starts with a blank is.
enum LastOwner {
    /// Nobody's: no record stands above.
    None,
    /// That of an owner that was wrong: told once, the lines below it are passed over.
    Bad,
    Known(Name),
}

/// The state of one file; the zone's is the [`Parser`]'s.
struct Open {
    /// Index into the parser's files.
    file: usize,
    origin: Name,
    owner: LastOwner,
    line: u32,
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
}

impl Parser<'_> {
    fn file(&mut self, text: &[u8], file: usize, origin: Name) {
        self.stack.push(file);
        let mut open = Open { file, origin, owner: LastOwner::None, line: 0 };
        let mut scanner = Scanner::new(text);
        let mut entry = Entry::default();
        while !self.is_full() && scanner.next(&mut entry) {
            open.line = entry.line;
            let done = match entry.fault.take() {
                Some(fault) => {
                    if let Head::Owner(owner) = entry.head {
                        open.owner = self.owner(owner.text, &open.origin).map_or(LastOwner::Bad, LastOwner::Known);
                    }
                    Err(fault)
                }
                None => self.entry(&entry, &mut open),
            };
            if let Err(kind) = done {
                self.complain(&open, kind);
            }
        }
        self.stack.pop();
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
            Head::Owner(owner) => {
                open.owner = LastOwner::Bad;
                open.owner = LastOwner::Known(self.owner(owner.text, &open.origin)?);
            }
            Head::SameOwner => {}
        }
        let place = self.place(open);
        let owner = match &open.owner {
            LastOwner::None => return Err(MasterFault::NoOwner),
            LastOwner::Bad => return Ok(()),
            LastOwner::Known(owner) => owner,
        };
        let rtype = entry.rtype.ok_or(MasterFault::NoType)?;
        self.record(owner, entry.ttl, rtype, &entry.words, &open.origin, place)
    }

    fn place(&self, open: &Open) -> Place {
        // `files` never outgrows the index.
        Place { file: self.first_file.saturating_add(open.file as u16), line: open.line }
    }

    fn owner(&self, text: &[u8], origin: &Name) -> Result<Name, MasterFault> {
        let owner = Name::parse_octets(text, origin).map_err(|error| MasterFault::Name { found: shown(text), error })?;
        if !owner.is_at_or_below(self.apex) {
            return Err(MasterFault::OutOfZone { owner, apex: self.apex.clone() });
        }
        Ok(owner)
    }

    fn record(
        &mut self,
        owner: &Name,
        ttl: Option<Ttl>,
        rtype: RecordType,
        words: &[Field<'_>],
        origin: &Name,
        place: Place,
    ) -> Result<(), MasterFault> {
        let rdata = rdata::parse_fields(rtype, words, origin).map_err(|error| MasterFault::Rdata { rtype, error })?;
        if rtype == RecordType::SOA
            && let Some(minimum) = rdata.last_chunk::<4>()
        {
            self.soa_minimum = Some(u32::from_be_bytes(*minimum).min(MAX_TTL));
        }
        if ttl.is_some() {
            self.last_ttl = ttl;
        }
        let ttl = self.directive_ttl.filter(|_| ttl.is_none()).or(self.last_ttl).or(self.soa_minimum).or(self.default_ttl);
        let ttl = ttl.ok_or(MasterFault::NoTtl)?;
        self.records.push(owner, rtype, ttl, &rdata, place);
        Ok(())
    }

    fn directive(&mut self, directive: Field<'_>, words: &[Field<'_>], open: &mut Open) -> Result<(), MasterFault> {
        match directive.text.to_ascii_uppercase().as_slice() {
            b"$ORIGIN" => match words {
                [name] => {
                    open.origin =
                        Name::parse_octets(name.text, &open.origin).map_err(|error| MasterFault::Name { found: shown(name.text), error })?;
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
        self.file(&text, file, origin);
        Ok(())
    }

    /// `$GENERATE range owner [ttl] [class] type rdata`.
    fn generated(&mut self, words: &[Field<'_>], open: &mut Open) -> Result<(), MasterFault> {
        const FORM: MasterFault = MasterFault::DirectiveForm { form: "$GENERATE start-stop[/step] owner [ttl] [class] type data" };
        let [range, owner, rest @ ..] = words else { return Err(FORM) };
        let range = generate::Range::read(range.text)?;
        let (mut ttl, mut rtype) = (None, None);
        let mut used = 0;
        while rtype.is_none() {
            let word = rest.get(used).ok_or(FORM)?;
            scan::read_head(word, &mut ttl, &mut rtype)?;
            used += 1;
        }
        let (rtype, place) = (rtype.ok_or(FORM)?, self.place(open));
        for at in range.values() {
            let one = generate::expand(owner.text, at).and_then(|text| {
                let words = generate::expand_all(&rest[used..], at)?;
                let words: Vec<Field<'_>> = words.iter().map(|(text, quoted)| Field { text, quoted: *quoted }).collect();
                let owner = self.owner(&text, &open.origin)?;
                self.record(&owner, ttl, rtype, &words, &open.origin, place)?;
                Ok(owner)
            });
            match one {
                Ok(owner) => open.owner = LastOwner::Known(owner),
                Err(fault) => return Err(MasterFault::Generated { at, fault: Box::new(fault) }),
            }
        }
        Ok(())
    }
}

fn read_ttl(text: &[u8]) -> Result<Ttl, MasterFault> {
    period(text).filter(|ttl| *ttl <= MAX_TTL).ok_or_else(|| MasterFault::Ttl { found: shown(text) })
}

#[cfg(test)]
mod tests;
