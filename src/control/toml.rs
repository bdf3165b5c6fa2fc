//! Writing an overlay into the text of a zone file: what it sets becomes what the file says, and nothing else is touched: comments, order and
//! layout stay.

use std::net::IpAddr;

use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

use crate::dns::{Name, RecordType};
use crate::zone::Ttl;

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Of an endpoint of `[pool.NAME]`.
    EndpointWeight { pool: String, address: IpAddr, weight: u16 },
    /// Of a child in `to` of `[policy.NAME]`, or of `[steer.NAME]`.
    ChildWeight { policy: String, in_steer: bool, child: String, weight: u16 },
    /// Of `[steer.NAME]`.
    SteerTtl { steer: String, max: Ttl, min: Ttl },
    /// Of record sets of one owner.
    RecordTtl { zone: Name, owner: Name, ttls: Vec<(RecordType, Ttl)> },
}

/// The least TTL of a steered name whose `ttl` is a number.
const DEFAULT_MIN_TTL: Ttl = 10;

/// The text with the edit made. `None` when the text does not have what is edited; an error when it has it in a form that cannot be edited.
pub(super) fn edit(text: &str, edit: &Edit) -> Result<Option<String>, String> {
    // A mark of the encoding is none of TOML's; it stays where it is.
    let (mark, text) = text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 });
    let mut doc: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.message().to_string())?;
    let top = doc.as_table_mut();
    let done = match edit {
        Edit::EndpointWeight { pool, address, weight } => match item(top, &["pool", pool]).and_then(|pool| pool.get_mut("endpoints")) {
            Some(endpoints) => set_endpoint(endpoints, *address, *weight),
            None => return Ok(None),
        },
        Edit::ChildWeight { policy, in_steer, child, weight } => {
            let Some(policy) = item(top, &[if *in_steer { "steer" } else { "policy" }, policy]) else { return Ok(None) };
            match policy.get_mut("to") {
                Some(to) if to.is_array() => return Err("its children stand in a list (`to = [...]`), which has no weights".into()),
                Some(to) => match to.as_table_like_mut().and_then(|to| to.get_mut(child)) {
                    Some(value) => replace(value, Value::from(i64::from(*weight))),
                    None => return Err(format!("{child} is not among its children there")),
                },
                None => return Err("its children are not in the item itself, but in defaults".into()),
            }
        }
        Edit::SteerTtl { steer, max, min } => {
            let Some(steer) = item(top, &["steer", steer]) else { return Ok(None) };
            set_ttl(steer, *max, *min);
            true
        }
        Edit::RecordTtl { zone, owner, ttls } => {
            let Some(records) = item(top, &["records"]) else { return Ok(None) };
            let mut left = ttls.clone();
            for (_, types) in records.iter_mut().filter(|(key, _)| Name::parse(key.get(), zone).is_ok_and(|name| name.to_lowercase() == *owner)) {
                let Some(types) = types.as_table_like_mut() else { continue };
                for (key, value) in types.iter_mut() {
                    let Some(at) = left.iter().position(|(rtype, _)| key.get().parse() == Ok(*rtype)) else { continue };
                    set_record(value, left.remove(at).1);
                }
            }
            if left.len() == ttls.len() {
                return Ok(None);
            }
            left.is_empty()
        }
    };
    if done { Ok(Some(mark.to_owned() + &with_line_ends_of(text, doc.to_string()))) } else { Err("a part of it is not in this file".into()) }
}

/// The edited text with the line ends that its lines had: editing leaves LF alone.
fn with_line_ends_of(text: &str, edited: String) -> String {
    if !text.contains("\r\n") {
        return edited;
    }
    fn bare(line: &str) -> &str {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (text.split_inclusive('\n').collect(), edited.split_inclusive('\n').collect());
    // A last line without an end is another one as soon as something follows it.
    let same = |(one, other): &(&&str, &&str)| bare(one) == bare(other) && one.ends_with('\n') == other.ends_with('\n');
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
    let usual = if old.iter().filter(|line| line.ends_with("\r\n")).count() * 2 >= old.len() { "\r\n" } else { "\n" };
    let mut kept = String::with_capacity(edited.len() + new.len());
    old[..head].iter().for_each(|line| kept.push_str(line));
    for (at, line) in new.iter().enumerate().take(new.len() - tail).skip(head) {
        kept.push_str(bare(line));
        // Where no line came or went, each stands where it stood.
        let was = old.get(at).filter(|_| old.len() == new.len()).map(|was| &was[bare(was).len()..]);
        kept.push_str(if line.ends_with('\n') { was.unwrap_or(usual) } else { "" });
    }
    old[old.len() - tail..].iter().for_each(|line| kept.push_str(line));
    kept
}

fn item<'t>(top: &'t mut dyn TableLike, path: &[&str]) -> Option<&'t mut dyn TableLike> {
    let (first, rest) = path.split_first()?;
    let table = top.get_mut(first)?.as_table_like_mut()?;
    if rest.is_empty() { Some(table) } else { item(table, rest) }
}

