//! The next version of a large master file comes from the one before where they differ little. It must be what a load of the whole file gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian::config::{Known, Loaded, MemoryFiles, load_again};
use meridian::dns::{Name, QueryName};
use meridian::zone::tree::{Found, NodeId, ZoneTree, hash_name};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

const HEAD: &str = "$ORIGIN big.example.\n$TTL 300\n@ SOA ns host 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\nmail A 192.0.2.2\n@ MX 10 mail\n";
/// Enough for some fifteen chunks.
const NAMES: usize = 12_000;

/// The lines of a zone: most owners have one address, some two, some texts, some a name of two labels.
fn lines() -> Vec<String> {
    let mut lines: Vec<String> = HEAD.lines().map(str::to_string).collect();
    for n in 0..NAMES {
        lines.push(format!("host{n:05} 300 IN A 10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255));
        match n % 7 {
            0 => lines.push(format!("host{n:05} IN AAAA 2001:db8::{n:x}")),
            1 => lines.push(format!("\tTXT \"number {n}\"")),
            2 => lines.push(format!("sub.host{n:05} 60 A 198.51.100.{}", n & 255)),
            _ => {}
        }
    }
    lines
}

fn load(lines: &[String], known: &Known) -> Loaded {
    let text = lines.join("\n") + "\n";
    let files = [("meridian.toml", String::new()), ("zones/big.example.zone", text)];
    let files = MemoryFiles(files.into_iter().map(|(path, text)| (PathBuf::from(path), text.into_bytes().into())).collect());
    load_again(&files, Path::new("meridian.toml"), known)
}

fn tree(loaded: &Loaded) -> Arc<ZoneTree> {
    loaded.zones[0].tree.clone().unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

type Records = Vec<(u16, u32, u16, Vec<u8>, Vec<Vec<u8>>, Vec<(Vec<u8>, u16)>)>;

fn records_at(tree: &ZoneTree, node: NodeId) -> Records {
    let all = tree.rrsets(node).map(|rrset| {
        let rdatas = tree.rdatas(&rrset).map(<[u8]>::to_vec).collect();
        let extras = tree.extras(&rrset).iter().filter_map(|extra| tree.extra(extra));
        let extras = extras.map(|(name, rrset)| (name.to_vec(), rrset.rtype.0)).collect();
        (rrset.rtype.0, rrset.ttl, rrset.count, tree.block(&rrset).to_vec(), rdatas, extras)
    });
    all.collect()
}

/// All that a tree says.
fn says(tree: &ZoneTree) -> (BTreeMap<Name, Records>, usize, usize, u32, Vec<u8>) {
    let names = tree.names().map(|name| (name.clone(), records_at(tree, tree.node_at(name.as_wire()).expect("it is there"))));
    (names.collect(), tree.record_count(), tree.node_count(), tree.soa_serial(), tree.negative().octets.clone())
}

/// Where a name leads, in words that do not depend on the tree.
fn leads(tree: &ZoneTree, name: &str) -> String {
    let name = Name::parse_absolute(name).expect("a name").to_lowercase();
    let found = tree.find(&QueryName::read(name.as_wire()).expect("a name"), hash_name(name.as_wire()));
    let shown = |node: NodeId| format!("{} {:?}", Name::from_wire(tree.name(node)).expect("a name"), records_at(tree, node));
    match found {
        Found::Node(node) => shown(node),
        Found::Wildcard(node) => format!("* {}", shown(node)),
        other => format!("{other:?}"),
    }
}

fn assert_same(edited: &Loaded, whole: &Loaded, asked: &[String]) {
    assert_eq!((&edited.problems, edited.zones[0].content), (&whole.problems, whole.zones[0].content));
    let (edited, whole) = (tree(edited), tree(whole));
    let (edited_says, whole_says) = (says(&edited), says(&whole));
    for (name, records) in &whole_says.0 {
        assert_eq!(edited_says.0.get(name), Some(records), "{name}");
    }
    assert!(edited_says == whole_says, "{:?} {:?}", edited_says.0.len(), whole_says.0.len());
    for name in asked {
        for name in [format!("{name}.big.example."), format!("x.{name}.big.example.")] {
            assert_eq!(leads(&edited, &name), leads(&whole, &name), "{name}");
        }
    }
}

/// `meridian.toml` and the zone, once: the whole file is opened a second time.
fn was_edited(loaded: &Loaded) -> bool {
    loaded.known.reads() == 2
}

fn at(lines: &[String], owner: &str) -> usize {
    lines.iter().position(|line| line.starts_with(owner)).unwrap_or_else(|| panic!("{owner}"))
}

/// One change of the lines, and the owner that it is about.
type Change = Box<dyn Fn(&mut Vec<String>) -> &'static str>;

fn set(owner: &'static str, line: &'static str) -> Change {
    Box::new(move |lines| {
        let at = at(lines, owner);
        lines[at] = line.to_string();
        owner
    })
}

fn insert(before: &'static str, owner: &'static str, line: &'static str) -> Change {
    Box::new(move |lines| {
        let at = at(lines, before);
        lines.insert(at, line.to_string());
        owner
    })
}

fn remove(owner: &'static str) -> Change {
    Box::new(move |lines| {
        let at = at(lines, owner);
        lines.remove(at);
        owner
    })
}

#[test]
fn small_changes_are_edits_and_come_to_what_a_load_of_everything_gives() {
    let serial = || set("@ SOA", "@ SOA ns host 2 3600 600 86400 60");
    // Whether it is an edit.
    let cases: Vec<(&str, Vec<Change>, bool)> = vec![
        ("nothing", vec![], true),
        ("the serial", vec![serial()], true),
        ("an address", vec![set("host05003", "host05003 300 IN A 203.0.113.9")], true),
        (
            "the serial and addresses far apart",
            vec![serial(), set("host00004", "host00004 A 203.0.113.9"), set("host11999", "host11999 A 203.0.113.8")],
            true,
        ),
        ("one address more", vec![insert("host05004", "host05003", "host05003 300 IN A 203.0.113.9")], true),
        ("another type", vec![set("host05003", "host05003 300 IN TXT \"now text\"")], true),
        ("another TTL", vec![set("host05003", "host05003 1 IN A 10.0.19.139")], true),
        ("a new name", vec![insert("host05003", "new", "new 300 IN A 203.0.113.9")], true),
        ("a new name below one", vec![insert("host05004", "deep.host05003", "deep.host05003 300 IN A 203.0.113.9")], true),
        (
            "a new name at the end",
            vec![Box::new(|lines| {
                lines.push("zz A 203.0.113.1".into());
                "zz"
            })],
            true,
        ),
        ("a name that goes, of the deepest", vec![remove("sub.host05007")], true),
        ("a comment", vec![insert("host05003", "host05003", "; nothing")], true),
        ("capitals", vec![set("host05003", "HOST05003 300 IN A 10.0.19.139")], true),
        ("a name that goes, with perhaps something below it", vec![remove("host05003")], false),
        ("a name that goes, with something below it", vec![remove("host05007")], false),
        ("a new name below nothing", vec![insert("host05003", "a.b", "a.b 300 IN A 203.0.113.9")], false),
        ("a delegation", vec![insert("host05003", "cut", "cut NS ns.example.net.")], false),
        ("an alias", vec![insert("host05003", "alias", "alias CNAME host00001")], false),
        ("an alias for an address", vec![set("host05003", "host05003 CNAME host00001")], false),
        ("a wildcard", vec![insert("host05003", "*", "* A 203.0.113.9")], false),
        ("what others point to", vec![set("mail", "mail A 203.0.113.9")], false),
        ("glue", vec![set("ns A", "ns A 203.0.113.9")], false),
        ("a name server", vec![set("@ NS", "@ NS ns.example.net.")], false),
        ("the names of the SOA", vec![set("@ SOA", "@ SOA ns other 2 3600 600 86400 60")], false),
        ("another $TTL", vec![set("$TTL", "$TTL 600")], false),
        ("an $ORIGIN in the middle", vec![insert("host05003", "host05003", "$ORIGIN big.example.")], false),
        ("a name that stands elsewhere, too", vec![insert("host05003", "host00001", "host00001 A 203.0.113.9")], false),
        ("a warning", vec![insert("host05004", "host05003", "host05003 300 IN A 10.0.19.139")], false),
        ("an MX", vec![insert("host05004", "host05003", "host05003 300 IN MX 1 mail")], false),
        (
            "half of the file",
            vec![Box::new(|lines| {
                lines[3000..9000].iter_mut().for_each(|line| *line = line.replace(" 10.", " 11."));
                "host05003"
            })],
            false,
        ),
    ];
    let before = lines();
    let first = load(&before, &Known::default());
    for (what, changes, is_edit) in cases {
        let mut lines = before.clone();
        let asked: Vec<String> =
            changes.iter().map(|change| change(&mut lines).trim_start_matches("@ ").to_lowercase()).filter(|name| !name.starts_with('$')).collect();
        let asked: Vec<String> =
            asked.iter().filter(|name| !name.contains(' ')).cloned().chain(["nobody".into(), "host05007".into(), "host05003".into()]).collect();
        let edited = load(&lines, &first.known);
        assert_eq!(was_edited(&edited), is_edit, "{what}");
        assert_same(&edited, &load(&lines, &Known::default()), &asked);
        // And back again.
        let back = load(&before, &edited.known);
        assert_same(&back, &first, &asked);
    }
}

#[test]
fn a_file_with_a_line_that_need_not_begin_an_entry_or_with_includes_is_never_edited() {
    let loose = |lines: &mut Vec<String>| {
        let at = at(lines, "host05003");
        lines.splice(at..=at, ["host05003 300 IN TXT (", "host00000", "A", ")"].map(str::to_string));
    };
    let no_ttl = |lines: &mut Vec<String>| lines.retain(|line| !line.starts_with("$TTL"));
    let generate = |lines: &mut Vec<String>| lines.insert(2, "$GENERATE 1-3 g$ A 192.0.2.$".into());
    for (what, spoil) in [("loose", &loose as &dyn Fn(&mut Vec<String>)), ("no $TTL", &no_ttl), ("generate", &generate)] {
        let mut lines = lines();
        spoil(&mut lines);
        let first = load(&lines, &Known::default());
        let at = at(&lines, "host09000");
        lines[at] = "host09000 300 IN A 203.0.113.9".into();
        let next = load(&lines, &first.known);
        assert_same(&next, &load(&lines, &Known::default()), &[]);
        // Without chunks nothing is compared first: it was read for its hash, for its length is another, and parsed.
        assert!(first.known.reads() == 2 && !next.zones[0].content.eq(&first.zones[0].content), "{what}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Address(usize, u32),
    Text(usize, u8),
    More(usize, u32),
    Add(usize, u32),
    Remove(usize),
    Sub(usize, u32),
    Serial(u32),
    Swap(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let line = 0..NAMES;
    let step = prop_oneof![
        5 => (line.clone(), any::<u32>()).prop_map(|(at, to)| Step::Address(at, to)),
        2 => (line.clone(), any::<u8>()).prop_map(|(at, to)| Step::Text(at, to)),
        2 => (line.clone(), any::<u32>()).prop_map(|(at, to)| Step::More(at, to)),
        3 => (line.clone(), any::<u32>()).prop_map(|(at, to)| Step::Add(at, to)),
        2 => line.clone().prop_map(Step::Remove),
        2 => (line.clone(), any::<u32>()).prop_map(|(at, to)| Step::Sub(at, to)),
        2 => any::<u32>().prop_map(|to| Step::Serial(to % 1_000_000)),
        1 => line.prop_map(Step::Swap),
    ];
    prop::collection::vec(step, 1..6)
}

fn apply(step: &Step, lines: &mut Vec<String>) -> Option<String> {
    let address = |to: u32| std::net::Ipv4Addr::from(to).to_string();
    let pick = |lines: &[String], at: usize| HEAD.lines().count() + at % (lines.len() - HEAD.lines().count());
    let owner = |line: &str| line.split_ascii_whitespace().next().map(str::to_string).filter(|_| !line.starts_with(['\t', ' ']));
    match step {
        Step::Serial(to) => {
            lines[2] = format!("@ SOA ns host {to} 3600 600 86400 60");
            None
        }
        Step::Address(at, to) => {
            let at = pick(lines, *at);
            let owner = owner(&lines[at])?;
            lines[at] = format!("{owner} 300 IN A {}", address(*to));
            Some(owner)
        }
        Step::Text(at, to) => {
            let at = pick(lines, *at);
            let owner = owner(&lines[at])?;
            lines.insert(at + 1, format!(" TXT \"{}\"", "x".repeat(usize::from(*to))));
            Some(owner)
        }
        Step::More(at, to) => {
            let at = pick(lines, *at);
            let owner = owner(&lines[at])?;
            lines.insert(at, format!("{owner} A {}", address(*to)));
            Some(owner)
        }
        Step::Add(at, to) => {
            let at = pick(lines, *at);
            owner(&lines[at])?;
            lines.insert(at, format!("n{to} A {}", address(*to)));
            Some(format!("n{to}"))
        }
        Step::Remove(at) => {
            let at = pick(lines, *at);
            let owner = owner(&lines[at]);
            lines.remove(at);
            owner
        }
        Step::Sub(at, to) => {
            let at = pick(lines, *at);
            let parent = owner(&lines[at])?;
            let owner = format!("s{}.{parent}", to % 3);
            lines.insert(at, format!("{owner} A {}", address(*to)));
            Some(owner)
        }
        Step::Swap(at) => {
            let at = pick(lines, *at).min(lines.len() - 2);
            lines.swap(at, at + 1);
            owner(&lines[at])
        }
    }
}

#[test]
fn versions_upon_versions_come_to_what_a_load_of_everything_gives() {
    let config = ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let before = lines();
    let first = load(&before, &Known::default());
    let edits = std::cell::Cell::new((0, 0));
    runner
        .run(&prop::collection::vec(steps(), 4), |versions| {
            let (mut lines, mut known) = (before.clone(), first.known.clone());
            for steps in versions {
                let kept = lines.clone();
                let asked: Vec<String> = steps.iter().filter_map(|step| apply(step, &mut lines)).collect();
                let whole = load(&lines, &Known::default());
                if whole.has_errors() {
                    lines = kept;
                    continue;
                }
                let edited = load(&lines, &known);
                assert_same(&edited, &whole, &asked);
                edits.set((edits.get().0 + u32::from(was_edited(&edited)), edits.get().1 + 1));
                known = edited.known;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // Else the test says nothing about edits.
    let (edited, all) = edits.get();
    assert!(edited * 4 > all, "{edited} of {all}");
}
