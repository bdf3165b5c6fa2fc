//! RFC 6672: DNAME.

use crate::asked::{check, world};

const HEAD: &str = "$TTL 300\n@ 3600 SOA ns1 h 7 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";

fn answers(lines: &str, cases: &[(&str, &str)]) {
    check(&world(&[("ex", &format!("{HEAD}{lines}"))]), cases);
}

#[test]
fn rfc6672_section_3_1_the_cname_and_its_owner() {
    answers(
        "old DNAME new\nold TXT own\nx.new A 192.0.2.1\na.b.new A 192.0.2.2\n",
        &[
            ("x.old.ex A", "NOERROR aa | old.ex. DNAME new.ex.; x.old.ex. CNAME x.new.ex.; x.new.ex. A 192.0.2.1"),
            ("a.b.old.ex A", "NOERROR aa | old.ex. DNAME new.ex.; a.b.old.ex. CNAME a.b.new.ex.; a.b.new.ex. A 192.0.2.2"),
            ("x.old.ex CNAME", "NOERROR aa | old.ex. DNAME new.ex.; x.old.ex. CNAME x.new.ex."),
            ("x.old.ex TXT", "NOERROR aa | old.ex. DNAME new.ex.; x.old.ex. CNAME x.new.ex. | ex. SOA"),
            ("no.old.ex A", "NXDOMAIN aa | old.ex. DNAME new.ex.; no.old.ex. CNAME no.new.ex. | ex. SOA"),
            // §2.3: the owner itself is not renamed, and has its own data.
            ("old.ex A", "NOERROR aa |  | ex. SOA"),
            ("old.ex TXT", "NOERROR aa | old.ex. TXT \"own\""),
            ("old.ex DNAME", "NOERROR aa | old.ex. DNAME new.ex."),
            ("old.ex CNAME", "NOERROR aa |  | ex. SOA"),
            ("x.old.ex DNAME", "NOERROR aa | old.ex. DNAME new.ex.; x.old.ex. CNAME x.new.ex. | ex. SOA"),
        ],
    );
}

#[test]
fn rfc6672_section_2_2_substitution_to_elsewhere_and_to_the_root() {
    answers(
        "out DNAME elsewhere.\nroot DNAME .\nup DNAME ex.\n",
        &[
            ("a.b.out.ex A", "NOERROR aa | out.ex. DNAME elsewhere.; a.b.out.ex. CNAME a.b.elsewhere."),
            ("a.root.ex A", "NOERROR aa | root.ex. DNAME .; a.root.ex. CNAME a."),
            ("ns1.up.ex A", "NOERROR aa | up.ex. DNAME ex.; ns1.up.ex. CNAME ns1.ex.; ns1.ex. A 192.0.2.53"),
        ],
    );
}

#[test]
fn rfc6672_section_2_2_a_name_that_grows_too_long_is_yxdomain() {
    let label = "t".repeat(63);
    let target = format!("{label}.{label}.{}", "u".repeat(60));
    let fits = format!("{}.long.ex", "a".repeat(61));
    let over = format!("{}.long.ex", "a".repeat(62));
    answers(
        &format!("long DNAME {target}\n"),
        &[
            (&format!("{fits} A"), &format!("NXDOMAIN aa | long.ex. DNAME {target}.ex.; {fits}. CNAME {}.{target}.ex. | ex. SOA", "a".repeat(61))),
            (&format!("{over} A"), &format!("YXDOMAIN aa | long.ex. DNAME {target}.ex.")),
            (&format!("{over} CNAME"), &format!("YXDOMAIN aa | long.ex. DNAME {target}.ex.")),
        ],
    );
}

#[test]
fn rfc6672_section_3_2_chains_of_dnames_and_cnames() {
    answers(
        "d1 DNAME d2\nd2 DNAME d3\nx.d3 A 192.0.2.1\nal CNAME x.d1\nc DNAME t\na.t CNAME x.d3\nb.t CNAME a.c\n",
        &[
            (
                "x.d1.ex A",
                "NOERROR aa | d1.ex. DNAME d2.ex.; x.d1.ex. CNAME x.d2.ex.; d2.ex. DNAME d3.ex.; x.d2.ex. CNAME x.d3.ex.; x.d3.ex. A 192.0.2.1",
            ),
            (
                "al.ex A",
                "NOERROR aa | al.ex. CNAME x.d1.ex.; d1.ex. DNAME d2.ex.; x.d1.ex. CNAME x.d2.ex.; d2.ex. DNAME d3.ex.; x.d2.ex. CNAME x.d3.ex.; x.d3.ex. A 192.0.2.1",
            ),
            // The same DNAME twice in one chain stands in the answer once.
            (
                "b.c.ex A",
                "NOERROR aa | c.ex. DNAME t.ex.; b.c.ex. CNAME b.t.ex.; b.t.ex. CNAME a.c.ex.; a.c.ex. CNAME a.t.ex.; a.t.ex. CNAME x.d3.ex.; x.d3.ex. A 192.0.2.1",
            ),
        ],
    );
}

