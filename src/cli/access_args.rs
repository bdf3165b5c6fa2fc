//! The arguments of `audit` and `token`.

use clap::{Args, Subcommand, ValueEnum};

use super::args::{Change, Connect, expiry};

pub(super) const AUDIT_EXAMPLES: &str = "\
Examples:
  meridian audit --since 1h
  meridian audit --target example.com/fra --since 7d
  meridian audit --kind refused --json
  meridian audit --follow

The newest are last. Health transitions are entries, too: --kind change leaves them out.";

/// Which entries.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// From this on: a duration before now (90s, 1h, 7d), a time (2026-11-23T02:00:00Z) or unix seconds.
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Up to this.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Who did it.
    #[arg(long, value_name = "NAME")]
    pub(super) actor: Option<String>,
    /// With which token: its id; admin for the one in the file.
    #[arg(long = "by-token", value_name = "ID")]
    pub(super) by_token: Option<String>,
    /// What it was done to, or anything below: example.com finds example.com/fra.
    #[arg(long, value_name = "TARGET")]
    pub(super) target: Option<String>,
    /// What was done: overlay, overlay.lay, reload, token.create, health, …
    #[arg(long, value_name = "ACTION")]
    pub(super) action: Option<String>,
    /// done, forbidden, unauthorised, not-found, invalid, …
    #[arg(long, value_name = "WORD")]
    pub(super) outcome: Option<String>,
    /// What kind of entry.
    #[arg(long)]
    pub(super) kind: Option<Kind>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, conflicts_with = "until")]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) connect: Connect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// What was changed.
    Change,
    /// What was refused.
    Refused,
    /// What checks saw.
    Health,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Change => "change",
            Kind::Refused => "refused",
            Kind::Health => "health",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Makes one and prints it, this once.
    #[command(after_help = "\
Examples:
  meridian token create grafana --role read
  meridian token create deploy --role operate --zone example.com --zone example.net --expires 30d

The token alone goes to stdout: meridian token create ci --role operate > ci.token")]
    Create {
        /// Whose it is; the actor of what it does.
        name: String,
        /// What it may do.
        #[arg(long)]
        role: Role,
        /// Confine it to a zone; may be given several times.
        #[arg(long = "zone", value_name = "ZONE")]
        zones: Vec<String>,
        /// How long it is good for: 8h, 30d, until 2026-11-23T02:00:00Z, or never; without it, 90 days.
        #[arg(long, value_name = "DURATION", value_parser = expiry)]
        expires: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Lists them, ended ones included for 30 days.
    #[command(after_help = "Example:\n  meridian token list")]
    List {
        #[command(flatten)]
        connect: Connect,
    },
    /// Takes one back; nothing passes with it from then on, and its streams of events end.
    #[command(after_help = "Example:\n  meridian token revoke 5f3a90c1 --reason \"left the team\"")]
    Revoke {
        /// As the list shows it.
        id: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Look.
    Read,
    /// Move traffic.
    Operate,
    /// Everything, tokens included.
    Admin,
}
