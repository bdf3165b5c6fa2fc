//! What is found where: RFC 1034, 1035, 2181, 2308, 3597, 4035, 4343, 6604, 8020, 8482, 9471. Each answer was compared with those of NSD, Knot
//! and BIND.

use meridian::answer::Dice;

use crate::asked::{NOW, ask, check, octets, shown, wire, world, world_and_problems};

const HEAD: &str = "$TTL 300\n@ 3600 SOA ns1 h 7 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";

fn zone(lines: &str) -> String {
    format!("{HEAD}{lines}")
}

#[test]
fn rfc1034_section_4_3_2_step_3a_matches_whole_names() {
    let world = world(&[("ex", &zone("www A 192.0.2.1\nwww TXT x\na.b.c A 192.0.2.2\nal CNAME www\n"))]);
    check(
        &world,
        &[
            ("www.ex A", "NOERROR aa | www.ex. A 192.0.2.1"),
            ("www.ex TXT", "NOERROR aa | www.ex. TXT \"x\""),
            ("www.ex AAAA", "NOERROR aa |  | ex. SOA"),
            ("al.ex A", "NOERROR aa | al.ex. CNAME www.ex.; www.ex. A 192.0.2.1"),
            ("al.ex CNAME", "NOERROR aa | al.ex. CNAME www.ex."),
            ("al.ex AAAA", "NOERROR aa | al.ex. CNAME www.ex. | ex. SOA"),
            ("ex SOA", "NOERROR aa | ex. SOA ns1.ex. h.ex. 7 3600 900 1209600 60"),
            ("other A", "REFUSED"),
            (". NS", "REFUSED"),
        ],
    );
}

#[test]
fn rfc1034_section_4_3_2_step_3b_delegations_hide_what_is_below() {
    let world = world(&[(
        "ex",
        &zone(
            "sub NS ns.sub\nsub NS ns.out.\nns.sub A 192.0.2.2\nhidden.sub A 192.0.2.3\ndeep.sub NS ns.deep.sub\nns.deep.sub A 192.0.2.4\n\
             *.sub TXT hidden\nto CNAME hidden.sub\n",
        ),
    )]);
    let referral = "NOERROR |  | sub.ex. NS ns.sub.ex.; sub.ex. NS ns.out. | ns.sub.ex. A 192.0.2.2";
    let via = "NOERROR aa | to.ex. CNAME hidden.sub.ex. | sub.ex. NS ns.sub.ex.; sub.ex. NS ns.out. | ns.sub.ex. A 192.0.2.2";
    for question in [
        "sub.ex A",
        "sub.ex NS",
        "sub.ex SOA",
        "hidden.sub.ex A",
        "ns.sub.ex A",
        "x.sub.ex TXT",
        "deep.sub.ex NS",
        "ns.deep.sub.ex A",
        "deep.sub.ex DS",
        "sub.ex ANY",
    ] {
        assert_eq!(ask(&world, question), referral, "{question}");
    }
    check(&world, &[("to.ex A", via), ("sub.ex DS", "NOERROR aa |  | ex. SOA")]);
}

#[test]
fn rfc1034_section_4_2_1_the_child_zone_wins_over_the_parents_cut() {
    let parent = zone(
        "child NS ns.child\nchild DS 1 8 2 0123456789012345678901234567890123456789012345678901234567890123\nns.child A 192.0.2.2\n\
         gap.child A 192.0.2.3\nplain NS ns.child\nto CNAME www.child\ntox CNAME no.child\n",
    );
    let world = world(&[("ex", &parent), ("child.ex", &zone("www A 192.0.2.9\nup CNAME ns1.ex.\n")), ("plain.ex", &zone(""))]);
    let ds = "child.ex. DS 1 8 2 0123456789012345678901234567890123456789012345678901234567890123";
    check(
        &world,
        &[
            ("child.ex NS", "NOERROR aa | child.ex. NS ns1.child.ex. |  | ns1.child.ex. A 192.0.2.53"),
            ("www.child.ex A", "NOERROR aa | www.child.ex. A 192.0.2.9"),
            ("gap.child.ex A", "NXDOMAIN aa |  | child.ex. SOA"),
            // RFC 4035 §3.1.4.1: DS is the parent's, and so is its absence.
            ("child.ex DS", &format!("NOERROR aa | {ds}")),
            ("plain.ex DS", "NOERROR aa |  | ex. SOA"),
            // Chains lead from zone to zone; the code is that of the last name (RFC 6604 §3).
            ("to.ex A", "NOERROR aa | to.ex. CNAME www.child.ex.; www.child.ex. A 192.0.2.9"),
            ("tox.ex A", "NXDOMAIN aa | tox.ex. CNAME no.child.ex. | child.ex. SOA"),
            ("up.child.ex A", "NOERROR aa | up.child.ex. CNAME ns1.ex.; ns1.ex. A 192.0.2.53"),
        ],
    );
}

