use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::zone::RecordRef;

/// Reads `text` as `example.com.zone` beside the other files; records and errors as text, one a line.
fn read(text: &str, others: &[(&str, &str)], default_ttl: Option<Ttl>) -> (Vec<String>, Vec<String>, Vec<PathBuf>) {
    let origin = Name::parse_absolute("example.com.").expect("a name");
    let others: BTreeMap<&str, &str> = others.iter().copied().collect();
    let mut include = |written: &str, _from: &Path| match others.get(written) {
        Some(text) => Ok((PathBuf::from(written), text.as_bytes().to_vec())),
        None => Err("no such file".to_string()),
    };
    let mut records = Records::new();
    let file = PathBuf::from("example.com.zone");
    let parsed = parse(Source { text: text.as_bytes(), file, origin, default_ttl, first_file: 3 }, &mut include, &mut records);
    let line = |record: RecordRef<'_>| {
        let RecordRef { rtype, ttl, rdata, place, .. } = record;
        format!("{}:{} {} {ttl} {rtype} {}", place.file, place.line, record.owner_name(), rdata::to_text(rtype, rdata))
    };
    (records.iter().map(line).collect(), parsed.errors.iter().map(ToString::to_string).collect(), parsed.files)
}

fn check(text: &str, records: &[&str], errors: &[&str]) {
    let (found, wrong, _) = read(text, &[], Some(300));
    assert_eq!(found, records, "records of:\n{text}");
    assert_eq!(wrong, errors, "errors of:\n{text}");
}

#[test]
fn owner_ttl_and_class_may_be_left_out_in_any_order() {
    check(
        "a 60 IN A 192.0.2.1\nb IN 61 A 192.0.2.2\nc in a 192.0.2.3\nd 62 A 192.0.2.4\n\tA 192.0.2.5\n  63 AAAA ::1\n@ CLASS1 TYPE1 192.0.2.6\n",
        &[
            "3:1 a.example.com. 60 A 192.0.2.1",
            "3:2 b.example.com. 61 A 192.0.2.2",
            "3:3 c.example.com. 61 A 192.0.2.3",
            "3:4 d.example.com. 62 A 192.0.2.4",
            "3:5 d.example.com. 62 A 192.0.2.5",
            "3:6 d.example.com. 63 AAAA ::1",
            "3:7 example.com. 63 A 192.0.2.6",
        ],
        &[],
    );
}

#[test]
fn rfc1035_section_5_1_ttl_and_class_stand_once() {
    let twice = |line| format!("example.com.zone:{line}: found a class twice, expected it once at most");
    let number = "example.com.zone:3: found \"61\", expected a TTL, a class or a record type";
    check(
        "a IN IN A 192.0.2.1\nb IN 60 CLASS1 A 192.0.2.2\nc 60 IN 61 A 192.0.2.3\n$GENERATE 1-2 d IN IN A 192.0.2.4\ne IN A 192.0.2.5\nf IN A 192.0.2.6\n",
        &["3:5 e.example.com. 300 A 192.0.2.5", "3:6 f.example.com. 300 A 192.0.2.6"],
        &[&twice(1), &twice(2), number, &twice(4)],
    );
    // A class alone is no record.
    check("a A 192.0.2.1\n IN\n", &["3:1 a.example.com. 300 A 192.0.2.1"], &["example.com.zone:2: found no record type behind the owner"]);
}

#[test]
fn rfc2181_section_8_no_ttl_is_above_31_bits() {
    let large = |line, found| format!("example.com.zone:{line}: found TTL \"{found}\", expected 0 to 2147483647 seconds, or a time such as 1h30m");
    check(
        "a 2147483647 A 192.0.2.1\nb 2147483648 A 192.0.2.2\n$TTL 4294967295\n",
        &["3:1 a.example.com. 2147483647 A 192.0.2.1"],
        &[&large(2, "2147483648"), &large(3, "4294967295")],
    );
}

