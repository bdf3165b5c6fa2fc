//! What comes along in the additional section, and in which order sets leave.

use std::collections::BTreeSet;

use meridian::answer::Dice;

use crate::asked::{NOW, ask, check, octets, shown, world};

const HEAD: &str = "$TTL 300\n@ 3600 SOA ns1 h 7 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";

fn zone(lines: &str) -> String {
    format!("{HEAD}{lines}")
}

#[test]
fn rfc1035_section_3_3_9_and_rfc2782_addresses_of_targets() {
    let lines = "@ MX 10 mail\n@ MX 20 mail\n@ MX 30 alias\n@ MX 40 out.elsewhere.\n@ MX 50 none\nmail A 192.0.2.1\nmail AAAA 2001:db8::1\nalias CNAME mail\n\
                 none TXT x\ns SRV 1 2 3 mail\ns SRV 1 2 4 q.w\ns SRV 1 2 5 x.old\n*.w A 192.0.2.2\nold DNAME new\nx.new A 192.0.2.3\n\
                 sub NS ns.sub\nns.sub A 192.0.2.4\ng SRV 1 1 1 ns.sub\nk KX 1 mail\naf AFSDB 1 mail\nrt RT 1 mail\np PTR mail\nn NAPTR 1 1 s \"\" \"\" mail\n\
                 *.mx MX 5 mail\nchain CNAME k\n";
    let mail = "mail.ex. A 192.0.2.1; mail.ex. AAAA 2001:db8::1";
    check(
        &world(&[("ex", &zone(lines)), ("elsewhere", &zone("out A 192.0.2.9\n"))]),
        &[
            (
                "ex MX",
                &format!(
                    "NOERROR aa | ex. MX 10 mail.ex.; ex. MX 20 mail.ex.; ex. MX 30 alias.ex.; ex. MX 40 out.elsewhere.; ex. MX 50 none.ex. |  | {mail}"
                ),
            ),
            (
                "s.ex SRV",
                &format!(
                    "NOERROR aa | s.ex. SRV 1 2 3 mail.ex.; s.ex. SRV 1 2 4 q.w.ex.; s.ex. SRV 1 2 5 x.old.ex. |  | {mail}; q.w.ex. A 192.0.2.2"
                ),
            ),
            ("g.ex SRV", "NOERROR aa | g.ex. SRV 1 1 1 ns.sub.ex. |  | ns.sub.ex. A 192.0.2.4"),
            ("ex NS", "NOERROR aa | ex. NS ns1.ex. |  | ns1.ex. A 192.0.2.53"),
            ("k.ex KX", &format!("NOERROR aa | k.ex. KX 1 mail.ex. |  | {mail}")),
            ("chain.ex KX", &format!("NOERROR aa | chain.ex. CNAME k.ex.; k.ex. KX 1 mail.ex. |  | {mail}")),
            ("af.ex AFSDB", &format!("NOERROR aa | af.ex. AFSDB 1 mail.ex. |  | {mail}")),
            ("rt.ex RT", &format!("NOERROR aa | rt.ex. RT 1 mail.ex. |  | {mail}")),
            ("q.mx.ex MX", &format!("NOERROR aa | q.mx.ex. MX 5 mail.ex. |  | {mail}")),
            // Nothing comes with these.
            ("p.ex PTR", "NOERROR aa | p.ex. PTR mail.ex."),
            ("n.ex NAPTR", "NOERROR aa | n.ex. NAPTR 1 1 \"s\" \"\" \"\" mail.ex."),
        ],
    );
}

