//! Certificates of encrypted transports: swapped while clients ask, told of where clients will not believe them, refused where they are none.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::encrypted::{Authority, Served, ask_quic, config, framed, query, runtime, zone};
use crate::encrypted_abuse::until;
use crate::meridian::{Meridian, PATIENCE, write};

/// Asks on connections of all three transports that stay and on new ones, while the files change one after the other: no query is lost, no connection ends.
#[test]
fn a_certificate_is_swapped_under_load_without_a_loss() {
    let served = Served::start("connections_per_client = 4096");
    let asked = query("www.example.com", 1, &[]);
    let mut zero = asked.clone();
    zero[..2].fill(0);
    let (certificate, key) = served.authority.sign(&["dns.example.net", "127.0.0.1"], 2098);
    let new = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let (stop, kept_replies) = (AtomicBool::new(false), AtomicU64::new(0));
    // Whoever panics stops the others, and the test.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let _stop = Stop(&stop);
                let mut kept = served.connect(served.tls, Some(b"dot"));
                while !stop.load(Relaxed) {
                    assert!(!framed(&mut kept, &asked).is_empty(), "TLS: the connection from before goes on");
                    kept_replies.fetch_add(1, Relaxed);
                }
            });
        }
        threads.spawn(|| {
            let _stop = Stop(&stop);
            runtime().block_on(async {
                let mut kept = crate::encrypted_http::http2(&served).await;
                while !stop.load(Relaxed) {
                    assert_eq!(crate::encrypted_http::get(&mut kept, &asked).await, 200, "HTTPS: the connection from before goes on");
                    kept_replies.fetch_add(1, Relaxed);
                }
            });
        });
        threads.spawn(|| {
            let _stop = Stop(&stop);
            runtime().block_on(async {
                let kept = served.quic().await;
                while !stop.load(Relaxed) {
                    ask_quic(&kept, &zero).await.expect("QUIC: the connection from before goes on");
                    kept_replies.fetch_add(1, Relaxed);
                }
            });
        });
        let _stop = Stop(&stop);
        while kept_replies.load(Relaxed) < 100 && !stop.load(Relaxed) {
            std::thread::yield_now();
        }
        // Not a pair for a while, as when two files are written one after the other.
        served.server.write("tls/a.key", &key);
        served.server.says(&["the certificate before stays in use"]);
        let began = Instant::now();
        let mut are_new = [false; 3];
        served.server.write("tls/a.crt", &certificate);
        while are_new != [true; 3] && !stop.load(Relaxed) {
            assert!(began.elapsed() < PATIENCE, "{are_new:?}: {:#?}", served.server.log());
            for (at, (to, protocol)) in [(served.tls, &b"dot"[..]), (served.https, b"h2")].into_iter().enumerate() {
                let mut fresh = served.connect(to, Some(protocol));
                fresh.conn.complete_io(&mut fresh.sock).expect("a handshake");
                are_new[at] = fresh.conn.peer_certificates().expect("a certificate")[0] == new;
                if at == 0 {
                    assert!(!framed(&mut fresh, &asked).is_empty(), "a new one is served");
                }
            }
            are_new[2] = runtime().block_on(async {
                let fresh = served.quic().await;
                ask_quic(&fresh, &zero).await.expect("a new one is served");
                let shown = fresh.peer_identity().expect("certificates").downcast::<Vec<CertificateDer<'static>>>().expect("of rustls");
                shown[0] == new
            });
        }
        let before = kept_replies.load(Relaxed);
        while kept_replies.load(Relaxed) < before + 100 && !stop.load(Relaxed) {
            std::thread::yield_now();
        }
    });
    for transport in ["tls", "https", "quic"] {
        for what in ["handshake_errors", "timed_out", "evicted"] {
            assert_eq!(served.metric(&format!("meridian_encrypted_{what}_total{{transport=\"{transport}\"}}")), 0, "{transport}: {what}");
        }
    }
}