#[test]
fn owners_may_look_like_anything() {
    check(
        "in A 192.0.2.1\n300 A 192.0.2.2\na A 192.0.2.3\n\\$ttl A 192.0.2.4\n\\@ A 192.0.2.5\n*.x\\.y A 192.0.2.6\n\\255 A 192.0.2.7\n",
        &[
            "3:1 in.example.com. 300 A 192.0.2.1",
            "3:2 300.example.com. 300 A 192.0.2.2",
            "3:3 a.example.com. 300 A 192.0.2.3",
            "3:4 \\$ttl.example.com. 300 A 192.0.2.4",
            "3:5 \\@.example.com. 300 A 192.0.2.5",
            "3:6 *.x\\.y.example.com. 300 A 192.0.2.6",
            "3:7 \\255.example.com. 300 A 192.0.2.7",
        ],
        &[],
    );
}

#[test]
fn parentheses_comments_and_line_ends_follow_rfc1035_section_5() {
    check(
        "\u{feff}; a comment ( that opens nothing\r\n\r\n   \t ; blank\r\n@ SOA ns1 host ( ; start\r\n  1 ; serial\r\n\r\n  1h 15m\r\n 2w 1m ) ; end\r\n@ NS (ns1)\nns1 A ( 192.0.2.1 ) ; no final newline",
        &[
            "3:4 example.com. 60 SOA ns1.example.com. host.example.com. 1 3600 900 1209600 60",
            "3:9 example.com. 60 NS ns1.example.com.",
            "3:10 ns1.example.com. 60 A 192.0.2.1",
        ],
        &[],
    );
}

#[test]
fn quotes_and_escapes_keep_their_octets() {
    check(
        "t TXT \"a;b(c\" d\\;e f\\ g \\\"h \"\\195\\188\" ü\nt TXT a=\"b c\"d\ns HTTPS 1 . alpn=\"h2,h3\" port=443\n",
        &[
            r#"3:1 t.example.com. 300 TXT "a;b(c" "d;e" "f g" "\"h" "\195\188" "\195\188""#,
            r#"3:2 t.example.com. 300 TXT "a=" "b c" "d""#,
            r#"3:3 s.example.com. 300 HTTPS 1 . alpn="h2,h3" port=443"#,
        ],
        &[],
    );
}

#[test]
fn ttl_comes_from_the_record_then_the_directive_then_above_then_the_soa_then_the_default() {
    check("a A 192.0.2.1\n", &["3:1 a.example.com. 300 A 192.0.2.1"], &[]);
    check(
        "@ SOA . . 1 1 1 1 77\na A 192.0.2.1\nb 5 A 192.0.2.2\nc A 192.0.2.3\n$TTL 1h\nd A 192.0.2.4\ne 0 A 192.0.2.5\nf A 192.0.2.6\n",
        &[
            "3:1 example.com. 77 SOA . . 1 1 1 1 77",
            "3:2 a.example.com. 77 A 192.0.2.1",
            "3:3 b.example.com. 5 A 192.0.2.2",
            "3:4 c.example.com. 5 A 192.0.2.3",
            "3:6 d.example.com. 3600 A 192.0.2.4",
            "3:7 e.example.com. 0 A 192.0.2.5",
            "3:8 f.example.com. 3600 A 192.0.2.6",
        ],
        &[],
    );
    let (_, errors, _) = read("a A 192.0.2.1\n", &[], None);
    assert_eq!(errors, ["example.com.zone:1: found no TTL, expected one on the record, or $TTL or a SOA above it"]);
}

#[test]
fn origin_changes_what_is_relative() {
    check(
        "$ORIGIN sub\na CNAME b\n$origin eu.sub.example.com.\n@ MX 10 @\n$ORIGIN .\nexample.com NS ns.example.net\n",
        &[
            "3:2 a.sub.example.com. 300 CNAME b.sub.example.com.",
            "3:4 eu.sub.example.com. 300 MX 10 eu.sub.example.com.",
            "3:6 example.com. 300 NS ns.example.net.",
        ],
        &[],
    );
}

