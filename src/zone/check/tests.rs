use std::path::Path;

use super::*;
use crate::zone::Records;
use crate::zone::master::{self, Source};

const HEAD: &str = "$TTL 300\n@ SOA ns1 host 1 1 1 1 1\n@ NS ns1\nns1 A 192.0.2.1\n";

fn faults(text: &str, steered: &[&str]) -> Vec<String> {
    let apex = Name::parse_absolute("example.com.").expect("a name");
    let mut records = Records::new();
    let source = Source { text: text.as_bytes(), file: "z".into(), origin: apex.clone(), default_ttl: None, first_file: 0 };
    let parsed = master::parse(source, &mut |_: &str, _: &Path| Err("none".into()), &mut records);
    assert_eq!(parsed.errors, [], "{text}");
    let steered = steered.iter().map(|name| Name::parse(name, &apex).expect("a name")).collect();
    let show = |fault: ZoneFault| format!("{}:{} {fault}", fault.place.line, if fault.severity == Severity::Error { "E" } else { "W" });
    check(&apex, &Owners::group(&apex, records), &steered, &BTreeSet::new()).into_iter().map(show).collect()
}

/// Lines are counted from the first one behind [`HEAD`], which is 5.
fn check_body(body: &str, expected: &[&str]) {
    assert_eq!(faults(&format!("{HEAD}{body}"), &[]), expected, "{body}");
}

#[test]
fn sound_zones_have_no_faults() {
    check_body("", &[]);
    check_body("www CNAME ns1\n*.w A 192.0.2.2\n@ MX 10 mail.w\n@ MX 0 x.example.net.\nwww RRSIG A 5 3 1 0 0 1 . oJB1\n", &[]);
    check_body(
        "sub NS ns.sub\nsub NS ns.other.\nns.sub A 192.0.2.3\nsub DS 1 8 2 0000000000000000000000000000000000000000000000000000000000000000\n",
        &[],
    );
    check_body("@ DNAME a.net.\n".replace('@', "d").as_str(), &[]);
    check_body("sub NS sub\nsub A 192.0.2.3\n", &[]);
    check_body("a.b.c A 192.0.2.1\nA.B.C AAAA ::1\n@ MX 0 .\n_s._tcp SRV 0 0 0 .\n", &[]);
}

#[test]
fn apex_needs_one_soa_and_an_ns() {
    assert_eq!(
        faults("$TTL 1\na A 192.0.2.1\n", &[]),
        ["0:E example.com. SOA: found none at the apex, expected exactly one", "0:E example.com. NS: found none at the apex, expected at least one"]
    );
    check_body("@ SOA . . 2 1 1 1 1\n", &["2:E example.com. SOA: found 2 different ones, expected one"]);
    check_body("sub SOA . . 2 1 1 1 1\n", &["5:E sub.example.com. SOA: found one below the apex, expected it only at the apex"]);
}

#[test]
fn rfc9460_section_2_4_2_parameters_in_alias_mode_are_taken_with_a_warning() {
    let warning = "found parameters with priority 0 (alias mode), where clients ignore them";
    check_body("s SVCB 0 ns1\nh HTTPS 1 . port=443\n", &[]);
    check_body(
        "s SVCB 0 ns1 port=53\ng SVCB \\# 12 0000 0474656c6c00 fffe 0000\nh HTTPS 1 . port=443\nh HTTPS 0 ns1 alpn=h2\n",
        &[
            &format!("5:W s.example.com. SVCB: {warning}"),
            &format!("6:W g.example.com. SVCB: {warning}"),
            &format!("8:W h.example.com. HTTPS: {warning}"),
        ],
    );
}

#[test]
fn aliases_stand_alone() {
    check_body(
        "w CNAME a.net.\nw A 192.0.2.1\nv CNAME a.net.\nv CNAME b.net.\n",
        &[
            "5:E w.example.com. CNAME: found A at the same owner, expected no other data beside a CNAME",
            "7:E v.example.com. CNAME: found 2 different ones, expected one",
        ],
    );
    check_body("v CNAME a.net.\nv CNAME A.net.\n", &["6:W v.example.com. CNAME: found the same record again; it is used once"]);
}

#[test]
fn nothing_stands_below_a_dname() {
    check_body(
        "d DNAME a.net.\nd A 192.0.2.1\nx.d A 192.0.2.1\ny.x.d TXT a\ndd A 192.0.2.1\nd DNAME b.net.\n",
        &[
            "5:E d.example.com. DNAME: found 2 different ones, expected one",
            "7:E x.d.example.com. A: found below the DNAME of d.example.com., expected nothing there",
            "8:E y.x.d.example.com. TXT: found below the DNAME of d.example.com., expected nothing there",
        ],
    );
    check_body("d DNAME a.net.\nd NS a.net.\n", &["5:E d.example.com. DNAME: found NS at the same owner, expected a delegation or a DNAME"]);
}