#[test]
fn certificates_that_clients_will_not_believe_are_told_at_load() {
    let authority = Authority::new();
    let (expired, other) = (authority.sign(&["dns.example.net"], 2021), authority.sign(&["other.example.net", "192.0.2.7", "2001:db8::7"], 2099));
    let listener = |key: &str, file: &str| {
        format!("[server.{key}]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{file}.crt\"\nkey = \"{file}.key\"\nname = \"dns.example.net\"\n")
    };
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n{}{}{}[admin]\nlisten = \"127.0.0.1:0\"\n",
        listener("tls", "expired"),
        listener("https", "other"),
        listener("quic", "nothing")
    );
    let server = Meridian::start(&[
        ("meridian.toml", &config),
        ("zones/example.com.toml", &zone()),
        ("expired.crt", &expired.0),
        ("expired.key", &expired.1),
        ("other.crt", &other.0),
        ("other.key", &other.1),
    ]);
    let exposed = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(server.path().join("other.key"), exposed).expect("a mode");
    let line = |text: &str| config.lines().position(|line| line.contains(text)).expect("it is there") + 1;
    let (_, status, _) = server.command(&["status"]);
    for wanted in [
        "expired.crt: the certificate expired",
        "other.crt: the certificate is not for the name \"dns.example.net\"",
        "nothing.crt: cannot be read: no such file",
        "expired.crt: expired",
        "other.crt: expires in",
    ] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    server.says(&[&format!("meridian.toml:{}: server.tls: ", line("\"expired.crt")), "the certificate expired"]);
    server.says(&[&format!("meridian.toml:{}: server.quic: not opened: ", line("\"nothing.crt")), "nothing.crt: cannot be read"]);
    let check = Command::new(env!("CARGO_BIN_EXE_meridian")).arg("check").current_dir(server.path()).output().expect("the program runs");
    let checked = String::from_utf8_lossy(&check.stdout).into_owned();
    // What `run` would leave closed is an error; what it shows to clients all the same is a warning.
    for wanted in [
        &*format!("meridian.toml:{}: warning: server: tls: expired.crt: the certificate expired", line("\"expired.crt")),
        "(it names other.example.net, 192.0.2.7, 2001:db8::7); clients that verify it refuse us",
        &format!(
            "meridian.toml:{}: warning: server: https: other.key: everybody on this machine may read the private key (mode 644): chmod o= other.key",
            line("\"other.key")
        ),
        &format!("meridian.toml:{}: server: quic: nothing.crt: cannot be read: no such file", line("\"nothing.crt")),
        "it would stay closed",
        "1 errors, 7 warnings",
    ] {
        assert!(checked.contains(wanted), "{wanted}: {checked}");
    }
    assert_eq!(check.status.code(), Some(1), "{checked}");
}

/// A renewal that clients will not believe is said as it is at the start, with the listener and the file.
#[test]
fn renewed_certificates_that_clients_will_not_believe_are_told_of() {
    let served = Served::start("");
    let told = |text: &str| ["server.tls", "server.https", "server.quic"].map(|listener| served.server.says(&["WARN", listener, text]));
    for (names, year, mode, text) in [
        (&["dns.example.net"][..], 2021, 0o600, "tls/a.crt: the certificate expired"),
        (&["other.example.net"], 2099, 0o600, "tls/a.crt: the certificate is not for the name \"dns.example.net\" (it names other.example.net)"),
        (&["dns.example.net"], 2099, 0o644, "tls/a.key: everybody on this machine may read the private key (mode 644): chmod o= "),
    ] {
        let (certificate, key) = served.authority.sign(names, year);
        // What is there between the two is no pair, and is said to be none.
        let path = served.server.write("tls/a.key", &key);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        served.server.write("tls/a.crt", &certificate);
        told(text);
    }
    until("the last one is as it should be", || !served.server.command(&["status"]).1.contains("degraded: server."));
}

