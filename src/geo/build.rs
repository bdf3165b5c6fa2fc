//! CSV ranges become a [`Table`], which [`super::writer`] writes as a database: the engine of `meridian geo build`.
//!
//! Each input is a layer: later inputs are laid over earlier ones field by field, exactly as several databases are. Within one input a later line
//! replaces an earlier one where they overlap, and every such line is reported.

use std::collections::BinaryHeap;
use std::fmt;
use std::net::IpAddr;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::columns::{Columns, Row};
use super::space;
use super::table::{Facts, Interner, Ranges, Table};

/// Most problems kept with their text; the rest is counted.
pub const MAX_REPORTED: usize = 100;
/// Most lines with data in one build: several times the largest range list on the market.
pub const MAX_ROWS: usize = 1 << 25;
/// How many lines pass between two reports of progress.
const PROGRESS_STEP: usize = 1 << 14;

/// One text to build from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// For messages: the file as the user named it.
    pub name: &'a str,
    /// Its whole content.
    pub bytes: &'a [u8],
}

/// Something to say about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// As in [`Input::name`].
    pub input: String,
    /// One-based; 0 when it concerns the input as a whole.
    pub line: u64,
    /// What was found, what was expected.
    pub text: String,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.input, self.text),
            line => write!(f, "{}:{line}: {}", self.input, self.text),
        }
    }
}

/// Problems, the first [`MAX_REPORTED`] of them with their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of inputs and lines.
    pub listed: Vec<LineProblem>,
    /// All of them.
    pub total: usize,
}

impl Report {
    fn add(&mut self, input: &str, line: u64, text: impl Into<String>) {
        self.total += 1;
        if self.listed.len() < MAX_REPORTED {
            self.listed.push(LineProblem { input: input.to_owned(), line, text: text.into() });
        }
    }

    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.listed.iter().enumerate() {
            write!(f, "{}{problem}", if number > 0 { "\n" } else { "" })?;
        }
        match self.total - self.listed.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Built {
    /// What all inputs say together.
    pub table: Table,
    /// Lines with data.
    pub rows: usize,
    /// Lines that replace part of an earlier one, and country codes that do not exist.
    pub warnings: Report,
}

/// Reads all inputs. `progress` is told how many octets of all inputs together are done. The error lists every bad line; nothing is built then.
pub fn build(inputs: &[Input<'_>], progress: &mut dyn FnMut(u64)) -> Result<Built, Report> {
    let (mut errors, mut warnings) = (Report::default(), Report::default());
    let (mut table, mut rows, mut done) = (Table::empty(), 0, 0);
    for input in inputs {
        let mut layer = Layer { input, interner: Interner::new(), v4: Vec::new(), v6: Vec::new() };
        layer.read(&mut errors, &mut warnings, &mut |octets| progress(done + octets));
        rows += layer.v4.len() + layer.v6.len();
        done += input.bytes.len() as u64;
        progress(done);
        if rows > MAX_ROWS {
            errors.add(input.name, 0, format!("found more than {MAX_ROWS} lines with data, expected fewer"));
            break;
        }
        if errors.is_empty() {
            let layer = layer.into_table(&mut warnings);
            table = table.overlaid(layer);
        }
    }
    if errors.is_empty() { Ok(Built { table: table.finished(), rows, warnings }) } else { Err(errors) }
}

/// A range of one family as it stands on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u128,
    last: u128,
    line: u64,
    facts: u32,
}

struct Layer<'a> {
    input: &'a Input<'a>,
    interner: Interner,
    v4: Vec<Span>,
    v6: Vec<Span>,
}

