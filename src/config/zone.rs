//! Makes the [`ZoneModel`] of one zone file and the libraries it sees.

use std::path::{Path, PathBuf};

use super::checks::{self, Whole};
use super::raw::{Defaults, RawFile, RawZone};
use super::resolve::{Library, Resolver};
use super::resolve_pool::NamedFile;
use super::source::{Sink, Spot};
use super::{masters, resolve_pool, safety, votes};
use crate::dns::{Name, RecordType};
use crate::policy::model::ZoneModel;
use crate::zone::{Owners, Path as Labels, Place, Record, Records, Ttl};

/// SOA refresh, retry and expire where nothing is said.
pub(super) const DEFAULT_SOA_TIMES: [u32; 3] = [3600, 900, 1_209_600];
/// How long a negative answer lives where nothing is said: SOA minimum, and the most for the SOA's own TTL.
pub(super) const DEFAULT_NEGATIVE_TTL: Ttl = 60;

/// The position of a zone's master file among its files: the TOML file comes first.
pub(super) const FIRST_MASTER_FILE: u16 = 1;

/// The static part that a master file gives: its records, and its files as problems name them.
#[derive(Debug)]
pub(super) struct MasterPart {
    pub(super) records: Records,
    pub(super) files: Vec<PathBuf>,
    /// False when some of it could not be read.
    pub(super) whole: bool,
}

impl Default for MasterPart {
    /// A zone without a master file.
    fn default() -> MasterPart {
        MasterPart { records: Records::new(), files: Vec::new(), whole: true }
    }
}

/// A zone put together, perhaps with errors.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) model: ZoneModel,
    /// Static records, the SOA among them. Its serial is a placeholder that `control` replaces when the model's source is `Derived`.
    pub(super) owners: Owners,
    /// Files of certificate authorities, and the subject that names each.
    pub(super) named_files: Vec<NamedFile>,
    /// Definitions that the zone uses and that are broken by themselves.
    pub(super) unsound: Vec<(String, Spot)>,
    /// True when a name was not found and may stand in a library that could not be read whole.
    pub(super) misses_library: bool,
    /// Library files that it uses anything of.
    pub(super) library_files: Vec<PathBuf>,
}

/// Puts a zone together and reports what is wrong with it as a whole.
pub(super) fn assemble(raw: &RawFile, zone: &RawZone, apex: &Name, library: &Library, base: &Defaults, part: MasterPart, sink: &Sink) -> Assembled {
    let errors_before = sink.errors();
    let mut files = vec![raw.file.to_path_buf()];
    files.extend(part.files);
    let part_whole = part.whole;
    let mut records = part.records;
    own_records(raw, zone, apex, part_whole, &mut records, sink);
    let mut model = ZoneModel { files, ..ZoneModel::empty(apex.clone()) };
    let mut resolver = Resolver::new(Some(raw), library, base, sink);
    let mut owners = Owners::group(apex, records);
    let named_files = fill(&mut resolver, &mut model, Some((raw, apex, &owners)), errors_before, raw.whole && part_whole);
    let https = static_https(&model, &owners);
    if !https.is_empty() {
        let mut records = owners.into_records();
        records.extend(https);
        owners = Owners::group(apex, records);
    }
    if part_whole && raw.whole {
        masters::check(&model, &owners, true, sink);
    }
    let library_files = resolver.library_files(library);
    let misses_library = resolver.misses_library.get();
    Assembled { model, owners, named_files, unsound: resolver.unsound, misses_library, library_files }
}

/// Checks the libraries by themselves: whatever is wrong with their items is said even if no zone uses them.
pub(super) fn check_library(library: &Library, base: &Defaults, sink: &Sink) {
    let mut resolver = Resolver::new(None, library, base, sink);
    let mut model = ZoneModel::empty(Name::root());
    // Nothing is steered here, so hosts cannot be derived: that is for the zones to say.
    fill(&mut resolver, &mut model, None, sink.errors(), false);
}

/// Fills in everything about steering. Returns the files that monitors name.
fn fill<'a>(
    resolver: &mut Resolver<'a>,
    model: &mut ZoneModel,
    zone: Option<(&'a RawFile, &Name, &Owners)>,
    errors_before: usize,
    whole: bool,
) -> Vec<NamedFile> {
    let sink = resolver.sink;
    let mut steering = resolver.steering(zone.map(|(raw, apex, _)| (raw, apex)));
    if !checks::is_a_tree(&steering, sink) {
        return Vec::new();
    }
    let label = match model.name.to_string() {
        root if root == "." => root,
        name => name.trim_end_matches('.').to_lowercase(),
    };
    model.regions = resolver.regions.iter().map(|(name, region)| ((*name).to_string(), region.value.clone())).collect();
    model.pools = resolve_pool::pools(resolver, &label);
    let own = zone.map_or_else(Default::default, |(raw, ..)| raw.safety.clone());
    model.safety = safety::resolve(resolver, model, &own, &label);
    model.policies = std::mem::take(&mut steering.policies);
    model.steers = std::mem::take(&mut steering.steers);
    let sound = whole && sink.errors() == errors_before && resolver.is_sound();
    let reach = resolve_pool::reach(model);
    votes::calculations(resolver);
    let attached = resolve_pool::attach(resolver, model, &reach, sound);
    let concerned = resolver.monitors.iter().filter(|(name, item)| zone.is_none() || !item.in_library || attached.used.contains(**name));
    concerned.for_each(|(_, item)| resolve_pool::check_monitor(resolver, *item));
    model.monitors = attached.monitors;
    model.definitions = votes::definitions(resolver, &model.pools, &attached.used, &label);
    let cnames = {
        let whole = Whole { model, steering: &steering, reach: &reach, sink };
        whole.ignored_keys();
        if !sound {
            return attached.named_files;
        }
        whole.places();
        whole.cnames()
    };
    model.steers.iter_mut().zip(cnames).for_each(|(steer, is_cname)| steer.is_cname = is_cname);
    let whole = Whole { model, steering: &steering, reach: &reach, sink };
    whole.https();
    whole.lacking();
    whole.empty_ends();
    whole.sizes();
    if let Some((_, _, owners)) = zone {
        whole.unused(resolver, &attached.used);
        whole.static_records(owners, |place| spot_of(model, place));
        whole.loops(owners);
    }
    attached.named_files
}