/// `N`, or `{ max = N, min = M }` where the number alone would mean another minimum.
fn ttl_value(max: Ttl, min: Ttl) -> Value {
    if min == DEFAULT_MIN_TTL.min(max) {
        return Value::from(i64::from(max));
    }
    let mut table = InlineTable::new();
    table.insert("max", i64::from(max).into());
    table.insert("min", i64::from(min).into());
    Value::InlineTable(table)
}

/// Sets the TTL of a steered name: a table stays one, whichever way it is written, and only what differs in it changes.
fn set_ttl(steer: &mut dyn TableLike, max: Ttl, min: Ttl) {
    let Some(table) = steer.get_mut("ttl").and_then(Item::as_table_like_mut) else {
        return set(steer, "ttl", ttl_value(max, min));
    };
    for (key, ttl, usual) in [("max", max, None), ("min", min, Some(DEFAULT_MIN_TTL.min(max)))] {
        let found = table.get(key).map(Item::as_integer);
        if found != Some(Some(i64::from(ttl))) && !(found.is_none() && usual == Some(ttl)) {
            set(table, key, i64::from(ttl).into());
        }
    }
}

/// Puts another value in the place of one, with the blanks and comments around it.
fn replace(item: &mut Item, mut value: Value) -> bool {
    if let Some(was) = item.as_value() {
        *value.decor_mut() = was.decor().clone();
    }
    *item = Item::Value(value);
    true
}

/// Sets a key; a new one goes behind the others.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(there) = table.get_mut(key) {
        replace(there, value);
        return;
    }
    // In `{ … }` what stands before the closing bracket belongs to the last value.
    if let Some((_, last)) = table.iter_mut().last()
        && let Some(last) = last.as_value_mut()
    {
        let blank = last.decor().suffix().and_then(|suffix| suffix.as_str()).filter(|suffix| suffix.trim().is_empty() && !suffix.is_empty());
        if let Some(blank) = blank.map(str::to_owned) {
            last.decor_mut().set_suffix("");
            value.decor_mut().set_prefix(" ");
            value.decor_mut().set_suffix(blank);
        }
    }
    table.insert(key, Item::Value(value));
}

fn set_endpoint(endpoints: &mut Item, address: IpAddr, weight: u16) -> bool {
    let is_it = |text: Option<&str>| text.is_some_and(|text| text.parse() == Ok(address));
    let weight = i64::from(weight);
    if let Some(tables) = endpoints.as_array_of_tables_mut() {
        let found = tables.iter_mut().find(|table| is_it(table.get("address").and_then(Item::as_str)));
        return found.map(|table| set(table, "weight", weight.into())).is_some();
    }
    if is_it(endpoints.as_str()) {
        let mut list = toml_edit::Array::new();
        list.push(with_weight(Value::from(address.to_string()), weight));
        return replace(endpoints, Value::Array(list));
    }
    let Some(list) = endpoints.as_array_mut() else { return false };
    for one in list.iter_mut() {
        if is_it(one.as_str()) {
            let decor = one.decor().clone();
            let mut bare = one.clone();
            bare.decor_mut().clear();
            let mut new = with_weight(bare, weight);
            *new.decor_mut() = decor;
            *one = new;
            return true;
        }
        if let Value::InlineTable(table) = one
            && is_it(table.get("address").and_then(Value::as_str))
        {
            set(table, "weight", weight.into());
            return true;
        }
    }
    false
}

fn with_weight(address: Value, weight: i64) -> Value {
    let mut table = InlineTable::new();
    table.insert("address", address);
    table.insert("weight", weight.into());
    Value::InlineTable(table)
}