impl Layer<'_> {
    fn read(&mut self, errors: &mut Report, warnings: &mut Report, progress: &mut dyn FnMut(u64)) {
        // A byte order mark is how some spreadsheets begin a file.
        let bytes = self.input.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.input.bytes);
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).comment(Some(b'#')).trim(Trim::All).from_reader(bytes);
        let (mut record, mut columns, mut count) = (StringRecord::new(), None, 0);
        loop {
            match reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    errors.add(self.input.name, line, csv_error(&error));
                    continue;
                }
            }
            let line = record.position().map_or(0, |position| line_of(bytes, position));
            count += 1;
            if count % PROGRESS_STEP == 0 {
                progress(reader.position().byte());
            }
            if count > MAX_ROWS {
                break;
            }
            let columns: &Columns = match &columns {
                Some(columns) => columns,
                None => match Columns::recognise(&record) {
                    Ok((found, is_header)) => {
                        let found = columns.insert(found);
                        if is_header {
                            continue;
                        }
                        found
                    }
                    Err(text) => return errors.add(self.input.name, line, text),
                },
            };
            match columns.row(&record) {
                Ok(row) => self.add(line, row, warnings),
                Err(text) => errors.add(self.input.name, line, text),
            }
        }
        if columns.is_none() {
            errors.add(self.input.name, 0, "found no line with data, expected at least one");
        }
    }

    fn add(&mut self, line: u64, row: Row, warnings: &mut Report) {
        if let Some(code) = row.unknown_country {
            warnings.add(self.input.name, line, format!("found country {code:?}, expected an ISO 3166-1 code; taken as unknown"));
        }
        let span = Span { first: space::bits(row.first), last: space::bits(row.last), line, facts: self.interner.intern(row.facts) };
        match row.first {
            IpAddr::V4(_) => self.v4.push(span),
            IpAddr::V6(_) => self.v6.push(span),
        }
    }

    fn into_table(self, warnings: &mut Report) -> Table {
        let (mut v4, mut v6) = (Ranges::empty(), Ranges::empty());
        let mut replaced: Vec<(u64, u64)> = Vec::new();
        lay_out(self.v4, u32::MAX.into(), &mut replaced, &mut |start, facts| v4.push(start as u32, facts));
        lay_out(self.v6, u128::MAX, &mut replaced, &mut |start, facts| v6.push(start, facts));
        replaced.sort_unstable();
        replaced.dedup_by_key(|(later, _)| *later);
        for (later, earlier) in replaced {
            warnings.add(self.input.name, later, format!("overlaps line {earlier}; the later line counts"));
        }
        Table::from_ranges(self.interner.facts, v4, v6)
    }
}

/// Turns spans in any order into ranges over the whole space; where they overlap, the later line counts. `replaced` gets (later, earlier) lines.
fn lay_out(mut spans: Vec<Span>, max: u128, replaced: &mut Vec<(u64, u64)>, push: &mut dyn FnMut(u128, u32)) {
    spans.sort_unstable_by_key(|span| (span.first, span.line));
    // Spans that hold the current address, or ended before it; the latest line on top.
    let mut open: BinaryHeap<(u64, u128, u32)> = BinaryHeap::new();
    let mut at = 0;
    let mut next = spans.iter().peekable();
    loop {
        while let Some(span) = next.next_if(|span| span.first == at) {
            while open.peek().is_some_and(|(_, last, _)| *last < at) {
                open.pop();
            }
            if let Some((other, ..)) = open.peek() {
                replaced.push((span.line.max(*other), span.line.min(*other)));
            }
            open.push((span.line, span.last, span.facts));
        }
        while open.peek().is_some_and(|(_, last, _)| *last < at) {
            open.pop();
        }
        let (end, facts) = open.peek().map_or((max, 0), |(_, last, facts)| (*last, *facts));
        push(at, facts);
        // On to where the range on top ends or another begins, whichever comes first.
        let begins = next.peek().map(|span| span.first);
        match begins.filter(|begins| *begins <= end).or_else(|| end.checked_add(1)) {
            Some(border) if border <= max => at = border,
            _ => return,
        }
    }
}

