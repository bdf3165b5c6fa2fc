//! Class maps of all zones: one sweep per shape of policy, in parallel; what comes out equal is one.
//!
//! ```text
//! policies ──shape──▶ distinct shapes ──┬─▶ databases without what the shape does not look at ──sweep──▶ class map, a client of each class
//!                                       └─ … as many at a time as there are cores
//! policy + the clients of its shape ──resolve──▶ its own classes
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::compile::GeoSources;
use crate::geo::classmap::{ClassMap, ClassMapBuilder, ClassMapError, Ground};
use crate::geo::table::{Facts, Fields, Table};
use crate::policy::model::{Child, Prefix, ZoneModel};
use crate::policy::resolve::{self, Class, Client, Resolver};
use crate::policy::shape::Shape;

/// Sweeps at a time: each holds a map of its own while it grows, up to the size of the databases.
const MAX_THREADS: usize = 16;

/// Fewer maps than this have tables of their own: what they would share is larger than what it saves.
const MIN_SHARING: usize = 4;

/// Class maps by shape.
pub(super) type Shapes = HashMap<Shape, Arc<Shaped>>;

/// The class maps of one build.
#[derive(Debug, Default)]
pub struct SharedMaps {
    shaped: HashMap<Shape, Result<Arc<Shaped>, ClassMapError>>,
    /// By hash of the content.
    maps: HashMap<u64, Vec<Arc<ClassMap>>>,
    projections: HashMap<Fields, Table>,
}

/// What policies of one shape share.
#[derive(Debug)]
pub(super) struct Shaped {
    pub(super) map: Arc<ClassMap>,
    /// One client of each class, by class number.
    clients: Vec<(Facts, Option<Prefix>)>,
}

impl Shaped {
    /// The classes of a policy of this shape.
    pub(super) fn classes(&self, model: &ZoneModel, root: Child, geo: &GeoSources) -> Vec<Class> {
        let mut resolver = Resolver::new(model, root);
        self.clients.iter().map(|(facts, net)| resolver.class(Client { facts, net: *net, rtt: geo.rtt.as_ref() })).collect()
    }
}

impl SharedMaps {
    /// Begins with the maps of an earlier build that some zone still uses.
    pub(super) fn with(shapes: &Shapes) -> SharedMaps {
        // Shapes may have one map between them.
        let mut own: HashMap<*const ClassMap, usize> = HashMap::new();
        shapes.values().for_each(|shaped| *own.entry(Arc::as_ptr(&shaped.map)).or_default() += 1);
        let is_used = |shaped: &Shaped| Arc::strong_count(&shaped.map) > own.get(&Arc::as_ptr(&shaped.map)).copied().unwrap_or(0);
        let used = shapes.iter().filter(|(_, shaped)| is_used(shaped));
        SharedMaps { shaped: used.map(|(shape, shaped)| (shape.clone(), Ok(shaped.clone()))).collect(), ..SharedMaps::default() }
    }

    /// For the next build.
    pub(super) fn into_shapes(self) -> Shapes {
        self.shaped.into_iter().filter_map(|(shape, shaped)| Some((shape, shaped.ok()?))).collect()
    }

