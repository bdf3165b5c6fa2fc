//! RFC 4592: wildcards.

use crate::asked::{check, world};

const HEAD: &str = "$TTL 300\n@ 3600 SOA ns1 h 7 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";

fn answers(lines: &str, cases: &[(&str, &str)]) {
    check(&world(&[("ex", &format!("{HEAD}{lines}"))]), cases);
}

#[test]
fn rfc4592_section_2_2_1_the_example_of_the_rfc() {
    let lines = "* TXT \"this is a wildcard\"\n* MX 10 host1\nsub.* TXT \"this is not a wildcard\"\nhost1 A 192.0.2.1\n_ssh._tcp.host1 SRV 0 0 22 host1\n\
                 _ssh._tcp.host2 SRV 0 0 22 host1\nsubdel NS ns.elsewhere.\nsubdel NS ns2.elsewhere.\n";
    let wild = "TXT \"this is a wildcard\"";
    answers(
        lines,
        &[
            ("host3.ex MX", "NOERROR aa | host3.ex. MX 10 host1.ex. |  | host1.ex. A 192.0.2.1"),
            ("host3.ex A", "NOERROR aa |  | ex. SOA"),
            ("foo.bar.ex TXT", &format!("NOERROR aa | foo.bar.ex. {wild}")),
            ("host1.ex MX", "NOERROR aa |  | ex. SOA"),
            ("sub.*.ex MX", "NOERROR aa |  | ex. SOA"),
            ("_telnet._tcp.host1.ex SRV", "NXDOMAIN aa |  | ex. SOA"),
            ("host.subdel.ex A", "NOERROR |  | subdel.ex. NS ns.elsewhere.; subdel.ex. NS ns2.elsewhere."),
            ("ghost.*.ex MX", "NXDOMAIN aa |  | ex. SOA"),
            // §2.3: the wildcard's own name.
            ("*.ex TXT", &format!("NOERROR aa | *.ex. {wild}")),
            ("*.ex A", "NOERROR aa |  | ex. SOA"),
            ("*.*.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("*.foo.ex TXT", &format!("NOERROR aa | *.foo.ex. {wild}")),
        ],
    );
}

#[test]
fn rfc4592_section_2_1_1_an_asterisk_elsewhere_is_a_label_like_any() {
    answers(
        "a.*.mid A 192.0.2.1\n*.a.*.mid TXT deep\n*.mid TXT mid\nx*y A 192.0.2.2\n** A 192.0.2.3\n*.*.dbl TXT two\n\\*.esc TXT esc\n",
        &[
            ("a.*.mid.ex A", "NOERROR aa | a.*.mid.ex. A 192.0.2.1"),
            ("a.q.mid.ex A", "NOERROR aa |  | ex. SOA"),
            ("a.q.mid.ex TXT", "NOERROR aa | a.q.mid.ex. TXT \"mid\""),
            ("b.*.mid.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("q.a.*.mid.ex TXT", "NOERROR aa | q.a.*.mid.ex. TXT \"deep\""),
            ("q.b.*.mid.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("xqy.ex A", "NXDOMAIN aa |  | ex. SOA"),
            ("x*y.ex A", "NOERROR aa | x*y.ex. A 192.0.2.2"),
            ("qq.ex A", "NXDOMAIN aa |  | ex. SOA"),
            // `*.dbl` is an empty non-terminal, and as a wildcard it has nothing to give but its existence.
            ("a.dbl.ex TXT", "NOERROR aa |  | ex. SOA"),
            ("a.b.dbl.ex TXT", "NOERROR aa |  | ex. SOA"),
            ("a.*.dbl.ex TXT", "NOERROR aa | a.*.dbl.ex. TXT \"two\""),
            // The octet counts, not how it was written.
            ("q.esc.ex TXT", "NOERROR aa | q.esc.ex. TXT \"esc\""),
        ],
    );
}

#[test]
fn rfc4592_section_2_2_2_empty_non_terminals_block() {
    answers(
        "*.ent TXT top\nx.y.z.ent TXT deep\n*.z.ent TXT mid\n",
        &[
            ("q.ent.ex TXT", "NOERROR aa | q.ent.ex. TXT \"top\""),
            ("q.r.ent.ex TXT", "NOERROR aa | q.r.ent.ex. TXT \"top\""),
            ("z.ent.ex TXT", "NOERROR aa |  | ex. SOA"),
            ("q.z.ent.ex TXT", "NOERROR aa | q.z.ent.ex. TXT \"mid\""),
            ("y.z.ent.ex TXT", "NOERROR aa |  | ex. SOA"),
            ("q.y.z.ent.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("q.x.y.z.ent.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc4592_section_3_3_1_only_the_wildcard_of_the_closest_encloser_counts() {
    answers(
        "* TXT top\nhost A 192.0.2.1\n*.sub TXT sub\nother.sub A 192.0.2.2\n",
        &[
            ("x.host.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("x.sub.ex TXT", "NOERROR aa | x.sub.ex. TXT \"sub\""),
            ("x.other.sub.ex TXT", "NXDOMAIN aa |  | ex. SOA"),
            ("other.sub.ex TXT", "NOERROR aa |  | ex. SOA"),
            ("sub.ex TXT", "NOERROR aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc4592_section_4_wildcards_below_delegations_and_dnames() {
    answers(
        "sub NS ns.elsewhere.\n*.sub TXT hidden\nw NS ns.elsewhere.\n*.x.w A 192.0.2.9\n",
        &[
            ("q.sub.ex TXT", "NOERROR |  | sub.ex. NS ns.elsewhere."),
            ("*.sub.ex TXT", "NOERROR |  | sub.ex. NS ns.elsewhere."),
            ("q.x.w.ex A", "NOERROR |  | w.ex. NS ns.elsewhere."),
        ],
    );
}

#[test]
fn rfc4592_section_4_2_ns_at_a_wildcard_is_data() {
    // The RFC leaves it open; NSD does the same, Knot refers, BIND takes no such zone. `check` warns.
    answers(
        "*.w NS ns.elsewhere.\n",
        &[
            ("q.w.ex NS", "NOERROR aa | q.w.ex. NS ns.elsewhere."),
            ("q.w.ex A", "NOERROR aa |  | ex. SOA"),
            ("*.w.ex NS", "NOERROR |  | *.w.ex. NS ns.elsewhere."),
            ("x.*.w.ex A", "NOERROR |  | *.w.ex. NS ns.elsewhere."),
        ],
    );
}

#[test]
fn rfc4592_section_4_3_cname_at_a_wildcard() {
    answers(
        "*.w CNAME www\nwww A 192.0.2.1\n*.x CNAME no.where\n*.out CNAME a.elsewhere.\n*.loop CNAME a.b.loop\nreal.w TXT real\n",
        &[
            ("q.w.ex A", "NOERROR aa | q.w.ex. CNAME www.ex.; www.ex. A 192.0.2.1"),
            ("q.r.w.ex CNAME", "NOERROR aa | q.r.w.ex. CNAME www.ex."),
            ("q.w.ex TXT", "NOERROR aa | q.w.ex. CNAME www.ex. | ex. SOA"),
            ("real.w.ex A", "NOERROR aa |  | ex. SOA"),
            ("q.x.ex A", "NXDOMAIN aa | q.x.ex. CNAME no.where.ex. | ex. SOA"),
            ("q.out.ex A", "NOERROR aa | q.out.ex. CNAME a.elsewhere."),
            ("q.loop.ex A", "NOERROR aa | q.loop.ex. CNAME a.b.loop.ex.; a.b.loop.ex. CNAME a.b.loop.ex."),
            ("w.ex A", "NOERROR aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc4592_section_4_4_dname_at_a_wildcard_is_data_at_names_made_from_it() {
    answers(
        "*.d DNAME to\nx.to A 192.0.2.1\n",
        &[
            // RFC 6672 §3.3: no substitution by what a wildcard makes.
            ("q.d.ex DNAME", "NOERROR aa | q.d.ex. DNAME to.ex."),
            ("x.q.d.ex A", "NOERROR aa |  | ex. SOA"),
            // Below the asterisk itself it is a DNAME like any.
            ("x.*.d.ex A", "NOERROR aa | *.d.ex. DNAME to.ex.; x.*.d.ex. CNAME x.to.ex.; x.to.ex. A 192.0.2.1"),
        ],
    );
}

#[test]
fn rfc4592_section_4_5_srv_and_4_6_ds_at_a_wildcard() {
    answers(
        "*._tcp SRV 1 2 3 host\nhost A 192.0.2.1\n*.w TXT w\n",
        &[("_sip._tcp.ex SRV", "NOERROR aa | _sip._tcp.ex. SRV 1 2 3 host.ex. |  | host.ex. A 192.0.2.1"), ("q.w.ex DS", "NOERROR aa |  | ex. SOA")],
    );
}

#[test]
fn rfc4592_section_3_3_3_wildcards_at_every_position_of_a_chain() {
    answers(
        "al CNAME q.w\n*.w CNAME r.v\n*.v A 192.0.2.1\nold DNAME w\n",
        &[
            ("al.ex A", "NOERROR aa | al.ex. CNAME q.w.ex.; q.w.ex. CNAME r.v.ex.; r.v.ex. A 192.0.2.1"),
            ("z.old.ex A", "NOERROR aa | old.ex. DNAME w.ex.; z.old.ex. CNAME z.w.ex.; z.w.ex. CNAME r.v.ex.; r.v.ex. A 192.0.2.1"),
        ],
    );
}

#[test]
fn wildcards_of_the_root_and_of_a_zone_are_asked_below_the_apex_only() {
    check(
        &world(&[(".", "$TTL 300\n@ SOA a.ns. h. 7 1 1 1 60\n@ NS a.ns.\na.ns. A 192.0.2.1\n*. TXT all\n"), ("ex", &format!("{HEAD}* TXT own\n"))]),
        &[
            ("anything TXT", "NOERROR aa | anything. TXT \"all\""),
            ("a.b.c TXT", "NOERROR aa | a.b.c. TXT \"all\""),
            (". TXT", "NOERROR aa |  | . SOA"),
            ("x.ns TXT", "NXDOMAIN aa |  | . SOA"),
            ("q.ex TXT", "NOERROR aa | q.ex. TXT \"own\""),
            ("ex TXT", "NOERROR aa |  | ex. SOA"),
        ],
    );
}
