//! The command line as a process, against a stand-in of the server ([`crate::stand_in`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::stand_in::{StandIn, TOKEN};

/// Runs `meridian` in `folder`; nothing of the environment but what the test says.
fn meridian_in(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.current_dir(folder).env_clear().env("USER", "ada").envs(env.iter().copied()).args(args);
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// The same beside a running server, off its thread.
async fn meridian(site: &Site, args: &[&str]) -> (i32, String, String) {
    let (folder, args): (PathBuf, Vec<String>) = (site.folder.path().into(), args.iter().map(|arg| (*arg).to_owned()).collect());
    let run = move || meridian_in(&folder, &[], &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// A running server, and a folder with the configuration and the token that lead to it.
struct Site {
    server: StandIn,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Site {
        let site = Site { server: StandIn::start().await, folder: tempfile::tempdir().expect("folder") };
        let path = |name: &str| site.folder.path().join(name);
        fs::write(path("meridian.toml"), format!("[admin]\nlisten = \"{}\"\n[state]\npath = \"var/m.db\"\n", site.server.addr)).expect("write");
        fs::create_dir(path("var")).expect("folder");
        fs::write(path("var/admin.token"), format!("{TOKEN}\n")).expect("write");
        site
    }
}

/// Runs commands one after another; each must end with its code and print its text.
async fn check(site: &Site, steps: &[(&str, i32, &str)]) {
    for (line, code, expected) in steps {
        let args: Vec<String> = words(line);
        let (found, out, err) = meridian(site, &args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(found, *code, "{line}\n{out}{err}");
        assert!(out.contains(expected) || err.contains(expected), "{line}: {expected:?} not in\n{out}{err}");
        assert!(*code == 0 || !err.is_empty() || out.contains("kept"), "{line}: says nothing");
    }
}

/// Splits at spaces; single quotes keep words together.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(index, part)| if index % 2 == 1 { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() })
        .collect()
}

#[tokio::test]
async fn traffic_is_moved_listed_and_put_back() {
    let site = Site::start().await;
    check(
        &site,
        &[
            ("overlay list", 0, "no overlays\n"),
            ("drain region:eu --reason 'rack move' --expires 2h", 0, "overlay 1 laid: region:eu drain, expires in "),
            ("ttl example.com/www 20 --reason move", 0, "overlay 2 laid: example.com/www ttl 20"),
            ("ttl example.com/mail/A 5m --reason move", 0, "overlay 3 laid: example.com/mail/A ttl 300"),
            ("weight example.com/fra/192.0.2.10 0 --reason slow --expires never", 0, "weight 0, never expires; generation 45 serves"),
            ("override example.com/fra down --reason 'bad disk' --owner 'Zoë B'", 0, "example.com/fra down"),
            ("overlay show 1", 0, "reason     rack move\n"),
            ("overlay show 5", 0, "owner      Zoë B\n"),
            ("overlay list", 0, "region:eu"),
            ("overlay revert 1", 0, "overlay 1 reverted: region:eu drain; generation 47 serves\n"),
            ("overlay revert 1", 1, "found no overlay 1"),
            ("overlay show 99", 1, "found no overlay 99"),
            ("failback example.com/www", 0, "example.com/www is free to fail back"),
            ("failback example.com/ww", 1, "did you mean example.com/www"),
            ("drain example.com/fro --reason x", 1, "did you mean example.com/fra"),
            ("drain example.com/fra --reason ''", 1, "reason: found nothing"),
            ("drain disk/hangs --reason x", 1, "it is not known whether what was asked for is kept"),
            ("drain disk/full --reason x", 1, "database or disk is full; nothing was changed"),
        ],
    )
    .await;
    let (_, list, _) = meridian(&site, &["overlay", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["overlays"].as_array().expect("a list").len(), 4);
    assert_eq!(list["overlays"][0]["owner"], "ada", "the user by default");
    assert_eq!(list["overlays"][2]["set"], serde_json::json!({ "weight": 0 }));
}

#[tokio::test]
async fn status_is_a_table_or_json() {
    let site = Site::start().await;
    let (code, out, err) = meridian(&site, &["status"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "Meridian 0.1.0, generation 41, up ",
        "degraded: geo database geodata/x.mmdb: not found; clients are not located.",
        "ZONE          STATE        SERIAL  RECORDS  STEERED  QUERIES",
        "example.com.  serving  1700000000        7        1        0",
        "example.com/fra  eu      degraded  1/2, needs 1",
        "connect: connection \"refused\"",
    ] {
        assert!(out.lines().any(|found| found.starts_with(line) || found.ends_with(line)), "{line:?} not in\n{out}");
    }
    assert!(!out.contains('\x1b'), "no colours into a pipe");
    let (code, out, _) = meridian(&site, &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &status["generation"]), (0, &Value::from(41)));
}

#[tokio::test]
async fn reload_says_what_it_did_and_ends_with_it() {
    let site = Site::start().await;
    check(
        &site,
        &[
            ("reload", 0, "example.com.  taken"),
            ("reload --all", 0, "example.com.  unchanged"),
            ("reload broken.example", 1, "broken.example.  kept     its files have 1 problem"),
            ("reload broken.example", 1, "zones/broken.toml:3: ttl"),
            ("reload broken.example --json", 1, "\"failed\": true"),
            ("reload nowhere.example", 1, "did you mean example.com."),
            ("reload nowhere.example --json", 1, "\"type\": \"urn:meridian:not-found\""),
        ],
    )
    .await;
}

#[tokio::test]
async fn explain_prints_the_text_of_the_trace() {
    let site = Site::start().await;
    check(
        &site,
        &[
            ("explain app.example.com AAAA --client 2001:db8::/32", 0, "app.example.com AAAA for 2001:db8::/32\n"),
            ("explain app.example.com", 0, "app.example.com A for 127.0.0.1\n"),
            ("explain app.example.com A --json", 0, "\"client\": \"127.0.0.1\""),
            ("explain 'a b&c=d#e%00'", 1, "found no zone for \"a b&c=d#e%00\""),
        ],
    )
    .await;
}

#[tokio::test]
async fn servers_that_cannot_be_used_end_with_3() {
    let site = Site::start().await;
    let server = format!("--server {}", site.server.addr);
    let step = |rest: &str| format!("status {rest}");
    let lines = [
        (step(&format!("{server} --token wrong")), "the token is not one of this server"),
        (step(&format!("{server} --token {TOKEN}x")), "the token is not one of this server"),
        (step("--server 127.0.0.1:1"), "is the server running?"),
        (step("--config elsewhere/missing.toml --server 127.0.0.1:1"), "admin.token"),
        (format!("overlay list {server} --token wrong"), "the token"),
    ];
    for (line, expected) in &lines {
        check(&site, &[(line, 3, expected)]).await;
    }
    // No server was looked for, and none will be however often it is tried.
    check(&site, &[("status --config missing.toml", 2, "missing.toml: no such file")]).await;
    fs::remove_file(site.folder.path().join("var/admin.token")).expect("remove");
    check(&site, &[("status", 3, "no token: say --token or MERIDIAN_TOKEN")]).await;
    let broken = "[server]\nlisten = [\n[admin]\nlisten = \"127.0.0.1:1\"\n";
    fs::write(site.folder.path().join("meridian.toml"), broken).expect("write");
    check(&site, &[("status --token x", 3, "where it listens may have been misread: meridian.toml:")]).await;
    fs::write(site.folder.path().join("meridian.toml"), "[admin]\nenabled = false\n").expect("write");
    check(&site, &[("status", 3, "admin.enabled is false")]).await;
}

#[tokio::test]
async fn the_token_may_come_from_the_environment() {
    let site = Site::start().await;
    fs::remove_file(site.folder.path().join("var/admin.token")).expect("remove");
    let (folder, url) = (site.folder.path().to_owned(), site.server.url(""));
    let run = move || {
        assert_eq!(meridian_in(&folder, &[("MERIDIAN_TOKEN", TOKEN)], &["status", "--server", &url]).0, 0);
        assert_eq!(meridian_in(&folder, &[("MERIDIAN_TOKEN", "x"), ("http_proxy", "http://127.0.0.1:1")], &["status", "--token", TOKEN]).0, 0);
        let (code, _, err) = meridian_in(&folder, &[("MERIDIAN_TOKEN", "secret-secret-secret")], &["status", "--nonsense"]);
        assert!(code == 2 && !err.contains("secret-secret"), "{err}");
        let (_, help, _) = meridian_in(&folder, &[("MERIDIAN_TOKEN", "secret-secret-secret")], &["status", "--help"]);
        assert!(!help.contains("secret-secret"), "{help}");
    };
    tokio::task::spawn_blocking(run).await.expect("no panic");
}

#[tokio::test]
async fn a_configuration_with_faults_still_leads_to_the_server() {
    let site = Site::start().await;
    let path = site.folder.path().join("meridian.toml");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, format!("nonsense = 1\n{text}[server]\nthreads = -5\n")).expect("write");
    check(&site, &[("status", 0, "generation 41"), ("--config meridian.toml status", 0, "generation 41")]).await;
}

#[tokio::test]
async fn a_stranger_on_the_port_is_told_apart() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let site = Site::start().await;
    for reply in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-x\r\n", ""] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("addr");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(reply.as_bytes()).await;
        });
        let (code, _, err) = meridian(&site, &["status", "--server", &addr.to_string()]).await;
        assert_eq!(code, 3, "{reply:?}: {err}");
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    let folder = tempfile::tempdir().expect("folder");
    for line in [
        "",
        "nonsense",
        "drain region:eu",
        "drain --reason x",
        "ttl example.com/www 0 --reason x",
        "ttl example.com/www 2147483648 --reason x",
        "ttl example.com/www 1500ms --reason x",
        "ttl example.com/www -5 --reason x",
        "weight t 65536 --reason x",
        "override t sideways --reason x",
        "drain t --reason x --expires soon",
        "drain t --reason x --expires 0s",
        "overlay show seven",
        "overlay",
        "status --watch=0",
        "status --server ftp://x",
        "check --zone file",
        "check --origin example.net",
        "explain a A --offline --server x",
        "completions klingon",
    ] {
        let (code, out, err) = meridian_in(folder.path(), &[], &words(line).iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(code, 2, "{line}: {out}{err}");
        assert!(!err.is_empty(), "{line}: says nothing");
    }
}

#[test]
fn every_command_teaches_itself() {
    fn walk(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path}: no description");
        if command.get_subcommands().next().is_none() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Example"), "{path}: no example");
        }
        for argument in command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")) {
            assert!(argument.get_help().is_some(), "{path} {}: no help", argument.get_id());
        }
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|command| walk(command, &path));
    }
    let definition = meridian::cli::definition();
    definition.clone().debug_assert();
    walk(&definition, "");
}

