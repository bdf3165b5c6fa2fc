//! Reads `[monitor.NAME]` and `[defaults.monitor]`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::raw::{Calculation, CheckKind, MonitorKeys, Ref};
use super::read::path;
use super::read_pool::MAX_MONITORS_EACH;
use super::read_query;
use super::source::{Table, Value, or_list};
use super::values::span;
use crate::dns::{Name, Rcode};
use crate::health::concern::{CertificateWarning, Slow};
use crate::policy::model::{HttpMethod, HttpVersion, JsonExpected, MonitorWord, Pattern, TlsVersion};

/// Time between checks: less than a second is load, more than an hour is no check.
pub(super) const INTERVAL: RangeInclusive<Duration> = span(Duration::from_secs(1), Duration::from_secs(3600));
/// Time after which a check has failed.
pub(super) const TIMEOUT: RangeInclusive<Duration> = span(Duration::from_millis(100), Duration::from_secs(60));
/// Time between checks while suspect.
pub(super) const FAST: RangeInclusive<Duration> = span(Duration::from_millis(500), Duration::from_secs(3600));
/// Results in a row that change a state ([`crate::health::Thresholds`]).
pub(super) const IN_A_ROW: RangeInclusive<i64> = 1..=10;
/// Age of a report that says nothing of now: agents report every second at most, and what is an hour old is no report.
const STALE: RangeInclusive<Duration> = span(Duration::from_secs(1), Duration::from_secs(3600));
/// How long before its end a certificate is a concern: those of public authorities live for 398 days at most.
const CERTIFICATE_WARNING: RangeInclusive<Duration> = span(Duration::from_secs(3600), Duration::from_secs(398 * 86_400));
/// So many times its baseline is slow: less than twice is noise.
const SLOW_FACTOR: RangeInclusive<i64> = 2..=100;
/// And above this: a check takes whole milliseconds, and 60 s at most.
const SLOW_ABOVE: RangeInclusive<Duration> = span(Duration::from_millis(1), Duration::from_secs(60));
/// The time in which a baseline doubles at most.
const BASELINE: RangeInclusive<Duration> = span(Duration::from_secs(600), Duration::from_secs(7 * 86_400));
/// HTTP status codes (RFC 9110 §15).
pub(super) const STATUS: RangeInclusive<u16> = 100..=599;
/// The longest text that a body is searched for; 16 KiB of the body are looked at.
pub(super) const MAX_EXPECTED_BODY: usize = 1024;
/// The most status ranges of one monitor.
const MAX_STATUS_RANGES: usize = 50;
/// The longest path of an HTTP check.
const MAX_PATH_LEN: usize = 2048;
/// The most further headers of a request.
const MAX_HEADERS: usize = 16;
/// Of a header's value.
const MAX_HEADER_LEN: usize = 1024;
/// The most JSON pointers of a check.
const MAX_POINTERS: usize = 16;
/// What a TCP check sends at most.
const MAX_SEND_LEN: usize = 1024;

/// Of a gRPC service: 255 octets are two of length.
const MAX_SERVICE_LEN: usize = 255;
/// The most words of a command.
const MAX_ARGUMENTS: usize = 32;
/// Of one of them.
const MAX_ARGUMENT_LEN: usize = 1024;

/// Headers that are the check's own.
const OWN_HEADERS: [&str; 6] = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te"];

