//! Questions and replies of the differential runner: a writer, a reader that keeps to the octets, and the form of `dig`.
//!
//! The reader is not the program's own and not hickory's: it keeps what they normalise (the question as it came, repeated records, sizes).

use std::fmt::Write;

use meridian::dns::{Name, RecordType};
use meridian::zone::rdata;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub tcp: bool,
    /// Payload size, when there is an OPT record.
    pub edns: Option<u16>,
    pub dnssec_ok: bool,
    pub recursion_desired: bool,
}

impl Way {
    /// Over TCP, without EDNS: nothing is cut.
    pub const TCP: Way = Way { tcp: true, edns: None, dnssec_ok: false, recursion_desired: false };

    /// The octets that a reply over UDP may have: at least 512 whatever the client says (RFC 6891 §6.2.3), at most what all four send.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(512, |size| usize::from(size.clamp(512, 1232)))
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.tcp { "+tcp" } else { "+notcp" })?;
        match self.edns {
            Some(size) => write!(f, " +bufsize={size}")?,
            None => f.write_str(" +noedns")?,
        }
        f.write_str(if self.dnssec_ok { " +dnssec" } else { "" })?;
        f.write_str(if self.recursion_desired { " +rec" } else { " +norec" })
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub rtype: RecordType,
    pub class: u16,
    pub way: Way,
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = class_text(self.class);
        write!(f, "{} {} {} {class}", self.way, self.name, self.rtype)
    }
}

fn class_text(class: u16) -> String {
    match class {
        1 => "IN".into(),
        3 => "CH".into(),
        4 => "HS".into(),
        254 => "NONE".into(),
        255 => "ANY".into(),
        other => format!("CLASS{other}"),
    }
}

impl Question {
    /// Wire form.
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend([u8::from(self.way.recursion_desired), 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.way.edns.is_some())]);
        out.extend(self.name.as_wire());
        out.extend(self.rtype.0.to_be_bytes());
        out.extend(self.class.to_be_bytes());
        if let Some(size) = self.way.edns {
            out.extend([0, 0, 41]);
            out.extend(size.to_be_bytes());
            out.extend([0, 0, u8::from(self.way.dnssec_ok) << 7, 0, 0, 0]);
        }
        out
    }
}

/// One record of a reply, names in lower case and uncompressed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rec {
    pub owner: Vec<u8>,
    pub rtype: RecordType,
    pub class: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

impl Rec {
    /// The owner as a name.
    pub fn name(&self) -> Name {
        Name::from_wire(&self.owner).expect("the reader checked it")
    }

    /// The first name in the data.
    pub fn target(&self) -> Option<Name> {
        let span = rdata::names(self.rtype, &self.rdata).next()?;
        Name::from_wire(self.rdata.get(usize::from(span.offset)..)?.get(..usize::from(span.len))?).ok()
    }
}

impl std::fmt::Display for Rec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut data = rdata::to_text(self.rtype, &self.rdata);
        if data.len() > 120 {
            data.truncate(data.char_indices().map(|(at, _)| at).take_while(|at| *at <= 110).last().unwrap_or(0));
            let _ = write!(data, "… ({} octets)", self.rdata.len());
        }
        write!(f, "{} {} {} {} {data}", self.name(), self.ttl, class_text(self.class), self.rtype)
    }
}

/// The OPT record of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opt {
    pub size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
    pub rest_of_flags: u16,
    /// Codes of the options.
    pub options: Vec<u16>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub rcode: u16,
    /// The two octets of flags, without RCODE.
    pub flags: u16,
    /// The question section as it came.
    pub question: Vec<u8>,
    pub answer: Vec<Rec>,
    pub authority: Vec<Rec>,
    /// Without OPT.
    pub additional: Vec<Rec>,
    pub opt: Option<Opt>,
    /// Octets of the message.
    pub len: usize,
}