/// HTTPS records of steered names that are the same for everybody.
fn static_https(model: &ZoneModel, owners: &Owners) -> Vec<Record> {
    let mut path = Labels::new();
    let mut has = |owner: &Name| {
        path.set(owner.as_wire());
        owners.find(&path, path.labels()).is_some_and(|owner| owners.rrsets(owner).any(|(rtype, _)| rtype == RecordType::HTTPS))
    };
    let mut all = Vec::new();
    for steer in &model.steers {
        let Some(https) = steer.https.as_ref().filter(|https| !https.has_hints) else { continue };
        // One that the files have already was told as an error.
        if has(&steer.owner) {
            continue;
        }
        let (owner, place) = (steer.owner.clone(), Place { file: 0, line: https.line });
        all.push(Record { owner, rtype: RecordType::HTTPS, ttl: steer.ttl.max, rdata: https.rdata.clone(), place });
    }
    all
}

fn spot_of(model: &ZoneModel, place: Place) -> Spot {
    let file = model.files.get(usize::from(place.file)).map_or(Path::new(""), PathBuf::as_path);
    Spot { file: file.into(), line: place.line }
}

/// Adds what the TOML file says of itself: SOA, NS and `[records]`.
fn own_records(raw: &RawFile, zone: &RawZone, apex: &Name, part_whole: bool, records: &mut Records, sink: &Sink) {
    let subject = ["zone".to_string()];
    let has = |records: &Records, rtype| records.iter().any(|record| record.rtype == rtype && record.owner.eq_ignore_ascii_case(apex.as_wire()));
    let (file_soa, file_ns) = (has(records, RecordType::SOA), has(records, RecordType::NS));
    if let (Some(at), true) = (&zone.soa.at, file_soa) {
        sink.error(at, &subject, "found soa, but the file has an SOA record; keep one of them");
    }
    if let (Some(first), true) = (zone.ns.first(), file_ns) {
        sink.error(&first.at, &subject, "found ns, but the file has NS records of the zone; keep one of them");
    }
    if zone.ns.is_empty() && !file_ns && raw.whole && part_whole {
        sink.error(&zone.at, &subject, "ns is missing; write ns = [\"ns1\"] (below the zone) or [\"ns1.example.net.\"] (absolute)");
    }
    for server in zone.ns.iter().filter(|_| !file_ns) {
        let place = Place { file: 0, line: server.at.line };
        records.push(apex, RecordType::NS, zone.ttl, server.value.as_wire(), place);
    }
    if let (false, Some((ttl, rdata))) = (file_soa, derived_soa(zone, apex)) {
        records.push(apex, RecordType::SOA, ttl, &rdata, Place::default());
    }
    for set in &raw.records {
        let ttl = set.ttl.unwrap_or(zone.ttl);
        for (line, rdata) in &set.data {
            let place = Place { file: 0, line: *line };
            records.push(&set.owner, set.rtype, ttl, rdata, place);
        }
    }
}

/// TTL and data of the SOA with 0 in place of the serial. `None` without a name server to name.
fn derived_soa(zone: &RawZone, apex: &Name) -> Option<(Ttl, Vec<u8>)> {
    let soa = &zone.soa;
    let mname = soa.mname.clone().or_else(|| zone.ns.first().map(|server| server.value.clone()))?;
    let rname = match &soa.rname {
        Some(name) => name.clone(),
        None => apex.child(b"hostmaster").ok()?,
    };
    let [refresh, retry, expire] = DEFAULT_SOA_TIMES;
    let mut rdata = mname.as_wire().to_vec();
    rdata.extend_from_slice(rname.as_wire());
    let numbers =
        [0, soa.refresh.unwrap_or(refresh), soa.retry.unwrap_or(retry), soa.expire.unwrap_or(expire), soa.minimum.unwrap_or(DEFAULT_NEGATIVE_TTL)];
    numbers.iter().for_each(|number: &u32| rdata.extend_from_slice(&number.to_be_bytes()));
    let ttl = soa.ttl.unwrap_or(zone.ttl.min(DEFAULT_NEGATIVE_TTL));
    Some((ttl, rdata))
}