#[test]
fn rfc9460_section_4_1_services_bring_their_targets() {
    let lines = "h HTTPS 1 . alpn=h2\nh A 192.0.2.1\nh AAAA 2001:db8::1\nto HTTPS 1 h alpn=h2\nal HTTPS 0 h\nal2 HTTPS 0 al\nnone HTTPS 0 .\n\
                 self HTTPS 0 self\nl1 HTTPS 0 l2\nl2 HTTPS 0 l1\nl2 A 192.0.2.2\ns SVCB 1 h\ncn HTTPS 0 c\nc CNAME h\nout HTTPS 0 x.elsewhere.\n\
                 *.w HTTPS 1 . alpn=h2\n*.w A 192.0.2.3\nq.t HTTPS 1 any.w alpn=h3\n";
    let h = "h.ex. A 192.0.2.1; h.ex. AAAA 2001:db8::1";
    let service = "h.ex. HTTPS 1 . alpn=\"h2\"";
    check(
        &world(&[("ex", &zone(lines))]),
        &[
            ("h.ex HTTPS", &format!("NOERROR aa | {service} |  | {h}")),
            ("to.ex HTTPS", &format!("NOERROR aa | to.ex. HTTPS 1 h.ex. alpn=\"h2\" |  | {service}; {h}")),
            ("al.ex HTTPS", &format!("NOERROR aa | al.ex. HTTPS 0 h.ex. |  | {service}; {h}")),
            ("al2.ex HTTPS", &format!("NOERROR aa | al2.ex. HTTPS 0 al.ex. |  | al.ex. HTTPS 0 h.ex.; {service}; {h}")),
            ("none.ex HTTPS", "NOERROR aa | none.ex. HTTPS 0 ."),
            ("self.ex HTTPS", "NOERROR aa | self.ex. HTTPS 0 self.ex."),
            ("l1.ex HTTPS", "NOERROR aa | l1.ex. HTTPS 0 l2.ex. |  | l2.ex. HTTPS 0 l1.ex.; l2.ex. A 192.0.2.2"),
            ("s.ex SVCB", &format!("NOERROR aa | s.ex. SVCB 1 h.ex. |  | {h}")),
            ("cn.ex HTTPS", "NOERROR aa | cn.ex. HTTPS 0 c.ex."),
            ("out.ex HTTPS", "NOERROR aa | out.ex. HTTPS 0 x.elsewhere."),
            ("q.w.ex HTTPS", "NOERROR aa | q.w.ex. HTTPS 1 . alpn=\"h2\" |  | q.w.ex. A 192.0.2.3"),
            ("q.t.ex HTTPS", "NOERROR aa | q.t.ex. HTTPS 1 any.w.ex. alpn=\"h3\" |  | any.w.ex. HTTPS 1 . alpn=\"h2\"; any.w.ex. A 192.0.2.3"),
        ],
    );
}

#[test]
fn additional_sets_never_truncate_and_are_whole() {
    let many: String = (0..40).map(|n| format!("big A 192.0.2.{n}\n")).collect();
    let world = world(&[("ex", &zone(&format!("{many}m MX 1 big\nm MX 2 small\nsmall A 192.0.2.99\n")))]);
    check(&world, &[("m.ex MX udp:512", "NOERROR aa | m.ex. MX 1 big.ex.; m.ex. MX 2 small.ex. |  | small.ex. A 192.0.2.99")]);
    assert_eq!(ask(&world, "m.ex MX udp:1232").matches(" A ").count(), 41);
    // Every payload size between: never more than it, never TC, sets of 1, 40 or both.
    for size in 512..1232 {
        let reply = octets(&world, &format!("m.ex MX udp:{size}"), [192, 0, 2, 1].into(), &mut Dice::new(NOW, 1));
        assert!(reply.len() <= size && reply[2] & 2 == 0, "{size}");
        assert!([1, 40, 41].contains(&shown(&reply, false).matches(" A ").count()), "{size}");
    }
}

#[test]
fn steered_targets_stay_out_so_that_static_answers_hold_for_everyone() {
    let text = "[zone]\nname = \"ex\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\"@\".MX = [\"1 www\", \"2 mail\"]\nmail.A = \"192.0.2.1\"\n\
                [pool.p]\nendpoints = [\"192.0.2.7\"]\n[steer.www]\nuse = \"p\"\n";
    check(&world(&[("ex.toml", text)]), &[("ex MX", "NOERROR aa | ex. MX 1 www.ex.; ex. MX 2 mail.ex. |  | mail.ex. A 192.0.2.1")]);
}

