//! What can be wrong with a master file.

use std::fmt;
use std::path::PathBuf;

use crate::dns::{Name, NameError, RecordType};
use crate::zone::rdata::RdataError;

/// One problem of a master file. Parsing goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterError {
    /// The file, as the includer's resolver named it.
    pub file: PathBuf,
    /// One-based; the line where the entry starts.
    pub line: u32,
    /// What is wrong.
    pub kind: MasterFault,
}

impl fmt::Display for MasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.kind)
    }
}

impl std::error::Error for MasterError {}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterFault {
    /// The record data does not fit its type.
    Rdata {
        /// The type.
        rtype: RecordType,
        /// Why.
        error: RdataError,
    },
    /// A name that cannot be one: an owner, or the argument of `$ORIGIN` or `$INCLUDE`.
    Name {
        /// As written, shortened.
        found: String,
        /// Why.
        error: NameError,
    },
    /// A record whose owner is not in the zone.
    OutOfZone {
        /// The owner.
        owner: Name,
        /// The zone.
        apex: Name,
    },
    /// The line starts with a blank and no record stands above it in its file.
    NoOwner,
    /// An owner with nothing behind it, or with only a TTL and a class.
    NoType,
    /// Where the type should stand there is something else.
    UnknownType {
        /// As written, shortened.
        found: String,
    },
    /// A class other than IN.
    Class {
        /// As written.
        found: String,
    },
    /// A class, and again.
    ClassTwice,
    /// A TTL that is not one, or above 2147483647 s.
    Ttl {
        /// As written, shortened.
        found: String,
    },
    /// No TTL on the record, no `$TTL`, no record with a TTL or SOA above it, and no default.
    NoTtl,
    /// Double quotes that do not close on their line.
    UnclosedQuote,
    /// A backslash at the end of its line.
    LoneBackslash,
    /// A parenthesis that does not close.
    UnclosedParenthesis,
    /// A parenthesis that closes nothing.
    UnopenedParenthesis,
    /// More words in one record than any record can have.
    TooManyWords,
    /// A `$` word that is none of the directives.
    UnknownDirective {
        /// As written, shortened.
        found: String,
    },
    /// A directive without what it needs, or with more.
    DirectiveForm {
        /// How it is written.
        form: &'static str,
    },
    /// A file that cannot be included.
    Include {
        /// As written.
        found: String,
        /// The resolver's reason.
        reason: String,
    },
    /// The file could not be read to its end.
    Unreadable {
        /// The system's reason.
        reason: String,
    },
    /// A file that includes itself, directly or not.
    IncludeCycle {
        /// The file.
        found: PathBuf,
    },
    /// Files included in files, too deep.
    IncludeDepth,
    /// Too many `$INCLUDE` in one zone.
    TooManyIncludes,
    /// A `$GENERATE` with a range that is none, or too large.
    GenerateRange {
        /// As written.
        found: String,
    },
    /// A `$GENERATE` with a malformed `${…}`.
    GenerateTemplate {
        /// As written, shortened.
        found: String,
    },
    /// A `${offset}` that takes the counter below zero or above 2^32 - 1.
    GenerateValue {
        /// As written, shortened.
        found: String,
    },
    /// A record of a `$GENERATE` that is wrong; the first of its range is named.
    Generated {
        /// The value of the counter.
        at: u32,
        /// What is wrong with it.
        fault: Box<MasterFault>,
    },
    /// The limit of listed problems is reached; the rest of the zone was not read.
    More,
}

impl From<crate::zone::token::TokenError> for MasterFault {
    fn from(error: crate::zone::token::TokenError) -> MasterFault {
        match error {
            crate::zone::token::TokenError::Unclosed => MasterFault::UnclosedQuote,
            crate::zone::token::TokenError::LoneBackslash => MasterFault::LoneBackslash,
        }
    }
}

impl fmt::Display for MasterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MasterFault::Rdata { rtype, error } => write!(f, "{rtype}: {error}"),
            MasterFault::Name { found, error } => write!(f, "found {found:?}, expected a domain name: {error}"),
            MasterFault::OutOfZone { owner, apex } => write!(f, "found owner {owner}, expected {apex} or a name below it"),
            MasterFault::NoOwner => f.write_str("found a blank at the start of the line, expected an owner: no record stands above it"),
            MasterFault::NoType => f.write_str("found no record type behind the owner"),
            MasterFault::UnknownType { found } => write!(f, "found {found:?}, expected a TTL, a class or a record type"),
            MasterFault::Class { found } => write!(f, "found class {found}, expected IN"),
            MasterFault::ClassTwice => f.write_str("found a class twice, expected it once at most"),
            MasterFault::Ttl { found } => write!(f, "found TTL {found:?}, expected 0 to 2147483647 seconds, or a time such as 1h30m"),
            MasterFault::NoTtl => f.write_str("found no TTL, expected one on the record, or $TTL or a SOA above it"),
            MasterFault::UnclosedQuote => f.write_str("found no closing double quote on the line"),
            MasterFault::LoneBackslash => f.write_str("found a backslash at the end of the line, expected a character behind it"),
            MasterFault::UnclosedParenthesis => f.write_str("found no closing parenthesis before the end of the file"),
            MasterFault::UnopenedParenthesis => f.write_str("found a closing parenthesis without an opening one"),
            MasterFault::TooManyWords => write!(f, "found more than {} words in one record", super::MAX_WORDS),
            MasterFault::UnknownDirective { found } => write!(f, "found {found:?}, expected $ORIGIN, $TTL, $INCLUDE or $GENERATE"),
            MasterFault::DirectiveForm { form } => write!(f, "found another form, expected {form}"),
            MasterFault::Include { found, reason } => write!(f, "cannot include {found:?}: {reason}"),
            MasterFault::Unreadable { reason } => write!(f, "cannot be read to its end: {reason}"),
            MasterFault::IncludeCycle { found } => {
                write!(f, "found {}, which is being read already, expected a file that does not include itself", found.display())
            }
            MasterFault::IncludeDepth => write!(f, "found files included more than {} deep", super::MAX_INCLUDE_DEPTH),
            MasterFault::TooManyIncludes => write!(f, "found more than {} included files", super::MAX_INCLUDES),
            MasterFault::GenerateRange { found } => {
                write!(f, "found range {found:?}, expected start-stop or start-stop/step with at most {} values", super::generate::MAX_GENERATED)
            }
            MasterFault::GenerateTemplate { found } => {
                write!(f, "found {found:?}, expected $, $$ or ${{offset,width,base}} with base d, o, x, X, n or N")
            }
            MasterFault::GenerateValue { found } => write!(f, "found {found:?}, whose offset leads out of 0 to 4294967295"),
            MasterFault::Generated { at, fault } => write!(f, "$GENERATE: at {at}: {fault}"),
            MasterFault::More => f.write_str("found too many problems; the rest of the zone was not read"),
        }
    }
}
