//! What a reference says of a chain of CNAMEs and DNAMEs when it is asked link by link, as far as we follow it.
//!
//! RFC 1034 §4.3.2 step 3a starts over with the zones at each link. NSD does; Knot DNS and BIND stay within the first zone, even where another
//! zone of theirs lies below. Each stops after a number of links of its own, and some tell a loop more than once. Asking the same server for each
//! name by itself and putting the answers together gives what any of them says about the whole chain.

use meridian::dns::{Name, RecordType};

use super::message::{Question, Rec, Reply, Way};
use super::servers::Client;

/// Links that Meridian follows after the first (its documented limit).
pub const MAX_CHAIN: usize = 16;

/// The whole chain as `client`, which replied with `reply`, tells it when asked link by link. Replies without a chain come back as they are.
pub fn complete(client: &mut Client, question: &Question, reply: &Reply) -> Reply {
    let has_link = |reply: &Reply| match question.rtype {
        // ANY takes a CNAME for an answer, but follows a DNAME (RFC 6672 §3.2).
        RecordType::ANY => reply.answer.iter().any(|rec| rec.rtype == RecordType::DNAME),
        RecordType::CNAME => false,
        _ => reply.answer.iter().any(|rec| rec.rtype == RecordType::CNAME),
    };
    let over_tcp = Way { tcp: true, ..question.way };
    let mut whole = reply.clone();
    // IN and ANY.
    let is_answered = matches!(question.class, 1 | 255);
    if is_answered && reply.is_truncated() {
        match client.ask(&Question { way: over_tcp, ..question.clone() }) {
            Ok(untruncated) => whole = Reply { opt: reply.opt.clone(), ..untruncated },
            Err(_) => return whole,
        }
    }
    if !is_answered || !has_link(&whole) {
        // Nothing to follow: what was left out for its size is judged as that.
        return reply.clone();
    }
    let (mut kept, mut seen, mut at, mut says) = (Vec::new(), vec![question.name.clone()], question.name.clone(), whole.clone());
    loop {
        let next = link(&at, &says.answer, &mut kept);
        let Some(target) = next else {
            (whole.rcode, whole.authority, whole.additional) = (says.rcode, says.authority, says.additional);
            break;
        };
        (whole.rcode, whole.authority, whole.additional) = (0, Vec::new(), Vec::new());
        if seen.contains(&target) || seen.len() > MAX_CHAIN || grows(&at, &kept) {
            break;
        }
        match client.ask(&Question { name: target.clone(), way: over_tcp, ..question.clone() }) {
            // BIND says SERVFAIL to chains that are too long for it, with the links that it followed.
            Ok(more) if matches!(more.rcode, 0 | 3 | 6) || has_link(&more) => says = more,
            _ => break,
        }
        seen.push(target.clone());
        at = target;
    }
    whole.answer = kept;
    whole
}

/// Keeps what `records` say of this name, and tells where it leads on.
fn link(name: &Name, records: &[Rec], kept: &mut Vec<Rec>) -> Option<Name> {
    let mut keep = |rec: &Rec| {
        if !kept.contains(rec) {
            kept.push(rec.clone());
        }
    };
    let here = || records.iter().filter(|rec| rec.name() == *name);
    let alias = here().find(|rec| rec.rtype == RecordType::CNAME);
    for dname in records.iter().filter(|rec| is_above(rec, name)) {
        let target = dname.target().map(|target| target.as_wire().to_vec()).unwrap_or_default();
        // A longer name cannot be made (YXDOMAIN), so there is no link.
        if alias.is_none_or(|alias| alias.rdata.ends_with(&target)) {
            keep(dname);
        }
    }
    here().for_each(keep);
    alias?.target()
}

/// A DNAME whose target lies below itself is followed once: it would only make the name longer and longer.
fn grows(name: &Name, kept: &[Rec]) -> bool {
    kept.iter().any(|rec| is_above(rec, name) && rec.target().is_some_and(|target| target.is_at_or_below(&rec.name())))
}

fn is_above(rec: &Rec, name: &Name) -> bool {
    rec.rtype == RecordType::DNAME && name.is_at_or_below(&rec.name()) && *name != rec.name()
}
