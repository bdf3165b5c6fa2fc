//! A steered name answers as the same records would if they were static: names, wildcards, chains, absent types and names, class ANY.

use crate::asked::{ask, world};

/// Each pool has one endpoint of a family, so that what is steered can be written down.
const STEERED: &str = r#"
[zone]
name = "ex"
ttl = 300
ns = ["ns1"]
soa = { mname = "ns1", rname = "h" }
[records]
ns1.A = "192.0.2.53"
plain.A = "192.0.2.1"
alias.CNAME = "both"
chain.CNAME = "alias"
"*.walias".CNAME = "both"
out.CNAME = "x.wild"
old.DNAME = "new"
both.TXT = "beside"
"@".TXT = "apex"
sub.NS = "ns.sub"
"ns.sub".A = "192.0.2.54"
to-gone.CNAME = "gone"
[pool.both]
endpoints = ["192.0.2.10", "2001:db8::10"]
[pool.four]
endpoints = ["192.0.2.4"]
[pool.more]
endpoints = ["192.0.2.11"]
records = { MX = ["10 mail.elsewhere."], SRV = "1 2 3 t.elsewhere.", TYPE65280 = "\\# 2 abcd" }
[pool.cname]
cname = "both"
[pool.away]
cname = "cdn.elsewhere."
[steer.both]
use = "both"
[steer.four]
use = "four"
[steer.more]
use = "more"
[steer.cname]
use = "cname"
[steer.away]
use = "away"
[steer."@"]
use = "both"
[steer."*.wild"]
use = "both"
[steer."x.y.deep"]
use = "four"
[steer."a.*.mid"]
use = "four"
[steer."*.wcname"]
use = "cname"
[steer."to.new"]
use = "both"
[steer.svc]
use = "both"
https = { alpn = ["h3", "h2"] }
[steer.svcalias]
use = "four"
https = { alias = "svc" }
"#;

/// The same, written down.
const STATIC: &str = r#"$TTL 300
@ SOA ns1 h 1 1 1 1 60
@ NS ns1
ns1 A 192.0.2.53
plain A 192.0.2.1
alias CNAME both
chain CNAME alias
*.walias CNAME both
out CNAME x.wild
old DNAME new
both TXT beside
@ TXT apex
sub NS ns.sub
ns.sub A 192.0.2.54
to-gone CNAME gone
both A 192.0.2.10
both AAAA 2001:db8::10
four A 192.0.2.4
more A 192.0.2.11
more MX 10 mail.elsewhere.
more SRV 1 2 3 t.elsewhere.
more TYPE65280 \# 2 abcd
cname CNAME both
away CNAME cdn.elsewhere.
@ A 192.0.2.10
@ AAAA 2001:db8::10
*.wild A 192.0.2.10
*.wild AAAA 2001:db8::10
x.y.deep A 192.0.2.4
a.*.mid A 192.0.2.4
*.wcname CNAME both
to.new A 192.0.2.10
to.new AAAA 2001:db8::10
svc A 192.0.2.10
svc AAAA 2001:db8::10
svc HTTPS 1 . alpn="h3,h2" ipv4hint=192.0.2.10 ipv6hint=2001:db8::10
svcalias A 192.0.2.4
svcalias HTTPS 0 svc
"#;

#[test]
fn steered_names_answer_as_their_static_rendering() {
    let (steered, plain) = (world(&[("ex.toml", STEERED)]), world(&[("ex", STATIC)]));
    let names = [
        "ex",
        "both",
        "four",
        "more",
        "cname",
        "away",
        "alias",
        "chain",
        "q.walias",
        "out",
        "x.wild",
        "*.wild",
        "a.b.wild",
        "wild",
        "x.y.deep",
        "y.deep",
        "deep",
        "q.x.y.deep",
        "q.y.deep",
        "a.*.mid",
        "*.mid",
        "mid",
        "b.*.mid",
        "a.q.mid",
        "q.wcname",
        "*.wcname",
        "wcname",
        "to.old",
        "no.old",
        "old",
        "q.to.old",
        "to.new",
        "new",
        "svc",
        "svcalias",
        "q.both",
        "q.cname",
        "sub",
        "q.sub",
        "to-gone",
        "gone",
        "BoTh",
        "plain",
    ];
    let types = [
        "A",
        "AAAA",
        "TXT",
        "MX",
        "SRV",
        "CNAME",
        "DNAME",
        "NS",
        "SOA",
        "DS",
        "HTTPS",
        "SVCB",
        "TYPE65280",
        "RRSIG",
        "ANY",
        "A ANY-CLASS",
        "TXT ANY-CLASS",
    ];
    let mut wrong = Vec::new();
    for name in names {
        let name = if name == "ex" { name.to_string() } else { format!("{name}.ex") };
        for rtype in types {
            let question = format!("{name} {rtype}");
            // Beside the additional section, which leaves steered targets out, and the numbers of the SOA.
            let core = |text: String| -> Vec<String> {
                let parts: Vec<String> = text.split(" | ").take(3).map(str::to_string).collect();
                let used = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
                parts.into_iter().take(used).map(|part| if part.contains(" SOA ns1") { "the SOA".into() } else { part }).collect()
            };
            let (found, expected) = (core(ask(&steered, &question)), core(ask(&plain, &question)));
            if found != expected {
                wrong.push(format!("{question}\n  steered {found:?}\n  static  {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