/// `[monitor.NAME]`, or `[defaults.monitor]`, where no kind is needed.
pub(super) fn monitor_keys(value: &Value<'_>, defaults: bool) -> MonitorKeys {
    let mut keys = MonitorKeys::default();
    let Some(table) = value.table(" such as { https = \"/healthz\", host = \"www.example.com\" }") else { return keys };
    keys.kind = check_kind(&table);
    keys.port = table.take("port").and_then(|value| value.integer(1..=65_535, "")).map(|port| port as u16);
    keys.host = table.take("host").and_then(|value| host(&value));
    keys.ca = table.take("ca").and_then(|value| path(&value));
    keys.insecure = table.take("insecure").and_then(|value| value.boolean());
    keys.tls = table.take("tls").and_then(|value| value.boolean());
    keys.min_tls = table.take("min_tls").and_then(|value| value.word(&[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]));
    keys.client_certificate = table.take("client_certificate").and_then(|value| path(&value));
    keys.client_key = table.take("client_key").and_then(|value| path(&value));
    keys.version = table.take("version").and_then(|value| value.word(&[("1.1", HttpVersion::Http11), ("2", HttpVersion::Http2)]));
    keys.source = table.take("source").and_then(|value| source(&value));
    keys.method = table.take("method").and_then(|value| {
        let methods = [HttpMethod::Get, HttpMethod::Head, HttpMethod::Options, HttpMethod::Post];
        value.word(&methods.map(|method| (method.word(), method)))
    });
    keys.headers = table.take("headers").and_then(|value| headers(&value));
    keys.send = table.take("send").and_then(|value| text(&value, "the text to send", MAX_SEND_LEN));
    if let Some(expect) = table.take("expect").and_then(|value| value.table(" such as { status = [\"200-299\"], body = \"ready\" }")) {
        keys.status = expect.take("status").and_then(|value| status_ranges(&value));
        keys.body = expect.take("body").and_then(|value| text(&value, "the text that the body must hold", MAX_EXPECTED_BODY));
        keys.pattern = expect.take("match").and_then(|value| pattern(&value));
        keys.json = expect.take("json").and_then(|value| pointers(&value));
        keys.reply = expect.take("reply").and_then(|value| text(&value, "the text that must come", MAX_EXPECTED_BODY));
        keys.rcode = expect.take("rcode").and_then(|value| rcode(&value));
        keys.answer = expect.take("answer").and_then(|value| text(&value, "a record's data such as \"192.0.2.1\"", MAX_EXPECTED_BODY));
        keys.value = expect.take("value").and_then(|value| read_query::bounds(&value));
        expect.finish();
    }
    keys.interval = table.take("interval").and_then(|value| value.duration(&INTERVAL));
    keys.timeout = table.take("timeout").and_then(|value| value.duration(&TIMEOUT));
    keys.fast = table.take("fast").and_then(|value| value.duration(&FAST));
    keys.fall = table.take("fall").and_then(|value| value.integer(IN_A_ROW, "")).map(|count| count as u8);
    keys.rise = table.take("rise").and_then(|value| value.integer(IN_A_ROW, "")).map(|count| count as u8);
    keys.stale = table.take("stale").and_then(|value| value.duration(&STALE));
    keys.forget = table.take("on_stale").and_then(|value| value.word(&[("keep", false), ("forget", true)]));
    keys.advisory = table.take("advisory").and_then(|value| value.boolean());
    keys.certificate_warning = table.take("certificate_warning").and_then(|value| certificate_warning(&value));
    keys.slow = table.take("slow").and_then(|value| slow(&value));
    if let (Some(kind), false) = (&keys.kind, defaults) {
        misplaced(&table, kind, &keys);
    }
    for (key, given) in [("tls", keys.tls.is_some()), ("advisory", keys.advisory.is_some())] {
        if defaults && given {
            table.error(format!("{key} is said by each monitor, not for all of them"));
        }
    }
    if keys.insecure == Some(true) && keys.ca.is_some() {
        table.error("ca is given, but insecure = true looks at no certificate; leave one of the two out");
    }
    if keys.insecure == Some(true) && keys.certificate_warning.is_some_and(|warning| warning != CertificateWarning::Never) {
        table.error("certificate_warning is given, but insecure = true looks at no certificate; leave one of the two out");
    }
    table.finish();
    keys
}

