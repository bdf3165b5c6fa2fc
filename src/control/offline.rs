//! The world without a server.

use std::time::Duration;

use super::checks::{self, Checks};
use super::load::Build;
use super::loads::Loads;
use super::overlays::Effects;
use super::server::Jar;
use super::state::{Surroundings, ZoneState};
use super::writer::unix_now;
use crate::world::{DownZone, ServerOptions, World, ZoneIndex};

/// The world that the files alone make: nothing checked yet, no overlays. For `explain` and tests.
pub fn world_of_files(build: Build) -> World {
    let mut checks = Checks::default();
    let (wanted, uses) = checks::wanted_by(build.good.iter().map(|zone| &*zone.parts));
    checks.set_wanted(&wanted, uses, Duration::ZERO, unix_now());
    let (effects, loads) = (Effects::default(), Loads::default());
    let around = Surroundings { checks: &checks, effects: &effects, loads: &loads, now: Duration::ZERO, now_unix: unix_now(), slot: &|_| 0 };
    let mut cookies = Jar::default();
    build.cookies.map(|wanted| cookies.take(wanted));
    let server = build.settings.as_ref().map_or_else(ServerOptions::default, |settings| cookies.options(settings));
    let mut zones = Vec::new();
    for taken in build.good {
        let serial = taken.parts.tree.soa_serial();
        zones.push(ZoneState::new(taken, serial, String::new()).assemble(&around));
    }
    let down = build.bad.into_iter().filter_map(|(apex, _)| Some(DownZone { apex: apex? })).collect();
    World { generation: 0, server, zones: ZoneIndex::new(zones, down) }
}