#[test]
fn rfc2181_section_5_a_dname_that_the_chain_came_by_is_not_told_again() {
    answers(
        "d DNAME e\na.e CNAME d\n",
        &[
            ("a.d.ex DNAME", "NOERROR aa | d.ex. DNAME e.ex.; a.d.ex. CNAME a.e.ex.; a.e.ex. CNAME d.ex."),
            ("a.e.ex DNAME", "NOERROR aa | a.e.ex. CNAME d.ex.; d.ex. DNAME e.ex."),
        ],
    );
}

#[test]
fn rfc6672_section_2_4_what_lies_below_a_dname_is_hidden_and_loops_end() {
    answers(
        "a DNAME b\nb DNAME a\nself DNAME x.self\n",
        &[
            ("q.a.ex A", "NOERROR aa | a.ex. DNAME b.ex.; q.a.ex. CNAME q.b.ex.; b.ex. DNAME a.ex.; q.b.ex. CNAME q.a.ex."),
            // A DNAME that leads below itself is applied once, as NSD does.
            ("q.self.ex A", "NOERROR aa | self.ex. DNAME x.self.ex.; q.self.ex. CNAME q.x.self.ex."),
        ],
    );
}

#[test]
fn rfc6672_section_3_3_dname_with_wildcards() {
    answers(
        "d DNAME w\n*.w A 192.0.2.1\n*.v CNAME x.e\ne DNAME w\n",
        &[
            ("q.d.ex A", "NOERROR aa | d.ex. DNAME w.ex.; q.d.ex. CNAME q.w.ex.; q.w.ex. A 192.0.2.1"),
            ("q.r.d.ex A", "NOERROR aa | d.ex. DNAME w.ex.; q.r.d.ex. CNAME q.r.w.ex.; q.r.w.ex. A 192.0.2.1"),
            ("q.v.ex A", "NOERROR aa | q.v.ex. CNAME x.e.ex.; e.ex. DNAME w.ex.; x.e.ex. CNAME x.w.ex.; x.w.ex. A 192.0.2.1"),
        ],
    );
}

#[test]
fn rfc6672_section_2_3_dname_into_a_delegation() {
    answers(
        "d DNAME sub\ne DNAME x.sub\nsub NS ns.sub\nns.sub A 192.0.2.1\n",
        &[
            ("q.d.ex A", "NOERROR aa | d.ex. DNAME sub.ex.; q.d.ex. CNAME q.sub.ex. | sub.ex. NS ns.sub.ex. | ns.sub.ex. A 192.0.2.1"),
            ("q.e.ex A", "NOERROR aa | e.ex. DNAME x.sub.ex.; q.e.ex. CNAME q.x.sub.ex. | sub.ex. NS ns.sub.ex. | ns.sub.ex. A 192.0.2.1"),
        ],
    );
}

#[test]
fn rfc6672_section_2_3_dname_at_the_apex_and_over_zones() {
    let apex = "$TTL 300\n@ 3600 SOA ns1.ex. h 7 3600 900 1209600 60\n@ NS ns1.ex.\n@ DNAME ex.\n@ TXT apex\n";
    let world = world(&[("alias", apex), ("ex", &format!("{HEAD}old DNAME alias.\n"))]);
    check(
        &world,
        &[
            ("ns1.alias A", "NOERROR aa | alias. DNAME ex.; ns1.alias. CNAME ns1.ex.; ns1.ex. A 192.0.2.53"),
            ("no.alias A", "NXDOMAIN aa | alias. DNAME ex.; no.alias. CNAME no.ex. | ex. SOA"),
            ("alias TXT", "NOERROR aa | alias. TXT \"apex\""),
            ("alias NS", "NOERROR aa | alias. NS ns1.ex."),
            ("alias A", "NOERROR aa |  | alias. SOA"),
            (
                "ns1.old.ex A",
                "NOERROR aa | old.ex. DNAME alias.; ns1.old.ex. CNAME ns1.alias.; alias. DNAME ex.; ns1.alias. CNAME ns1.ex.; ns1.ex. A 192.0.2.53",
            ),
        ],
    );
}
