//! Octets to entries: lines, parentheses, comments, and the head of a record (owner, TTL, class, type).

use super::error::MasterFault;
use super::{MAX_WORDS, read_ttl};
use crate::dns::RecordType;
use crate::zone::Ttl;
use crate::zone::rdata::has_pairs;
use crate::zone::token::{self, Field, Octet, shown};

/// How an entry starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Head<'a> {
    /// With a blank: the owner of the entry above.
    #[default]
    SameOwner,
    /// With an owner.
    Owner(Field<'a>),
    /// With a dollar sign.
    Directive(Field<'a>),
}

/// One record or directive, over as many lines as its parentheses span. Reused from entry to entry.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    /// The line it starts on.
    pub(super) line: u32,
    pub(super) head: Head<'a>,
    pub(super) ttl: Option<Ttl>,
    has_class: bool,
    pub(super) rtype: Option<RecordType>,
    /// The words behind the type or the directive.
    pub(super) words: Vec<Field<'a>>,
    /// The first thing that is wrong with it; the rest of the entry was passed over.
    pub(super) fault: Option<MasterFault>,
}

impl<'a> Entry<'a> {
    fn is_empty(&self) -> bool {
        matches!(self.head, Head::SameOwner)
            && self.ttl.is_none()
            && !self.has_class
            && self.rtype.is_none()
            && self.words.is_empty()
            && self.fault.is_none()
    }

    fn start(&mut self, line: u32) {
        self.line = line;
        self.head = Head::SameOwner;
        self.ttl = None;
        self.has_class = false;
        self.rtype = None;
        self.words.clear();
        self.fault = None;
    }

    fn fail(&mut self, fault: MasterFault) {
        self.fault.get_or_insert(fault);
    }

    fn is_directive(&self) -> bool {
        matches!(self.head, Head::Directive(_))
    }

    fn take(&mut self, word: Field<'a>, first: bool) {
        if self.fault.is_some() {
            return;
        }
        if first {
            self.head = if word.text.starts_with(b"$") && !word.quoted { Head::Directive(word) } else { Head::Owner(word) };
        } else if self.rtype.is_some() || self.is_directive() {
            if self.words.len() >= MAX_WORDS {
                self.fail(MasterFault::TooManyWords);
            } else {
                self.words.push(word);
            }
        } else if let Err(fault) = read_head(&word, &mut self.ttl, &mut self.has_class, &mut self.rtype) {
            self.fail(fault);
        }
    }
}

/// Reads a word in front of the record data: a TTL, a class or the type, in any order but the type last, each once (RFC 1035 §5.1).
pub(super) fn read_head(word: &Field<'_>, ttl: &mut Option<Ttl>, has_class: &mut bool, rtype: &mut Option<RecordType>) -> Result<(), MasterFault> {
    let text = word.text;
    if text.first().is_some_and(u8::is_ascii_digit) && ttl.is_none() {
        *ttl = Some(read_ttl(text)?);
        return Ok(());
    }
    if text == b"IN" || text.eq_ignore_ascii_case(b"IN") || text.eq_ignore_ascii_case(b"CLASS1") {
        return if std::mem::replace(has_class, true) { Err(MasterFault::ClassTwice) } else { Ok(()) };
    }
    *rtype = match text {
        b"A" => Some(RecordType::A),
        b"AAAA" => Some(RecordType::AAAA),
        b"NS" => Some(RecordType::NS),
        b"CNAME" => Some(RecordType::CNAME),
        b"MX" => Some(RecordType::MX),
        b"TXT" => Some(RecordType::TXT),
        _ => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
    };
    if rtype.is_some() {
        return Ok(());
    }
    let other_class = [&b"CH"[..], b"CHAOS", b"HS", b"HESIOD", b"CS", b"NONE"].iter().any(|class| text.eq_ignore_ascii_case(class))
        || (text.len() > 5 && text[..5].eq_ignore_ascii_case(b"CLASS"));
    Err(if other_class { MasterFault::Class { found: shown(text) } } else { MasterFault::UnknownType { found: shown(text) } })
}

/// Walks the octets of one file, or a part of one that begins where an entry does.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    /// Nothing follows.
    is_last: bool,
    /// An entry went on in a line that does not begin with a blank.
    pub(super) is_loose: bool,
}

/// What a scanner came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An entry that is not empty.
    Entry,
    /// The part ends, perhaps in the middle of an entry, which starts at [`Scanner::place`].
    More,
    /// The file ends.
    End,
}

/// Editors on some systems put a byte order mark in front.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> Scanner<'a> {
    /// `line` is that of the first octet, from 1.
    pub(super) fn new(text: &'a [u8], line: u32, is_last: bool) -> Scanner<'a> {
        Scanner { text, at: 0, line, is_last, is_loose: false }
    }

    /// Where it stands: octets that are done with, and the line.
    pub(super) fn place(&self) -> (usize, u32) {
        (self.at, self.line)
    }

    /// Fills `entry` with the next one that is not empty.
    pub(super) fn next(&mut self, entry: &mut Entry<'a>) -> Step {
        while self.at < self.text.len() {
            let before = self.place();
            entry.start(self.line);
            if !self.entry(entry) && !self.is_last {
                (self.at, self.line) = before;
                return Step::More;
            }
            if !entry.is_empty() {
                return Step::Entry;
            }
        }
        if self.is_last { Step::End } else { Step::More }
    }

    /// Scans up to and including the line feed that ends the entry; false when the octets end first.
    fn entry(&mut self, entry: &mut Entry<'a>) -> bool {
        let mut depth = 0u32;
        let mut first = self.text.get(self.at).is_some_and(|&octet| token::classify(octet) != Octet::Blank);
        while let Some(&octet) = self.text.get(self.at) {
            match token::classify(octet) {
                Octet::Blank => self.at += 1,
                Octet::LineEnd => {
                    self.at += 1;
                    self.line += 1;
                    if depth == 0 {
                        return true;
                    }
                    self.is_loose |= self.text.get(self.at).is_some_and(|&octet| token::classify(octet) != Octet::Blank);
                }
                Octet::Special => {
                    self.at += 1;
                    match octet {
                        b';' => self.skip_line(),
                        b'(' => depth += 1,
                        _ if depth > 0 => depth -= 1,
                        _ => entry.fail(MasterFault::UnopenedParenthesis),
                    }
                }
                Octet::Word => match token::scan(self.text, self.at, entry.rtype.is_some_and(has_pairs)) {
                    Ok((word, next)) => {
                        self.at = next;
                        entry.take(word, first);
                        first = false;
                    }
                    Err(error) => {
                        entry.fail(error.into());
                        self.skip_line();
                    }
                },
            }
        }
        if depth > 0 {
            entry.fail(MasterFault::UnclosedParenthesis);
        }
        false
    }

    /// Up to the line feed, which stays.
    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
    }
}
