//! The command line as clap reads it, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::access_args::{AUDIT_EXAMPLES, AuditArgs, TokenCommand};
use super::geo::GeoCommand;
use super::list_args::{EVENTS_EXAMPLES, EventsArgs, ListCommand, Look, WhichHealth};
use super::rule::RuleCommand;
use crate::config;
use crate::control::api::When;
use crate::control::text::rfc3339;
use crate::control::tokens::reserved;

/// Answers DNS by where clients are, what is up and how fast it is; moves traffic at run time.
#[derive(Debug, Parser)]
#[command(
    name = "meridian",
    version,
    max_term_width = 120,
    after_help = "\
Examples:
  meridian check                                   read all files as a start does, and list every problem
  meridian run                                     serve ./meridian.toml
  meridian status                                  what a running server knows
  meridian explain app.example.com A --client 203.0.113.0/24
  meridian drain region:eu --reason \"rack move\" --expires 2h

Exit codes: 0 done, 1 failed or problems found, 2 wrong command line, 3 unreachable or unauthorised, 4 refused by a safety rule."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(super) struct ConfigArg {
    /// The configuration; client commands find the server and its token through it.
    #[arg(id = "config", long = "config", value_name = "FILE", global = true, default_value = "meridian.toml")]
    pub(super) path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serves until SIGTERM; SIGHUP reads the files again.
    #[command(after_help = "\
Examples:
  meridian run
  meridian run --config /etc/meridian/meridian.toml --strict

Prints one line on stderr when it serves. A zone that does not load is served from its last good version, or with SERVFAIL; --strict refuses to start instead.")]
    Run {
        /// Refuse to start if any zone does not load.
        #[arg(long)]
        strict: bool,
    },
    /// Reads all files exactly as a start does and lists every problem.
    #[command(after_help = "\
Examples:
  meridian check
  meridian check --json
  meridian check --zone db.example.net --origin example.net

Touches neither the state nor a running server. Ends with 1 if there are errors; warnings alone end with 0.")]
    Check {
        /// One master file alone, as named-checkzone does.
        #[arg(long, value_name = "FILE", requires = "origin")]
        zone: Option<PathBuf>,
        /// The origin of that master file.
        #[arg(long, value_name = "NAME", requires = "zone")]
        origin: Option<String>,
        /// JSON instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Builds geo databases from text and looks addresses up in them.
    #[command(subcommand)]
    Geo(GeoCommand),
    /// Prints the script that completes this command line in a shell.
    #[command(after_help = "\
Example:
  meridian completions bash > /etc/bash_completion.d/meridian")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(Box<Client>),
}

