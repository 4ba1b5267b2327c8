//! Access rules: who may use which name from where.
//!
//! The verdicts are here; which names a rule is about is in `pattern`, how rules are written in a file in `file`. Nothing
//! here reads files or knows sessions: what a verdict leads to is the server's affair.
//!
//! Of all rules that match a name: one that denies the origin wins. Of those that restrict the name, by `allow` or `door`,
//! one has to admit the origin. A name that no rule matches is open.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::escape::escape_short;
use crate::hub::name::Name;
use crate::service::Remote;

mod file;
mod pattern;

pub use file::{MAX_RULES, MAX_RULES_FILE, RulesError};
use pattern::{Pattern, Subject};

/// As many characters of a text from a rules file are shown.
pub(super) const SHOWN: usize = 60;

/// The number of no user and no group, `(uid_t)-1`: that of a peer of whom it is not known.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// All rules of a server. The default has none: every name is open, and who has no name says nothing.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whether a client that has not registered may send messages, as `guest-1`, `guest-2`, ..
    pub anonymous: bool,
    rules: Vec<Rule>,
    /// Rules for one name, by its clash key.
    exact: HashMap<String, Vec<usize>>,
    /// The others.
    globs: Vec<usize>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which one it is in its file, from 1.
    pub number: usize,
    /// The line where it begins, from 1.
    pub line: usize,
    /// Its `name` as it is written.
    pub name: String,
    pattern: Pattern,
    allow: Option<Vec<Place>>,
    deny: Vec<Place>,
    door: Option<String>,
}

/// Where a connection may come from: an item of `allow` and `deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A network. That of IPv4-mapped addresses is an IPv4 network.
    Net(IpNet),
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// Any UNIX socket.
    Unix,
    /// A UNIX socket, by this user.
    Uid(u32),
    /// A UNIX socket, by this group.
    Gid(u32),
}

/// What the rules say of a name at a place, and the rule that says it.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// No rule matches.
    Open,
    /// The rule admits it, by this item of its `allow` if it has one.
    Allowed(&'a Rule, Option<Place>),
    /// The rule denies it.
    Denied(&'a Rule, Why),
}

/// Why a rule denies a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This item of its `deny` is where it comes from.
    Deny(Place),
    /// No item of its `allow` is where it comes from.
    Allow,
    /// It is for another door.
    Door,
}

impl Rules {
    fn new(anonymous: bool, rules: Vec<Rule>) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut globs = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match &rule.pattern {
                Pattern::Exact(clash) => exact.entry(clash.clone()).or_default().push(index),
                Pattern::Glob(_) => globs.push(index),
            }
        }
        Self { anonymous, rules, exact, globs }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Checks that the doors that rules name are among these, the server's.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check_doors(&self, doors: &[String]) -> Result<(), RulesError> {
        for rule in &self.rules {
            if let Some(door) = rule.door.as_ref().filter(|door| !doors.contains(door)) {
                let (shown, known) = (escape_short(door.as_bytes(), SHOWN), doors.join(", "));
                let what = format!("no door is called `{shown}`; here are {known}");
                return Err(RulesError { line: rule.line, what });
            }
        }
        Ok(())
    }

    /// Whether a name may be used by who comes from there through the door of that name.
    #[must_use]
    pub fn verdict(&self, name: &Name, from: &Remote, door: Option<&str>) -> Verdict<'_> {
        if self.is_empty() {
            return Verdict::Open;
        }
        let matching = self.matching(&Subject::new(name));
        let denying = matching.iter().find_map(|rule| Some((*rule, place_of(&rule.deny, from)?)));
        if let Some((rule, place)) = denying {
            return Verdict::Denied(rule, Why::Deny(place));
        }
        let mut restricting =
            matching.iter().filter(|rule| rule.restricts()).map(|rule| rule.admits(from, door));
        let Some(first) = restricting.next() else {
            return matching.first().map_or(Verdict::Open, |rule| Verdict::Allowed(rule, None));
        };
        let admitted = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Allowed(..));
        if admitted(&first) { first } else { restricting.find(admitted).unwrap_or(first) }
    }

    /// The rules that match a name, in their order.
    fn matching(&self, name: &Subject) -> Vec<&Rule> {
        let exact = self.exact.get(&name.clash).into_iter().flatten().copied();
        let is_match = |index: &usize| self.rules.get(*index).is_some_and(|rule| rule.pattern.matches(name));
        let mut indices: Vec<usize> = exact.chain(self.globs.iter().copied().filter(is_match)).collect();
        indices.sort_unstable();
        indices.into_iter().filter_map(|index| self.rules.get(index)).collect()
    }
}

impl Rule {
    /// Whether it says who may use its names, and not only who may not.
    fn restricts(&self) -> bool {
        self.allow.is_some() || self.door.is_some()
    }