/// A time before the end, or `false`.
fn certificate_warning(value: &Value<'_>) -> Option<CertificateWarning> {
    match value.as_bool() {
        Some(false) => Some(CertificateWarning::Never),
        Some(true) => {
            value.error("found true, expected a duration such as \"14d\", or false for no warning");
            None
        }
        None => value.duration(&CERTIFICATE_WARNING).map(|before| CertificateWarning::Before(before.as_secs() as u32)),
    }
}

/// When an endpoint is slow, or `false`.
fn slow(value: &Value<'_>) -> Option<Option<Slow>> {
    match value.as_bool() {
        Some(false) => return Some(None),
        Some(true) => {
            value.error("found true, expected limits such as { factor = 3, above = \"500ms\" }, or false for none");
            return None;
        }
        None => {}
    }
    let table = value.table(" such as { factor = 3, above = \"500ms\", baseline = \"6h\" }")?;
    let usual = Slow::default();
    let slow = Slow {
        factor: table.take("factor").and_then(|value| value.integer(SLOW_FACTOR, "")).map_or(usual.factor, |factor| factor as u8),
        above_ms: table.take("above").and_then(|value| value.duration(&SLOW_ABOVE)).map_or(usual.above_ms, |above| above.as_millis() as u16),
        over_s: table.take("baseline").and_then(|value| value.duration(&BASELINE)).map_or(usual.over_s, |over| over.as_secs() as u32),
    };
    table.finish();
    Some(Some(slow))
}

/// An address of this machine, or one of each family.
fn source(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    let what = "an address of this machine such as \"192.0.2.53\"";
    let mut found: Vec<IpAddr> = Vec::new();
    for item in value.one_or_many() {
        let address = item.string(what)?.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified() && !address.is_multicast());
        let Some(address) = address else {
            item.expected(what);
            return None;
        };
        if found.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            item.error(format!("found {address} beside another address of its family, expected one of each at most"));
            return None;
        }
        found.push(address);
    }
    Some(found)
}

/// Keys that a check of this kind does not look at.
fn misplaced(table: &Table<'_>, kind: &CheckKind, keys: &MonitorKeys) {
    if let CheckKind::Calculated(_) = kind {
        return calculated_alone(table, kind, keys);
    }
    let web: &[&str] = &["https", "http"];
    let asking: &[&str] = &MonitorWord::WORDS[..MonitorWord::ASKING];
    let requests: &[&str] = &["https", "http", "prometheus"];
    let told: &[&str] = &["push", "prometheus"];
    let named: &[&str] = &["https", "http", "grpc", "tcp with tls = true"];
    let tls: &[&str] = &["https", "tcp with tls = true", "grpc with tls = true", "prometheus over https"];
    // What looks at the certificate of the endpoint itself.
    let shown: &[&str] = &tls[..3];
    let secure = matches!(kind, CheckKind::Prometheus(query) if query.secure);
    for (given, key, of) in [
        (keys.port.is_some(), "port", &["https", "http", "tcp", "dns", "grpc", "exec"][..]),
        (keys.source.is_some(), "source", &["https", "http", "tcp", "dns", "grpc", "ping", "prometheus"]),
        (keys.slow.is_some(), "slow", &["https", "http", "tcp", "dns", "grpc", "ping", "exec"]),
        (keys.host.is_some(), "host", named),
        (keys.method.is_some(), "method", web),
        (keys.headers.is_some(), "headers", requests),
        (keys.version.is_some(), "version", web),
        (keys.status.is_some(), "expect.status", web),
        (keys.body.is_some(), "expect.body", web),
        (keys.pattern.is_some(), "expect.match", web),
        (keys.json.is_some(), "expect.json", web),
        (keys.tls.is_some(), "tls", &["tcp", "grpc"]),
        (keys.ca.is_some(), "ca", tls),
        (keys.insecure.is_some(), "insecure", tls),
        (keys.min_tls.is_some(), "min_tls", tls),
        (keys.client_certificate.is_some(), "client_certificate", tls),
        (keys.client_key.is_some(), "client_key", tls),
        (keys.certificate_warning.is_some(), "certificate_warning", shown),
        (keys.send.is_some(), "send", &["tcp"]),
        (keys.reply.is_some(), "expect.reply", &["tcp"]),
        (keys.rcode.is_some(), "expect.rcode", &["dns"]),
        (keys.answer.is_some(), "expect.answer", &["dns"]),
        (keys.value.is_some(), "expect.value", &["prometheus"]),
        (keys.stale.is_some(), "stale", told),
        (keys.forget.is_some(), "on_stale", told),
        (keys.interval.is_some(), "interval", asking),
        (keys.timeout.is_some(), "timeout", asking),
        (keys.fast.is_some(), "fast", asking),
    ] {
        let with_tls =
            keys.tls == Some(true) && of.contains(&&*format!("{} with tls = true", kind.word())) || secure && of.contains(&"prometheus over https");
        if given && !of.contains(&kind.word()) && !with_tls {
            table.error(format!("{key} belongs to {}; this monitor is {}", of.join(" and "), kind.word()));
        }
    }
}