#[test]
fn every_problem_is_told_with_its_line() {
    check(
        concat!(
            "a A 192.0.2.300\n",
            "b CH A 192.0.2.1\n",
            "  A 192.0.2.2\n",
            "c\n",
            "d WHAT 1\n",
            "www.example.net. A 192.0.2.1\n",
            "  A 192.0.2.1\n",
            "a..b A 192.0.2.1\n",
            "e TXT \"open\n",
            "f TXT lone\\\n",
            "g A 192.0.2.1 )\n",
            "h 2147483648 A 192.0.2.1\n",
            "i 1x A 192.0.2.1\n",
            "$TTL\n",
            "$TTL x\n",
            "$ORIGIN a b\n",
            "$FOO\n",
            "j ANY x\n",
            "k 1 2 A 192.0.2.1\n",
            "l A 192.0.2.9\n",
            "m SOA a. b. (\n 1 1 1 1\n",
        ),
        &["3:3 b.example.com. 300 A 192.0.2.2", "3:20 l.example.com. 300 A 192.0.2.9"],
        &[
            "example.com.zone:1: A: address: found \"192.0.2.300\", expected an IPv4 address",
            "example.com.zone:2: found class CH, expected IN",
            "example.com.zone:4: found no record type behind the owner",
            "example.com.zone:5: found \"WHAT\", expected a TTL, a class or a record type",
            "example.com.zone:6: found owner www.example.net., expected example.com. or a name below it",
            "example.com.zone:8: found \"a..b\", expected a domain name: the name has an empty label",
            "example.com.zone:9: found no closing double quote on the line",
            "example.com.zone:10: found a backslash at the end of the line, expected a character behind it",
            "example.com.zone:11: found a closing parenthesis without an opening one",
            "example.com.zone:12: found TTL \"2147483648\", expected 0 to 2147483647 seconds, or a time such as 1h30m",
            "example.com.zone:13: found TTL \"1x\", expected 0 to 2147483647 seconds, or a time such as 1h30m",
            "example.com.zone:14: found another form, expected $TTL seconds",
            "example.com.zone:15: found TTL \"x\", expected 0 to 2147483647 seconds, or a time such as 1h30m",
            "example.com.zone:16: found another form, expected $ORIGIN name",
            "example.com.zone:17: found \"$FOO\", expected $ORIGIN, $TTL, $INCLUDE or $GENERATE",
            "example.com.zone:18: ANY: found a type that only appears in messages, expected one that stands in zones",
            "example.com.zone:19: found \"2\", expected a TTL, a class or a record type",
            "example.com.zone:21: found no closing parenthesis before the end of the file",
        ],
    );
    check("  A 192.0.2.1\n", &[], &["example.com.zone:1: found a blank at the start of the line, expected an owner: no record stands above it"]);
}

#[test]
fn problems_are_listed_up_to_a_limit() {
    let (records, errors, _) = read(&"a A x\n".repeat(200), &[], None);
    assert_eq!((records.len(), errors.len()), (0, MAX_ERRORS + 1));
    assert_eq!(errors[MAX_ERRORS], "example.com.zone:101: found too many problems; the rest of the zone was not read");
}

