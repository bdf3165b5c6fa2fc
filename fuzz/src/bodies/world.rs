//! The fixed world that the answers are asked of: a zone with every kind of steering, static zones with every kind of name, one nested in
//! another, one that could not be loaded; and the same with operators' overlays on top.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use meridian::config::MemoryFiles;
use meridian::control::api::{Forced, Overlay, Setting};
use meridian::control::clock::Clock;
use meridian::control::handle::channel;
use meridian::control::load::{self, Build, Previous};
use meridian::control::offline::world_of_files;
use meridian::control::writer::{Start, Writer};
use meridian::store::{Saved, Store};
use meridian::telemetry::Registry;
use meridian::world::{Published, World};

use super::seeds;

const CONFIG: &str = "
[server]
nsid = \"node-1\"
version = \"meridian\"
[geo]
databases = [\"geo.mmdb\"]
[latency]
table = \"rtt.csv\"
[ecs]
trust = [\"192.0.2.0/24\", \"2001:db8::/32\", \"127.0.0.0/8\"]
[diagnostics]
allow = [\"127.0.0.0/8\"]
";

/// Static names: delegations with and without glue, DNAMEs, wildcards at each place, chains and loops, empty non-terminals, a large RRset.
pub(super) const STATIC_ZONE: &str = r#"$TTL 300
@ SOA ns1 hostmaster 7 3600 900 1209600 60
@ NS ns1
@ NS ns.elsewhere.test.
@ MX 10 mail
@ MX 20 x.wild
@ TXT "apex" "two"
@ CAA 0 issue "ca.example.net"
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
mail A 192.0.2.25
www CNAME a
a CNAME b
b CNAME geo.steered.test.
loop1 CNAME loop2
loop2 CNAME loop1
self CNAME self
out CNAME www.elsewhere.test.
into CNAME x.child
*.wild A 192.0.2.81
*.wild TXT "wild"
a.b.wild TXT "below"
*.star CNAME www
under.*.star TXT "an asterisk inside"
*.dn DNAME target
*.cut NS ns.cutting
ns.cutting A 192.0.2.82
old DNAME new
x.new A 192.0.2.91
y.new CNAME x.new
rec DNAME rec.old
old.a-rather-long-label-in-the-middle-of-the-name-00000000 DNAME a-target-that-is-longer-than-its-owner-by-a-good-bit-0000000000.another-long-label-of-many-octets-0000000000000000000000000000.and-one-more-0000000000000000000000000
deep.empty.non.terminal A 192.0.2.92
child NS ns.child
child NS ns1
child DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
ns.child A 192.0.2.54
below.child A 192.0.2.55
glueless NS ns.elsewhere.test.
_sip._tcp SRV 10 60 5060 mail
_sip._tcp SRV 10 60 5060 ns1
svc HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1
svc SVCB 0 mail
num NAPTR 100 10 "S" "SIP+D2U" "!^.*$!sip:info@example.com!" _sip._tcp
any A 192.0.2.1
any AAAA 2001:db8::1
any TXT "text"
big TXT "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" "1"
$GENERATE 1-60 many A 192.0.2.$
$GENERATE 1-40 names MX $ host$.under.a.name.that.is.rather.long
unknown TYPE65280 \# 4 0a000001
\000\255\.odd TXT "octets"
"#;

/// Served inside [`STATIC_ZONE`]'s space as a zone of its own.
const NESTED_ZONE: &str =
    "@ 60 SOA ns1.static.test. h 1 1 1 1 30\n@ 60 NS ns1.static.test.\nwww 60 A 192.0.2.7\nup 60 CNAME www.static.test.\n* 60 A 192.0.2.8\n";

pub(super) const STEERED_ZONE: &str = r#"
[zone]
name = "steered.test"
ns = ["ns1", "ns2.elsewhere.test."]
[records]
ns1.A = "192.0.2.53"
"@".MX = ["10 fail", "20 mail.elsewhere.test."]
"@".TXT = "apex"
alias.CNAME = "geo"
chain1.CNAME = "alias"
static.CNAME = "www.static.test."
"*.wilder".CNAME = "geo"
"_tls._tcp".SRV = "1 1 443 fail"
plain.A = { ttl = 300, data = ["192.0.2.7", "192.0.2.8"] }
old.DNAME = "new"
child.NS = ["ns.child"]
"ns.child".A = "192.0.2.54"
[region]
eu = { location = [50.11, 8.68] }
us = { location = [39.04, -77.49] }
[pool.eu]
region = "eu"
endpoints = ["192.0.2.1", "2001:db8::1"]
records = { TXT = ["eu"], HTTPS = "1 . alpn=h2" }
[pool.us]
region = "us"
endpoints = [{ address = "192.0.2.2", weight = 3 }, "2001:db8::2", "192.0.2.22"]
records = { TXT = ["us"] }
[pool.v4]
endpoints = ["192.0.2.3"]
[pool.large]
answers = 64
endpoints = [LARGE]
[pool.cdn]
cname = "cdn.elsewhere.test."
[pool.inside]
cname = "geo"
[steer.fail]
policy = "failover"
to = ["eu", "us"]
[steer.random]
policy = "weighted"
mode = "random"
to = { eu = 3, us = 1 }
[steer.coherent]
policy = "weighted"
to = { eu = 3, us = 1, v4 = 1 }
[steer.sticky]
policy = "weighted"
mode = "sticky"
to = { eu = 3, us = 1 }
[steer.geo]
policy = "geo"
default = "nearest"
rules = [{ geo = ["NA-US", "AS"], to = "us" }, { asn = [64500], to = "eu" }, { net = ["198.51.100.0/24", "2001:db8:5::/48"], to = "us" }, { net = ["10.0.0.0/8"], to = "eu" }]
[steer.near]
policy = "proximity"
to = ["eu", "us"]
[steer.fast]
policy = "latency"
to = ["eu", "us"]
[steer.all]
policy = "multivalue"
answers = 3
to = ["eu", "us", "v4"]
[steer.large]
use = "large"
[steer.cdn]
use = "cdn"
[steer.inside]
use = "inside"
[steer."*.star"]
policy = "geo"
default = "v4"
rules = [{ net = ["198.51.100.0/25"], to = "us" }]
[steer.gone]
policy = "failover"
to = ["v4"]
all_down = "nodata"
[steer.broken]
policy = "failover"
to = ["v4"]
all_down = "servfail"
ttl = 31
[steer."@"]
use = "v4"
"#;

/// Two worlds: as the files say, and with overlays.
pub(super) struct Worlds {
    plain: World,
    overlaid: Arc<Published>,
}

impl Worlds {
    /// Runs `read` on one of them.
    pub(super) fn with<R>(&self, overlaid: bool, read: impl FnOnce(&World) -> R) -> R {
        if overlaid { self.overlaid.with_world(read) } else { read(&self.plain) }
    }
}

/// Made once.
pub(super) fn worlds() -> &'static Worlds {
    static WORLDS: OnceLock<Worlds> = OnceLock::new();
    WORLDS.get_or_init(|| Worlds { plain: world_of_files(build()), overlaid: overlaid() })
}

fn build() -> Build {
    let large: Vec<String> = (1..=64).flat_map(|n| [format!("\"198.51.100.{n}\""), format!("\"2001:db8:9::{n:x}\"")]).collect();
    let steered = STEERED_ZONE.replace("LARGE", &large.join(", "));
    let files: [(&str, &[u8]); 9] = [
        ("meridian.toml", CONFIG.as_bytes()),
        ("geo.mmdb", seeds::small_database()),
        ("rtt.csv", seeds::LATENCY.as_bytes()),
        ("zones/steered.test.toml", steered.as_bytes()),
        ("zones/static.test.zone", STATIC_ZONE.as_bytes()),
        ("zones/nested.static.test.zone", NESTED_ZONE.as_bytes()),
        ("zones/example.com.zone", include_bytes!("../../../tests/data/everything.zone")),
        ("zones/tld.zone", b"@ 60 SOA ns.tld. h 1 1 1 1 30\n@ 60 NS ns.tld.\nns 60 A 192.0.2.9\nsub 60 NS ns.sub\nns.sub 60 A 192.0.2.10\n"),
        ("zones/down.test.zone", b"@ 60 SOA broken\n"),
    ];
    let files = MemoryFiles(files.into_iter().map(|(path, octets)| (PathBuf::from(path), octets.into())).collect());
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    assert!(build.good.len() == 5 && build.bad.len() == 1, "{:#?}", build.problems);
    build
}

fn overlaid() -> Arc<Published> {
    let overlay = |id: u64, target: &str, set: Setting| Overlay::of(id, target, set);
    let overlays = vec![
        overlay(1, "steered.test/eu/192.0.2.1", Setting::State(Forced::Down)),
        overlay(2, "steered.test/us/192.0.2.2", Setting::Weight(0)),
        overlay(3, "steered.test/v4", Setting::State(Forced::Down)),
        overlay(4, "steered.test/plain/A", Setting::Ttl(7)),
        overlay(5, "steered.test/geo", Setting::Ttl(20)),
        overlay(6, "region:us", Setting::State(Forced::Drain)),
        overlay(7, "steered.test/large/198.51.100.9", Setting::State(Forced::Drain)),
    ];
    let saved = Saved { overlays, next_overlay_id: 8, ..Saved::default() };
    let published = Arc::new(Published::new(World::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (_handle, ends) = channel(published.clone());
        let start = Start {
            ends,
            config_path: "meridian.toml".into(),
            build: build(),
            store: Store::none("fuzzing keeps nothing"),
            saved,
            registry: Registry::new(),
            degraded: Vec::new(),
            clock: Clock::machine(),
            look: |_| Vec::new(),
        };
        let overlays = Writer::start(start).seen().status().overlays;
        assert!(overlays.iter().all(|overlay| overlay.inactive.is_none()), "{overlays:#?}");
    });
    published
}