/// A calculated monitor has nothing to check with.
fn calculated_alone(table: &Table<'_>, kind: &CheckKind, keys: &MonitorKeys) {
    for (given, key) in [
        (keys.port.is_some(), "port"),
        (keys.host.is_some(), "host"),
        (keys.interval.is_some(), "interval"),
        (keys.timeout.is_some(), "timeout"),
        (keys.fast.is_some(), "fast"),
        (keys.fall.is_some(), "fall"),
        (keys.rise.is_some(), "rise"),
        (keys.source.is_some(), "source"),
        (keys.slow.is_some(), "slow"),
        (keys.tls.is_some() || keys.ca.is_some() || keys.insecure.is_some() || keys.min_tls.is_some(), "TLS"),
        (keys.client_certificate.is_some() || keys.client_key.is_some(), "a client certificate"),
        (keys.certificate_warning.is_some(), "certificate_warning"),
        (keys.advisory.is_some(), "advisory"),
        (keys.method.is_some() || keys.headers.is_some() || keys.version.is_some(), "a request"),
        (keys.send.is_some(), "send"),
        (keys.stale.is_some() || keys.forget.is_some(), "stale"),
        (keys.status.is_some() || keys.body.is_some() || keys.pattern.is_some() || keys.json.is_some() || keys.reply.is_some(), "expect"),
        (keys.rcode.is_some() || keys.answer.is_some() || keys.value.is_some(), "expect"),
    ] {
        if given {
            table.error(format!("{key} belongs to monitors that check; this one follows from others ({})", kind.word()));
        }
    }
}

fn check_kind(table: &Table<'_>) -> Option<CheckKind> {
    let given: Vec<(MonitorWord, Value<'_>)> = MonitorWord::EACH.into_iter().filter_map(|key| Some((key, table.take(key.word())?))).collect();
    let (first, value) = given.first()?;
    for (key, value) in &given[1..] {
        value.error(format!("found {} beside {}, expected exactly one of {}", key.word(), first.word(), MonitorWord::WORDS.join(", ")));
    }
    match first {
        MonitorWord::Https => request_path(value).map(CheckKind::Https),
        MonitorWord::Http => request_path(value).map(CheckKind::Http),
        MonitorWord::Tcp => is_true(value).map(|()| CheckKind::Tcp),
        MonitorWord::Dns => question(value),
        MonitorWord::Grpc => grpc_service(value).map(CheckKind::Grpc),
        MonitorWord::Exec => program(value).map(CheckKind::Exec),
        MonitorWord::Ping => is_true(value).map(|()| CheckKind::Ping),
        MonitorWord::Prometheus => read_query::query(value).map(|query| CheckKind::Prometheus(Box::new(query))),
        MonitorWord::Push => is_true(value).map(|()| CheckKind::Push),
        MonitorWord::All => others(value).map(|of| CheckKind::Calculated(Calculation::All(of))),
        MonitorWord::Any => others(value).map(|of| CheckKind::Calculated(Calculation::Any(of))),
        MonitorWord::AtLeast => at_least(value),
        MonitorWord::Not => other(value).map(|one| CheckKind::Calculated(Calculation::Not(one))),
    }
}

fn is_true(value: &Value<'_>) -> Option<()> {
    if value.as_bool() == Some(true) {
        return Some(());
    }
    value.expected("true");
    None
}

/// `true` for the server as a whole, or a service's name.
fn grpc_service(value: &Value<'_>) -> Option<String> {
    if value.as_bool() == Some(true) {
        return Some(String::new());
    }
    let what = "true, or the name of a service such as \"shop.Cart\"";
    let name = value.string(what)?;
    if name.is_empty() || name.len() > MAX_SERVICE_LEN || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        value.expected(what);
        return None;
    }
    Some(name.to_owned())
}

