//! What a host can be told: how much it may hold, who is expected, and what it is called itself.

use std::time::Duration;

use crate::names::{Name, NameError};
use crate::rules::{Place, Rules};

/// What a [`Host`](super::Host) can be told. Bounds are in bytes.
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
    pub(super) greeting_time: Duration,
    pub(super) patience: Duration,
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
            greeting_time: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            name: None,
            rules: Rules::default(),
            only_expected: false,
        }
    }
}

/// How much may be held.
impl Settings {
    /// The longest message that is taken: 16 MiB, any size that memory is addressed with. A longer one ends its connection
    /// as soon as its length is there. Of bytes that are not cut, so many may be left unused.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How much may wait to be written to one connection, what is being written included: 16 MiB. What is more is given
    /// back to who sends it ([`SendError::Full`](super::SendError::Full)); an empty queue takes any one message.
    #[must_use]
    pub fn max_pending(mut self, bytes: usize) -> Self {
        self.max_pending = bytes;
        self
    }

    /// How much all connections together may hold of what was read and is not taken: 256 MiB. At the bound nothing more is
    /// read, so that the system's buffers fill and then the peers wait. One connection at a time goes on while nobody has
    /// anything to be taken, to the end of its message, so that messages are finished: by so much, one `max_message`,
    /// and a read of 512 bytes per connection, may the bound be exceeded; and by reads that have begun when there was room:
    /// of up to 64 KiB for each thread that reads, which on the engine of threads is each connection.
    #[must_use]
    pub fn max_memory_in(mut self, bytes: usize) -> Self {
        self.max_memory_in = bytes;
        self
    }

    /// How much may wait to be written to all connections together: 256 MiB. At the bound what is sent is given back; at
    /// three quarters of it by what was sent while input was handed over, nothing more is read, as it would be answered, too.
    /// Bytes that several receivers share count for each; datagrams do not count, of which 4,096 wait at most.
    #[must_use]
    pub fn max_memory_out(mut self, bytes: usize) -> Self {
        self.max_memory_out = bytes;
        self
    }

    /// While more than this is unsent to a connection of what answers its own input, its input waits: 64 KiB. So a peer that
    /// asks and does not read the answers holds little. What is sent while that connection's input is handed over counts as
    /// an answer; of what is sent otherwise the handler is the judge, or two who send each other much would both stop
    /// reading.
    #[must_use]
    pub fn pause_above(mut self, bytes: usize) -> Self {
        self.pause_above = bytes;
        self
    }
}

/// For how long.
impl Settings {
    /// How long a connection of messages has to say its name: 10 s.
    #[must_use]
    pub fn greeting_time(mut self, time: Duration) -> Self {
        self.greeting_time = time;
        self
    }

    /// How long who goes on alone at the bound of memory may take for each 64 KiB: 10 s. Who takes longer holds all others
    /// up, and is disconnected.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }
}

/// Who.
impl Settings {
    /// What we are called, where we connect to others and where they connect to us: nothing by default.
    ///
    /// # Errors
    ///
    /// What is wrong with the name: it is as names are in the chat (RFC 8265).
    pub fn name(mut self, name: &str) -> Result<Self, NameError> {
        self.name = Some(Name::parse(name.as_bytes())?);
        Ok(self)
    }

    /// Expects peers of this name, or all that match this glob (`worker-*`).
    ///
    /// # Errors
    ///
    /// No name could match it, and why.
    pub fn expect(self, name: &str) -> Result<Self, NameError> {
        self.expect_from(name, &[])
    }

    /// The same, and whoever has such a name has to come from one of these places (`loopback`, `10.0.0.0/8`, `uid:1000`).
    ///
    /// # Errors
    ///
    /// No name could match it, and why.
    pub fn expect_from(mut self, name: &str, places: &[Place]) -> Result<Self, NameError> {
        self.rules.expect(name, places)?;
        Ok(self)
    }

    /// Takes these rules, as a server's `--rules` are, in the place of all that were expected before. Whom one of them
    /// matches is expected; whom one denies is refused.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Whether to refuse those who are not expected, and those who say no name, at doors for messages. By default they
    /// are let in, and told apart by [`PeerInfo::expected`](super::PeerInfo::expected).
    #[must_use]
    pub fn only_expected(mut self, only: bool) -> Self {
        self.only_expected = only;
        self
    }
}
