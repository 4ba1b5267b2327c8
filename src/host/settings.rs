//! Configuration of a host: memory limits, deadlines, its name and the peers it expects.

use std::time::Duration;

use crate::names::{Name, NameError};
use crate::rules::{OriginPattern, Rules};

/// The configuration of a [`Host`](super::Host). Sizes are in bytes.
///
/// ```
/// use sayagain::host::Settings;
///
/// let settings = Settings::default().name("boss")?.expect("manager")?.expect("worker-*")?.max_message(1 << 20);
/// # Ok::<(), sayagain::names::NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) max_message: usize,
    pub(super) max_pending: usize,
    pub(super) max_memory_in: usize,
    pub(super) max_memory_out: usize,
    pub(super) pause_above: usize,
    pub(super) handshake_timeout: Duration,
    pub(super) progress_timeout: Duration,
    pub(super) name: Option<Name>,
    pub(super) rules: Rules,
    pub(super) only_expected: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message: 16 << 20,
            max_pending: 16 << 20,
            max_memory_in: 256 << 20,
            max_memory_out: 256 << 20,
            pause_above: 64 << 10,
            handshake_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(10),
            name: None,
            rules: Rules::default(),
            only_expected: false,
        }
    }
}

/// Memory limits.
impl Settings {
    /// The longest message that is accepted: 16 MiB by default, up to any `usize`. A longer one ends its connection as
    /// soon as its length has arrived. On a connection without framing, as many bytes may stay unused.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The limit of output pending on one connection, including what is being written: 16 MiB by default. Above it a
    /// send fails with [`SendError::Full`](super::SendError::Full); an empty queue takes one message of any size.
    #[must_use]
    pub fn max_pending(mut self, bytes: usize) -> Self {
        self.max_pending = bytes;
        self
    }

    /// The limit of input held for all connections together: 256 MiB by default. At the limit the host stops reading,
    /// so peers' writes block. While no complete piece is waiting, one connection at a time is still read to the end of
    /// its message, so that memory is freed. The limit may be exceeded by one `max_message`, a read of 512 bytes per
    /// connection, and reads that began before. These are up to 64 KiB per reading thread, which the thread engine has
    /// for each connection.
    #[must_use]
    pub fn max_memory_in(mut self, bytes: usize) -> Self {
        self.max_memory_in = bytes;
        self
    }

    /// The limit of output pending on all connections together: 256 MiB by default. At the limit a send fails. When
    /// answers alone reach three quarters of it, the host stops reading, because input may cause more of them. Bytes
    /// shared by several receivers count for each of them. Datagrams do not count; at most 4,096 are queued.
    #[must_use]
    pub fn max_memory_out(mut self, bytes: usize) -> Self {
        self.max_memory_out = bytes;
        self
    }

    /// The limit of unsent answers to one connection, above which its input waits: 64 KiB by default. A peer that sends
    /// requests without reading answers so holds little memory. Answers are what is sent during a callback for that
    /// connection's input. Other output is not limited here: two peers that send each other much would both stop
    /// reading.
    #[must_use]
    pub fn pause_above(mut self, bytes: usize) -> Self {
        self.pause_above = bytes;
        self
    }
}

/// Deadlines.
impl Settings {
    /// The time limit of the handshake on a connection of messages: 10 s by default.
    #[must_use]
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Time per 64 KiB for the one connection that is still read when memory is full: 10 s by default. A slower one
    /// blocks all others, and is disconnected.
    #[must_use]
    pub fn progress_timeout(mut self, time: Duration) -> Self {
        self.progress_timeout = time;
        self
    }
}

/// Names.
impl Settings {
    /// Sets our name, which both sides of a handshake send: none by default.
    ///
    /// # Errors
    ///
    /// The name is invalid; the rules are those of the chat (RFC 8265).
    pub fn name(mut self, name: &str) -> Result<Self, NameError> {
        self.name = Some(Name::parse(name.as_bytes())?);
        Ok(self)
    }

    /// Expects peers with this name, or with names that match this glob (`worker-*`).
    ///
    /// # Errors
    ///
    /// No name can match, and why.
    pub fn expect(self, name: &str) -> Result<Self, NameError> {
        self.expect_from(name, &[])
    }

    /// Expects peers with this name from these origins only (`loopback`, `10.0.0.0/8`, `uid:1000`).
    ///
    /// # Errors
    ///
    /// No name can match, and why.
    #[doc(hidden)]
    pub fn expect_from(mut self, name: &str, places: &[OriginPattern]) -> Result<Self, NameError> {
        self.rules.expect(name, places)?;
        Ok(self)
    }

    /// Replaces all expected names by these rules, in the format of a server's `--rules`. A peer that a rule allows is
    /// expected; a denied one is refused.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Whether to refuse peers that are not expected or have no name, on listeners for messages. By default they are
    /// accepted, and [`PeerInfo::expected`](super::PeerInfo::expected) is false.
    #[must_use]
    pub fn only_expected(mut self, only: bool) -> Self {
        self.only_expected = only;
        self
    }
}