    fn admits(&self, from: &Remote, door: Option<&str>) -> Verdict<'_> {
        if self.door.is_some() && self.door.as_deref() != door {
            return Verdict::Denied(self, Why::Door);
        }
        match &self.allow {
            None => Verdict::Allowed(self, None),
            Some(allow) => match place_of(allow, from) {
                Some(place) => Verdict::Allowed(self, Some(place)),
                None => Verdict::Denied(self, Why::Allow),
            },
        }
    }
}

/// The first of these places that somebody comes from.
fn place_of(places: &[Place], from: &Remote) -> Option<Place> {
    places.iter().copied().find(|place| place.holds(from))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escape_short(self.name.as_bytes(), SHOWN);
        write!(f, "rule {} (name \"{name}\", line {})", self.number, self.line)
    }
}

impl Verdict<'_> {
    /// Whether the name may not be used there.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(..))
    }

    /// The verdict in one line, for this name and place.
    #[must_use]
    pub fn explain(&self, name: &Name, from: &Remote) -> String {
        let from = Shown(from);
        match self {
            Self::Open => {
                format!("open: no rule matches \"{}\"", escape_short(name.as_str().as_bytes(), SHOWN))
            }
            Self::Allowed(rule, Some(place)) => format!("allowed: {rule} allows {place}"),
            Self::Allowed(rule, None) => match &rule.door {
                Some(door) => format!("allowed: {rule} is for door {}", escape_short(door.as_bytes(), SHOWN)),
                None => format!("allowed: {rule} does not deny {from}"),
            },
            Self::Denied(rule, Why::Deny(place)) => format!("denied: {rule} denies {place}"),
            Self::Denied(rule, Why::Allow) => format!("denied: {rule} does not allow {from}"),
            Self::Denied(rule, Why::Door) => {
                let door = escape_short(rule.door.as_deref().unwrap_or_default().as_bytes(), SHOWN);
                format!("denied: {rule} is for door {door} alone")
            }
        }
    }
}

/// Where somebody comes from, as rules see it: without the port.
struct Shown<'a>(&'a Remote);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Remote::Ip(addr) => write!(f, "{}", canonical(addr)),
            Remote::Unix { uid: UNKNOWN_ID, gid: UNKNOWN_ID } => f.write_str("unix"),
            Remote::Unix { uid: UNKNOWN_ID, gid } => write!(f, "unix gid {gid}"),
            Remote::Unix { uid, gid: UNKNOWN_ID } => write!(f, "unix uid {uid}"),
            unix @ Remote::Unix { .. } => write!(f, "{unix}"),
        }
    }
}

/// The address that rules are about: IPv4-mapped IPv6 is IPv4.
fn canonical(addr: &SocketAddr) -> IpAddr {
    addr.ip().to_canonical()
}

impl Place {
    /// Whether somebody comes from there.
    fn holds(&self, from: &Remote) -> bool {
        match (self, from) {
            (Self::Net(net), Remote::Ip(addr)) => net.contains(&canonical(addr)),
            (Self::Loopback, Remote::Ip(addr)) => canonical(addr).is_loopback(),
            (Self::Unix, Remote::Unix { .. }) => true,
            (Self::Uid(wanted), Remote::Unix { uid, .. }) => wanted == uid,
            (Self::Gid(wanted), Remote::Unix { gid, .. }) => wanted == gid,
            (Self::Net(_) | Self::Loopback, Remote::Unix { .. })
            | (Self::Unix | Self::Uid(_) | Self::Gid(_), Remote::Ip(_)) => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Unix => f.write_str("unix"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Gid(gid) => write!(f, "gid:{gid}"),
        }
    }
}

/// Reads `loopback`, `unix`, `uid:1000`, `gid:100`, `10.0.0.0/8`, `2001:db8::/32` or a single address.
impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || escape_short(text.as_bytes(), SHOWN);
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits
                .and_then(|digits| digits.parse().ok())
                .filter(|id| *id != UNKNOWN_ID)
                .ok_or_else(|| format!("`{}` names no user or group; write uid:1000 or gid:100", shown()))
        };
        match text.split_once(':') {
            _ if text == "loopback" => Ok(Self::Loopback),
            _ if text == "unix" => Ok(Self::Unix),
            Some(("uid", digits)) => number(digits).map(Self::Uid),
            Some(("gid", digits)) => number(digits).map(Self::Gid),
            _ => network(text).map(Self::Net),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let shown = || escape_short(text.as_bytes(), SHOWN);
    let net: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!(
            "`{}` is no place; write loopback, unix, uid:1000, gid:100, 10.0.0.0/8 or 2001:db8::/32",
            shown()
        )
    })?;
    if net.trunc() != net {
        let (trunc, addr) = (net.trunc(), net.addr());
        return Err(format!("`{}` has bits set behind its prefix; write {trunc} or {addr}", shown()));
    }
    Ok(canonical_net(net))
}

/// A network of IPv4-mapped addresses is an IPv4 network.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let (addr, prefix) = (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96));
    let inner = addr.zip(prefix).and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok());
    inner.map_or(net, IpNet::V4)
}
