//! Datagrams of peers that have not proven their address: registrations, cookies and refusals.
//!
//! Such a datagram changes nothing and gets one frame, at most 3 times what came in. The frame answers the first frame
//! or, after a token, the first request. A peer validates its address with a cookie (RFC 9175), for which the server
//! keeps no state. Datagrams of sessions are in `datagram`.

use std::time::Instant;

use super::Server;
use super::requests::encode_answer;
use crate::error::Refusal;
use crate::hub::{DatagramPath, Path};
use crate::service::{Origin, Peer, Remote, Transmit};
use crate::wire::{DATAGRAM_MIN_LIMIT, Datagram, Frame, RegArgs, Token, Verb, encode_args, encode_prefix};

/// The most bytes sent to an unvalidated address, as a multiple of what came from there (RFC 9000 section 8.1).
const AMPLIFICATION: usize = 3;

/// Bytes of the IP and UDP headers, counted on both sides of [`AMPLIFICATION`]: those of IPv4, the smaller.
const HEADERS: usize = 28;

/// A peer whose datagram does not prove its address.
pub(super) struct UnvalidatedPeer {
    pub(super) peer: Peer,
    /// Bytes in the datagram.
    pub(super) size: usize,
}

impl UnvalidatedPeer {
    fn origin(&self) -> Origin {
        Origin { listener: self.peer.listener, from: Remote::Ip(self.peer.addr) }
    }
}

/// Input.
impl Server {
    /// Handles the token of no open session: a cookie before a REG, or the token of an ended session.
    pub(super) fn handle_unknown_token(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        token: Token,
        datagram: &Datagram<'_>,
    ) {
        let Some(request) = request_in(datagram) else {
            self.totals.stray += 1;
            return;
        };
        if request.verb == Verb::Reg && request.id.is_some() {
            return self.handle_cookie(now, from, token, request);
        }
        self.totals.stray += 1;
        self.answer_unvalidated(from, |out| {
            encode_prefix(token, out);
            encode_args(None, Verb::Err, &[b"401"], out);
        });
    }

    /// Handles a REG after a cookie.
    fn handle_cookie(&mut self, now: Instant, from: &UnvalidatedPeer, cookie: Token, frame: &Frame<'_>) {
        let answer = match RegArgs::parse(frame.args()) {
            None => Err(Refusal::Malformed),
            Some(args) => {
                let (name, nonce) = proven_by(&args);
                if !self.secrets.proves(now, &cookie, from.peer.addr, name, nonce) {
                    return self.challenge(now, from, Some(cookie), Some(frame), name, nonce);
                }
                if !self.affords_reg(now, &from.origin(), frame) {
                    self.totals.answers_dropped += 1;
                    return;
                }
                let path = self.path_to(now, from);
                let guest = self.guest_at(&from.peer);
                let registered = self.register_over(now, guest, frame, path, from.origin());
                registered.map(|(key, _)| self.token_of(key).into())
            }
        };
        self.answer_unvalidated(from, |out| {
            encode_prefix(cookie, out);
            encode_answer(frame.id, frame.verb, &answer, out);
        });
    }

    /// Handles a datagram without a token from an address without a bare session.
    pub(super) fn handle_unvalidated(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        datagram: &Datagram<'_>,
    ) {
        let Some(frame) = datagram.frames.first().filter(|frame| frame.verb.is_request()) else {
            self.totals.stray += 1;
            return;
        };
        let answer = match frame.verb {
            Verb::Png => self.pong(frame, frame.id.is_some()),
            Verb::Reg if frame.id.is_some() => match RegArgs::parse(frame.args()) {
                Some(args) => {
                    let (name, nonce) = proven_by(&args);
                    return self.challenge(now, from, None, Some(frame), name, nonce);
                }
                None => Err(Refusal::Malformed),
            },
            Verb::Reg => return self.register_bare(now, from, datagram),
            Verb::Snd if frame.id.is_none() && self.config.rules.anonymous => {
                return self.handle_guest_snd(now, from, datagram);
            }
            _ if frame.id.is_some() => return self.refuse_tagged(from),
            _ => Err(Refusal::RegisterFirst),
        };
        let limit = self.datagram_limit(from);
        self.answer_unvalidated(from, |out| {
            encode_answer(frame.id, frame.verb, &answer, out);
            if out.len() > limit {
                out.clear();
                encode_answer(frame.id, frame.verb, &Err(Refusal::TooLong), out);
            }
        });
    }

    /// Answers a tagged request without a token with an untagged 401. It may be a duplicate of one that was executed
    /// before its bare session ended. A refusal under its tag would mean that it did not happen.
    fn refuse_tagged(&mut self, from: &UnvalidatedPeer) {
        self.answer_unvalidated(from, |out| encode_args(None, Verb::Err, &[b"401"], out));
    }