#[test]
fn rfc4035_section_3_1_4_1_ds_at_an_apex_whose_parent_is_elsewhere() {
    let world = world(&[("child.ex", &zone(""))]);
    check(&world, &[("child.ex DS", "NOERROR aa |  | child.ex. SOA"), ("ex DS", "REFUSED")]);
}

#[test]
fn rfc4035_section_3_1_4_1_ds_of_a_child_that_could_not_be_loaded() {
    let digest = "2 0123456789012345678901234567890123456789012345678901234567890123";
    let parent = zone(&format!("child NS ns.child\nchild DS 1 8 {digest}\nns.child A 192.0.2.2\nplain NS ns.child\nto CNAME child\n"));
    let broken = "@ A 192.0.2.256\n";
    let zones = [("ex", &*parent), ("child.ex", broken), ("plain.ex", broken), ("hidden.ex", broken), ("alone", broken), ("sub.alone", &zone(""))];
    let (world, problems) = world_and_problems(&zones);
    assert!(!problems.is_empty());
    check(
        &world,
        &[
            ("child.ex DS", &format!("NOERROR aa | child.ex. DS 1 8 {digest}")),
            ("plain.ex DS", "NOERROR aa |  | ex. SOA"),
            ("hidden.ex DS", "NXDOMAIN aa |  | ex. SOA"),
            ("to.ex DS", &format!("NOERROR aa | to.ex. CNAME child.ex.; child.ex. DS 1 8 {digest}")),
            // Everything else there is the child's, and so is DS below its apex.
            ("child.ex NS", "SERVFAIL"),
            ("child.ex A", "SERVFAIL"),
            ("www.child.ex DS", "SERVFAIL"),
            // A parent that could not be loaded knows nothing of its child, which knows nothing of its DS.
            ("sub.alone DS", "SERVFAIL"),
            ("sub.alone NS", "NOERROR aa | sub.alone. NS ns1.sub.alone. |  | ns1.sub.alone. A 192.0.2.53"),
            ("alone DS", "SERVFAIL"),
        ],
    );
}

#[test]
fn rfc1034_section_3_6_2_chains_and_loops() {
    let world = world(&[
        (
            "ex",
            &zone(
                "c1 CNAME c2\nc2 CNAME c3\nc3 CNAME www\nwww A 192.0.2.1\nloop1 CNAME loop2\nloop2 CNAME loop1\nself CNAME self\nin CNAME loop1\n\
                 out CNAME www.elsewhere.\nno CNAME missing\nover CNAME www.two.\n",
            ),
        ),
        ("two", &zone("www CNAME c2.ex.\nback CNAME loop1.ex.\n")),
    ]);
    check(
        &world,
        &[
            ("c1.ex A", "NOERROR aa | c1.ex. CNAME c2.ex.; c2.ex. CNAME c3.ex.; c3.ex. CNAME www.ex.; www.ex. A 192.0.2.1"),
            (
                "over.ex A",
                "NOERROR aa | over.ex. CNAME www.two.; www.two. CNAME c2.ex.; c2.ex. CNAME c3.ex.; c3.ex. CNAME www.ex.; www.ex. A 192.0.2.1",
            ),
            ("out.ex A", "NOERROR aa | out.ex. CNAME www.elsewhere."),
            ("no.ex A", "NXDOMAIN aa | no.ex. CNAME missing.ex. | ex. SOA"),
            // A loop is told once, as NSD and Knot do; BIND says SERVFAIL.
            ("loop1.ex A", "NOERROR aa | loop1.ex. CNAME loop2.ex.; loop2.ex. CNAME loop1.ex."),
            ("self.ex A", "NOERROR aa | self.ex. CNAME self.ex."),
            ("in.ex A", "NOERROR aa | in.ex. CNAME loop1.ex.; loop1.ex. CNAME loop2.ex.; loop2.ex. CNAME loop1.ex."),
            ("back.two A", "NOERROR aa | back.two. CNAME loop1.ex.; loop1.ex. CNAME loop2.ex.; loop2.ex. CNAME loop1.ex."),
            ("loop1.ex CNAME", "NOERROR aa | loop1.ex. CNAME loop2.ex."),
        ],
    );
}