/// Who may read the files changes what there is to say, although nothing in them does.
#[test]
fn a_changed_mode_alone_is_noticed() {
    // Root reads everything, unless it may not override modes.
    let mut program = Command::new("unshare");
    let script = "exec setpriv --bounding-set=-dac_override,-dac_read_search \"$@\"";
    program.args(["--map-root-user", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_meridian")]);
    let served = Served::by(program, &config(""), &["dns.example.net", "127.0.0.1"]);
    let key = served.server.path().join("tls/a.key");
    let set = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("a mode");
    let lines = |text: &str| served.server.log().iter().filter(|line| line.contains("server.tls") && line.contains(text)).count();
    let is_degraded = || served.server.command(&["status"]).1.contains("a.key: cannot be read: permission denied");
    set(0o644);
    served.server.says(&["WARN", "server.tls", "tls/a.key: everybody on this machine may read the private key (mode 644)"]);
    let read = lines("the certificate was read again");
    set(0o600);
    until("it is read again", || lines("the certificate was read again") > read);
    assert_eq!(lines("everybody on this machine"), 1, "there is nothing to say any more");
    set(0o000);
    served.server.says(&["ERROR", "server.tls", "the certificate before stays in use", "permission denied"]);
    until("the status says so", is_degraded);
    assert!(!framed(&mut served.connect(served.tls, Some(b"dot")), &query("www.example.com", 1, &[])).is_empty());
    set(0o600);
    until("the status says so no more", || !is_degraded());
}

/// The kinds of keys that are taken, and what is said of the others, by the keys that OpenSSL makes.
#[test]
fn keys_of_every_kind_are_taken_or_told_in_plain_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\n\
                  [admin]\nenabled = false\n";
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    std::fs::write(folder.path().join("meridian.toml"), config).expect("written");
    let run = |program: &str, args: &[&str]| Command::new(program).args(args).current_dir(&folder).output().expect("it runs");
    let expected =
        "a.key: the key cannot be used: expected a key of RSA (2048 to 4096 bits), ECDSA (P-256 or P-384) or Ed25519; it would stay closed";
    // How it is made, how it is written (PKCS#8, else as it was before that), whether it is taken.
    for (algorithm, option, is_pkcs8, is_taken) in [
        ("RSA", "rsa_keygen_bits:2048", true, true),
        ("RSA", "rsa_keygen_bits:2048", false, true),
        ("RSA", "rsa_keygen_bits:3072", true, true),
        ("RSA", "rsa_keygen_bits:4096", true, true),
        ("RSA", "rsa_keygen_bits:1024", true, false),
        ("EC", "ec_paramgen_curve:P-256", true, true),
        ("EC", "ec_paramgen_curve:P-256", false, true),
        ("EC", "ec_paramgen_curve:P-384", true, true),
        ("EC", "ec_paramgen_curve:P-521", true, false),
        ("ED25519", "", true, true),
        ("ED448", "", true, false),
    ] {
        let options: &[&str] = if option.is_empty() { &[] } else { &["-pkeyopt", option] };
        let made = run("openssl", &[&["genpkey", "-algorithm", algorithm, "-out", "a.key"], options].concat());
        assert!(made.status.success(), "{algorithm} {option}: {}", String::from_utf8_lossy(&made.stderr));
        if !is_pkcs8 {
            assert!(run("openssl", &["pkey", "-in", "a.key", "-traditional", "-out", "old.key"]).status.success());
            std::fs::rename(folder.path().join("old.key"), folder.path().join("a.key")).expect("renamed");
        }
        assert!(run("openssl", &["req", "-x509", "-key", "a.key", "-subj", "/CN=x", "-days", "99", "-out", "a.crt"]).status.success());
        let checked = String::from_utf8_lossy(&run(env!("CARGO_BIN_EXE_meridian"), &["check"]).stdout).into_owned();
        assert_eq!(checked.contains("0 errors, 0 warnings"), is_taken, "{algorithm} {option}: {checked}");
        assert_eq!(checked.contains(expected), !is_taken, "{algorithm} {option}: {checked}");
    }
}

/// What `check` says is what `run` does: every way in which a certificate or its key cannot be used.
#[test]
fn certificates_that_cannot_be_used_fail_the_check() {
    let authority = Authority::new();
    let (good, other) = (authority.sign(&["dns.example.net"], 2099), authority.sign(&["dns.example.net"], 2099));
    let passphrase = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[server.quic]\nlisten = \"127.0.0.1:0\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\n\
                  [admin]\nlisten = \"127.0.0.1:0\"\n";
    for (what, certificate, key, wanted) in [
        ("a pair", Some(&*good.0), Some(&*good.1), None),
        ("no certificate", None, Some(&good.1), Some("a.crt: cannot be read: no such file")),
        ("no key", Some(&good.0), None, Some("a.key: cannot be read: no such file")),
        ("the key of another", Some(&good.0), Some(&other.1), Some("a.key: the key is not that of the certificate a.crt")),
        ("a passphrase", Some(&good.0), Some(passphrase), Some("a.key: the private key is encrypted")),
        ("key and certificate the other way round", Some(&good.1), Some(&good.0), Some("a.crt: found no certificate, expected PEM")),
        ("an empty file", Some(""), Some(&good.1), Some("a.crt: found no certificate, expected PEM")),
    ] {
        let mut files = vec![("meridian.toml", config), ("zones/.keep", "")];
        files.extend(certificate.map(|text| ("a.crt", text)));
        files.extend(key.map(|text| ("a.key", text)));
        let server = Meridian::start(&files);
        let (_, status, _) = server.command(&["status"]);
        assert_eq!(status.contains("server.quic: not opened"), wanted.is_some(), "{what}: {status}");
        let program = |word: &str, more: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_meridian")).arg(word).args(more).current_dir(server.path()).output().expect("the program runs")
        };
        let check = program("check", &[]);
        let checked = String::from_utf8_lossy(&check.stdout).into_owned();
        assert_eq!(check.status.code(), Some(i32::from(wanted.is_some())), "{what}: {checked}");
        if let Some(wanted) = wanted {
            let line = if wanted.starts_with("a.crt") { 5 } else { 6 };
            assert!(checked.contains(&format!("meridian.toml:{line}: server: quic: {wanted}")), "{what}: {checked}");
            let strict = program("run", &["--strict"]);
            let said = String::from_utf8_lossy(&strict.stderr).into_owned();
            assert!(strict.status.code() == Some(1) && said.contains("a transport cannot be opened and --strict was given"), "{what}: {said}");
        }
    }
}