fn set_record(value: &mut Item, ttl: Ttl) {
    if let Some(table) = value.as_table_like_mut() {
        return set(table, "ttl", i64::from(ttl).into());
    }
    let Some(data) = value.as_value() else { return };
    let mut bare = data.clone();
    bare.decor_mut().clear();
    let mut table = InlineTable::new();
    table.insert("ttl", i64::from(ttl).into());
    table.insert("data", bare);
    replace(value, Value::InlineTable(table));
}

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// The difference of two texts as one hunk of a unified diff; empty when there is none.
pub(super) fn unified(file: &str, before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let front = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    if front == old.len() && front == new.len() {
        return String::new();
    }
    let most = old.len().min(new.len()) - front;
    let back = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let first = front.saturating_sub(CONTEXT);
    let (old_end, new_end) = (old.len() - back, new.len() - back);
    let tail = back.min(CONTEXT);
    let mut text = format!("--- a/{file}\n+++ b/{file}\n@@ -{},{} +{},{} @@\n", first + 1, old_end + tail - first, first + 1, new_end + tail - first);
    let mut lines = |sign: char, lines: &[&str]| lines.iter().for_each(|line| text.push_str(&format!("{sign}{line}\n")));
    lines(' ', &old[first..front]);
    lines('-', &old[front..old_end]);
    lines('+', &new[front..new_end]);
    lines(' ', &old[old_end..old_end + tail]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# The zone.
[zone]
name = "example.com"

[records]
www.A   = ["192.0.2.1", "192.0.2.2"]   # two
"a.b".A = { data = "192.0.2.3" }  # one
mail.MX = { ttl = 60, data = "10 mail" }

# Frankfurt.
[pool.fra]
endpoints = [
  "192.0.2.10",                              # old
  { address = "192.0.2.11", weight = 2 },    # new
  { address = "192.0.2.12" },
]

[pool]
one = { endpoints = "192.0.2.20" }

[[pool.many.endpoints]]
address = "192.0.2.30"
weight  = 3  # three

[policy.split]
to = { fra = 95, one = 5 }  # shares

[steer.www]
use = "split"
ttl = 30 # short

[steer.app]
policy = "weighted"

[steer.app.to]
fra = 1
one = 9
"#;

    fn check(what: &Edit, before: &str, after: &str) {
        let wanted = TEXT.replace(before, after);
        assert_ne!(wanted, TEXT);
        assert_eq!(edit(TEXT, what).expect("it can be edited").as_deref(), Some(&*wanted), "{what:?}");
    }

    fn endpoint(pool: &str, address: &str, weight: u16) -> Edit {
        Edit::EndpointWeight { pool: pool.into(), address: address.parse().expect("an address"), weight }
    }

    #[test]
    fn nothing_but_the_value_changes() {
        check(&endpoint("fra", "192.0.2.10", 7), "  \"192.0.2.10\", ", "  { address = \"192.0.2.10\", weight = 7 }, ");
        check(&endpoint("fra", "192.0.2.11", 7), "weight = 2 }", "weight = 7 }");
        check(&endpoint("fra", "192.0.2.12", 7), "\"192.0.2.12\" }", "\"192.0.2.12\", weight = 7 }");
        check(&endpoint("one", "192.0.2.20", 7), "\"192.0.2.20\"", "[{ address = \"192.0.2.20\", weight = 7 }]");
        check(&endpoint("many", "192.0.2.30", 7), "weight  = 3", "weight  = 7");
        let child = |policy: &str, in_steer| Edit::ChildWeight { policy: policy.into(), in_steer, child: "one".into(), weight: 50 };
        check(&child("split", false), "one = 5 }", "one = 50 }");
        check(&child("app", true), "one = 9", "one = 50");
        let ttl = |steer: &str, max, min| Edit::SteerTtl { steer: steer.into(), max, min };
        check(&ttl("www", 20, 10), "ttl = 30 #", "ttl = 20 #");
        check(&ttl("www", 5, 5), "ttl = 30 #", "ttl = 5 #");
        check(&ttl("www", 20, 5), "ttl = 30 #", "ttl = { max = 20, min = 5 } #");
        check(&ttl("app", 20, 10), "policy = \"weighted\"\n", "policy = \"weighted\"\nttl = 20\n");
        let zone = Name::parse_absolute("example.com").expect("a name");
        let record = |owner: &str, ttls| Edit::RecordTtl { zone: zone.clone(), owner: Name::parse(owner, &zone).expect("a name"), ttls };
        check(
            &record("www", vec![(RecordType::A, 20)]),
            "[\"192.0.2.1\", \"192.0.2.2\"]   #",
            "{ ttl = 20, data = [\"192.0.2.1\", \"192.0.2.2\"] }   #",
        );
        check(&record("a.b", vec![(RecordType::A, 20)]), "{ data = \"192.0.2.3\" }", "{ data = \"192.0.2.3\", ttl = 20 }");
        check(&record("mail", vec![(RecordType::MX, 20)]), "ttl = 60", "ttl = 20");
    }

    #[test]
    fn a_ttl_stays_the_table_that_it_is() {
        let head = "[steer.www]\nuse = \"split\"\n";
        for (was, max, min, wanted) in [
            ("ttl.max = 40 # c\nttl.min = 4\nfamily = \"both\" # f\n", 20, 4, "ttl.max = 20 # c\nttl.min = 4\nfamily = \"both\" # f\n"),
            ("ttl.min = 8 # least\n  ttl.max  =  40 # c\n", 5, 5, "ttl.min = 5 # least\n  ttl.max  =  5 # c\n"),
            (
                "# of www\n[steer.www.ttl] # t\n# most\nmax = 40 # c\nmin = 4\n",
                20,
                4,
                "# of www\n[steer.www.ttl] # t\n# most\nmax = 20 # c\nmin = 4\n",
            ),
            ("ttl = { min = 4,  max = 40 } # c\n", 20, 4, "ttl = { min = 4,  max = 20 } # c\n"),
            ("ttl = { max = 40 } # c\n", 20, 10, "ttl = { max = 20 } # c\n"),
            ("ttl = { min = 4 } # c\n", 20, 4, "ttl = { min = 4, max = 20 } # c\n"),
            ("ttl.max = 40 # c\n", 20, 4, "ttl.max = 20 # c\nttl.min = 4\n"),
        ] {
            let text = format!("{head}{was}\n# The next.\n[pool.one]\nendpoints = \"192.0.2.1\"\n");
            let edited = edit(&text, &Edit::SteerTtl { steer: "www".into(), max, min }).expect("it can be edited");
            assert_eq!(edited, Some(text.replace(was, wanted)), "{was}");
        }
    }

    #[test]
    fn lines_end_as_they_ended() {
        let crlf = |text: &str| text.replace('\n', "\r\n");
        for what in [endpoint("fra", "192.0.2.10", 7), endpoint("one", "192.0.2.20", 7), Edit::SteerTtl { steer: "app".into(), max: 20, min: 10 }] {
            let wanted = edit(TEXT, &what).expect("it can be edited").expect("it is there");
            assert_eq!(edit(&crlf(TEXT), &what).expect("it can be edited"), Some(crlf(&wanted)), "{what:?}");
        }
        // Nothing ends the last line, and a key comes behind it.
        let open = |text: &str| text.replace("\n\n[steer.app.to]\nfra = 1\none = 9\n", "");
        let what = Edit::SteerTtl { steer: "app".into(), max: 20, min: 10 };
        let edited = edit(&crlf(&open(TEXT)), &what).expect("it can be edited").expect("it is there");
        assert!(edited.ends_with("\r\npolicy = \"weighted\"\r\nttl = 20\r\n"), "{edited:?}");
        assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
        // A mark of the encoding stays.
        let marked = format!("\u{feff}{}", crlf(TEXT));
        assert_eq!(
            edit(&marked, &what).expect("it can be edited"),
            edit(&crlf(TEXT), &what).expect("it can be edited").map(|text| format!("\u{feff}{text}"))
        );
        // One line alone is as it is.
        let mixed = TEXT.replace("\n[pool.fra]\n", "\n[pool.fra]\r\n");
        let wanted = mixed.replace("192.0.2.11\", weight = 2 }", "192.0.2.11\", weight = 7 }");
        assert_eq!(edit(&mixed, &endpoint("fra", "192.0.2.11", 7)).expect("it can be edited"), Some(wanted));
    }

    #[test]
    fn what_is_not_there_is_not_made() {
        assert_eq!(edit(TEXT, &endpoint("ber", "192.0.2.10", 7)), Ok(None));
        assert!(edit(TEXT, &endpoint("fra", "192.0.2.99", 7)).is_err());
        assert!(edit("x = [", &endpoint("fra", "192.0.2.99", 7)).is_err());
        assert!(edit(TEXT, &Edit::ChildWeight { policy: "split".into(), in_steer: false, child: "none".into(), weight: 1 }).is_err());
    }

    #[test]
    fn diffs_are_unified() {
        let (before, after) = ("a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\nE\nf\ng\nh\n");
        assert_eq!(unified("x", before, after), "--- a/x\n+++ b/x\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n");
        assert_eq!(unified("x", "a\n", "a\nb\n"), "--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n a\n+b\n");
        assert_eq!(unified("x", before, before), "");
    }
}