/// Records of pools are as those of static names: what they point to in the zone goes along, once, and steered targets stay out.
#[test]
fn what_records_of_pools_point_to_goes_along() {
    let text = "[zone]\nname = \"ex\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nmail.A = \"192.0.2.1\"\nmail.AAAA = \"2001:db8::1\"\n\
                \"*.w\".A = \"192.0.2.2\"\nsvc.A = \"192.0.2.3\"\nsvc.HTTPS = \"1 . alpn=h2\"\n\
                [pool.p]\nendpoints = [\"192.0.2.7\"]\n\
                records = { MX = [\"1 mail\", \"2 Mail\", \"3 www\", \"4 a.w\", \"5 mail.example.net.\"], SRV = \"1 1 25 mail\", HTTPS = \"1 svc\", TXT = \"x\" }\n\
                [steer.www]\nuse = \"p\"\n";
    let mx = "www.ex. MX 1 mail.ex.; www.ex. MX 2 mail.ex.; www.ex. MX 3 www.ex.; www.ex. MX 4 a.w.ex.; www.ex. MX 5 mail.example.net.";
    check(
        &world(&[("ex.toml", text)]),
        &[
            ("www.ex MX", &format!("NOERROR aa | {mx} |  | mail.ex. A 192.0.2.1; mail.ex. AAAA 2001:db8::1; a.w.ex. A 192.0.2.2")),
            ("www.ex SRV", "NOERROR aa | www.ex. SRV 1 1 25 mail.ex. |  | mail.ex. A 192.0.2.1; mail.ex. AAAA 2001:db8::1"),
            ("www.ex HTTPS", "NOERROR aa | www.ex. HTTPS 1 svc.ex. |  | svc.ex. HTTPS 1 . alpn=\"h2\"; svc.ex. A 192.0.2.3"),
            ("www.ex TXT", "NOERROR aa | www.ex. TXT \"x\""),
        ],
    );
}

#[test]
fn addresses_leave_in_turn_when_rotation_is_on() {
    let lines = "a A 192.0.2.1\na A 192.0.2.2\na A 192.0.2.3\na AAAA 2001:db8::1\na AAAA 2001:db8::2\na TXT x\na TXT y\na MX 1 a\na MX 2 b\nal CNAME a\n*.w A 192.0.2.1\n*.w A 192.0.2.2\n";
    let mut world = world(&[("ex", &zone(lines))]);
    let orders = |world: &meridian::world::World, question: &str| {
        let mut dice = Dice::new(NOW, 7);
        (0..60).map(|_| shown(&octets(world, question, [192, 0, 2, 1].into(), &mut dice), false)).collect::<BTreeSet<String>>()
    };
    for question in ["a.ex A", "a.ex AAAA", "al.ex A", "q.w.ex A"] {
        assert_eq!(orders(&world, question).len(), 1, "{question}: off");
    }
    world.server.rotate = true;
    for (question, count) in [("a.ex A", 3), ("al.ex A", 3), ("a.ex AAAA", 2), ("q.w.ex A", 2), ("a.ex TXT", 1), ("a.ex MX", 1)] {
        let all = orders(&world, question);
        assert_eq!(all.len(), count, "{question}: {all:#?}");
        // Each address once, and each first once.
        let sorted = |text: &String| text.split("; ").map(|part| part.rsplit(' ').next().map(str::to_string)).collect::<BTreeSet<_>>();
        assert!(all.iter().all(|text| sorted(text) == sorted(all.first().expect("one"))), "{all:#?}");
    }
    let shares = orders(&world, "a.ex A");
    assert!(shares.contains("NOERROR aa | a.ex. A 192.0.2.2; a.ex. A 192.0.2.3; a.ex. A 192.0.2.1"), "{shares:#?}");
}