#[test]
fn delegations_hide_what_is_no_glue() {
    check_body(
        "sub NS ns.sub\nns.sub A 192.0.2.3\nns.sub TXT x\nwww.sub A 192.0.2.4\nsub MX 0 a.net.\nsub-2 A 192.0.2.5\ndeep.sub NS ns.sub\n",
        &[
            "7:W ns.sub.example.com. TXT: never answered: sub.example.com. is delegated, and this is no address of one of its servers",
            "8:W www.sub.example.com. A: never answered: sub.example.com. is delegated, and this is no address of one of its servers",
            "9:W sub.example.com. MX: never answered: sub.example.com. is delegated, and this is no address of one of its servers",
            "11:W deep.sub.example.com. NS: never answered: sub.example.com. is delegated, and this is no address of one of its servers",
        ],
    );
    check_body("a DS 1 8 200 ab\n", &["5:W a.example.com. DS: found no NS at the same owner, expected a delegation"]);
    check_body("*.w NS a.net.\n", &["5:W *.w.example.com. NS: found NS at a wildcard, which resolvers treat in different ways"]);
}

#[test]
fn servers_in_the_zone_need_addresses() {
    check_body(
        "@ NS ns2\nsub NS ns.sub\nsub NS ns.beside\nbeside NS a.net.\nother NS ns3\n",
        &[
            "5:E example.com. NS: found no address for ns2.example.com., expected A or AAAA in this zone",
            "6:E sub.example.com. NS: found no address for ns.sub.example.com., expected A or AAAA in this zone",
            "9:W other.example.com. NS: ns3.example.com. does not exist in this zone",
        ],
    );
}

#[test]
fn targets_are_looked_up_in_the_zone() {
    check_body(
        "@ MX 1 alias\nalias CNAME a.net.\n@ MX 2 absent\n@ MX 3 text\ntext TXT x\n@ MX 4 empty\nx.empty A 192.0.2.1\n_s._tcp SRV 1 1 1 absent\n*.w TXT x\n@ MX 5 a.w\nd DNAME b.net.\n@ MX 6 x.d\nsub NS a.net.\n@ MX 7 y.sub\n",
        &[
            "5:W example.com. MX: alias.example.com. is a CNAME, expected a name with addresses",
            "7:W example.com. MX: absent.example.com. does not exist in this zone",
            "8:W example.com. MX: text.example.com. has no address in this zone",
            "10:W example.com. MX: empty.example.com. has no address in this zone",
            "12:W _s._tcp.example.com. SRV: absent.example.com. does not exist in this zone",
            "14:W example.com. MX: a.w.example.com. does not exist in this zone",
            "16:W example.com. MX: x.d.example.com. is a CNAME, expected a name with addresses",
        ],
    );
    let body = "@ NS st\n@ MX 1 st\n@ MX 2 x.wild\n";
    assert_eq!(faults(&format!("{HEAD}{body}"), &["ST", "*.wild"]), [""; 0]);
}

#[test]
fn sets_are_checked_for_ttls_duplicates_and_size() {
    check_body(
        "a 60 A 192.0.2.1\nA 50 A 192.0.2.2\na 60 A 192.0.2.1\n",
        &[
            "6:W a.example.com. A: found different TTLs in one set, expected one; 50 is used"
                .replace("a.example.com. A", "A.example.com. A")
                .as_str(),
            "7:W a.example.com. A: found the same record again; it is used once",
        ],
    );
    let many = |count: usize| (0..count).map(|at| format!("big A 10.{}.{}.{}\n", at >> 16, at >> 8 & 255, at & 255)).collect::<String>();
    // 12 + 17 + 4 + 35 octets, and 16 for each address.
    check_body(&many(72), &[]);
    check_body(&many(73), &["5:W big.example.com. A: answers over UDP will be truncated: responses have up to 1236 octets, more than 1232"]);
    // 102 more for a cookie, keepalive and NSID.
    check_body(&many(4085), &["5:W big.example.com. A: answers over UDP will be truncated: responses have up to 65428 octets, more than 1232"]);
    check_body(&many(4086), &["5:E big.example.com. A: found a set that makes responses of up to 65546 octets, expected at most 65535"]);
    check_body("a ANAME b.net.\n", &["5:W a.example.com. ANAME: the record is handed out as it is; its target is not looked up"]);
}