/// The line of a record. The reader's own position is from before the comments and empty lines in front of it.
fn line_of(bytes: &[u8], position: &csv::Position) -> u64 {
    let (mut rest, mut line) = (bytes.get(position.byte() as usize..).unwrap_or_default(), position.line());
    while let [b'#' | b'\r' | b'\n', ..] = rest {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        rest = &rest[end..];
        line += 1;
    }
    line
}

fn csv_error(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "found octets that are not UTF-8".to_owned(),
        _ => format!("cannot be read as CSV: {error}"),
    }
}

/// The type of database that fits what a table knows.
pub fn database_type(table: &Table) -> &'static str {
    let any = |known: fn(&Facts) -> bool| table.facts().iter().any(known);
    if any(|facts| facts.location.is_some() || facts.subdivision.is_some()) {
        "Meridian-City"
    } else if any(|facts| facts.country.is_some() || facts.continent.is_some()) {
        "Meridian-Country"
    } else {
        "Meridian-ASN"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Built, Report> {
        let names: Vec<String> = (1..=texts.len()).map(|number| format!("{number}.csv")).collect();
        let inputs: Vec<Input<'_>> = names.iter().zip(texts).map(|(name, text)| Input { name, bytes: text.as_bytes() }).collect();
        build(&inputs, &mut |_| {})
    }

    /// Facts in short: `continent country-subdivision asn @lat,lon`.
    fn short(facts: &Facts) -> String {
        let code = |code: Option<[u8; 2]>| code.map_or("-".to_owned(), |code| String::from_utf8_lossy(&code).into_owned());
        let mut text = format!("{} {}", code(facts.continent), code(facts.country));
        facts.subdivision.iter().for_each(|subdivision| text += &format!("-{subdivision}"));
        facts.asn.iter().for_each(|asn| text += &format!(" AS{asn}"));
        facts.location.iter().for_each(|location| text += &format!(" @{},{}", location.lat, location.lon));
        text
    }

    fn check(texts: &[&str], expected: &[(&str, &str)]) {
        let built = read(texts).unwrap_or_else(|report| panic!("{texts:?}: {report}"));
        for (addr, facts) in expected {
            assert_eq!(short(built.table.facts_at(addr.parse().expect("an address"))), *facts, "{addr} in {texts:?}");
        }
    }

    #[test]
    fn ranges_that_begin_with_the_first_address_are_written() {
        use crate::geo::writer::{About, write};
        for text in ["0.0.0.0/8,US\n", "0.0.0.0/0,US\n1.0.0.0/8,DE\n", "0.0.0.0/32,US\n", "::/1,US\n", "0.0.0.0/1,US\n128.0.0.0/1,US\n"] {
            let built = read(&[&format!("network,country\n{text}")]).unwrap_or_else(|report| panic!("{text}: {report}"));
            let octets =
                write(&built.table, &About { database_type: "Test-Country".into(), description: String::new(), build_unix_s: 0 }).expect("it fits");
            let back = Table::read([("back", octets.as_slice())]).expect("it reads");
            let first: IpAddr = if text.starts_with(':') { "2400::" } else { "0.0.0.0" }.parse().expect("an address");
            assert_eq!(short(built.table.facts_at(first)), "NA US", "{text}");
            assert_eq!(back.facts_at(first), built.table.facts_at(first), "{text}");
        }
    }

    #[test]
    fn layouts_of_several_publishers_are_understood() {
        check(&["# tor\n16777216,16777471,AU\n16777472,16778239,??\n"], &[("1.0.0.255", "OC AU"), ("1.0.1.0", "- -"), ("0.255.255.255", "- -")]);
        check(&["2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,DE\n"], &[("2001:db8:0:ffff::1", "EU DE"), ("2001:db8:1::", "- -")]);
        check(&["\"1.0.0.0\",\"1.0.0.255\",\"US\",\"United States\"\n"], &[("1.0.0.1", "NA US")]);
        check(&["1.0.0.0,1.0.0.255,13335,\"CLOUD, INC\"\n"], &[("1.0.0.1", "- - AS13335")]);
        check(&["1.0.0.0,1.0.0.255,OC,AU,Queensland,South Brisbane,-27.4767,153.017\n"], &[("1.0.0.1", "OC AU @-27.4767,153.017")]);
        check(&["192.0.2.0/24,de\n2001:db8::/32,FR\n"], &[("192.0.2.9", "EU DE"), ("2001:db8::1", "EU FR"), ("::ffff:192.0.2.1", "EU DE")]);
        check(
            &["network,country_code,subdivision,latitude,longitude,asn\n192.0.2.0/24,US,CA,37.5,-122,AS64500\n198.51.100.0/24,US,US-NY,,,\n"],
            &[("192.0.2.1", "NA US-CA AS64500 @37.5,-122"), ("198.51.100.1", "NA US-NY")],
        );
        check(&["\u{feff}Start_IP , End_IP,Continent\n192.0.2.0,192.0.2.255,EU\r\n"], &[("192.0.2.1", "EU -")]);
        check(&["network,name,asn\n192.0.2.0/24,whatever,7\n"], &[("192.0.2.1", "- - AS7")]);
        check(
            &["first,last,cc\n0.0.0.0,255.255.255.255,JP\n::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,JP\n"],
            &[("255.255.255.255", "AS JP"), ("ffff::", "AS JP")],
        );
    }

    #[test]
    fn inputs_are_layers_and_continents_are_filled_in() {
        check(
            &["network,country\n192.0.2.0/24,TR\n", "network,asn\n192.0.2.0/25,64500\n", "network,continent\n192.0.2.0/26,EU\n"],
            &[("192.0.2.1", "EU TR AS64500"), ("192.0.2.65", "AS TR AS64500"), ("192.0.2.200", "AS TR")],
        );
        check(
            &["192.0.2.0/24,UK\n198.51.100.0/24,EU\n203.0.113.0/24,AP\n"],
            &[("192.0.2.1", "EU GB"), ("198.51.100.1", "EU -"), ("203.0.113.1", "AS -")],
        );
    }

    #[test]
    fn later_lines_count_where_they_overlap_and_are_reported() {
        let text = "192.0.2.0/24,DE\n192.0.2.64/26,FR\n192.0.2.96,192.0.2.159,GB\n";
        assert!(read(&[text]).is_err(), "one file has one layout");
        let text =
            "192.0.2.0,192.0.2.255,DE\n192.0.2.64,192.0.2.127,FR\n192.0.2.96,192.0.2.159,GB\n192.0.1.0,192.0.2.0,JP\n198.51.100.0,198.51.100.1,US\n";
        check(
            &[text],
            &[
                ("192.0.1.255", "AS JP"),
                ("192.0.2.0", "AS JP"),
                ("192.0.2.1", "EU DE"),
                ("192.0.2.64", "EU FR"),
                ("192.0.2.96", "EU GB"),
                ("192.0.2.159", "EU GB"),
                ("192.0.2.160", "EU DE"),
                ("192.0.3.0", "- -"),
            ],
        );
        let warnings = read(&[text]).expect("a table").warnings;
        let lines: Vec<u64> = warnings.listed.iter().map(|warning| warning.line).collect();
        assert_eq!(lines, [2, 3, 4], "{warnings}");
        // An earlier line inside a later one disappears.
        check(&["192.0.2.64,192.0.2.127,FR\n192.0.2.0,192.0.2.255,DE\n"], &[("192.0.2.100", "EU DE")]);
    }

    #[test]
    fn every_bad_line_is_reported_with_its_number() {
        let bad = "network,country,subdivision,latitude,longitude,asn,continent\n\
            192.0.2.0/24,DE,,,,,\n\
            192.0.2.1/24,DE,,,,,\n\
            192.0.2.0/33,DE,,,,,\n\
            # a comment\n\
            ,DE,,,,,\n\
            198.51.100.0/24,DEU,,,,,\n\
            198.51.100.0/24,,CA,,,,\n\
            198.51.100.0/24,US,CALIFORNIA,,,,\n\
            198.51.100.0/24,US,,91,0,,\n\
            198.51.100.0/24,US,,5,,,\n\
            198.51.100.0/24,US,,x,5,,\n\
            198.51.100.0/24,US,,NaN,5,,\n\
            198.51.100.0/24,US,,,,4294967296,\n\
            198.51.100.0/24,US,,,,-1,\n\
            198.51.100.0/24,US,,,,,XX\n";
        let report = read(&[bad]).expect_err("errors");
        let lines: Vec<u64> = report.listed.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "{report}");
        assert!(report.to_string().starts_with("1.csv:3: network: found \"192.0.2.1/24\""), "{report}");
    }

    #[test]
    fn line_numbers_count_comments_and_empty_lines() {
        for text in
            ["# a\n\n# b\n192.0.2.1/24,DE\n", "# a\r\n\r\n# b\r\n192.0.2.1/24,DE\r\n", "192.0.2.0/24,DE\r\n192.0.3.0/24,DE\r\n# c\r\n192.0.2.1/24,DE"]
        {
            let report = read(&[text]).expect_err("an error");
            assert_eq!((report.total, report.listed[0].line), (1, 4), "{text:?}");
        }
    }

    #[test]
    fn bad_ranges_and_layouts_are_refused() {
        for text in [
            "",
            "# nothing\n",
            "start,end,country\n192.0.2.9,192.0.2.1,DE\n",
            "start,end,country\n192.0.2.1,2001:db8::,DE\n",
            "start,end,country\n192.0.2.1,,DE\n",
            "start,end,country\n4294967296,4294967297,DE\n",
            "start,end,country\n1,x,DE\n",
            "start,country\n192.0.2.1,DE\n",
            "network,name\n192.0.2.0/24,x\n",
            "network,country,cc\n192.0.2.0/24,DE,DE\n",
            "hello\n",
            "192.0.2.0/24\n",
            "192.0.2.0,192.0.2.255\n",
            "network,country\n192.0.2.0/24,D\u{c9}\n",
        ] {
            assert!(read(&[text]).is_err(), "{text:?}");
        }
        assert!(build(&[Input { name: "x", bytes: b"192.0.2.0/24,\xff\xff\n" }], &mut |_| {}).is_err());
    }

    #[test]
    fn reports_are_bounded_but_count_everything() {
        let text: String = std::iter::repeat_n("192.0.2.1/24,DE\n", MAX_REPORTED + 50).collect();
        let report = read(&["192.0.2.0/24,DE\n", &text]).expect_err("errors");
        assert_eq!((report.listed.len(), report.total), (MAX_REPORTED, MAX_REPORTED + 50));
        assert!(report.to_string().ends_with("and 50 more"));
    }

    #[test]
    fn codes_that_do_not_exist_are_warned_about_unless_they_say_unknown() {
        let built = read(&["192.0.2.0/24,QX\n198.51.100.0/24,??\n203.0.113.0/24,ZZ\n192.0.3.0/24,-\n192.0.4.0/24,\n"]).expect("a table");
        assert_eq!((built.rows, built.warnings.total), (5, 1), "{}", built.warnings);
        assert!(built.table.is_empty());
    }

    #[test]
    fn the_type_follows_from_the_content() {
        for (text, expected) in
            [("network,asn\n192.0.2.0/24,1\n", "ASN"), ("192.0.2.0/24,DE\n", "Country"), ("network,country,region\n192.0.2.0/24,US,CA\n", "City")]
        {
            assert_eq!(database_type(&read(&[text]).expect("a table").table), format!("Meridian-{expected}"));
        }
    }
}