/// Commands that talk to a running server.
#[derive(Debug, Subcommand)]
pub(super) enum Client {
    /// Shows why a name is answered as it is.
    #[command(after_help = "\
Examples:
  meridian explain app.example.com A --client 203.0.113.0/24
  meridian explain app.example.com AAAA --client 2001:db8::1 --json
  meridian explain www.example.com A --offline            against the files, without a server

Shows the rule that matched, the class, each pool with its health and why it was passed over, the TTL, the scope and the answer.")]
    Explain {
        /// The name asked for.
        name: String,
        /// The record type asked for.
        #[arg(value_name = "TYPE", default_value = "A")]
        rtype: String,
        /// Whom the answer is for; without it, a client at the address this command comes from.
        #[arg(long, value_name = "PREFIX")]
        client: Option<String>,
        /// Against the files, as if everything were up, instead of a running server.
        #[arg(long, conflicts_with_all = ["server", "token"])]
        offline: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows zones, pools, endpoints with their health, and overlays.
    #[command(after_help = "\
Examples:
  meridian status
  meridian status --watch
  meridian status --json | jq '.pools[] | select(.health != \"healthy\")'")]
    Status {
        #[command(flatten)]
        look: Look,
    },
    /// Lists what is served: zones, records, names, policies, pools, endpoints, regions, monitors.
    #[command(subcommand)]
    List(ListCommand),
    /// Shows what checks say of all endpoints, or of one, with what they said before.
    #[command(after_help = "\
Examples:
  meridian health
  meridian health --state down --region eu
  meridian health example.com/fra/192.0.2.10
  meridian health example.com/fra/192.0.2.10 --watch")]
    Health {
        /// zone/pool/address, as `meridian list endpoints` shows it; all of them without it.
        #[arg(conflicts_with_all = ["zone", "pool", "region", "state", "usable", "stale"])]
        endpoint: Option<String>,
        #[command(flatten)]
        which: WhichHealth,
        #[command(flatten)]
        look: Look,
    },
    /// Runs the checks of an endpoint once, now, and shows what each part took. Changes no state.
    #[command(after_help = "\
Examples:
  meridian check-now example.com/fra/192.0.2.10
  meridian check-now example.com/fra/192.0.2.10 --json")]
    CheckNow {
        /// zone/pool/address, as `meridian list endpoints` shows it.
        endpoint: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Changes the TTL of a record or steered name.
    #[command(after_help = "\
Examples:
  meridian ttl example.com/www 20 --reason \"move at noon\" --expires 6h
  meridian ttl example.com/mail/A 60 --reason \"renumbering\"

An overlay may lower a TTL below the file's, or raise it as far as the file's maximum.")]
    Ttl {
        /// zone/name or zone/name/TYPE.
        target: String,
        /// Seconds, or a duration such as 5m.
        #[arg(value_name = "SECONDS", value_parser = ttl)]
        seconds: u32,
        #[command(flatten)]
        lay: Lay,
    },
    /// Changes the weight of an endpoint, or of a child of a weighted policy.
    #[command(after_help = "\
Examples:
  meridian weight example.com/fra/192.0.2.10 1 --reason \"warming up\"
  meridian weight example.com/policy:frankfurt/fra-canary 50 --from 5 --over 2h --reason \"canary\" --expires never

On the way it stands still while the target or a sibling gets worse, and is taken back if the target fails. Weight 0 takes no new traffic as long as a sibling can.")]
    Weight {
        /// zone/pool/address or zone/policy:NAME/child.
        target: String,
        /// 0 to 65535.
        #[arg(value_name = "N")]
        weight: u16,
        /// Reach it step by step over this time: 10m, 2h.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        over: Option<String>,
        /// The weight to begin with; without it, the one in effect.
        #[arg(long, value_name = "N", requires = "over")]
        from: Option<u16>,
        #[command(flatten)]
        lay: Lay,
    },
    /// Forces an endpoint, pool or region up, down or drained, whatever its checks say.
    #[command(after_help = "\
Examples:
  meridian override example.com/fra/192.0.2.10 down --reason \"bad disk\"
  meridian override example.com/fra up --reason \"check is wrong, see ticket 4711\" --expires 30m

down beats drain beats up, at any level.")]
    Override {
        /// zone/pool/address, zone/pool or region:NAME.
        target: String,
        /// up, down or drain.
        state: State,
        #[command(flatten)]
        lay: Lay,
    },
    /// Stops new answers that point at an endpoint, pool or region; the same as `override TARGET drain`.
    #[command(after_help = "\
Examples:
  meridian drain example.com/fra --reason \"kernel update\" --expires 1h
  meridian drain region:eu --over 10m --wait --reason \"power work\" --expires never

--wait ends when the last answer that names it has run out of caches, and the guard is over. Undo it with `meridian overlay revert ID`, or step by
step with `meridian overlay revert ID --over 10m`.")]
    Drain {
        /// zone/pool/address, zone/pool or region:NAME.
        target: String,
        /// Give its traffic up step by step over this time: 10m, 2h.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        over: Option<String>,
        /// Wait until it is safe to stop it.
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
        #[command(flatten)]
        lay: Lay,
    },
    /// Disables a rule of a geo policy, and enables it again.
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Lists, shows and takes back what ttl, weight, override and drain have laid.
    #[command(subcommand)]
    Overlay(OverlayCommand),
    /// Makes the server read its files again; says zone by zone what was taken.
    #[command(after_help = "\
Examples:
  meridian reload
  meridian reload example.com
  meridian reload --all              every zone or none
  meridian reload --dry-run          what would be taken, and what that would withdraw

Ends with 1 if anything was refused, with 4 if a safety rule forbids it or nobody said yes to what it withdraws; what was refused keeps serving as it was.")]
    Reload {
        /// One zone and the libraries that it uses, nothing else; without it, everything, meridian.toml too.
        zone: Option<String>,
        /// Take all zones or none.
        #[arg(long, conflicts_with = "zone")]
        all: bool,
        /// Change nothing; show what would be taken and what that would withdraw.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask before more is withdrawn at once than safety.confirm_above. Without a terminal to ask on, such a reload needs it.
        #[arg(long)]
        yes: bool,
        /// Go past safety rules; recorded with the reason.
        #[arg(long, requires = "why")]
        break_glass: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Lets a failover that is held return to its better child.
    #[command(after_help = "\
Examples:
  meridian failback example.com/www
  meridian failback example.com/policy:frankfurt --reason \"fra is back for good\"")]
    Failback {
        /// zone/name or zone/policy:NAME.
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Shows who changed what, who was refused, and what checks saw.
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Shows changes, refusals, verdicts of checks and new generations as they happen, until interrupted.
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(EventsArgs),
    /// Makes, lists and revokes tokens.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum OverlayCommand {
    /// Lists them.
    #[command(after_help = "Examples:\n  meridian overlay list --watch\n  meridian overlay list --json")]
    List {
        #[command(flatten)]
        look: Look,
    },
    /// Shows one.
    #[command(after_help = "Example:\n  meridian overlay show 7")]
    Show {
        /// As the list shows it.
        id: u64,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows what is not as the files say.
    #[command(after_help = "Example:\n  meridian overlay diff")]
    Diff {
        #[command(flatten)]
        connect: Connect,
    },
    /// Writes one into its zone file, comments and layout kept, and ends it.
    #[command(after_help = "Examples:\n  meridian overlay promote 7 --dry-run\n  meridian overlay promote 7 --reason \"here to stay\"")]
    Promote {
        /// As the list shows it.
        id: u64,
        /// Write nothing; show the difference.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Changes when one expires.
    #[command(after_help = "Examples:\n  meridian overlay extend 7 2h\n  meridian overlay extend 7 never --reason \"parts are late\"")]
    Extend {
        /// As the list shows it.
        id: u64,
        /// From now: 30m, 2h, 1d or never.
        #[arg(value_name = "DURATION", value_parser = expiry)]
        expires: String,
        /// Why it is there, in place of the reason before.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        connect: Connect,
    },
    /// Takes one back.
    #[command(after_help = "Examples:\n  meridian overlay revert 7\n  meridian overlay revert 7 --reason \"disk replaced\" --dry-run")]
    Revert {
        /// As the list shows it.
        id: u64,
        /// Why; --break-glass needs it.
        #[arg(long, value_name = "TEXT", required_if_eq("break_glass", "true"))]
        reason: Option<String>,
        /// Let what was drained or down come back step by step over this time: 10m, 2h.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        over: Option<String>,
        #[command(flatten)]
        care: Care,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        connect: Connect,
    },
}

/// A duration, checked before it travels.
fn duration(text: &str) -> Result<String, String> {
    let fits = config::parse_duration(text).is_some_and(|duration| !duration.is_zero());
    if fits { Ok(text.to_owned()) } else { Err("expected a duration such as 90s, 10m or 2h".into()) }
}

/// A duration from now, a time, or unix seconds.
fn moment(text: &str) -> Result<When, String> {
    match text.parse().ok().or_else(|| rfc3339(text)) {
        Some(at) => Ok(When::At(at)),
        None => duration(text)
            .map(When::In)
            .map_err(|_| "expected a duration from now such as 2h, a time such as 2026-11-23T02:00:00Z, or unix seconds".into()),
    }
}

/// What every change says.
#[derive(Debug, Args)]
pub(super) struct Lay {
    /// Why; whoever looks at it at night will want to know.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// How long it holds: 30m, 2h, 1d, until 2026-11-23T02:00:00Z, or never; without it, 24 h.
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    pub(super) expires: Option<String>,
    /// When it begins: a duration from now, a time (2026-11-23T02:00:00Z), or unix seconds; without it, at once. The expiry counts from then.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(super) starts: Option<When>,
    #[command(flatten)]
    pub(super) care: Care,
    #[command(flatten)]
    pub(super) owner: Owner,
    #[command(flatten)]
    pub(super) connect: Connect,
}

/// What may be withdrawn, and who says so.
#[derive(Debug, Args)]
pub(super) struct Care {
    /// Do not ask before more is withdrawn at once than safety.confirm_above. Without a terminal to ask on, such a change needs it.
    #[arg(long)]
    pub(super) yes: bool,
    /// Go past the safety rules; the reason is recorded.
    #[arg(long)]
    pub(super) break_glass: bool,
    /// Change nothing; show what would happen.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Why, where it may be left out.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// Why, for the audit log.
    #[arg(id = "why", long = "reason", value_name = "TEXT")]
    pub(super) text: Option<String>,
}

/// What every change takes that lays nothing.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    pub(super) why: Why,
    #[command(flatten)]
    pub(super) owner: Owner,
    #[command(flatten)]
    pub(super) connect: Connect,
}

/// Who does it.
#[derive(Debug, Args)]
pub(super) struct Owner {
    /// Who does it; without it the user ($USER), and where there is none, the name of the token.
    #[arg(id = "owner", long = "owner", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// The user.
    #[arg(id = "user", long = "user", env = "USER", hide = true)]
    user: Option<String>,
}

impl Owner {
    /// What the server is told; `None`: whose token it is.
    pub(super) fn actor(&self) -> Option<&str> {
        // A user may be called what no owner may be: the account of the service, for example.
        let user = || self.user.as_deref().filter(|user| reserved(user).is_none());
        self.name.as_deref().filter(|name| !name.is_empty()).or_else(user).filter(|name| !name.is_empty())
    }
}

/// Which server, and how to show its reply.
#[derive(Debug, Args)]
pub(super) struct Connect {
    /// The server; without it, `admin.listen` of the configuration.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(super) server: Option<String>,
    /// The token; without it, the file admin.token beside the state. Other users of the machine can see arguments: prefer the variable or the file.
    #[arg(long, value_name = "TOKEN", env = "MERIDIAN_TOKEN", hide_env_values = true, help_heading = "Server")]
    pub(super) token: Option<String>,
    /// Authorities to trust for https, in PEM, besides the system's and the certificate that the configuration names.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(super) ca: Option<PathBuf>,
    /// The certificate to show to a server that asks for one, in PEM.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Server")]
    pub(super) cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Server")]
    pub(super) key: Option<PathBuf>,
    /// JSON as the server sends it, instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// Usable whatever the checks say.
    Up,
    /// Not handed out.
    Down,
    /// No new answers.
    Drain,
}

/// Seconds as a number, or a duration in whole seconds.
fn ttl(text: &str) -> Result<u32, String> {
    let seconds = text.parse::<u64>().ok().or_else(|| {
        let duration = config::parse_duration(text)?;
        (duration.subsec_nanos() == 0).then_some(duration.as_secs())
    });
    match seconds.map(u32::try_from) {
        Some(Ok(seconds)) if (1..=crate::zone::record::MAX_TTL).contains(&seconds) => Ok(seconds),
        _ => Err("expected whole seconds from 1 to 2147483647, such as 20 or 5m".into()),
    }
}

/// A duration, a time or `never`, checked before it travels.
pub(super) fn expiry(text: &str) -> Result<String, String> {
    let fits = text == "never" || rfc3339(text).is_some() || config::parse_duration(text).is_some_and(|duration| !duration.is_zero());
    if fits { Ok(text.to_owned()) } else { Err("expected a duration such as 30m, 2h or 1d, a time such as 2026-11-23T02:00:00Z, or never".into()) }
}
