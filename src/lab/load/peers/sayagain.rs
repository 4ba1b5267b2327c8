//! Our own protocol, untagged or tagged, over streams and datagrams ([`wire`](crate::wire)).

use crate::lab::load::peer::{Answer, Client, DatagramPeer, Join, Message, Peer, Step, Target};
use crate::wire::{
    Datagram, ErrArgs, Id, MAX_ID, SHORT_LENGTH_MAX, Token, Verb, encode_args, encode_prefix, encode_ranges,
    encode_rcv, encode_tag,
};

/// An upper bound on the ids before a session's first message: those of REG and JON.
const BEFORE_MESSAGES: u64 = 16;

/// Bound on the ids in flight, below the server's window of 1,024.
const MAX_IN_FLIGHT: u64 = 1_000;

/// The payload of the PNG whose answer shows that everything before it has been executed.
const PROOF: &[u8] = b"ready";

/// The payload of a ping.
const PING: &[u8] = b"0123456789";

/// Frames over a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    /// Whether requests are tagged, and so answered, numbered and acknowledged.
    pub(crate) tagged: bool,
}

/// Returns one frame.
fn frame(id: Option<Id>, verb: Verb, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_args(id, verb, parts, &mut out);
    out
}

impl Streams {
    fn id(self, number: u64) -> Option<Id> {
        if self.tagged { Id::new(number) } else { None }
    }
}

/// Returns a room's name with its `#`.
fn signed(room: &str) -> Vec<u8> {
    [b"#", room.as_bytes()].concat()
}

impl Peer for Streams {
    fn name(&self) -> &'static str {
        if self.tagged { "sayagain-tagged" } else { "sayagain" }
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        let (mut say, mut end) = (frame(self.id(1), Verb::Reg, &[client.name.as_bytes()]), Vec::new());
        if let Some(room) = client.room {
            encode_args(self.id(2), Verb::Jon, &[&signed(room)], &mut say);
            if self.tagged {
                end = frame(self.id(2), Verb::Ack, &[]);
            }
        }
        encode_args(None, Verb::Png, &[PROOF], &mut say);
        encode_args(None, Verb::Ack, &[PROOF], &mut end);
        // The token in the answer to a tagged REG is not known in advance.
        let hear = if self.tagged {
            Answer { start: b"@1 ACK 0023 ".to_vec(), end }
        } else {
            Answer { start: end, end: Vec::new() }
        };
        vec![Step { say, hear }]
    }

    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let id = self.id(BEFORE_MESSAGES + message.number);
        match message.to {
            Target::Name(name) => encode_args(id, Verb::Snd, &[name.as_bytes(), message.body], out),
            Target::Room { name, .. } => encode_args(id, Verb::Snd, &[&signed(name), message.body], out),
        }
    }

    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        if let Some(id) = self.id(message.number) {
            encode_tag(id, out);
        }
        match message.to {
            Target::Name(_) => encode_rcv(message.from.as_bytes(), message.body, out),
            Target::Room { name, .. } => {
                encode_rcv(&[message.from.as_bytes(), &signed(name)].concat(), message.body, out);
            }
        }
    }

    fn reply(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        if let Some(id) = self.id(BEFORE_MESSAGES + message.number) {
            encode_args(Some(id), Verb::Ack, &[], out);
        }
    }

    fn acknowledgement(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        if self.tagged {
            let mut ranges = Vec::new();
            encode_ranges(&[(first, last)], &mut ranges);
            encode_args(None, Verb::Ack, &[&ranges], out);
        }
    }

    fn repeats(&self) -> bool {
        !self.tagged
    }

    fn max_body(&self) -> usize {
        // An untagged session gets no longer form of a length. The RCV also contains the sender, a room and the count
        // of words.
        if self.tagged { usize::MAX } else { SHORT_LENGTH_MAX - 99 }
    }

    fn max_in_flight(&self) -> Option<u64> {
        self.tagged.then_some(MAX_IN_FLIGHT)
    }

    fn ping(&self, out: &mut Vec<u8>) {
        encode_args(None, Verb::Png, &[PING], out);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        encode_args(None, Verb::Ack, &[PING], out);
    }

    fn keeps_sessions(&self) -> bool {
        self.tagged
    }

    fn end_session(&self) -> Step {
        // An untagged BYE is answered by the close alone; this id is above all used ones, so it is new.
        let id = Id::new(MAX_ID);
        Step::new(frame(id, Verb::Bye, &[]), frame(id, Verb::Ack, &[]))
    }
}

/// Frames in datagrams: a session with a token, and tagged pings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagrams;

