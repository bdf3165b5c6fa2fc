//! What the engine is measured with: files of made-up zones, and queries for them as packets. Plain data, so that the benchmark and the test
//! that counts allocations ask the same.

/// Queries laid end to end, so that walking over them costs little beside answering.
#[derive(Default)]
pub(crate) struct Queries {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Queries {
    /// All packets in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.ends.iter().enumerate().map(|(at, end)| &self.octets[if at == 0 { 0 } else { self.ends[at - 1] }..*end])
    }

    fn push(&mut self, name: &str, rtype: u16, client: Option<[u8; 3]>) {
        let octets = &mut self.octets;
        // ID, RD, one question, one additional record.
        octets.extend_from_slice(&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in name.split('.') {
            octets.push(label.len() as u8);
            octets.extend_from_slice(label.as_bytes());
        }
        octets.push(0);
        octets.extend_from_slice(&rtype.to_be_bytes());
        octets.extend_from_slice(&[0, 1]);
        // OPT: 1,232 octets of payload.
        octets.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
        match client {
            None => octets.extend_from_slice(&[0, 0]),
            Some([a, b, c]) => octets.extend_from_slice(&[0, 11, 0, 8, 0, 7, 0, 1, 24, 0, a, b, c]),
        }
        self.ends.push(self.octets.len());
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// How many different queries of each kind there are.
const QUERIES: u32 = 4096;
/// Different clients of the geo kind.
const CLIENTS: u32 = 100_000;

/// The `n`th of a sequence that visits every 32-bit number once (Knuth's multiplicative hash).
fn scattered(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761)
}

/// The `n`th client: a /24 of the unicast space, all different for the first 2^22.
fn client(n: u32) -> [u8; 3] {
    let [a, b, c, _] = (scattered(n) & 0xffff_ff00).to_be_bytes();
    [1 + a % 223, b, c]
}

/// A name's first label, in no order.
fn label(n: u32) -> String {
    format!("n{:08x}", scattered(n))
}

const SOA: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 1209600 60\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\nns2 A 192.0.2.54\n";

/// Text of a master file with so many names, an A and an AAAA record each.
pub(crate) fn names_zone(names: u32) -> String {
    let mut text = String::from(SOA);
    for n in 0..names {
        let [_, b, c, d] = n.to_be_bytes();
        text.push_str(&format!("{} A 10.{b}.{c}.{d}\n{0} AAAA 2001:db8::{:x}:{:x}\n", label(n), n >> 16, n & 0xffff));
    }
    text
}

/// Names that [`names_zone`] has.
pub(crate) fn hits(zone: &str, names: u32) -> Queries {
    let mut queries = Queries::default();
    for n in 0..QUERIES {
        let name = label(scattered(n) % names);
        queries.push(&format!("{name}.{zone}"), if n % 2 == 0 { A } else { AAAA }, None);
    }
    queries
}

/// Names that [`names_zone`] does not have.
pub(crate) fn misses(zone: &str) -> Queries {
    let mut queries = Queries::default();
    (0..QUERIES).for_each(|n| queries.push(&format!("x{:08x}.{zone}", scattered(n)), A, None));
    queries
}

/// Names that [`names_zone`] has, asked for a type that they do not have.
pub(crate) fn nodata(zone: &str, names: u32) -> Queries {
    let mut queries = Queries::default();
    (0..QUERIES).for_each(|n| queries.push(&format!("{}.{zone}", label(scattered(n) % names)), 16, None));
    queries
}

/// A master file with one of everything that is static.
pub(crate) const SPECIAL_ZONE: &str = "$TTL 300
@ SOA ns1 hostmaster 1 3600 900 1209600 60
@ NS ns1
ns1 A 192.0.2.53
www CNAME a
a CNAME b
b CNAME end
end A 192.0.2.80
*.wild A 192.0.2.81
child NS ns1.child
child NS ns2.child
ns1.child A 192.0.2.54
ns2.child A 192.0.2.55
";

/// Kinds of query to [`SPECIAL_ZONE`], served as `special.test`.
pub(crate) fn special() -> Vec<(&'static str, Queries)> {
    let of = |name: &dyn Fn(u32) -> String| {
        let mut queries = Queries::default();
        (0..QUERIES).for_each(|n| queries.push(&name(n), A, None));
        queries
    };
    vec![
        ("cname_chain_of_3", of(&|_| "www.special.test".into())),
        ("wildcard", of(&|n| format!("{}.wild.special.test", label(n)))),
        ("referral", of(&|n| format!("{}.child.special.test", label(n)))),
    ]
}

/// A zone with every kind of steering, served as `steered.test`; `app00` to `app99` are answered by continent from five regions.
pub(crate) fn steered_zone() -> String {
    let mut text = String::from("[zone]\nname = \"steered.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool]\n");
    for n in 0..5 {
        text.push_str(&format!("r{n} = {{ endpoints = [\"192.0.2.{}\", \"2001:db8::{n}\"] }}\n", 10 + n));
    }
    let many: Vec<String> = (0..64).map(|n| format!("\"198.51.100.{n}\"")).collect();
    text.push_str(&format!("many = {{ endpoints = [{}] }}\n", many.join(", ")));
    text.push_str(
        "[policy.place]
policy = \"geo\"
default = \"r0\"
rules = [
  { geo = [\"EU\"], to = [\"r0\", \"r1\"] },
  { geo = [\"NA\"], to = [\"r1\", \"r0\"] },
  { geo = [\"AS\"], to = [\"r2\", \"r0\"] },
  { geo = [\"SA\"], to = [\"r3\", \"r1\"] },
  { geo = [\"AF\", \"OC\"], to = [\"r4\", \"r0\"] },
]
",
    );
    for mode in ["random", "coherent", "sticky"] {
        text.push_str(&format!("[policy.{mode}]\npolicy = \"weighted\"\nmode = \"{mode}\"\nto = {{ r0 = 50, r1 = 30, r2 = 15, r3 = 5 }}\n"));
    }
    text.push_str(
        "[policy.order]\npolicy = \"failover\"\nto = [\"r0\", \"r1\"]\n[policy.merged]\npolicy = \"multivalue\"\nto = [\"many\"]\nanswers = 8\n",
    );
    text.push_str("[steer]\n");
    for name in ["random", "coherent", "sticky", "order", "merged"] {
        text.push_str(&format!("w-{name} = {{ use = \"{name}\" }}\n"));
    }
    (0..100).for_each(|n| text.push_str(&format!("app{n:02} = {{ use = \"place\" }}\n")));
    text
}

/// Kinds of query to [`steered_zone`].
pub(crate) fn steered() -> Vec<(&'static str, Queries)> {
    let of = |count: u32, name: &dyn Fn(u32) -> String| {
        let mut queries = Queries::default();
        (0..count).for_each(|n| queries.push(&name(n), if n % 4 == 3 { AAAA } else { A }, Some(client(n))));
        queries
    };
    let a_of = |name: &str| {
        let mut queries = Queries::default();
        (0..QUERIES).for_each(|n| queries.push(name, A, Some(client(n))));
        queries
    };
    vec![
        ("geo", of(CLIENTS, &|n| format!("app{:02}.steered.test", scattered(n) % 100))),
        ("weighted_random", a_of("w-random.steered.test")),
        ("weighted_coherent", a_of("w-coherent.steered.test")),
        ("weighted_sticky", a_of("w-sticky.steered.test")),
        ("failover", a_of("w-order.steered.test")),
        ("multivalue_8_of_64", a_of("w-merged.steered.test")),
    ]
}

/// meridian.toml for [`SPECIAL_ZONE`] and the rest under `zones/`, with or without the database `geo.mmdb`.
pub(crate) fn config(with_geo: bool) -> &'static str {
    if with_geo { "[zones]\ndir = \"zones\"\n[geo]\ndatabases = [\"geo.mmdb\"]\n" } else { "[zones]\ndir = \"zones\"\n" }
}