/// A program and what it is started with.
fn program(value: &Value<'_>) -> Option<Vec<String>> {
    let what = "a program with its arguments such as [\"/usr/local/lib/meridian/check\", \"--quick\"]";
    let words: Vec<String> = value.one_or_many().iter().map(|item| item.string(what).map(str::to_owned)).collect::<Option<_>>()?;
    let good = |word: &String| word.len() <= MAX_ARGUMENT_LEN && !word.contains('\0');
    if words.len() > MAX_ARGUMENTS || !words.iter().all(good) {
        value.error(format!("found {} words, expected at most {MAX_ARGUMENTS} of at most {MAX_ARGUMENT_LEN} octets each", words.len()));
        return None;
    }
    if !words.first().is_some_and(|program| program.starts_with('/')) {
        value.error(format!("found {}, expected the program's whole path, from \"/\" on: no shell and no PATH looks for it", value.describe()));
        return None;
    }
    Some(words)
}

/// The name of another monitor.
fn other(value: &Value<'_>) -> Option<Ref> {
    Some(value.located(value.string("the name of a monitor")?.to_owned()))
}

/// Names of other monitors.
fn others(value: &Value<'_>) -> Option<Vec<Ref>> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_MONITORS_EACH {
        value.error(format!("found {} monitors, expected 1 to {MAX_MONITORS_EACH}", items.len()));
        return None;
    }
    let all: Vec<Ref> = items.iter().map(other).collect::<Option<_>>()?;
    if let Some(twice) = all.iter().enumerate().find_map(|(at, one)| all[..at].iter().any(|other| other.value == one.value).then_some(one)) {
        value.error(format!("found {:?} twice", twice.value));
        return None;
    }
    Some(all)
}

/// `{ count = 2, of = ["a", "b", "c"] }`.
fn at_least(value: &Value<'_>) -> Option<CheckKind> {
    let table = value.table(" such as { count = 2, of = [\"a\", \"b\", \"c\"] }")?;
    let (count, of) = (table.take("count"), table.take("of"));
    let of = match of {
        Some(value) => others(&value),
        None => {
            table.missing("of is missing; write of = [\"a\", \"b\", \"c\"]");
            None
        }
    };
    let most = of.as_ref().map_or(MAX_MONITORS_EACH, Vec::len) as i64;
    let count = match count {
        Some(value) => value.integer(1..=most, ""),
        None => {
            table.missing("count is missing; write count = 2");
            None
        }
    };
    table.finish();
    Some(CheckKind::Calculated(Calculation::AtLeast(count? as u16, of?)))
}

