//! Line listeners over real sockets: the output of netcat, byte for byte.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test over real sockets, in real time")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::server::{Conn, SOON, ServerProgram as Program, frame, port_of};

const WELCOME: &str = "Welcome to sayagain! Enter your name: ";
const LOBBY: &str = " in #lobby; /help lists what else you can do\n";

/// A line client, as netcat is.
struct Person(TcpStream);

impl Person {
    fn at(program: &Program, nth: usize) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port_of(&program.listening[nth]))).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    fn named(program: &Program, nth: usize, typed: &str, name: &str) -> Self {
        let mut client = Self::at(program, nth);
        client.expect(WELCOME);
        client.say(&format!("{typed}\n"));
        client.expect(&format!("* you are {name}{LOBBY}"));
        client
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn expect(&mut self, expected: &str) {
        let mut read = vec![0; expected.len()];
        self.0.read_exact(&mut read).unwrap_or_else(|error| panic!("instead of `{expected}`: {error}"));
        assert_eq!(String::from_utf8_lossy(&read), expected);
    }

    /// The next line.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0; 64]).unwrap(), 0);
    }

    /// Closes the input, as `nc -N` does. Returns the rest of the output.
    fn finish(mut self) -> String {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

#[test]
fn the_conversation_in_the_readme_of_trio_chat_is_reproduced() {
    let program = Program::with_listeners(&["line://127.0.0.1:0"], &[]);
    let mut morty = Person::named(&program, 0, "Morty", "Morty");
    let mut rick = Person::named(&program, 0, "Rick", "Rick");
    let mut one = Person::named(&program, 0, "Guard #1", "Guard--1");
    let mut two = Person::named(&program, 0, "Guard #2", "Guard--2");
    rick.say("They're just robots, Morty! It's OK to shoot them!\n");
    morty.expect("Rick> They're just robots, Morty! It's OK to shoot them!\n");
    one.say("Aah! My leg is shot off!\n");
    morty.expect("Guard--1> Aah! My leg is shot off!\n");
    two.say("Glenn's bleeding to death!\n");
    morty.expect("Guard--2> Glenn's bleeding to death!\n");
    morty.say("They're not Robots, Rick!\n");
    morty.expect("Morty> They're not Robots, Rick!\n");
    rick.say("It's a figure of speech, Morty. They're bureaucrats. I don't respect them.\n");
    morty.expect("Rick> It's a figure of speech, Morty. They're bureaucrats. I don't respect them.\n");
    morty.say("/list\n/quit\n");
    morty.expect("* in #lobby: Morty Rick Guard--1 Guard--2\n* goodbye\n");
    morty.expect_end();
}

#[test]
fn the_conversation_of_sock_chat_is_reproduced_without_echo() {
    let program = Program::with_listeners(&["line://127.0.0.1:0?greet=none&echo=off"], &[]);
    let mut one = Person::at(&program, 0);
    let first = one.0.local_addr().unwrap();
    one.say("/list #lobby\n");
    // The second connects once the first is in the room.
    one.expect(&format!("* in #lobby: {first}\n"));
    let mut two = Person::at(&program, 0);
    let second = two.0.local_addr().unwrap();
    two.say("/list #lobby\nHello\n");
    two.expect(&format!("* in #lobby: {first} {second}\n"));
    one.expect(&format!("{second}> Hello\n"));
    one.say("Hi\n/nick dice\nHello\n");
    one.expect("* you are dice\n");
    two.expect(&format!("{first}> Hi\ndice> Hello\n"));
}

#[test]
fn frames_datagrams_and_lines_meet_in_one_room() {
    let urls = ["line://127.0.0.1:0?rate=none", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
    let program = Program::with_listeners(&urls, &[]);
    let mut rick = Person::named(&program, 0, "Rick", "Rick");
    let mut frida = Person(Conn::to(([127, 0, 0, 1], port_of(&program.listening[1])).into()).0);
    frida.say(&(frame("REG", "frida") + &frame("JON", "#lobby") + "PNG 0006 proof"));
    frida.expect("ACK 0006 proof");
    let udo = UdpSocket::bind("127.0.0.1:0").unwrap();
    udo.set_read_timeout(Some(SOON)).unwrap();
    udo.connect(("127.0.0.1", port_of(&program.listening[2]))).unwrap();
    let mut datagram = [0; 200];
    let mut hear = || {
        let count = udo.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(&datagram[..count]).into_owned()
    };
    udo.send((frame("REG", "udo") + &frame("JON", "#lobby") + "PNG 0006 proof").as_bytes()).unwrap();
    assert_eq!(hear(), "ACK 0006 proof");
    rick.say("/list\nhi there\n");
    rick.expect("* in #lobby: Rick frida udo\nRick> hi there\n");
    frida.expect("RCV 0025 Rick#lobby 0002 hi there");
    assert_eq!(hear(), "RCV 0025 Rick#lobby 0002 hi there");
    frida.say(&frame("SND", "#lobby hi Rick"));
    rick.expect("frida> hi Rick\n");
    assert_eq!(hear(), "RCV 0025 frida#lobby 0002 hi Rick");
    udo.send(frame("SND", "Rick psst").as_bytes()).unwrap();
    rick.expect("*private* udo> psst\n");
}

#[test]
fn a_closed_pipe_loses_no_line_although_lines_wait_for_the_rate() {
    let program =
        Program::with_listeners(&["line://127.0.0.1:0?rate=100/s", "line://127.0.0.1:0?rate=none"], &[]);
    let mut rick = Person::named(&program, 1, "Rick", "Rick");
    let mut pipe = Person::at(&program, 0);
    let lines: Vec<String> = (0..150).map(|n| format!("line {n}\n")).collect();
    let began = Instant::now();
    pipe.say(&format!("Morty\n{}hello", lines.concat()));
    let shown = lines.iter().map(|line| format!("Morty> {line}")).collect::<String>() + "Morty> hello\n";
    assert_eq!(pipe.finish(), format!("{WELCOME}* you are Morty{LOBBY}{shown}"));
    // tests/sim/lines.rs checks the waits in virtual time.
    println!("{} lines at 100 a second took {:.3} s", lines.len() + 2, began.elapsed().as_secs_f64());
    rick.expect(&shown);
}

#[test]
fn a_program_that_never_ends_a_line_can_chat_on_a_listener_with_flush() {
    let program = Program::with_listeners(&["line://127.0.0.1:0?flush=200&rate=none"], &[]);
    let mut rick = Person::named(&program, 0, "Rick", "Rick");
    let mut bot = Person::at(&program, 0);
    bot.expect(WELCOME);
    bot.say("SpamBot 5000");
    bot.expect(&format!("* you are SpamBot-5000{LOBBY}"));
    let spam = "SPAM ".repeat(500);
    for _ in 0..3 {
        bot.say(&spam);
        rick.expect(&format!("SpamBot-5000> {spam}\n"));
    }
    bot.say("done");
    rick.expect("SpamBot-5000> done\n");
}

#[test]
fn a_flooding_line_client_is_blocked_by_back_pressure_and_delays_no_others() {
    let program = Program::with_listeners(&["line://127.0.0.1:0", "line://127.0.0.1:0?rate=none"], &[]);
    let [mut rick, mut morty] = ["Rick", "Morty"].map(|name| Person::named(&program, 1, name, name));
    let mut bot = Person::named(&program, 0, "SpamBot", "SpamBot");
    bot.0.set_nonblocking(true).unwrap();
    let (spam, mut written) = ("SPAM ".repeat(500), 0);
    let mut is_blocked = || match bot.0.write(spam.as_bytes()) {
        Ok(count) => {
            written += count;
            assert!(written < 64 << 20, "nothing stops it");
            false
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    while !is_blocked() {}
    // Morty's messages are sent after all input of the bot, and arrive before nearly all of it.
    let (mut heard, mut times) = (0, Vec::new());
    for n in 0..20 {
        let began = Instant::now();
        morty.say(&format!("No. {n}\n"));
        loop {
            match rick.line() {
                line if line == format!("Morty> No. {n}\n") => break,
                line => heard += line.strip_prefix("SpamBot> ").unwrap_or_else(|| panic!("{line}")).len(),
            }
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("the bot wrote {written} bytes, of which {heard} were heard; a line took {times:?}");
    assert!(heard < written / 2, "{heard} of {written}");
}

#[test]
fn line_clients_send_while_messages_arrive_and_get_the_reason_of_a_shutdown() {
    let program = Program::with_listeners(&["line://127.0.0.1:0?rate=none"], &[]);
    let mut rick = Person::named(&program, 0, "Rick", "Rick");
    let mut morty = Person::named(&program, 0, "Morty", "Morty");
    for n in 0..50 {
        rick.say("I am ");
        morty.say(&format!("No. {n}\n"));
        rick.expect(&format!("Morty> No. {n}\n"));
        rick.say("typing\n");
        rick.expect("Rick> I am typing\n");
    }
    program.signal("TERM");
    rick.expect("* goodbye: the server is shutting down\n");
    rick.expect_end();
}