impl Reply {
    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// Reads a message; says what is wrong with it.
    pub fn decode(octets: &[u8]) -> Result<Reply, String> {
        let mut reader = Reader { octets, at: 12 };
        let head = |at: usize| octets.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).ok_or("no header");
        let (flags, counts) = (head(2)?, [head(4)?, head(6)?, head(8)?, head(10)?]);
        for _ in 0..counts[0] {
            reader.name()?;
            reader.take(4)?;
        }
        let question = octets.get(12..reader.at).ok_or("short")?.to_vec();
        let mut sections: [Vec<Rec>; 3] = Default::default();
        let (mut opt, mut high) = (None, 0);
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                let rec = reader.record()?;
                if rec.rtype.0 != 41 {
                    section.push(rec);
                    continue;
                }
                if opt.is_some() {
                    return Err("two OPT records".into());
                }
                high = (rec.ttl >> 24) as u16;
                let flags = rec.ttl as u16;
                let (version, size) = ((rec.ttl >> 16) as u8, rec.class);
                opt = Some(Opt { size, version, dnssec_ok: flags >> 15 == 1, rest_of_flags: flags & 0x7fff, options: option_codes(&rec.rdata)? });
            }
        }
        if reader.at != octets.len() {
            return Err(format!("{} octets behind the message", octets.len() - reader.at));
        }
        let [answer, authority, additional] = sections;
        Ok(Reply { rcode: flags & 15 | high << 4, flags: flags & 0xfff0, question, answer, authority, additional, opt, len: octets.len() })
    }

    /// As `dig` shows it, shortened.
    pub fn dig(&self) -> String {
        let mut out = format!("status: {}, flags:", rcode_text(self.rcode));
        for (bit, name) in
            [(0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0040, "z"), (0x0020, "ad"), (0x0010, "cd")]
        {
            if self.flags & bit != 0 {
                out.push(' ');
                out.push_str(name);
            }
        }
        let _ = write!(out, "; {} octets", self.len);
        match &self.opt {
            Some(opt) => {
                let _ = write!(out, "; EDNS {}, udp {}{}", opt.version, opt.size, if opt.dnssec_ok { ", do" } else { "" });
                if !opt.options.is_empty() {
                    let _ = write!(out, ", options {:?}", opt.options);
                }
            }
            None => out.push_str("; no EDNS"),
        }
        for (name, section) in [("answer", &self.answer), ("authority", &self.authority), ("additional", &self.additional)] {
            for rec in section.iter().take(8) {
                let _ = write!(out, "\n    {name:10} {rec}");
            }
            if section.len() > 8 {
                let _ = write!(out, "\n    {name:10} … {} records", section.len());
            }
        }
        out
    }
}

/// The name of a response code.
pub fn rcode_text(rcode: u16) -> String {
    match rcode {
        0..=10 => ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"]
            [usize::from(rcode)]
        .into(),
        16 => "BADVERS".into(),
        other => format!("RCODE{other}"),
    }
}

fn option_codes(mut rdata: &[u8]) -> Result<Vec<u16>, String> {
    let mut codes = Vec::new();
    while let [code_high, code_low, len_high, len_low, rest @ ..] = rdata {
        codes.push(u16::from_be_bytes([*code_high, *code_low]));
        rdata = rest.get(usize::from(u16::from_be_bytes([*len_high, *len_low]))..).ok_or("an option overruns OPT")?;
    }
    if rdata.is_empty() { Ok(codes) } else { Err("octets behind the options".into()) }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let octets = self.octets.get(self.at..self.at + len).ok_or_else(|| format!("ends within {len} octets at {}", self.at))?;
        self.at += len;
        Ok(octets)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.take(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// A name in lower case, uncompressed.
    fn name(&mut self) -> Result<Vec<u8>, String> {
        let (mut name, mut at, mut end) = (Vec::new(), self.at, None);
        loop {
            let len = usize::from(*self.octets.get(at).ok_or("a name overruns the message")?);
            match len {
                0 => break,
                1..=63 => {
                    name.extend(self.octets.get(at..=at + len).ok_or("a label overruns the message")?);
                    at += 1 + len;
                }
                0xc0.. => {
                    let low = *self.octets.get(at + 1).ok_or("a pointer overruns the message")?;
                    end.get_or_insert(at + 2);
                    let to = (len & 0x3f) << 8 | usize::from(low);
                    if to >= at {
                        return Err(format!("a pointer at {at} leads forward to {to}"));
                    }
                    at = to;
                }
                _ => return Err(format!("label type {len:#x} at {at}")),
            }
            if name.len() > 254 {
                return Err("a name of more than 255 octets".into());
            }
        }
        name.push(0);
        self.at = end.unwrap_or(at + 1);
        name.make_ascii_lowercase();
        Ok(name)
    }

    fn record(&mut self) -> Result<Rec, String> {
        let owner = self.name()?;
        let (rtype, class) = (RecordType(self.u16()?), self.u16()?);
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let rdata = self.rdata(rtype, end)?;
        if self.at != end {
            return Err(format!("{rtype} data of {len} octets, read to {} of {end}", self.at));
        }
        Ok(Rec { owner, rtype, class, ttl, rdata })
    }

    /// Record data with names in lower case. Names stand behind so many octets in the types whose names a message may compress (RFC 3597 §4);
    /// in the others only case is touched.
    fn rdata(&mut self, rtype: RecordType, end: usize) -> Result<Vec<u8>, String> {
        let (before, names) = match rtype.0 {
            2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => (0, 1),
            6 | 14 | 17 => (0, 2),
            15 | 18 | 21 | 36 => (2, 1),
            33 => (6, 1),
            _ => (0, 0),
        };
        let mut rdata = self.take(before)?.to_vec();
        for _ in 0..names {
            rdata.extend(self.name()?);
        }
        let rest = end.checked_sub(self.at).ok_or("names overrun their record")?;
        rdata.extend(self.take(rest)?);
        for span in rdata::names(rtype, &rdata.clone()) {
            let from = usize::from(span.offset);
            rdata[from..from + usize::from(span.len)].make_ascii_lowercase();
        }
        Ok(rdata)
    }
}