/// `"NAME TYPE"`.
fn question(value: &Value<'_>) -> Option<CheckKind> {
    let what = "a name and a type such as \"www.example.com A\"";
    let text = value.string(what)?;
    let mut words = text.split_ascii_whitespace();
    let (Some(name), Some(rtype), None) = (words.next(), words.next(), words.next()) else {
        value.expected(what);
        return None;
    };
    if !name.is_ascii() {
        value.error(format!("found {name:?}, expected letters of ASCII: write the name in Punycode (\"xn--…\")"));
        return None;
    }
    let name = match Name::parse(name, &Name::root()) {
        Ok(name) => name.to_lowercase(),
        Err(error) => {
            value.error(format!("found {name:?}, but {error}"));
            return None;
        }
    };
    match rtype.parse().ok() {
        Some(rtype) => Some(CheckKind::Dns(name, rtype)),
        None => {
            value.error(format!("found the type {rtype:?}, expected one such as A, AAAA, SOA or TXT"));
            None
        }
    }
}

fn rcode(value: &Value<'_>) -> Option<Rcode> {
    let codes = [("NOERROR", Rcode::NOERROR), ("NXDOMAIN", Rcode::NXDOMAIN), ("REFUSED", Rcode::REFUSED), ("NOTAUTH", Rcode::NOTAUTH)];
    value.word(&codes)
}

fn headers(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let table = value.table(" such as { \"X-Probe\" = \"meridian\" }")?;
    let mut all = Vec::new();
    for (name, value) in table.entries(|name| format!("{name:?}")) {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > 100 || !name.bytes().all(is_token) {
            value.error(format!("found the header {name:?}, expected a name such as \"X-Probe\" (RFC 9110 §5.1)"));
        } else if OWN_HEADERS.contains(&&*lower) {
            let hint = if lower == "host" { "; host = \"…\" sets it" } else { "" };
            value.error(format!("found the header {name:?}, which the check sets itself{hint}"));
        } else if all.iter().any(|(known, _)| *known == lower) {
            value.error(format!("the header {name:?} is given twice"));
        } else if let Some(text) = value.string("a header's value") {
            if text.len() > MAX_HEADER_LEN || !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) || text.trim() != text {
                value.error(format!("found {text:?}, expected at most {MAX_HEADER_LEN} visible ASCII characters"));
            } else {
                all.push((lower, text.to_owned()));
            }
        }
    }
    if all.len() > MAX_HEADERS {
        value.error(format!("found {} headers, expected at most {MAX_HEADERS}", all.len()));
    }
    Some(all)
}

/// What the body must match.
fn pattern(value: &Value<'_>) -> Option<Pattern> {
    let text = text(value, "a regular expression that the body must match", MAX_EXPECTED_BODY)?;
    Pattern::parse(&text).map_err(|why| value.error(format!("found {}, expected a regular expression: {why}", value.describe()))).ok()
}

/// JSON pointers (RFC 6901) and what must be there: scalars, or numbers within bounds.
fn pointers(value: &Value<'_>) -> Option<Vec<(String, JsonExpected)>> {
    let table = value.table(" such as { \"/status\" = \"ok\" }")?;
    let (mut all, mut given) = (Vec::new(), 0);
    for (pointer, value) in table.entries(|pointer| format!("{pointer:?}")) {
        given += 1;
        if !is_pointer(pointer) || pointer.len() > MAX_EXPECTED_BODY {
            let hint = if pointer.contains('~') { "; \"~\" is written \"~0\", and \"/\" within a name \"~1\"" } else { "" };
            value.error(format!("found {pointer:?}, expected a JSON pointer such as \"/status\" (RFC 6901){hint}"));
            continue;
        }
        let scalar = match (value.as_str(), value.as_integer(), value.as_bool()) {
            (Some(text), ..) => serde_json::Value::from(text),
            (_, Some(number), _) => serde_json::Value::from(number),
            (_, _, Some(flag)) => serde_json::Value::from(flag),
            _ if value.is_table() => {
                let Some(table) = value.table(" such as { value = \"< 100\" }") else { continue };
                match table.take("value") {
                    Some(value) => all.extend(read_query::bounds(&value).map(|bounds| (pointer.to_owned(), JsonExpected::Number(bounds)))),
                    None => table.missing("value is missing; write value = \"< 100\" or the like"),
                }
                table.finish();
                continue;
            }
            _ => {
                value.expected("a text, a whole number, true, false, or bounds such as { value = \"< 100\" }");
                continue;
            }
        };
        all.push((pointer.to_owned(), JsonExpected::Is(scalar.to_string())));
    }
    if given == 0 || given > MAX_POINTERS {
        value.error(format!("found {given} pointers, expected 1 to {MAX_POINTERS}"));
    }
    Some(all)
}