#[test]
fn included_files_have_their_own_origin_owner_and_places() {
    let (records, errors, files) = read(
        "a 60 A 192.0.2.1\n$INCLUDE \"sub file\" sub\n  A 192.0.2.2\nb A 192.0.2.3\n$INCLUDE \"sub file\" other.example.com.\n$INCLUDE hosts\n",
        &[("sub file", "@ 70 A 192.0.2.10\n$ORIGIN deep\nx A 192.0.2.11\n"), ("hosts", "h A 192.0.2.20\n")],
        None,
    );
    assert_eq!(
        records,
        [
            "3:1 a.example.com. 60 A 192.0.2.1",
            "4:1 sub.example.com. 70 A 192.0.2.10",
            "4:3 x.deep.sub.example.com. 70 A 192.0.2.11",
            "3:3 a.example.com. 70 A 192.0.2.2",
            "3:4 b.example.com. 70 A 192.0.2.3",
            "4:1 other.example.com. 70 A 192.0.2.10",
            "4:3 x.deep.other.example.com. 70 A 192.0.2.11",
            "5:1 h.example.com. 70 A 192.0.2.20",
        ]
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(files, ["example.com.zone", "sub file", "hosts"].map(PathBuf::from));
}

#[test]
fn bad_includes_are_told_in_the_file_that_asks() {
    let (records, errors, _) = read(
        "$INCLUDE absent\n$INCLUDE\n$INCLUDE a b c\n$INCLUDE one a..b\n$INCLUDE one\na 1 A 192.0.2.1\n",
        &[("one", "$INCLUDE two\n  A 192.0.2.1\n"), ("two", "x A y\n$INCLUDE one\n$INCLUDE two\n")],
        None,
    );
    assert_eq!(records, ["3:6 a.example.com. 1 A 192.0.2.1"]);
    assert_eq!(
        errors,
        [
            "example.com.zone:1: cannot include \"absent\": no such file",
            "example.com.zone:2: found another form, expected $INCLUDE file or $INCLUDE file origin",
            "example.com.zone:3: found another form, expected $INCLUDE file or $INCLUDE file origin",
            "example.com.zone:4: found \"a..b\", expected a domain name: the name has an empty label",
            "two:1: A: address: found \"y\", expected an IPv4 address",
            "two:2: found one, which is being read already, expected a file that does not include itself",
            "two:3: found two, which is being read already, expected a file that does not include itself",
            "one:2: found a blank at the start of the line, expected an owner: no record stands above it",
        ]
    );
}

#[test]
fn includes_are_bounded_in_depth_and_number() {
    let names: Vec<String> = (0..=MAX_INCLUDE_DEPTH).map(|depth| depth.to_string()).collect();
    let texts: Vec<String> = (1..=MAX_INCLUDE_DEPTH + 1).map(|depth| format!("$INCLUDE {depth}\n")).collect();
    let others: Vec<(&str, &str)> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (_, errors, _) = read("$INCLUDE 0\n", &others, None);
    assert_eq!(errors, [format!("9:1: found files included more than {MAX_INCLUDE_DEPTH} deep")]);
    let (_, errors, _) = read(&"$INCLUDE x\n".repeat(MAX_INCLUDES + 1), &[("x", "")], None);
    assert_eq!(errors, [format!("example.com.zone:{}: found more than {MAX_INCLUDES} included files", MAX_INCLUDES + 1)]);
}

#[test]
fn generate_makes_one_record_per_value() {
    check(
        "$GENERATE 1-3/2 h-${0,3,d} 60 IN A 192.0.2.$\n$GENERATE 0-1 ${0,3,n}.rev PTR h$$-$\n  TXT \"below\"\n$GENERATE 1-1 t TXT \"a $ b\" $\n",
        &[
            "3:1 h-001.example.com. 60 A 192.0.2.1",
            "3:1 h-003.example.com. 60 A 192.0.2.3",
            "3:2 0.0.rev.example.com. 60 PTR h\\$-0.example.com.",
            "3:2 1.0.rev.example.com. 60 PTR h\\$-1.example.com.",
            "3:3 1.0.rev.example.com. 60 TXT \"below\"",
            "3:4 t.example.com. 60 TXT \"a 1 b\" \"1\"",
        ],
        &[],
    );
    check(
        "$GENERATE 1-2\n$GENERATE 2-1 a A 192.0.2.1\n$GENERATE 1-2 a 60\n$GENERATE 254-300 a A 192.0.2.$\n$GENERATE 0-1 a${x} A 192.0.2.1\n$GENERATE 4-5 a${-5} A 192.0.2.1\n",
        &["3:4 a.example.com. 300 A 192.0.2.254", "3:4 a.example.com. 300 A 192.0.2.255"],
        &[
            "example.com.zone:1: found another form, expected $GENERATE start-stop[/step] owner [ttl] [class] type data",
            "example.com.zone:2: found range \"2-1\", expected start-stop or start-stop/step with at most 65536 values",
            "example.com.zone:3: found another form, expected $GENERATE start-stop[/step] owner [ttl] [class] type data",
            "example.com.zone:4: $GENERATE: at 256: A: address: found \"192.0.2.256\", expected an IPv4 address",
            "example.com.zone:5: $GENERATE: at 0: found \"a${x}\", expected $, $$ or ${offset,width,base} with base d, o, x, X, n or N",
            "example.com.zone:6: $GENERATE: at 4: found \"a${-5}\", whose offset leads out of 0 to 4294967295",
        ],
    );
}

/// As BIND has it, whose manual has the first example.
#[test]
fn generate_strips_the_quotes_around_all_of_the_data() {
    check(
        concat!(
            "$GENERATE 1-2 h-$ MX \"0 .\"\n$GENERATE 3-3 c 60 CAA \"0 issue \\\"ca$; x\\\"\"\n$GENERATE 1-1 n NAPTR \"1 $ u a !\\\\1! .\"\n",
            "$GENERATE 1-1 p PTR \" x$\\.y \"\n$GENERATE 1-1 s SVCB \"1 . alpn=\\\"h2,h3\\\" port=$\"\n$GENERATE 1-1 t TXT \"a $\"\n",
            "$GENERATE 1-1 m MX \"0\" .\n",
        ),
        &[
            "3:1 h-1.example.com. 300 MX 0 .",
            "3:1 h-2.example.com. 300 MX 0 .",
            "3:2 c.example.com. 60 CAA 0 issue \"ca3; x\"",
            "3:3 n.example.com. 60 NAPTR 1 1 \"u\" \"a\" \"!\\\\1!\" .",
            "3:4 p.example.com. 60 PTR x1\\.y.example.com.",
            "3:5 s.example.com. 60 SVCB 1 . alpn=\"h2,h3\" port=1",
            "3:6 t.example.com. 60 TXT \"a 1\"",
            "3:7 m.example.com. 60 MX 0 .",
        ],
        &[],
    );
    check(
        "$GENERATE 1-1 m MX \"0 a ; b\"\n",
        &[],
        &["example.com.zone:1: found another form, expected $GENERATE start-stop[/step] owner [ttl] [class] type data"],
    );
}

#[test]
fn every_type_reads_from_a_master_file() {
    for &(rtype, text, ..) in rdata::tests::GOOD {
        let (records, errors, _) = read(&format!("x 1 {rtype} {text}\n"), &[], None);
        assert_eq!((records.len(), errors.len()), (1, 0), "{rtype} {text}: {errors:?}");
        let alone = rdata::parse(rtype, text, &Name::parse_absolute("example.com.").expect("a name")).expect(text);
        assert_eq!(records[0], format!("3:1 x.example.com. 1 {rtype} {}", rdata::to_text(rtype, &alone)));
    }
}

proptest! {
    #[test]
    fn any_octets_are_survived(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&text);
    }

    #[test]
    fn any_words_are_survived(words in proptest::collection::vec(
        proptest::sample::select(vec!["a", " ", "\n", "(", ")", ";", "\"", "\\", "IN", "60", "A", "TXT", "SVCB", "192.0.2.1", "$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE", "1-9", "${", "=", "\r\n", "\\#", "@", "."]),
        0..60,
    )) {
        survive(words.concat().as_bytes());
    }
}

