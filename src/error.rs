//! Why a request is refused: the codes of the protocol, mapped to their texts in this one place.

use std::borrow::Cow;
use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

/// A refusal that travels to a client: `ERR len text` to an untagged request, `@id ERR len code text` to a tagged one,
/// where the text of a 429 is the milliseconds to wait.
///
/// A refusal is final for the id it answers: what was refused has not happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The payload is not what the verb takes (400).
    Malformed,
    /// No such verb (400).
    UnknownVerb,
    /// A room's name is `#` and a name (400).
    NotARoomName,
    /// A request that needs a session came before REG (401).
    RegisterFirst,
    /// The session of that token or nonce is gone (401).
    SessionGone,
    /// The name breaks the rules for names, or is not allowed from there (403).
    NameNotAllowed,
    /// Nobody has that name (404).
    NoSuchClient,
    /// Nobody is in that room, or the sender is not in it (404).
    NoSuchRoom,
    /// The name is in use (409).
    NameTaken,
    /// The name is that of a session that waits for its owner, for so many seconds more, at least 1 (409).
    NameWaits(u64),
    /// This connection has a session under another name (409).
    AlreadyRegistered,
    /// The id was used for another request (409).
    IdReused,
    /// The session was resumed on another connection (409).
    TakenUp,
    /// The id is below the window of remembered ids: it may or may not have been executed (410).
    Stale,
    /// The message is too long for its receiver or for the way to it (413).
    TooLong,
    /// Over UDP, an untagged REG is for addresses in `--bare-udp` only (428).
    NotProven,
    /// Over UDP, it comes too soon after what was sent before: the milliseconds, at least 1, after which there is room for
    /// it (429).
    SlowDown(u64),
    /// The receiver's queue, or all queues together, are full (503).
    QueueFull,
    /// No more sessions, or no more rooms for this session (503).
    ServerFull,
    /// The peer's host has as many sessions as one may have (503).
    HostFull,
    /// The server is shutting down (503).
    Draining,
}

/// What stands before and behind the seconds of [`Refusal::NameWaits`].
const NAME_WAITS: &str = " Its session waits ";
const FOR_OWNER: &str = " s more for its owner";

/// For how much longer the session that has a name waits for its owner, if the text of a 409 says so.
pub(crate) fn parse_name_wait(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(Refusal::NameTaken.text())?;
    let secs = text.strip_prefix(NAME_WAITS)?.strip_suffix(FOR_OWNER)?;
    secs.bytes().all(|byte| byte.is_ascii_digit()).then(|| secs.parse().ok())?.map(Duration::from_secs)
}

impl Refusal {
    const ALL: [Self; 21] = [
        Self::Malformed,
        Self::UnknownVerb,
        Self::NotARoomName,
        Self::RegisterFirst,
        Self::SessionGone,
        Self::NameNotAllowed,
        Self::NoSuchClient,
        Self::NoSuchRoom,
        Self::NameTaken,
        Self::NameWaits(1),
        Self::AlreadyRegistered,
        Self::IdReused,
        Self::TakenUp,
        Self::Stale,
        Self::TooLong,
        Self::NotProven,
        Self::SlowDown(1),
        Self::QueueFull,
        Self::ServerFull,
        Self::HostFull,
        Self::Draining,
    ];

