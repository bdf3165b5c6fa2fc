//! The arguments of `list`, `health` and `events`.

use clap::{Args, Subcommand};

use super::access_args::Kind;
use super::args::Connect;
use crate::policy::model::MonitorWord;

/// Once, or again and again.
#[derive(Debug, Args)]
pub(super) struct Look {
    /// Show it again every so many seconds, until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) watch: Option<u64>,
    #[command(flatten)]
    pub(super) connect: Connect,
}

/// Of which endpoints the health is shown.
#[derive(Debug, Args)]
pub(super) struct WhichHealth {
    /// Only those of this zone; `library` for those of files without `[zone]`.
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    /// Only those of this pool: zone/pool.
    #[arg(long, value_name = "POOL")]
    pub(super) pool: Option<String>,
    /// Only those of this region.
    #[arg(long, value_name = "NAME")]
    pub(super) region: Option<String>,
    /// Only those that checks see so.
    #[arg(long, value_parser = ["unknown", "up", "degraded", "suspect", "down", "ramp"])]
    pub(super) state: Option<String>,
    /// Only those that may be handed out, or only those that may not.
    #[arg(long, value_parser = ["true", "false"])]
    pub(super) usable: Option<String>,
    /// Only those whose verdict says nothing of now, or only the others.
    #[arg(long, value_parser = ["true", "false"])]
    pub(super) stale: Option<String>,
}

/// What there are lists of.
#[derive(Debug, Subcommand)]
pub(super) enum ListCommand {
    /// Zones, with their state and serial.
    #[command(after_help = "Examples:\n  meridian list zones\n  meridian list zones --state kept --name example")]
    Zones {
        /// Only those in this state.
        #[arg(long, value_parser = ["serving", "kept", "failed"])]
        state: Option<String>,
        /// Only those whose name has this in it.
        #[arg(long, value_name = "PART")]
        name: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Record sets of a zone, with the TTL in effect and that of the files.
    #[command(after_help = "Examples:\n  meridian list records example.com\n  meridian list records example.com --name mail --type A")]
    Records {
        /// The zone.
        zone: String,
        /// Only those at this name, relative to the zone; @ for the zone itself.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Only those of this type.
        #[arg(long = "type", value_name = "TYPE")]
        rtype: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Steered names of a zone, and what decides for them.
    #[command(after_help = "Example:\n  meridian list names example.com")]
    Names {
        /// The zone.
        zone: String,
        #[command(flatten)]
        look: Look,
    },
    /// Policies, with the weights in effect and those of the files.
    #[command(after_help = "Examples:\n  meridian list policies\n  meridian list policies --zone example.com --kind weighted")]
    Policies {
        /// Only those of this zone.
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// Only those of this kind.
        #[arg(long, value_parser = ["failover", "weighted", "geo", "proximity", "latency", "multivalue"])]
        kind: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Pools, with what of them may be handed out.
    #[command(after_help = "Examples:\n  meridian list pools --region eu\n  meridian list pools --health critical --watch")]
    Pools {
        /// Only those of this zone; `library` for those of files without `[zone]`.
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// Only those of this region.
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        /// Only those as healthy as this.
        #[arg(long, value_parser = ["healthy", "degraded", "critical"])]
        health: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Endpoints, with state, weight and what operators force.
    #[command(after_help = "\
Examples:
  meridian list endpoints --region eu --usable false
  meridian list endpoints --pool example.com/fra --watch=5
  meridian list endpoints --forced drain --json | jq -r '.endpoints[].id'")]
    Endpoints {
        /// Only those of this zone; `library` for those of files without `[zone]`.
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// Only those of this pool: zone/pool.
        #[arg(long, value_name = "POOL")]
        pool: Option<String>,
        /// Only those of this region.
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        /// Only those that checks see so.
        #[arg(long, value_parser = ["unknown", "up", "degraded", "suspect", "down", "ramp"])]
        state: Option<String>,
        /// Only those that may be handed out, or only those that may not.
        #[arg(long, value_parser = ["true", "false"])]
        usable: Option<String>,
        /// Only those that operators force so.
        #[arg(long, value_parser = ["up", "drain", "down"])]
        forced: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Regions, with their pools.
    #[command(after_help = "Example:\n  meridian list regions")]
    Regions {
        #[command(flatten)]
        look: Look,
    },
    /// Monitors: what checks ask, and how often.
    #[command(
        after_help = "Examples:\n  meridian list monitors\n  meridian list monitors --zone example.com --kind https\n  meridian list monitors --kind any"
    )]
    Monitors {
        /// Only those of this zone.
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// Only those of this kind.
        #[arg(long, value_parser = MonitorWord::WORDS)]
        kind: Option<String>,
        #[command(flatten)]
        look: Look,
    },
}

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  meridian events
  meridian events --kind change --target example.com
  meridian events --json | jq 'select(.event == \"health\")'
  meridian events --after 41                 what has happened since entry 41, and what comes

One line for each entry of the audit log as it is kept, and without --kind for each new generation. `meridian audit` shows what has been.";

/// Which events.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// What kind of entry.
    #[arg(long)]
    pub(super) kind: Option<Kind>,
    /// What it was done to, or anything below: example.com finds example.com/fra.
    #[arg(long, value_name = "TARGET")]
    pub(super) target: Option<String>,
    /// Begin behind this entry of the audit log; without it, now.
    #[arg(long, value_name = "SEQUENCE")]
    pub(super) after: Option<u64>,
    #[command(flatten)]
    pub(super) connect: Connect,
}