#[test]
fn chains_end_after_sixteen_names() {
    let lines: String = (0..30).map(|n| format!("c{n} CNAME c{}\n", n + 1)).collect();
    let world = world(&[("ex", &zone(&(lines + "c30 A 192.0.2.1\n")))]);
    let answers = |question: &str| ask(&world, question).matches(" CNAME ").count();
    assert_eq!((answers("c0.ex A"), answers("c13.ex A"), answers("c15.ex A")), (17, 17, 15));
    assert!(ask(&world, "c14.ex A").ends_with("c30.ex. A 192.0.2.1"), "sixteen names are followed");
}

#[test]
fn rfc4035_section_2_5_types_beside_a_cname_are_not_looked_for_behind_it() {
    let world = world(&[("ex", &zone("al CNAME www\nwww A 192.0.2.1\nwww TXT x\n"))]);
    check(
        &world,
        &[
            ("al.ex RRSIG", "NOERROR aa |  | ex. SOA"),
            ("al.ex NSEC", "NOERROR aa |  | ex. SOA"),
            ("al.ex TXT", "NOERROR aa | al.ex. CNAME www.ex.; www.ex. TXT \"x\""),
        ],
    );
}

#[test]
fn rfc8020_section_2_empty_non_terminals_exist() {
    let world = world(&[("ex", &zone("a.b.c A 192.0.2.1\n_t._tcp.x.y SRV 1 2 3 ns1\n"))]);
    for question in ["c.ex A", "b.c.ex A", "b.c.ex SOA", "y.ex A", "x.y.ex NS", "_tcp.x.y.ex SRV"] {
        assert_eq!(ask(&world, question), "NOERROR aa |  | ex. SOA", "{question}");
    }
    for question in ["x.c.ex A", "x.b.c.ex A", "x.a.b.c.ex A", "_udp.x.y.ex SRV", "z.z.z.z.ex A"] {
        assert_eq!(ask(&world, question), "NXDOMAIN aa |  | ex. SOA", "{question}");
    }
}

#[test]
fn rfc2308_section_3_and_5_negative_answers_live_by_the_smaller_number() {
    for (soa_ttl, minimum, expected) in [(3600, 60, 60), (30, 60, 30), (0, 60, 0), (60, 0, 0)] {
        let text = format!("$TTL 300\n@ {soa_ttl} SOA ns1 h 7 1 1 1 {minimum}\n@ NS ns1\nns1 A 192.0.2.53\nal CNAME no\n");
        let world = world(&[("ex", &text)]);
        for (question, rcode) in
            [("no.ex A", "NXDOMAIN aa | "), ("ns1.ex TXT", "NOERROR aa | "), ("al.ex A", "NXDOMAIN aa | al.ex. 300 CNAME no.ex.")]
        {
            let reply = octets(&world, question, [192, 0, 2, 1].into(), &mut Dice::new(NOW, 1));
            assert_eq!(shown(&reply, true), format!("{rcode} | ex. {expected} SOA"), "{question}");
        }
        let own = shown(&octets(&world, "ex SOA", [192, 0, 2, 1].into(), &mut Dice::new(NOW, 1)), true);
        assert_eq!(own, format!("NOERROR aa | ex. {soa_ttl} SOA ns1.ex. h.ex. 7 1 1 1 {minimum}"));
    }
}