#[test]
fn help_version_and_completions_need_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    for (args, expected) in [
        (&["--version"][..], "meridian 0.1.0"),
        (&["--help"][..], "Exit codes:"),
        (&["drain", "--help"][..], "meridian drain region:eu"),
        (&["completions", "bash"][..], "_meridian"),
        (&["completions", "zsh"][..], "#compdef meridian"),
        (&["completions", "fish"][..], "complete -c meridian"),
    ] {
        let (code, out, err) = meridian_in(folder.path(), &[], args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains(expected), "{args:?}: {out}");
    }
}

#[test]
fn geo_commands_are_mounted() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("ranges.csv"), "network,country\n192.0.2.0/24,DE\n").expect("write");
    fs::write(folder.path().join("meridian.toml"), "[geo]\ndatabases = [\"own.mmdb\"]\n").expect("write");
    let run = |args: &[&str]| meridian_in(folder.path(), &[], args);
    let (code, _, err) = run(&["geo", "build", "ranges.csv", "own.mmdb"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = run(&["geo", "lookup", "192.0.2.7"]);
    assert!(code == 0 && out.contains("DE"), "{out}{err}");
    let (code, _, err) = run(&["geo", "lookup", "192.0.2.7", "-d", "missing.mmdb"]);
    assert!(code == 1 && err.contains("missing.mmdb"), "{err}");
}

#[test]
fn check_and_offline_explain_read_the_files_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let zone = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nmail.A = \"192.0.2.25\"\n";
    fs::create_dir(folder.path().join("zones")).expect("folder");
    fs::write(folder.path().join("zones/example.com.toml"), zone).expect("write");
    fs::write(folder.path().join("meridian.toml"), "[server]\nlisten = [\"127.0.0.1:0\"]\n").expect("write");
    let run = |line: &str| meridian_in(folder.path(), &[], &words(line).iter().map(String::as_str).collect::<Vec<_>>());
    let (code, out, err) = run("check");
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = run("explain mail.example.com A --offline");
    assert!(code == 0 && out.contains("192.0.2.25"), "{out}{err}");
    let (code, out, err) = run("explain mail.example.com --offline --json --client 192.0.2.0/24");
    let trace: Value = serde_json::from_str(&out).expect("JSON");
    assert!(code == 0 && trace["rcode"] == "NOERROR", "{out}{err}");
    assert_eq!(run("explain mail..example.com --offline").0, 2);
    assert_eq!(run("explain mail.example.com A --client 192.0.2.0/99 --offline").0, 2);
    fs::write(folder.path().join("zones/example.com.toml"), format!("{zone}x.A = \"nonsense\"\n")).expect("write");
    let (code, out, _) = run("check");
    assert!(code == 1 && out.contains("example.com.toml:7:"), "{out}");
    assert!(!folder.path().join("state").exists(), "no state and no token are made");
    fs::write(folder.path().join("zones/example.com.toml"), zone).expect("write");
    for (admin, warns) in [
        ("listen = \"192.0.2.1:8053\"", true),
        ("listen = \"[::]:8053\"", true),
        ("listen = \"192.0.2.1:8053\"\nplaintext = true", false),
        ("listen = \"192.0.2.1:8053\"\nenabled = false", false),
        ("listen = \"[::ffff:127.0.0.1]:8053\"", false),
    ] {
        fs::write(folder.path().join("meridian.toml"), format!("[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\n{admin}\n")).expect("write");
        let (code, out, err) = run("check");
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(out.contains("warning: admin: listen: admin listener") && out.contains("not opened"), warns, "{admin}: {out}");
    }
}