/// Of what stands in the file, all is told that clients look at: those that lead to the authority, and what the key is for.
#[test]
fn the_whole_file_is_looked_at() {
    use rcgen::ExtendedKeyUsagePurpose::Any;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
    let key = || KeyPair::generate().expect("a key");
    let issuer = |name: &str, year: i32| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(year, 12, 31);
        CertifiedIssuer::self_signed(params, key()).expect("an authority")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\n\
                  [admin]\nlisten = \"127.0.0.1:0\"\n";
    write(folder.path(), "meridian.toml", config);
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    let mut server = None;
    type Edit = fn(&mut CertificateParams);
    let cases: [(&str, i32, Edit, Option<&str>); 4] = [
        ("as it should be", 2098, |_| (), None),
        ("one that leads to the authority", 2021, |_| (), Some("certificate 2 of 2 (CN=between) expired")),
        ("no signing", 2098, |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], Some("its key usage has no digitalSignature")),
        ("any purpose", 2098, |params| params.extended_key_usages = vec![Any], Some("its extended key usage has no serverAuth")),
    ];
    for (what, year, edit, wanted) in cases {
        let between = issuer("between", year);
        let (own, mut params) = (key(), CertificateParams::new(vec!["dns.example.net".to_owned()]).expect("a name"));
        params.not_after = date_time_ymd(2099, 12, 31);
        edit(&mut params);
        let leaf = params.signed_by(&own, &between).expect("signed");
        let at = server.as_ref().map_or(folder.path().to_owned(), |server: &Meridian| server.path().to_owned());
        let path = write(&at, "a.key", &own.serialize_pem());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        write(&at, "a.crt", &format!("{}{}", leaf.pem(), between.pem()));
        let check = Command::new(env!("CARGO_BIN_EXE_meridian")).arg("check").current_dir(&at).output().expect("the program runs");
        let checked = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(check.status.success() && checked.contains(wanted.unwrap_or("0 errors, 0 warnings")), "{what}: {checked}");
        let server = server.get_or_insert_with(|| {
            let copy = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(copy.path().join("zones")).expect("a folder");
            for file in ["meridian.toml", "a.key", "a.crt"] {
                std::fs::copy(folder.path().join(file), copy.path().join(file)).expect("copied");
            }
            Meridian::start_in(copy)
        });
        if let Some(wanted) = wanted {
            server.says(&["WARN", "server.tls", wanted]);
            until("the status says so", || server.command(&["status"]).1.contains(wanted));
        }
        if year == 2021 {
            let (_, status, _) = server.command(&["status"]);
            assert!(status.contains("a.crt: certificate 2 of 2 (CN=between) expired"), "{status}");
        }
    }
}