#[test]
fn rfc2181_section_5_2_a_set_has_one_ttl_the_smallest() {
    let world = world(&[("ex", &zone("a 100 A 192.0.2.1\na 50 A 192.0.2.2\na 70 TXT x\n"))]);
    let reply = octets(&world, "a.ex A", [192, 0, 2, 1].into(), &mut Dice::new(NOW, 1));
    assert_eq!(shown(&reply, true), "NOERROR aa | a.ex. 50 A 192.0.2.1; a.ex. 50 A 192.0.2.2");
}

#[test]
fn rfc2181_section_5_duplicates_are_one_record() {
    let world = world(&[("ex", &zone("a A 192.0.2.1\nA A 192.0.2.1\na MX 1 b\na MX 1 B\n"))]);
    check(&world, &[("a.ex A", "NOERROR aa | a.ex. A 192.0.2.1")]);
    assert_eq!(ask(&world, "a.ex MX").matches(" MX ").count(), 1, "names in data are compared without case");
}

#[test]
fn rfc2181_section_9_whole_sets_or_none() {
    let many: String = (0..80).map(|n| format!("big A 192.0.2.{n}\n")).collect();
    let glue: String =
        (1..14).map(|n| format!("ref NS ns{n}.ref\nns{n}.ref A 192.0.2.{n}\nns{n}.ref AAAA 2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n}\n")).collect();
    let names: String = (1..20).map(|n| format!("wide NS {n}.{}.{}.\n", "a".repeat(60), format!("{n}").repeat(20))).collect();
    let world = world(&[("ex", &zone(&format!("{many}{glue}{names}al CNAME big\nold DNAME new\nbig.new CNAME big\n")))]);
    check(
        &world,
        &[
            ("big.ex A udp:512", "NOERROR aa tc"),
            ("big.ex A udp:0", "NOERROR aa tc"),
            ("al.ex A udp:512", "NOERROR aa tc | al.ex. CNAME big.ex."),
            ("big.old.ex A udp:512", "NOERROR aa tc | old.ex. DNAME new.ex.; big.old.ex. CNAME big.new.ex.; big.new.ex. CNAME big.ex."),
            ("x.wide.ex A udp:1232", "NOERROR tc"),
        ],
    );
    assert_eq!(ask(&world, "big.ex A tcp").matches(" A ").count(), 80);
    // RFC 9471 §3.1: needed glue that does not fit is told by TC; what fits is kept, in whole sets.
    let small = ask(&world, "x.ref.ex A udp:512");
    assert!(small.starts_with("NOERROR tc |  | ref.ex. NS "), "{small}");
    assert_eq!(small.matches(" NS ").count(), 13);
    assert!(small.matches(" A ").count() + small.matches(" AAAA ").count() < 26);
    assert!(!ask(&world, "x.ref.ex A udp:1232").contains("tc"));
}

#[test]
fn rfc9471_section_3_glue_in_and_out_of_bailiwick() {
    let lines = "in NS ns.in\nns.in A 192.0.2.1\nns.in AAAA 2001:db8::1\nsib NS ns.in\nown NS host\nhost A 192.0.2.2\nout NS ns.elsewhere.\n\
                 two NS ns.two\ntwo NS ns.in\ntwo NS ns.elsewhere.\nns.two A 192.0.2.3\ncut NS cut\ncut A 192.0.2.4\n";
    let world = world(&[("ex", &zone(lines))]);
    check(
        &world,
        &[
            ("x.in.ex A", "NOERROR |  | in.ex. NS ns.in.ex. | ns.in.ex. A 192.0.2.1; ns.in.ex. AAAA 2001:db8::1"),
            ("x.sib.ex A", "NOERROR |  | sib.ex. NS ns.in.ex. | ns.in.ex. A 192.0.2.1; ns.in.ex. AAAA 2001:db8::1"),
            ("x.own.ex A", "NOERROR |  | own.ex. NS host.ex. | host.ex. A 192.0.2.2"),
            ("x.out.ex A", "NOERROR |  | out.ex. NS ns.elsewhere."),
            // What is needed comes first, sibling glue follows.
            (
                "x.two.ex A",
                "NOERROR |  | two.ex. NS ns.two.ex.; two.ex. NS ns.in.ex.; two.ex. NS ns.elsewhere. | ns.two.ex. A 192.0.2.3; ns.in.ex. A 192.0.2.1; ns.in.ex. AAAA 2001:db8::1",
            ),
            ("x.cut.ex A", "NOERROR |  | cut.ex. NS cut.ex. | cut.ex. A 192.0.2.4"),
            ("cut.ex A", "NOERROR |  | cut.ex. NS cut.ex. | cut.ex. A 192.0.2.4"),
        ],
    );
}