    /// The three-digit code and the text of this refusal.
    const fn entry(self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (400, "Malformed request!"),
            Self::UnknownVerb => (400, "Unknown verb!"),
            Self::NotARoomName => (400, "Not a room name!"),
            Self::RegisterFirst => (401, "Register first!"),
            Self::SessionGone => (401, "Session gone!"),
            Self::NameNotAllowed => (403, "Name not allowed here!"),
            Self::NoSuchClient => (404, "No such client!"),
            Self::NoSuchRoom => (404, "No such room!"),
            Self::NameTaken | Self::NameWaits(_) => (409, "Name taken!"),
            Self::AlreadyRegistered => (409, "Already registered!"),
            Self::IdReused => (409, "Id used for something else!"),
            Self::TakenUp => (409, "taken up elsewhere"),
            Self::Stale => (410, "Stale id!"),
            Self::TooLong => (413, "Too long!"),
            Self::NotProven => (428, "Address not proven!"),
            Self::SlowDown(_) => (429, "slow down"),
            Self::QueueFull => (503, "Queue full!"),
            Self::ServerFull => (503, "Server full!"),
            Self::HostFull => (503, "too many sessions from your address"),
            Self::Draining => (503, "Shutting down!"),
        }
    }

    /// The three-digit code, 400 to 503.
    pub const fn code(self) -> u16 {
        self.entry().0
    }

    /// The text that goes with the code.
    pub const fn text(self) -> &'static str {
        self.entry().1
    }

    /// What an untagged request is told: the text, and how long to wait if that is all there is to it.
    pub fn words(self) -> Cow<'static, str> {
        match self {
            Self::SlowDown(millis) => Cow::Owned(format!("{}: {millis} ms", self.text())),
            Self::NameWaits(secs) => Cow::Owned(format!("{}{NAME_WAITS}{secs}{FOR_OWNER}", self.text())),
            _ => Cow::Borrowed(self.text()),
        }
    }

    /// [`Refusal::SlowDown`] until so much time has passed: in whole milliseconds, rounded up, 1 at least.
    pub fn slow_down(wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
        Self::SlowDown(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// [`Refusal::NameWaits`] for so much longer: in whole seconds, rounded up, 1 at least.
    pub fn name_waits(wait: Duration) -> Self {
        Self::NameWaits(wait.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// One byte by which the dedup window remembers this refusal, but not how long to wait; never 0.
    pub(crate) fn to_byte(self) -> u8 {
        let is_it = |other: &Self| discriminant(other) == discriminant(&self);
        let place = Self::ALL.iter().position(is_it).map_or(0, |place| place + 1);
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// The refusal that [`Refusal::to_byte`] made this byte from.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowDown(millis) => write!(f, "{} {millis}", self.code()),
            Self::NameWaits(_) => write!(f, "{} {}", self.code(), self.words()),
            _ => write!(f, "{} {}", self.code(), self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_byte_it_is_remembered_by() {
        for (n, refusal) in (1u8..).zip(Refusal::ALL) {
            assert_eq!(refusal.to_byte(), n, "{refusal:?} is out of line in ALL");
            assert_eq!(Refusal::from_byte(n), Some(refusal));
            assert!((400..=503).contains(&refusal.code()));
        }
        assert_eq!(Refusal::SlowDown(7).to_byte(), Refusal::SlowDown(1).to_byte());
        assert_eq!(Refusal::from_byte(0), None);
        assert_eq!(Refusal::from_byte(200), None);
    }

    #[test]
    fn for_how_long_a_name_waits_is_read_as_it_is_written() {
        for (wait, secs) in
            [(Duration::ZERO, 1), (Duration::from_millis(26_001), 27), (Duration::MAX, u64::MAX)]
        {
            let refusal = Refusal::name_waits(wait);
            let text = format!("Name taken! Its session waits {secs} s more for its owner");
            assert_eq!((refusal, &*refusal.words()), (Refusal::NameWaits(secs), text.as_str()));
            assert_eq!(refusal.to_string(), format!("409 {text}"));
            assert_eq!(parse_name_wait(text.as_bytes()), Some(Duration::from_secs(secs)));
        }
        for text in
            ["Name taken!", "Name taken! Its session waits  s more for its owner", "Its session waits 1 s"]
        {
            assert_eq!(parse_name_wait(text.as_bytes()), None, "{text}");
        }
        let signed = b"Name taken! Its session waits +1 s more for its owner";
        assert_eq!(parse_name_wait(signed), None);
    }

    #[test]
    fn a_wait_is_told_in_whole_milliseconds_that_are_enough() {
        for (nanos, tagged, untagged) in [
            (0, "429 1", "slow down: 1 ms"),
            (1, "429 1", "slow down: 1 ms"),
            (1_000_000, "429 1", "slow down: 1 ms"),
            (119_000_001, "429 120", "slow down: 120 ms"),
        ] {
            let refusal = Refusal::slow_down(Duration::from_nanos(nanos));
            assert_eq!((refusal.to_string().as_str(), &*refusal.words()), (tagged, untagged));
        }
        assert_eq!(Refusal::slow_down(Duration::MAX), Refusal::SlowDown(u64::MAX));
    }
}