fn survive(text: &[u8]) {
    let mut include = |_: &str, _: &Path| Ok((PathBuf::from("x"), text.to_vec()));
    let source = Source { text, file: "f".into(), origin: Name::root(), default_ttl: Some(1), first_file: 0 };
    let lines = text.iter().filter(|octet| **octet == b'\n').count() as u32 + 1;
    let mut records = Records::new();
    let parsed = parse(source, &mut include, &mut records);
    for record in records.iter() {
        assert!(rdata::validate(record.rtype, record.rdata).is_ok());
        assert!(record.place.line >= 1 && record.place.line <= lines);
    }
    assert!(parsed.errors.len() <= MAX_ERRORS + 1);
}

/// What comes in parts reads as the whole does, wherever it is cut: lines, problems, parentheses, quotes, includes.
#[test]
fn parts_read_as_the_whole() {
    let long = format!("a TXT ({} ) ; {}\nb A 192.0.2.1\n", "\n \"x y\" ".repeat(40_000), "c".repeat(100_000));
    let texts = [
        "",
        "\u{feff}$TTL 1\n@ A 192.0.2.1",
        "a 1 A 192.0.2.1\r\n\t2 A 192.0.2.2\n\n  ; nothing\nb (\n 3 ) ( A\n 192.0.2.3 ; (\n)\nc A 192.0.2.4\n",
        "a TXT \"open\nb TXT x\\\nc TXT \"a\\\"b\"\n d A 1\n) A 192.0.2.1\n$ORIGIN x\na A 192.0.2.1\n$INCLUDE more\n A 192.0.2.3\ne (",
        "$GENERATE 1-3 h$ A 192.0.2.$\n A 192.0.2.9\n$ORIGIN y.\nh3 A 192.0.2.1\n",
        &long,
    ];
    for text in texts {
        let read = |part: Option<usize>| {
            let origin = Name::parse_absolute("example.com.").expect("a name");
            let mut include = |_: &str, _: &Path| Ok((PathBuf::from("more"), b"i A 192.0.2.7\n".to_vec()));
            let mut records = Records::new();
            let source = |text| Source { text, file: "z".into(), origin, default_ttl: Some(300), first_file: 0 };
            let parsed = match part {
                None => parse(source(text.as_bytes()), &mut include, &mut records),
                Some(len) => {
                    let (first, mut rest) = text.as_bytes().split_at(text.len().min(len / 2));
                    let mut more = |room: &mut [u8]| {
                        let now = rest.len().min(len).min(room.len());
                        room[..now].copy_from_slice(&rest[..now]);
                        rest = &rest[now..];
                        Ok(now)
                    };
                    parse_stream(source(first), &mut more, &mut include, &mut records)
                }
            };
            (format!("{parsed:?}"), records.iter().map(|record| format!("{record:?}")).collect::<Vec<_>>())
        };
        let whole = read(None);
        for part in [1, 2, 7, 4096, WINDOW_LEN - 1, WINDOW_LEN, 10 * WINDOW_LEN] {
            assert!(read(Some(part)) == whole, "in parts of {part}: {}", &text[..text.len().min(200)]);
        }
    }
}