/// Longest payload that is parsed.
const MAX_PAYLOAD: usize = 65_535;

impl Datagrams {
    /// Returns the first datagram of a session. Its nonce is derived from the name, which is sufficient on loopback.
    fn register(name: &str, cookie: Option<Token>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(cookie) = cookie {
            encode_prefix(cookie, &mut out);
        }
        let nonce = [b"?", &nonce(name).text()[..]].concat();
        encode_args(Some(Id::FIRST), Verb::Reg, &[name.as_bytes(), &nonce], &mut out);
        out
    }
}

/// Derives a nonce of 128 bits from a name (FNV-1a): different names give different nonces.
fn nonce(name: &str) -> Token {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    Token::from_bits(name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
}

impl DatagramPeer for Datagrams {
    fn name(&self) -> &'static str {
        "sayagain"
    }

    fn join(&self, name: &str, heard: Option<&[u8]>) -> Join {
        let again = || Join::Say(Self::register(name, None));
        let Some(Ok(datagram)) = heard.map(|heard| Datagram::parse(heard, MAX_PAYLOAD)) else {
            return again();
        };
        let Some(frame) = datagram.frames.first().filter(|frame| frame.id == Some(Id::FIRST)) else {
            return again();
        };
        match (frame.verb, ErrArgs::parse(frame.args())) {
            (Verb::Ack, _) => {
                Token::parse(frame.args()).map_or_else(again, |token| Join::Ready(token.text().to_vec()))
            }
            (Verb::Err, Some(ErrArgs { code: 428, text })) => {
                let cookie = text.split(|byte| *byte == b' ').next().and_then(Token::parse);
                cookie.map_or_else(again, |cookie| Join::Say(Self::register(name, Some(cookie))))
            }
            (Verb::Err, _) => Join::Refused(crate::escape::escape_short(frame.args(), 80).into_owned()),
            _ => again(),
        }
    }

    fn request(&self, session: &[u8], number: u64, body: &[u8], out: &mut Vec<u8>) {
        exchange(session, number, Verb::Png, body, out);
    }

    fn answers(&self, session: &[u8], number: u64, body: &[u8], datagram: &[u8]) -> bool {
        let mut expected = Vec::with_capacity(datagram.len());
        exchange(session, number, Verb::Ack, body, &mut expected);
        expected == datagram
    }

    fn is_end_of_session(&self, datagram: &[u8]) -> bool {
        let said = Datagram::parse(datagram, MAX_PAYLOAD);
        said.is_ok_and(|datagram| datagram.frames.iter().any(|frame| frame.verb == Verb::Bye))
    }

    fn end_session(&self, session: &[u8], number: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (token, id) = (Token::parse(session)?, Id::new(number + 1)?);
        encode_prefix(token, &mut out);
        encode_args(Some(id), Verb::Bye, &[], &mut out);
        Some(out)
    }

    fn has_ended(&self, _session: &[u8], number: u64, datagram: &[u8]) -> bool {
        let Ok(datagram) = Datagram::parse(datagram, MAX_PAYLOAD) else { return false };
        // A session that does not exist any more has ended; that answer has no id.
        datagram.frames.iter().any(|frame| match frame.verb {
            Verb::Ack => frame.id == Id::new(number + 1),
            Verb::Err => is_code(frame.args(), 401),
            _ => false,
        })
    }
}

/// Whether these are the arguments of an ERR with this code.
fn is_code(args: &[u8], wanted: u16) -> bool {
    ErrArgs::parse(args).is_some_and(|ErrArgs { code, .. }| code == wanted)
}

