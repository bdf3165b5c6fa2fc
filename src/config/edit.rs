//! The next version of a large master file, made from the version before and the chunks of text in which they differ.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::chunks::{Chunks, Comparison, Difference};
use super::known::KnownZone;
use super::load::{LoadedZone, content_hash};
use super::masters::sources;
use super::raw::Defaults;
use super::reader::Reader;
use crate::dns::Name;
use crate::zone::check::{Fault, check};
use crate::zone::tree::ZoneTree;
use crate::zone::{OwnerId, Owners, Records, master};

/// How much is read at a time.
const PART_LEN: usize = 1 << 18;

/// The zone as its file is now. `None` when that takes a parse of the whole file, which then says what is wrong if anything is.
pub(super) fn edited(reader: &Reader<'_>, before: &KnownZone, origin: &Name, config: Option<&Path>) -> Option<KnownZone> {
    let (chunks, tree) = (before.chunks.as_ref()?, before.zone.tree.as_ref()?);
    let mut difference = compare(reader, &before.path, chunks)?;
    let (tree, chunks) = if difference.texts.is_empty() && difference.gone.is_empty() {
        (tree.clone(), chunks.clone())
    } else {
        let tree = apply(&mut difference, tree, origin)?;
        (Arc::new(tree), Arc::new(difference.chunks))
    };
    let paths = [before.path.clone()];
    let content = content_hash(reader, &paths, Some(origin), &Defaults::default());
    let sources = sources(reader, [&*before.path].into_iter().chain(config));
    let zone = LoadedZone { tree: Some(tree), content, sources, ..LoadedZone::clone(&before.zone) };
    Some(KnownZone::new(reader, zone, &before.path, paths.to_vec()).in_chunks(Some(chunks)))
}

fn compare(reader: &Reader<'_>, path: &Path, chunks: &Chunks) -> Option<Difference> {
    let mut parts = reader.open(path).ok()?;
    let mut comparison = Comparison::new(chunks);
    let mut room = vec![0; PART_LEN];
    loop {
        let len = parts.read(&mut room).ok()?;
        if len == 0 {
            break;
        }
        if !comparison.add(&room[..len]) {
            return None;
        }
    }
    parts.finish();
    comparison.finish()
}

fn apply(difference: &mut Difference, tree: &ZoneTree, origin: &Name) -> Option<ZoneTree> {
    let mut records = Records::new();
    for (number, (_, text)) in difference.texts.iter().enumerate() {
        // The number stands in the place of each record.
        let source =
            master::Source { text, file: Default::default(), origin: origin.clone(), default_ttl: None, first_file: u16::try_from(number).ok()? };
        let parsed = master::parse(source, &mut |_, _| Err(String::new()), &mut records);
        if !parsed.errors.is_empty() || parsed.is_loose {
            return None;
        }
    }
    let owners = Owners::group(origin, records);
    let edited = tree.edited(&difference.gone, &owners)?;
    if has_faults(origin, &owners, &edited.changed) {
        return None;
    }
    for (owner, node) in (0..).zip(&edited.nodes) {
        let numbers: BTreeSet<u16> = owners.rrsets(owner).flat_map(|(_, range)| range).map(|position| owners.record(position).place.file).collect();
        let mut before = None;
        for number in numbers {
            let at = difference.texts.get(usize::from(number))?.0;
            let chunk = difference.chunk(at)?;
            match before {
                None => chunk.nodes.push(*node..*node + 1),
                Some(before) if at == before + 1 => chunk.goes_on = true,
                // Between them stand chunks that would have to be parsed with them from now on.
                Some(_) => return None,
            }
            before = Some(at);
        }
    }
    Some(edited.tree)
}

/// Whether a check of the zone would find anything that these owners are to blame for. Nothing else hangs on them.
fn has_faults(origin: &Name, owners: &Owners, changed: &[OwnerId]) -> bool {
    let mut records = Records::new();
    for owner in changed {
        for record in owners.rrsets(*owner).flat_map(|(_, range)| range).map(|position| owners.record(position)) {
            records.push_wire(record.owner, record.rtype, record.ttl, record.rdata, record.place);
        }
    }
    let faults = check(origin, &Owners::group(origin, records), &BTreeSet::new(), &BTreeSet::new());
    faults.iter().any(|fault| !matches!(fault.fault, Fault::NoSoa | Fault::NoApexNs))
}