/// Windows end anywhere: a file of several of them, with every kind of entry at their borders.
#[test]
fn windows_end_anywhere() {
    let text: String = (0..40_000).map(|n| format!("h{n} {} TXT ( \"{}\"\n ) ; x\n  A 192.0.2.1\n", n % 9, "q".repeat(n % 23))).collect();
    let origin = Name::parse_absolute("example.com.").expect("a name");
    let none = |_: &str, _: &Path| Err("none".to_string());
    let source = |text| Source { text, file: "z".into(), origin: origin.clone(), default_ttl: None, first_file: 0 };
    let (mut whole, mut parts) = (Records::new(), Records::new());
    parse(source(text.as_bytes()), &mut none.clone(), &mut whole);
    let mut rest = text.as_bytes();
    let mut more = |room: &mut [u8]| std::io::Read::read(&mut rest, room).map_err(|error| error.to_string());
    let parsed = parse_stream(source(b""), &mut more, &mut none.clone(), &mut parts);
    assert_eq!(parsed.errors, []);
    assert_eq!(parts.len(), 80_000);
    assert!(whole.iter().zip(parts.iter()).all(|(a, b)| (a.owner, a.rtype, a.ttl, a.rdata, a.place) == (b.owner, b.rtype, b.ttl, b.rdata, b.place)));
    let mut failing = |_: &mut [u8]| Err("input/output error".to_string());
    let parsed = parse_stream(source(b"a 1 A 192.0.2.1\n"), &mut failing, &mut none.clone(), &mut Records::new());
    assert_eq!(parsed.errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["z:1: cannot be read to its end: input/output error"]);
}