/// RFC 6901 §3: nothing, or parts that each begin with `/`; `~` stands before 0 or 1 alone.
fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(|behind| behind.starts_with(['0', '1']))
}

pub(super) fn text(value: &Value<'_>, what: &str, most: usize) -> Option<String> {
    let text = value.string(what)?;
    if text.is_empty() || text.len() > most {
        value.error(format!("found a text of {} octets, expected 1 to {most}", text.len()));
        return None;
    }
    Some(text.to_string())
}

fn request_path(value: &Value<'_>) -> Option<String> {
    let text = value.string("a path such as \"/healthz\"")?;
    let visible = text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#');
    if !text.starts_with('/') || !visible || text.len() > MAX_PATH_LEN {
        let fix = if !text.is_empty() && visible && !text.contains(':') && !text.starts_with('/') {
            format!("; did you mean \"/{text}\"?")
        } else {
            String::new()
        };
        value.error(format!("found {}, expected a path that starts with \"/\", without spaces or \"#\"{fix}", value.describe()));
        return None;
    }
    Some(text.to_string())
}

fn host(value: &Value<'_>) -> Option<String> {
    let what = "a host name such as \"www.example.com\", without scheme or port";
    let text = value.string(what)?;
    let found = host_name(text);
    if found.is_none() {
        let labels = || text.trim_end_matches('.').split('.');
        match () {
            () if labels().next_back().is_some_and(is_number) => {
                value.expected("an address of four numbers, or a host name, whose last part is no number");
            }
            () if labels().any(|label| label.starts_with('-') || label.ends_with('-')) => {
                value.expected("a host name, of which no part begins or ends with \"-\"");
            }
            () => value.expected(what),
        }
    }
    found
}

/// A host name, in lower case and without a final dot. One whose last label is a number is an address to URLs (`127.1`), and none that can be asked for;
/// one whose label begins or ends with a hyphen is in no certificate (RFC 1123 §2.1).
pub(super) fn host_name(text: &str) -> Option<String> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let good_label = |label: &str| {
        let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_good) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_sound = bare.parse::<Ipv4Addr>().is_ok() || !bare.rsplit('.').next().is_some_and(is_number);
    (bare.len() <= 253 && is_sound && bare.split('.').all(good_label)).then(|| bare.to_ascii_lowercase())
}

/// A label that makes an address of a name (WHATWG URL §4.3).
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn status_ranges(value: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_STATUS_RANGES {
        value.error(format!("found {} ranges, expected 1 to {MAX_STATUS_RANGES}", items.len()));
    }
    let mut all = Vec::new();
    for item in items.iter().take(MAX_STATUS_RANGES) {
        let range = match (item.as_str(), item.as_integer()) {
            (_, Some(code)) => u16::try_from(code).ok().map(|code| (code, code)),
            (Some(text), _) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                first.trim().parse().ok().zip(last.trim().parse().ok())
            }
            _ => None,
        };
        match range {
            Some((first, last)) if first <= last && STATUS.contains(&first) && STATUS.contains(&last) => all.push((first, last)),
            _ => {
                let forms = ["\"200-299\"", "\"204\"", "204"].map(str::to_string);
                item.expected(format_args!("codes from {} to {} such as {}", STATUS.start(), STATUS.end(), or_list(&forms)));
            }
        }
    }
    (!all.is_empty()).then_some(all)
}