    /// True when the map of any of these policies is not there.
    pub(super) fn lacks_any<'m>(&self, mut roots: impl Iterator<Item = (&'m ZoneModel, Child)>, geo: &GeoSources) -> bool {
        roots.any(|(model, root)| resolve::depends_on_client(model, root) && !self.shaped.contains_key(&shape_of(model, root, geo)))
    }

    /// Makes the maps of these policies, those that are not there yet.
    pub(super) fn prepare<'m>(&mut self, roots: impl Iterator<Item = (&'m ZoneModel, Child)>, geo: &GeoSources) {
        let mut missing: HashMap<Shape, (&ZoneModel, Child)> = HashMap::new();
        for (model, root) in roots.filter(|(model, root)| resolve::depends_on_client(model, *root)) {
            let shape = shape_of(model, root, geo);
            if !self.shaped.contains_key(&shape) {
                missing.entry(shape).or_insert((model, root));
            }
        }
        for shape in missing.keys() {
            self.projections.entry(shape.fields).or_insert_with(|| geo.table.project(shape.fields));
        }
        let missing: Vec<(Shape, (&ZoneModel, Child))> = missing.into_iter().collect();
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(missing.len())));
        let grounds = grounds(&missing, &self.projections, geo);
        let projections = &self.projections;
        let work = || {
            while let Some((shape, (model, root))) = missing.get(next.fetch_add(1, Relaxed))
                && let Some(table) = projections.get(&shape.fields)
            {
                let nets = resolve::nets_below(model, *root, geo.rtt.as_ref());
                let ground = grounds.get(&(shape.fields, nets.clone()));
                let map = sweep(model, *root, geo, |classify| match ground {
                    Some(ground) => match ground.build(classify)? {
                        Some(map) => Ok(map),
                        None => ClassMap::build(table, &nets, geo.clip, classify),
                    },
                    None => ClassMap::build(table, &nets, geo.clip, classify),
                });
                made.lock().unwrap_or_else(PoisonError::into_inner).push((shape.clone(), map));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(missing.len());
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        for (shape, made) in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let shaped = made.map(|(map, clients)| Arc::new(Shaped { map: self.share(map), clients }));
            self.shaped.insert(shape, shaped);
        }
    }

    /// The map of a policy that depends on the client.
    pub(super) fn shaped(&mut self, model: &ZoneModel, root: Child, geo: &GeoSources) -> Result<Arc<Shaped>, ClassMapError> {
        let shape = shape_of(model, root, geo);
        if !self.shaped.contains_key(&shape) {
            self.prepare([(model, root)].into_iter(), geo);
        }
        match self.shaped.get(&shape) {
            Some(shaped) => shaped.clone(),
            // Not reached: it has just been made.
            None => Ok(Arc::new(Shaped { map: self.share(ClassMap::uniform(0)), clients: Vec::new() })),
        }
    }

    /// The one map of this content.
    pub(super) fn share(&mut self, map: ClassMap) -> Arc<ClassMap> {
        let alike = self.maps.entry(map.content_hash()).or_default();
        match alike.iter().find(|other| ***other == map) {
            Some(same) => same.clone(),
            None => {
                let map = Arc::new(map);
                alike.push(map.clone());
                map
            }
        }
    }
}

fn shape_of(model: &ZoneModel, root: Child, geo: &GeoSources) -> Shape {
    let all = Fields { continent: true, country: true, subdivision: true, location: false, asn: true };
    Shape::of(model, root, geo.rtt.as_ref().map_or_else(Fields::default, |_| all))
}

type Swept = (ClassMap, Vec<(Facts, Option<Prefix>)>);

/// What maps of the same networks and fields share, where there are enough of them.
fn grounds(
    missing: &[(Shape, (&ZoneModel, Child))],
    projections: &HashMap<Fields, Table>,
    geo: &GeoSources,
) -> HashMap<(Fields, Vec<Prefix>), Ground> {
    let mut counts: HashMap<(Fields, Vec<Prefix>), usize> = HashMap::new();
    for (shape, (model, root)) in missing {
        *counts.entry((shape.fields, resolve::nets_below(model, *root, geo.rtt.as_ref()))).or_default() += 1;
    }
    let enough = counts.into_iter().filter(|(_, count)| *count >= MIN_SHARING);
    enough
        .filter_map(|((fields, nets), _)| {
            let ground = ClassMapBuilder::new(projections.get(&fields)?, &nets, geo.clip).ok()?.ground()?;
            Some(((fields, nets), ground))
        })
        .collect()
}

fn sweep(
    model: &ZoneModel,
    root: Child,
    geo: &GeoSources,
    build: impl FnOnce(&mut dyn FnMut(&Facts, Option<Prefix>) -> u16) -> Result<ClassMap, ClassMapError>,
) -> Result<Swept, ClassMapError> {
    let mut ids: HashMap<Class, u16> = HashMap::new();
    let mut clients: Vec<(Facts, Option<Prefix>)> = Vec::new();
    let mut resolver = Resolver::new(model, root);
    let map = build(&mut |facts, net| {
        let class = resolver.class(Client { facts, net, rtt: geo.rtt.as_ref() });
        *ids.entry(class).or_insert_with(|| {
            clients.push((facts.clone(), net));
            // The map refuses ids beyond its own limit, so a wrapped one is never used.
            (clients.len() - 1).min(usize::from(u16::MAX)) as u16
        })
    })?;
    Ok((map, clients))
}
