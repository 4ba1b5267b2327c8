//! The server's secrets: cookies that validate addresses, session tokens, and the hashes of the dedup window.
//!
//! A cookie proves that an address receives what is sent to it (RFC 9000 section 8.1, RFC 9175 section 2.4) without any
//! state. It is a MAC over address, name, nonce and a 30 s slot of time. It is valid in its slot and the next. Which
//! requests need one is in `datagram`.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::CryptoRng;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::wire::{Frame, Token};

/// The length of one slot. A cookie is valid for one to two slots.
pub(crate) const COOKIE_SLOT: Duration = Duration::from_secs(30);

/// The time after which no earlier cookie is valid any more.
pub(crate) const COOKIE_LIFETIME: Duration = Duration::from_secs(60);

/// Draws tokens, makes and checks cookies, and hashes frames for the dedup window.
pub(crate) struct Secrets {
    rng: Box<dyn CryptoRng + Send>,
    cookie_key: [u8; 16],
    dedup_key: [u8; 16],
    epoch: Instant,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Draws the keys from `rng`: the system's in programs, a seeded one in the simulator alone.
    pub(crate) fn new(epoch: Instant, mut rng: Box<dyn CryptoRng + Send>) -> Self {
        let (mut cookie_key, mut dedup_key) = ([0; 16], [0; 16]);
        rng.fill_bytes(&mut cookie_key);
        rng.fill_bytes(&mut dedup_key);
        Self { rng, cookie_key, dedup_key, epoch }
    }

    /// Draws a session token of 128 random bits.
    pub(crate) fn token(&mut self) -> Token {
        let mut bits = [0; 16];
        self.rng.fill_bytes(&mut bits);
        Token::from_bits(u128::from_le_bytes(bits))
    }

    /// Returns the cookie that proves `addr` for this name, and for this nonce or token if there is one.
    pub(crate) fn cookie(&self, now: Instant, addr: SocketAddr, name: &[u8], nonce: Option<&Token>) -> Token {
        Token::from_bits(self.mac(self.slot(now), addr, name, nonce))
    }

    /// Whether `cookie` was made by [`Secrets::cookie`] with the same arguments in this slot or the one before.
    pub(crate) fn proves(
        &self,
        now: Instant,
        cookie: &Token,
        addr: SocketAddr,
        name: &[u8],
        nonce: Option<&Token>,
    ) -> bool {
        let Some(bits) = cookie.to_bits() else { return false };
        let slot = self.slot(now);
        // 128-bit integers are compared without a branch on their content: timing reveals nothing of the MAC.
        [Some(slot), slot.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|s| self.mac(s, addr, name, nonce) == bits)
    }

    /// Returns a keyed 32-bit hash of a request without its tag, by which the dedup window recognises it.
    pub(crate) fn frame_hash(&self, frame: &Frame<'_>) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.dedup_key);
        hasher.write(&frame.verb.as_bytes());
        hasher.write(frame.payload);
        let hash = hasher.finish();
        u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
    }

    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / COOKIE_SLOT.as_secs()
    }

    fn mac(&self, slot: u64, addr: SocketAddr, name: &[u8], nonce: Option<&Token>) -> u128 {
        let mut mac = SipHasher24::new_with_key(&self.cookie_key);
        mac.write_u64(slot);
        match addr.ip() {
            IpAddr::V4(ip) => mac.write(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => mac.write(&ip.octets()),
        }
        mac.write_u16(addr.port());
        if let Some(nonce) = nonce {
            mac.write(&nonce.text());
        }
        // The name is last and the nonce has one length or none, so no two inputs collide.
        mac.write_u8(u8::from(nonce.is_some()));
        mac.write(name);
        mac.finish128().as_u128()
    }
}
