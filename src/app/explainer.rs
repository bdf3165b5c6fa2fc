//! `explain`, against the running world and against the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::Explainer;
use crate::config::{OsFiles, Problem, Severity, load_settings_alone};
use crate::control::api::Refusal;
use crate::control::explain::{BadQuestion, Explanation, Wanted, explain};
use crate::control::geography::read_geo;
use crate::control::handle::{Laying, is_below};
use crate::control::load::{Previous, build};
use crate::control::offline::world_of_files;
use crate::control::{Handle, Who, unix_now};
use crate::world::Published;

/// Explains what the published world answers. The databases are read again for each question: serving does not keep them.
pub(super) struct Running {
    pub(super) world: Arc<Published>,
    pub(super) config: PathBuf,
    pub(super) handle: Handle,
}

impl Explainer for Running {
    fn explain(&self, name: &str, rtype: &str, client: &str, who: &Who) -> Result<serde_json::Value, Refusal> {
        let wanted = Wanted::parse(name, rtype, client).map_err(|error| invalid(&error))?;
        let (settings, problems) = load_settings_alone(&OsFiles, &self.config);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Refusal::Invalid { field: "config".into(), detail: "the configuration file has errors; see meridian check".into() });
        }
        let (geo, _) = read_geo(&OsFiles, &settings);
        let mut explanation = self.world.with_world(|world| explain(world, &geo, &wanted, unix_now(), seed()));
        // A CNAME may lead to names of zones that are none of theirs: the answer says where, and no more.
        explanation.leave_out(|thing| !who.covers(thing));
        let about = std::mem::take(&mut explanation.about);
        explanation.beyond = tokio::runtime::Handle::current().block_on(self.handle.beyond(who))?;
        explanation.beyond.retain(|one| about.iter().any(|thing| one.target.strip_prefix(&**thing).is_some_and(is_below)));
        let laid = self.handle.overlays(Laying::About(about, who.clone()));
        explanation.overlays = tokio::runtime::Handle::current().block_on(laid)?;
        if explanation.keeps_any() {
            explanation.tell_why_kept(&tokio::runtime::Handle::current().block_on(self.handle.seen()));
        }
        explanation.text = explanation.to_string();
        Ok(serde_json::to_value(explanation).unwrap_or_default())
    }
}

fn invalid(error: &BadQuestion) -> Refusal {
    let field = match error {
        BadQuestion::Name(_) => "name",
        BadQuestion::Type(_) => "type",
        BadQuestion::Client(_) => "client",
    };
    Refusal::Invalid { field: field.into(), detail: error.to_string() }
}

/// Explains what the files would answer if nothing had been checked yet. The problems are those of the files.
pub fn explain_offline(config: &Path, wanted: &Wanted) -> Result<Explanation, Vec<Problem>> {
    let files = build(&OsFiles, config, &Previous::default());
    let Some(settings) = files.settings.clone() else { return Err(files.problems) };
    let (geo, _) = read_geo(&OsFiles, &settings);
    let world = world_of_files(files);
    Ok(explain(&world, &geo, wanted, unix_now(), seed()))
}

/// Chance of one explanation.
fn seed() -> u64 {
    let mut octets = [0; 8];
    // Without randomness explain still explains.
    let _ = getrandom::fill(&mut octets);
    u64::from_le_bytes(octets)
}