#[test]
fn sibling_glue_that_does_not_fit_is_left_out_silently() {
    let names: String =
        (1..14).map(|n| format!("ref NS n{n}.glue\nn{n}.glue A 192.0.2.{n}\nn{n}.glue AAAA 2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n}\n")).collect();
    let world = world(&[("ex", &zone(&names))]);
    let reply = ask(&world, "x.ref.ex A udp:512");
    assert!(reply.starts_with("NOERROR |  | ref.ex. NS "), "{reply}");
    assert!((1..26).contains(&(reply.matches(" A ").count() + reply.matches(" AAAA ").count())));
}

#[test]
fn rfc4343_section_4_1_case_is_kept_and_ignored() {
    let world = world(&[("eX", &zone("WwW A 192.0.2.1\nwww TXT x\nAl CNAME WWW\n*.W TXT w\nOld DNAME New\na.new A 192.0.2.2\n"))]);
    for question in ["www.ex A", "WWW.EX A", "wWw.eX A"] {
        let reply = octets(&world, question, [192, 0, 2, 1].into(), &mut Dice::new(NOW, 1));
        let name = question.split(' ').next().expect("a name");
        // The question comes back as it was sent, and the owner points to it.
        let sent = meridian::dns::Name::parse_absolute(name).expect("a name");
        assert_eq!(&reply[12..12 + sent.as_wire().len()], sent.as_wire());
        assert_eq!(&reply[12 + sent.as_wire().len() + 4..][..2], &[0xc0, 12]);
        assert_eq!(wire(name), b"\x03www\x02ex\x00");
    }
    check(
        &world,
        &[
            ("www.ex TXT", "NOERROR aa | www.ex. TXT \"x\""),
            ("AL.ex A", "NOERROR aa | AL.ex. CNAME WWW.ex.; WWW.ex. A 192.0.2.1"),
            ("q.w.EX TXT", "NOERROR aa | q.w.EX. TXT \"w\""),
            ("A.OLD.ex A", "NOERROR aa | OLD.ex. DNAME New.ex.; A.OLD.ex. CNAME a.New.ex.; a.New.ex. A 192.0.2.2"),
        ],
    );
}

#[test]
fn rfc3597_section_3_unknown_types_are_looked_up_like_any() {
    let lines = r"a TYPE65280 \# 3 abcdef
a TYPE731 \# 6 03777777 C00C
a CLASS1 A \# 4 C0000201
*.w TYPE65280 \# 1 00
al CNAME a
";
    let world = world(&[("ex", &zone(lines))]);
    check(
        &world,
        &[
            ("a.ex TYPE65280", r"NOERROR aa | a.ex. TYPE65280 \# 3 abcdef"),
            // §4: what looks like a name in unknown data is not touched.
            ("a.ex TYPE731", r"NOERROR aa | a.ex. TYPE731 \# 6 03777777c00c"),
            ("a.ex TYPE1", "NOERROR aa | a.ex. A 192.0.2.1"),
            ("a.ex TYPE65281", "NOERROR aa |  | ex. SOA"),
            ("q.w.ex TYPE65280", r"NOERROR aa | q.w.ex. TYPE65280 \# 1 00"),
            ("al.ex TYPE65280", r"NOERROR aa | al.ex. CNAME a.ex.; a.ex. TYPE65280 \# 3 abcdef"),
        ],
    );
}

