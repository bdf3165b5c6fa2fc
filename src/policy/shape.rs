//! What of a policy decides the classes of clients, apart from whose pools it hands out: policies of one shape have the same class map.
//!
//! A hundred names that steer the same way to pools of their own are of one shape, and what takes a sweep over millions of networks is done once.

use std::collections::HashMap;
use std::hash::Hash;

use crate::geo::table::Fields;
use crate::policy::model::{AllDown, Child, GeoCode, GeoDefault, GeoRule, Location, PolicyKind, Prefix, ZoneModel};

/// The shape of a policy. Equal shapes settle equal clients alike, children renamed in order of first mention.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    words: Vec<Word>,
    /// What of the databases it looks at.
    pub fields: Fields,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Word {
    /// A child by its number: a pool, a policy, or one that was there before.
    Pool(u32),
    Policy(u32),
    Again(u32),
    /// Kind of a policy and how many children follow, or how many of something follow.
    Kind(&'static str),
    Many(usize),
    Place(Option<(u64, u64)>),
    Bias(Vec<i8>),
    Region(Option<String>),
    Geo(Vec<GeoCode>),
    Asn(Vec<u32>),
    Net(Vec<Prefix>),
    Fence(bool),
    AllDown(Option<&'static str>),
    AllDownTo(u32),
}

impl Shape {
    /// The shape of `root`. With `latency_fields`, what the latency table looks at.
    pub fn of(model: &ZoneModel, root: Child, latency_fields: Fields) -> Shape {
        let mut drawing = Drawing { model, latency_fields, shape: Shape::default(), numbers: HashMap::new() };
        drawing.child(root);
        drawing.shape
    }
}

struct Drawing<'m> {
    model: &'m ZoneModel,
    latency_fields: Fields,
    shape: Shape,
    numbers: HashMap<Child, u32>,
}

impl Drawing<'_> {
    fn say(&mut self, word: Word) {
        self.shape.words.push(word);
    }

    fn child(&mut self, child: Child) {
        let next = self.numbers.len() as u32;
        if let Some(number) = self.numbers.get(&child) {
            let number = *number;
            return self.say(Word::Again(number));
        }
        self.numbers.insert(child, next);
        let Child::Policy(ix) = child else { return self.say(Word::Pool(next)) };
        self.say(Word::Policy(next));
        let model = self.model;
        match &model.policy(ix).kind {
            PolicyKind::Failover { to } => self.list("failover", to),
            // Weights do not make classes.
            PolicyKind::Weighted { to, .. } => self.list("weighted", &to.iter().map(|(child, _)| *child).collect::<Vec<Child>>()),
            PolicyKind::Multivalue { to } => self.list("multivalue", to),
            PolicyKind::Proximity { to, bias } => self.nearest(to, bias),
            PolicyKind::Latency { to } => {
                self.shape.fields = self.shape.fields.with(self.latency_fields);
                self.list("latency", to);
                for child in to {
                    self.place(model.location_of(*child));
                    self.say(Word::Region(model.region_of(*child).map(str::to_string)));
                }
            }
            PolicyKind::Geo { rules, default } => {
                self.say(Word::Kind("geo"));
                // Disabled rules decide nothing.
                let in_force = || rules.iter().filter(|rule| rule.disabled.is_none());
                self.say(Word::Many(in_force().count()));
                in_force().for_each(|rule| self.rule(rule));
                match default {
                    GeoDefault::None => self.say(Word::Kind("none")),
                    GeoDefault::Children(to) => self.list("default", to),
                    GeoDefault::Nearest { to, bias } => self.nearest(to, bias),
                }
            }
        }
    }

    fn list(&mut self, kind: &'static str, to: &[Child]) {
        self.say(Word::Kind(kind));
        self.say(Word::Many(to.len()));
        to.iter().for_each(|child| self.child(*child));
    }

    fn nearest(&mut self, to: &[Child], bias: &[i8]) {
        self.shape.fields.location = true;
        self.list("nearest", to);
        self.say(Word::Bias(bias.to_vec()));
        for child in to {
            self.place(self.model.location_of(*child));
        }
    }

    fn place(&mut self, place: Option<Location>) {
        self.shape.fields.location |= place.is_some();
        self.say(Word::Place(place.map(|place| (place.lat.to_bits(), place.lon.to_bits()))));
    }

    fn rule(&mut self, rule: &GeoRule) {
        let fields = &mut self.shape.fields;
        fields.asn |= !rule.asn.is_empty();
        for code in &rule.geo {
            match code {
                GeoCode::Continent(_) => fields.continent = true,
                GeoCode::Country(_) => fields.country = true,
                GeoCode::Subdivision(..) => (fields.country, fields.subdivision) = (true, true),
            }
        }
        self.say(Word::Geo(rule.geo.clone()));
        self.say(Word::Asn(rule.asn.clone()));
        self.say(Word::Net(rule.net.clone()));
        self.say(Word::Fence(rule.fence));
        let all_down = match rule.all_down {
            None => Word::AllDown(None),
            Some(AllDown::All) => Word::AllDown(Some("all")),
            Some(AllDown::LastGood) => Word::AllDown(Some("last-good")),
            Some(AllDown::NoData) => Word::AllDown(Some("nodata")),
            Some(AllDown::ServFail) => Word::AllDown(Some("servfail")),
            // Two rules with the same pool are alike in it, so it takes part in the numbering.
            Some(AllDown::Pool(ix)) => {
                let next = self.numbers.len() as u32;
                Word::AllDownTo(*self.numbers.entry(Child::Pool(ix)).or_insert(next))
            }
        };
        self.say(all_down);
        self.list("rule", &rule.to);
    }
}
