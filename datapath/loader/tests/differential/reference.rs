//! What a set of entries says, slowly: ranges in a list, no tries, nothing of `weft-verdict`.

/// A drawn entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) direction: u8,
    pub(crate) identity: u32,
    pub(crate) protocol: Option<u8>,
    pub(crate) port: Option<(u32, u32)>,
    pub(crate) precedence: u32,
    pub(crate) rule: u32,
    pub(crate) deny: bool,
}

impl Entry {
    pub(crate) fn same_key(&self, other: &Self) -> bool {
        (self.direction, self.identity, self.protocol, self.port)
            == (other.direction, other.identity, other.protocol, other.port)
    }
}

/// A packet's question; identity and cidr are indices of the test's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) direction: u8,
    pub(crate) identity: usize,
    pub(crate) cidr: usize,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    Deny,
    NoMatch,
}

/// The right reading, or one way of getting it wrong.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Right,
    PrecedenceTurned,
    PortOffByOne,
    DenyIgnored,
    TieIsAllow,
    WrongDirection,
    AnySkipped,
    CidrSkipped,
    IdentitySkipped,
    ProtocolIgnored,
    ShortestPrefix,
}

pub(crate) fn answer(entries: &[Entry], question: &Question) -> Answer {
    read(entries, question, Reading::Right)
}

type Broken = (&'static str, fn(&[Entry], &Question) -> Answer);

/// Broken variants by name.
pub(crate) const BROKEN: [Broken; 10] = [
    ("precedence turned", |e, q| read(e, q, Reading::PrecedenceTurned)),
    ("port prefix off by one", |e, q| read(e, q, Reading::PortOffByOne)),
    ("deny ignored", |e, q| read(e, q, Reading::DenyIgnored)),
    ("a tie is an allow", |e, q| read(e, q, Reading::TieIsAllow)),
    ("wrong direction", |e, q| read(e, q, Reading::WrongDirection)),
    ("any identity skipped", |e, q| read(e, q, Reading::AnySkipped)),
    ("cidr identity skipped", |e, q| read(e, q, Reading::CidrSkipped)),
    ("exact identity skipped", |e, q| read(e, q, Reading::IdentitySkipped)),
    ("protocol ignored", |e, q| read(e, q, Reading::ProtocolIgnored)),
    ("shortest prefix wins", |e, q| read(e, q, Reading::ShortestPrefix)),
];

fn read(entries: &[Entry], question: &Question, reading: Reading) -> Answer {
    let exact = super::IDENTITIES[question.identity];
    let cidr = super::CIDRS[question.cidr];
    let mut peers = Vec::new();
    if exact != 0 && reading != Reading::IdentitySkipped {
        peers.push(exact);
    }
    if reading != Reading::AnySkipped {
        peers.push(0);
    }
    if cidr != 0 && reading != Reading::CidrSkipped {
        peers.push(cidr);
    }
    let mut found: Vec<&Entry> =
        peers.iter().filter_map(|peer| narrowest(entries, question, *peer, reading)).collect();
    found.sort_by_key(|e| {
        let precedence = i64::from(e.precedence);
        let turned = reading == Reading::PrecedenceTurned;
        let last = if reading == Reading::TieIsAllow { !e.deny } else { e.deny };
        (if turned { -precedence } else { precedence }, last)
    });
    match found.last() {
        None => Answer::NoMatch,
        Some(e) if e.deny && reading != Reading::DenyIgnored => Answer::Deny,
        Some(_) => Answer::Allow,
    }
}

/// Of one peer's entries that match, the one that covers least.
fn narrowest<'e>(
    entries: &'e [Entry],
    question: &Question,
    peer: u32,
    reading: Reading,
) -> Option<&'e Entry> {
    let direction = if reading == Reading::WrongDirection {
        3 - question.direction
    } else {
        question.direction
    };
    let matching = entries.iter().filter(|e| {
        let protocol = reading == Reading::ProtocolIgnored
            || e.protocol.is_none_or(|p| p == question.protocol);
        let off = u32::from(reading == Reading::PortOffByOne);
        let port = u32::from(question.port);
        let ports = e.port.is_none_or(|(low, high)| low <= port && port <= high + off);
        e.direction == direction && e.identity == peer && protocol && ports
    });
    let covers = |e: &&Entry| match (e.protocol, e.port) {
        (None, _) => 1 << 20,
        (_, None) => 1 << 17,
        (_, Some((low, high))) => high - low + 1,
    };
    if reading == Reading::ShortestPrefix {
        matching.max_by_key(covers)
    } else {
        matching.min_by_key(covers)
    }
}