#[test]
fn rfc6895_section_3_1_types_that_are_no_data_are_found_nowhere() {
    let world = world(&[("ex", &zone("a A 192.0.2.1\n"))]);
    for rtype in ["OPT", "TKEY", "TSIG", "MAILA", "MAILB", "TYPE128", "TYPE0", "TYPE65535"] {
        assert_eq!(ask(&world, &format!("a.ex {rtype}")), "NOERROR aa |  | ex. SOA", "{rtype}");
        assert_eq!(ask(&world, &format!("no.ex {rtype}")), "NXDOMAIN aa |  | ex. SOA", "{rtype}");
    }
    for rtype in ["AXFR", "IXFR"] {
        assert_eq!(ask(&world, &format!("ex {rtype} tcp")), "REFUSED", "{rtype}");
    }
}

#[test]
fn rfc1035_section_6_2_class_any_is_answered_without_authority() {
    let world = world(&[("ex", &zone("a A 192.0.2.1\nsub NS ns.sub\nns.sub A 192.0.2.2\n"))]);
    check(
        &world,
        &[
            ("a.ex A ANY-CLASS", "NOERROR | a.ex. A 192.0.2.1"),
            ("no.ex A ANY-CLASS", "NXDOMAIN"),
            ("a.ex TXT ANY-CLASS", "NOERROR"),
            ("x.sub.ex A ANY-CLASS", "NOERROR |  | sub.ex. NS ns.sub.ex. | ns.sub.ex. A 192.0.2.2"),
            ("other A ANY-CLASS", "REFUSED"),
        ],
    );
}