    /// Executes an untagged REG at once for addresses that need no proof, so that `nc -u` is enough to play.
    fn register_bare(&mut self, now: Instant, from: &UnvalidatedPeer, datagram: &Datagram<'_>) {
        let Some((frame, rest)) = datagram.frames.split_first() else { return };
        let registered = if self.needs_no_proof(from) {
            let (path, guest) = (self.path_to(now, from), self.guest_at(&from.peer));
            let charged = self.charge_bare_reg(now, &from.origin(), frame);
            charged
                .and_then(|()| self.register_over(now, guest, frame, path, from.origin()))
                .map(|(key, _)| key)
        } else {
            Err(Refusal::NotProven)
        };
        match registered {
            Ok(key) if !rest.is_empty() => {
                let rest = Datagram { token: None, frames: rest.to_vec() };
                self.handle_session(now, key, from.size, &rest);
            }
            Ok(_) => {}
            Err(refusal) => {
                self.answer_unvalidated(from, |out| encode_answer(None, Verb::Reg, &Err(refusal), out));
            }
        }
    }

    /// Opens a guest session for an untagged SND of an unregistered peer, where guests are allowed.
    fn handle_guest_snd(&mut self, now: Instant, from: &UnvalidatedPeer, datagram: &Datagram<'_>) {
        let opened = if self.needs_no_proof(from) {
            let path = self.path_to(now, from);
            self.open_guest(now, path, from.origin())
        } else {
            Err(Refusal::NotProven)
        };
        match opened {
            Ok(guest) => self.handle_session(now, guest, from.size, datagram),
            Err(refusal) => {
                self.answer_unvalidated(from, |out| encode_answer(None, Verb::Snd, &Err(refusal), out));
            }
        }
    }

    /// Whether a peer at this address may open a session without a token.
    fn needs_no_proof(&self, from: &UnvalidatedPeer) -> bool {
        let ip = from.peer.addr.ip().to_canonical();
        self.config.bare_udp.iter().any(|net| net.contains(&ip))
    }

    fn path_to(&self, now: Instant, from: &UnvalidatedPeer) -> Path {
        Path::Datagram(DatagramPath { peer: from.peer, limit: self.datagram_limit(from), heard: now })
    }

    /// Returns the largest datagram that may be sent to the address of this one.
    fn datagram_limit(&self, from: &UnvalidatedPeer) -> usize {
        DATAGRAM_MIN_LIMIT.max(from.size).min(self.config.max_datagram)
    }
}

/// Returns the first request after a token. Acknowledgements may precede it, but a REG counts only as the first frame,
/// where clients put it.
fn request_in<'a, 'b>(datagram: &'a Datagram<'b>) -> Option<&'a Frame<'b>> {
    let first = datagram.frames.first().filter(|frame| frame.verb == Verb::Reg);
    let is_other = |frame: &&Frame<'_>| frame.verb.is_request() && frame.verb != Verb::Reg;
    first.or_else(|| datagram.frames.iter().find(is_other))
}

/// Returns what the cookie of a REG has to prove beside the address.
fn proven_by<'a>(args: &'a RegArgs<'a>) -> (&'a [u8], Option<&'a Token>) {
    match args {
        RegArgs::Name(name) => (name, None),
        RegArgs::Open { name, nonce } => (name, Some(nonce)),
        RegArgs::Resume { name, token } => (name, Some(token)),
    }
}

/// Output.
impl Server {
    /// Sends a 428 with a cookie, and with the nonce of the REG that it answers.
    pub(super) fn challenge(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        prefix: Option<Token>,
        frame: Option<&Frame<'_>>,
        name: &[u8],
        nonce: Option<&Token>,
    ) {
        let cookie = self.secrets.cookie(now, from.peer.addr, name, nonce);
        self.answer_unvalidated(from, |out| {
            if let Some(prefix) = prefix {
                encode_prefix(prefix, out);
            }
            let (cookie, nonce_text) = (cookie.text(), nonce.map(Token::text));
            let parts: [&[u8]; 3] = [b"428", &cookie, nonce_text.as_ref().map_or(b"", |text| text)];
            let used = if frame.is_some() && nonce.is_some() { 3 } else { 2 };
            encode_args(frame.and_then(|frame| frame.id), Verb::Err, &parts[..used], out);
        });
    }

    /// Sends one frame to an unvalidated peer, unless it would exceed the amplification limit.
    fn answer_unvalidated(&mut self, from: &UnvalidatedPeer, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        if !bytes.is_empty() && bytes.len() + HEADERS <= AMPLIFICATION * (from.size + HEADERS) {
            self.send(None, Transmit { peer: from.peer, bytes });
        }
    }
}