/// Appends a request of a session, or its answer. The REG had number 1.
fn exchange(session: &[u8], number: u64, verb: Verb, body: &[u8], out: &mut Vec<u8>) {
    if let Some(token) = Token::parse(session) {
        encode_prefix(token, out);
    }
    encode_args(Id::new(number + 1), verb, &[body], out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::peer::{Heard, Role};

    const CLIENT: Client<'_> = Client { name: "s1", role: Role::Sender, room: Some("load") };

    #[test]
    fn untagged_frames_are_known_to_the_last_byte() {
        let streams = Streams { tagged: false };
        let [step] = <[Step; 1]>::try_from(streams.greeting(&CLIENT)).unwrap();
        assert_eq!(step.say, b"REG 0003 s1JON 0006 #loadPNG 0006 ready");
        assert_eq!(step.hear.check(b"ACK 0006 ready"), Heard::Complete);
        assert_eq!(step.hear.check(b"ERR 0012 409 ..."), Heard::Wrong);
        let message =
            Message { from: "s1", to: Target::Room { name: "load", receivers: 3 }, body: b"abc", number: 7 };
        let (mut sent, mut delivered) = (Vec::new(), Vec::new());
        streams.message(&message, &mut sent);
        streams.delivery(&message, &mut delivered);
        assert_eq!(
            (sent.as_slice(), delivered.as_slice()),
            (&b"SND 0010 #load abc"[..], &b"RCV 0017 s1#load 0001 abc"[..])
        );
    }

    #[test]
    fn tagged_frames_are_numbered_answered_and_acknowledged() {
        let streams = Streams { tagged: true };
        let [step] = <[Step; 1]>::try_from(streams.greeting(&CLIENT)).unwrap();
        let answer = b"@1 ACK 0023 abcdefghijklmnopqrstuv@2 ACK 0000ACK 0006 ready";
        assert_eq!(step.hear.check(answer), Heard::Complete);
        assert_eq!(step.hear.check(b"@1 ERR 0009 409 taken"), Heard::Wrong);
        let message = Message { from: "s1", to: Target::Name("r1"), body: b"abc", number: 7 };
        let mut said = [const { Vec::new() }; 4];
        let [sent, delivered, reply, acknowledged] = &mut said;
        streams.message(&message, sent);
        streams.delivery(&message, delivered);
        streams.reply(&message, reply);
        streams.acknowledgement(5, 7, acknowledged);
        let said = said.map(|said| String::from_utf8(said).unwrap());
        assert_eq!(said, ["@23 SND 0007 r1 abc", "@7 RCV 0012 s1 0001 abc", "@23 ACK 0000", "ACK 0004 5-7"]);
    }

    #[test]
    fn a_session_over_datagrams_obeys_the_cookie_and_keeps_its_token() {
        let Join::Say(first) = Datagrams.join("c1", None) else { panic!("it has to say something") };
        let cookie = [b'c'; 22];
        let heard = [&b"@1 ERR 0027 428 "[..], &cookie].concat();
        let Join::Say(second) = Datagrams.join("c1", Some(&heard)) else { panic!("it has to say it again") };
        assert_eq!(second, [&b"~"[..], &cookie, b" ", &first].concat());
        let heard = [&b"~"[..], &cookie, b" @1 ACK 0023 ", &[b't'; 22]].concat();
        assert_eq!(Datagrams.join("c1", Some(&heard)), Join::Ready([b't'; 22].to_vec()));
        assert!(matches!(Datagrams.join("c1", Some(b"@1 ERR 0008 409 taken")), Join::Say(_)));
        assert_eq!(
            Datagrams.join("c1", Some(b"@1 ERR 0010 409 taken")),
            Join::Refused("409 taken".to_owned())
        );
    }

    #[test]
    fn a_session_over_datagrams_ends_with_a_bye_of_the_server() {
        assert!(Datagrams.is_end_of_session(b"~tttttttttttttttttttttt @1 BYE 0000"));
        assert!(!Datagrams.is_end_of_session(b"~tttttttttttttttttttttt @2 ACK 0004 BYE "));
        assert!(!Datagrams.is_end_of_session(b"BYE"));
    }

    #[test]
    fn a_session_has_ended_when_its_bye_is_answered_or_it_is_unknown() {
        let token = [b't'; 22];
        let said = Datagrams.end_session(&token, 4).unwrap();
        assert_eq!(said, b"~tttttttttttttttttttttt @5 BYE 0000");
        for (heard, has_ended) in [
            (&b"~tttttttttttttttttttttt @5 ACK 0000"[..], true),
            (b"~tttttttttttttttttttttt ERR 0018 401 Session gone!", true),
            (b"~tttttttttttttttttttttt @4 ACK 0000", false),
            (b"~tttttttttttttttttttttt @5 RCV 0012 s1 0001 abc", false),
            (b"noise", false),
        ] {
            assert_eq!(
                Datagrams.has_ended(&token, 4, heard),
                has_ended,
                "{}",
                String::from_utf8_lossy(heard)
            );
        }
    }

    #[test]
    fn only_the_answer_of_that_number_answers_a_request() {
        let (mut out, token) = (Vec::new(), [b't'; 22]);
        Datagrams.request(&token, 1, b"abc", &mut out);
        assert_eq!(out, b"~tttttttttttttttttttttt @2 PNG 0004 abc");
        let answer = b"~tttttttttttttttttttttt @2 ACK 0004 abc";
        assert!(Datagrams.answers(&token, 1, b"abc", answer));
        assert!(
            !Datagrams.answers(&token, 2, b"abc", answer) && !Datagrams.answers(&token, 1, b"abd", answer)
        );
    }
}