#[test]
fn rfc8482_section_4_2_any_is_one_hinfo() {
    let world = world(&[("ex", &zone("a A 192.0.2.1\nal CNAME a\nx.ent A 192.0.2.2\n*.w TXT w\n"))]);
    check(
        &world,
        &[
            ("a.ex ANY", "NOERROR aa | a.ex. HINFO \"RFC8482\" \"\""),
            ("ex ANY", "NOERROR aa | ex. HINFO \"RFC8482\" \"\""),
            ("q.w.ex ANY", "NOERROR aa | q.w.ex. HINFO \"RFC8482\" \"\""),
            ("al.ex ANY", "NOERROR aa | al.ex. CNAME a.ex."),
            ("ent.ex ANY", "NOERROR aa |  | ex. SOA"),
            ("no.ex ANY", "NXDOMAIN aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc2181_section_11_any_octets_make_a_name() {
    let world = world(&[("ex", &zone("a\\.b A 192.0.2.1\n\\000\\255 A 192.0.2.2\n\\@ A 192.0.2.3\nb.a A 192.0.2.4\n"))]);
    check(
        &world,
        &[
            (r"a\.b.ex A", r"NOERROR aa | a\.b.ex. A 192.0.2.1"),
            ("a.b.ex A", "NXDOMAIN aa |  | ex. SOA"),
            (r"\000\255.ex A", r"NOERROR aa | \000\255.ex. A 192.0.2.2"),
            (r"\@.ex A", r"NOERROR aa | \@.ex. A 192.0.2.3"),
            (r"\003www.ex A", "NXDOMAIN aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc1035_section_2_3_4_names_and_labels_at_their_limits() {
    let label = "l".repeat(63);
    // 255 octets: three labels of 63, one of 57, and `ex`.
    let longest = format!("{label}.{label}.{label}.{}", "m".repeat(57));
    let most = vec!["a"; 125].join(".");
    let world = world(&[("ex", &zone(&format!("{longest} A 192.0.2.1\n{most} A 192.0.2.2\n{label} A 192.0.2.3\n*.w TXT w\n")))]);
    let wild = format!("{}.{label}.{label}.{}.w", label, "n".repeat(55));
    check(
        &world,
        &[
            (&format!("{longest}.ex A"), &format!("NOERROR aa | {longest}.ex. A 192.0.2.1")),
            (&format!("{}.ex A", &longest[64..]), "NOERROR aa |  | ex. SOA"),
            (&format!("{most}.ex A"), &format!("NOERROR aa | {most}.ex. A 192.0.2.2")),
            (&format!("b.{}.ex A", &most[2..]), "NXDOMAIN aa |  | ex. SOA"),
            (&format!("{label}.ex A"), &format!("NOERROR aa | {label}.ex. A 192.0.2.3")),
            (&format!("{wild}.ex TXT"), &format!("NOERROR aa | {wild}.ex. TXT \"w\"")),
        ],
    );
}

#[test]
fn zones_at_the_root_and_at_a_tld() {
    let root = "$TTL 300\n@ 3600 SOA a.root. h. 7 1 1 1 60\n@ NS a.root.\na.root. A 192.0.2.1\ncom. NS ns.com.\nns.com. A 192.0.2.2\ncom. DS 1 8 2 \
                0123456789012345678901234567890123456789012345678901234567890123\ntld. NS ns.tld.\nns.tld. A 192.0.2.3\n*.wild. TXT w\n";
    let world = world(&[(".", root), ("tld", &zone("foo NS ns.foo\nns.foo A 192.0.2.4\n"))]);
    check(
        &world,
        &[
            (". NS", "NOERROR aa | . NS a.root. |  | a.root. A 192.0.2.1"),
            (". SOA", "NOERROR aa | . SOA a.root. h. 7 1 1 1 60"),
            (". A", "NOERROR aa |  | . SOA"),
            (". DS", "NOERROR aa |  | . SOA"),
            ("com NS", "NOERROR |  | com. NS ns.com. | ns.com. A 192.0.2.2"),
            ("com DS", "NOERROR aa | com. DS 1 8 2 0123456789012345678901234567890123456789012345678901234567890123"),
            ("www.example.com A", "NOERROR |  | com. NS ns.com. | ns.com. A 192.0.2.2"),
            ("nope A", "NXDOMAIN aa |  | . SOA"),
            ("root A", "NOERROR aa |  | . SOA"),
            ("q.wild TXT", "NOERROR aa | q.wild. TXT \"w\""),
            ("tld DS", "NOERROR aa |  | . SOA"),
            ("tld NS", "NOERROR aa | tld. NS ns1.tld. |  | ns1.tld. A 192.0.2.53"),
            ("www.foo.tld A", "NOERROR |  | foo.tld. NS ns.foo.tld. | ns.foo.tld. A 192.0.2.4"),
            ("www.bar.tld A", "NXDOMAIN aa |  | tld. SOA"),
        ],
    );
}

#[test]
fn rfc5155_section_7_2_8_names_of_nsec3_records_do_not_exist() {
    let hash = "2t7b4g4vsa5smi47k61mv5bv1a22bojr";
    let lines = format!(
        "{hash} NSEC3 1 0 0 - {hash} A\n{hash} RRSIG NSEC3 8 2 300 20300101000000 20200101000000 1 ex. AQID\n*.w TXT w\n{hash}.w NSEC3 1 0 0 - {hash} A\n"
    );
    check(
        &world(&[("ex", &zone(&lines))]),
        &[
            (&format!("{hash}.ex NSEC3"), "NXDOMAIN aa |  | ex. SOA"),
            (&format!("{hash}.ex A"), "NXDOMAIN aa |  | ex. SOA"),
            (&format!("{hash}.w.ex TXT"), &format!("NOERROR aa | {hash}.w.ex. TXT \"w\"")),
        ],
    );
}

#[test]
fn rfc6891_section_6_2_4_a_reply_of_exactly_the_size_that_is_taken_is_whole() {
    // Header 12, question 12, OPT 11, one record of 12 and two strings: 512.
    let text = |len: usize| format!("fit TXT \"{}\" \"{}\"\n", "a".repeat(255), "b".repeat(len));
    for (len, truncated) in [(208, false), (209, true)] {
        let world = world(&[("ex", &format!("$TTL 300\n@ SOA ns1 h 7 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n{}", text(len)))]);
        let mut dice = Dice::new(0, 0);
        let reply = octets(&world, "fit.ex TXT udp:512", std::net::IpAddr::from([192, 0, 2, 1]), &mut dice);
        assert_eq!((reply.len() == 512, reply[2] & 2 != 0), (!truncated, truncated), "{} octets", reply.len());
    }
}