#[test]
fn faults_are_listed_up_to_a_limit() {
    let found = faults(&format!("{HEAD}{}", "a A 192.0.2.1\n".repeat(MAX_FAULTS + 3)), &[]);
    assert_eq!(found.len(), MAX_FAULTS + 1);
    assert_eq!(found[MAX_FAULTS], "0:W 2 more of the kind are not listed");
}

#[test]
fn records_out_of_the_zone_are_told() {
    let apex = Name::parse_absolute("example.com.").expect("a name");
    let owner = Name::parse_absolute("example.net.").expect("a name");
    let mut records = Records::new();
    records.push(&owner, RecordType::A, 1, &[192, 0, 2, 1], Place { file: 0, line: 9 });
    let found = check(&apex, &Owners::group(&apex, records), &BTreeSet::new(), &BTreeSet::new());
    assert!(found.iter().any(|fault| fault.fault == Fault::OutOfZone && fault.place.line == 9));
}

#[test]
fn loops_are_told_once() {
    let back = "it leads back to itself";
    let tail = "answers hold the loop once and nothing else";
    check_body("a CNAME a\n", &[&format!("5:W a.example.com. CNAME: {back}: a.example.com. -> a.example.com.; {tail}")]);
    check_body(
        "b CNAME c\nin CNAME b\nc CNAME b\n",
        &[&format!("5:W b.example.com. CNAME: {back}: b.example.com. -> c.example.com. -> b.example.com.; {tail}")],
    );
    check_body("*.w CNAME q.r.w\n", &[&format!("5:W *.w.example.com. CNAME: {back}: q.r.w.example.com. -> q.r.w.example.com.; {tail}")]);
    check_body(
        "d DNAME e\ne DNAME d\n",
        &[&format!("5:W d.example.com. DNAME: {back}: x.d.example.com. -> x.e.example.com. -> x.d.example.com.; {tail}")],
    );
    check_body(
        "d DNAME e\na.e CNAME a.d\n",
        &[&format!("6:W a.e.example.com. CNAME: {back}: a.e.example.com. -> a.d.example.com. -> a.e.example.com.; {tail}")],
    );
    check_body(
        "d DNAME x.d\n",
        &["5:W d.example.com. DNAME: found x.d.example.com., which is below its own owner, expected another part of the tree"],
    );
    // Chains that end, leave the zone or go below a delegation are fine.
    check_body(
        "a CNAME b\nb CNAME c\nc CNAME out.net.\nd CNAME x.s\ns NS ns.net.\ne CNAME no.such\n*.v CNAME y.ns1\nf CNAME x.v\n",
        &[
            "10:W e.example.com. CNAME: no.such.example.com. does not exist in this zone",
            "11:W *.v.example.com. CNAME: y.ns1.example.com. does not exist in this zone",
        ],
    );
}

#[test]
fn long_loops_are_shortened_and_long_chains_survived() {
    let ring: String = (0..40).map(|n| format!("r{n} CNAME r{}\n", (n + 1) % 40)).collect();
    let found = faults(&format!("{HEAD}{ring}"), &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("r7.example.com. -> …; answers"), "{found:?}");
    let chain: String = (0..400).map(|n| format!("r{n} CNAME r{}\n", (n + 1) % 400)).collect();
    assert_eq!(faults(&format!("{HEAD}{chain}"), &[]), Vec::<String>::new());
}

#[test]
fn rfc9471_section_3_1_referrals_that_do_not_fit_are_told() {
    let servers = |count: usize, glue: &dyn Fn(usize) -> String| -> String { (0..count).map(|n| format!("s NS n{n}.s\n{}", glue(n))).collect() };
    check_body(
        &servers(8, &|n| format!("n{n}.s A 192.0.2.{n}\nn{n}.s AAAA 2001:db8::{n}\n")),
        &["5:W s.example.com. NS: referrals to resolvers without EDNS will be truncated: with their glue they have 519 octets or more, and 512 fit"],
    );
    check_body(&servers(7, &|n| format!("n{n}.s A 192.0.2.{n}\nn{n}.s AAAA 2001:db8::{n}\n")), &[]);
    let many = faults(&format!("{HEAD}{}", servers(25, &|n| format!("n{n}.s A 192.0.2.{n}\nn{n}.s AAAA 2001:db8::{n}\n"))), &[]);
    assert!(many[0].contains("referrals will be truncated: with their glue they have") && many[0].ends_with("and 1232 fit"), "{many:?}");
    // Addresses of servers beside the delegation are a courtesy.
    check_body(&(0..12).map(|n| format!("s NS n{n}.t\nn{n}.t A 192.0.2.{n}\nn{n}.t AAAA 2001:db8::{n}\n")).collect::<String>(), &[]);
}
