//! Refusals of requests: the codes of the protocol and their texts, mapped in this one place.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! `server` and `hub` return a [`Refusal`] for a request that they do not execute; the server encodes it as an ERR.

use std::borrow::Cow;
use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

/// The reason for refusing a request: `ERR len text` to an untagged request, `@id ERR len code text` to a tagged one.
/// The text of a 429 is the milliseconds to wait.
///
/// A refusal is final for its id. The request had no effect; after a 410 that is unknown.
///
/// ```
/// use sayagain::error::Refusal;
///
/// let (code, text) = (Refusal::NoSuchClient.code(), Refusal::NoSuchClient.text());
/// assert_eq!((code, text), (404, "No such client!"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The payload does not fit the verb (400).
    Malformed,
    /// The verb does not exist (400).
    UnknownVerb,
    /// A room's name is not `#` and a name (400).
    NotARoomName,
    /// The request needs a session, and came before REG (401).
    RegisterFirst,
    /// The session with that token or nonce has ended (401).
    SessionGone,
    /// The name is invalid, or not allowed from there (403).
    NameNotAllowed,
    /// No session has that name (404).
    NoSuchClient,
    /// The room has no members, or the sender is not one (404).
    NoSuchRoom,
    /// The name is in use (409).
    NameTaken,
    /// The name belongs to a disconnected session, which waits for its client for this many more seconds, at least 1
    /// (409).
    NameWaits(u64),
    /// This connection has a session with another name (409).
    AlreadyRegistered,
    /// The id was used for another request (409).
    IdReused,
    /// The session was resumed on another connection (409).
    TakenUp,
    /// The id is below the window of remembered ids: it may or may not have been executed (410).
    Stale,
    /// The message is too long for its receiver or for the path to it (413).
    TooLong,
    /// Over UDP, only addresses in `--bare-udp` may send an untagged REG (428).
    NotProven,
    /// Over UDP, the request exceeds the rate limit. Holds the milliseconds, at least 1, until it conforms (429).
    SlowDown(u64),
    /// The receiver's queue, or the memory for all queues, is full (503).
    QueueFull,
    /// The limit of sessions, or of rooms for this session, is reached (503).
    ServerFull,
    /// The limit of sessions of the peer's host is reached (503).
    HostFull,
    /// The server is shutting down (503).
    Draining,
}

/// The text before and after the seconds of [`Refusal::NameWaits`].
const NAME_WAITS: &str = " Its session waits ";
const FOR_OWNER: &str = " s more for its owner";

/// Parses the time for which the session with a name still waits for its client, if the text of a 409 states it.
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

    /// The text of the code.
    pub const fn text(self) -> &'static str {
        self.entry().1
    }

    /// The payload for an untagged request: the text, and the wait if the text is nothing else.
    pub fn words(self) -> Cow<'static, str> {
        match self {
            Self::SlowDown(millis) => Cow::Owned(format!("{}: {millis} ms", self.text())),
            Self::NameWaits(secs) => Cow::Owned(format!("{}{NAME_WAITS}{secs}{FOR_OWNER}", self.text())),
            _ => Cow::Borrowed(self.text()),
        }
    }

    /// [`Refusal::SlowDown`] for this wait: in whole milliseconds, rounded up, at least 1.
    pub fn slow_down(wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
        Self::SlowDown(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// [`Refusal::NameWaits`] for this wait: in whole seconds, rounded up, at least 1.
    pub fn name_waits(wait: Duration) -> Self {
        Self::NameWaits(wait.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// The byte that the dedup window stores for this refusal, without the wait; never 0.
    pub(crate) fn to_byte(self) -> u8 {
        let is_it = |other: &Self| discriminant(other) == discriminant(&self);
        let place = Self::ALL.iter().position(is_it).map_or(0, |place| place + 1);
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// The refusal for a byte from [`Refusal::to_byte`].
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
    fn every_refusal_survives_its_byte_in_the_dedup_window() {
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
    fn the_wait_of_a_name_survives_a_round_trip() {
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
    fn a_wait_is_rounded_up_to_whole_milliseconds() {
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
