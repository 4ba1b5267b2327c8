//! The server's listeners: `--listen`, its short form `--mode` and `--host`, and the lines printed about them.
//!
//! The parts of a URL are parsed in [`crate::net`].

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::{Args, ValueEnum};

use crate::cli::{DEFAULT_HOST, HostPort};
use crate::listener::Speaks;
use crate::net::listen::{Address, ListenAddr};
use crate::net::{Listen, ListenError, ListenUrl, Listeners};

/// The line listener that a server has by default.
const DEFAULT_LINE_LISTENER: &str = "line://localhost:50001";

/// The help text on the URLs of listeners.
pub(super) const HELP: &str = "\
Listeners, any number, all for one chat (--listen URL):
  tcp://HOST:PORT     frames                    reuse_port, v6only
  udp://HOST:PORT     frames in datagrams       v6only
  unix:///PATH        frames, on this machine   mode
  line://HOST:PORT    lines, for netcat         reuse_port, v6only, room, greet, echo, flush
  line+unix:///PATH   the same on this machine  mode, room, greet, echo, flush
HOST is a name (all of its addresses), an address, or [::1]; [::] is every address of this
machine, IPv6 and IPv4. PORT 0 takes a free one; without :PORT it is 50000, for lines 50001. Options follow a ?, separated by & (quote that):
'line://localhost:50001?room=tea&rate=2/s'
  rate=5/s,64KiB/s    rate limit of each client, or none; default for lines 5/s, for frames none
  rate_per_host=50/s  rate limit of one IPv4 address or IPv6 /64, all its clients; default none
  name=WORD           the listener's name in access rules; default its scheme
  reuse_port=1        other processes may listen there too; each serves its own chat
  v6only=1            only the IPv6 addresses of HOST; an IPv4 socket may have the same port
  mode=0660           the permissions of the socket's file
  room=lobby          the room that each client enters
  greet=name|none     asks for a name, or uses the address as the name
  echo=on|off         whether clients receive their own lines; default on, with greet=none off
  flush=MS            silence that ends an unfinished line; default off";

/// The options that choose listeners, as typed.
#[derive(Clone, Debug, Args)]
pub(super) struct ListenArgs {
    /// A listener, by its URL (see below); may be given several times, and adds to --mode and --host
    #[arg(long, value_name = "URL")]
    listen: Vec<ListenUrl>,

    /// Short for a TCP and a UDP listener: tcp, udp or both [default: both]
    #[arg(long, value_enum, ignore_case = true, hide_possible_values = true)]
    mode: Option<Mode>,

    /// Their address: every address of the host, both on one port [default: localhost:50000, and without any of these
    /// three options line://localhost:50001 too]
    #[arg(long, value_name = "HOST:PORT")]
    host: Option<HostPort>,
}

/// The transports of the short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
    /// Both, on one port.
    Both,
}

/// The listeners to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenPlan {
    /// The TCP and UDP listeners of the short form.
    pub pair: Option<Listen>,
    /// The listeners given by URL.
    pub urls: Vec<ListenUrl>,
}

impl ListenArgs {
    /// Checks the options and fills in defaults.
    pub(super) fn resolve(self) -> Result<ListenPlan, String> {
        let mut urls = self.listen;
        urls.iter().try_for_each(check_served_by_chat)?;
        let has_short_form = self.mode.is_some() || self.host.is_some();
        let is_default = !has_short_form && urls.is_empty();
        if is_default {
            urls.push(DEFAULT_LINE_LISTENER.parse().map_err(|error| format!("{error}"))?);
        }
        let pair = if has_short_form || is_default { Some(pair(self.mode, self.host)?) } else { None };
        Ok(ListenPlan { pair, urls })
    }
}

/// Refuses a listener that the chat cannot serve.
fn check_served_by_chat(url: &ListenUrl) -> Result<(), String> {
    match url.listener.speaks {
        Speaks::Frames | Speaks::Lines(_) => Ok(()),
        Speaks::Messages | Speaks::Bytes => Err(format!(
            "the chat does not speak {}://, which is for programs that are built on the library; take tcp:// or line://",
            url.scheme()
        )),
    }
}

fn pair(mode: Option<Mode>, host: Option<HostPort>) -> Result<Listen, String> {
    let HostPort { host, port } = host.map_or_else(|| DEFAULT_HOST.parse(), Ok)?;
    let mode = mode.unwrap_or(Mode::Both);
    Ok(Listen { host, port, tcp: mode != Mode::Udp, udp: mode != Mode::Tcp })
}

impl ListenPlan {
    /// Binds all sockets, or none.
    ///
    /// # Errors
    ///
    /// The first socket that cannot be bound.
    pub fn bind(&self) -> Result<Listeners, ListenError> {
        let mut listeners = Listeners::default();
        if let Some(pair) = &self.pair {
            listeners.add_bound(pair.bind()?);
        }
        self.urls.iter().try_for_each(|url| listeners.add(url))?;
        Ok(listeners)
    }
}

/// The lines printed about listeners: one per socket, then one per listener with a command that connects to it.
pub(super) fn announcement(listeners: &Listeners) -> String {
    let mut text = String::new();
    for listen_addr in listeners.addrs() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "listening on {listen_addr}");
    }
    let best: Vec<&ListenAddr> = listeners.addrs_by_url().into_iter().filter_map(easiest_to_reach).collect();
    let width = best.iter().map(|listen_addr| listen_addr.scheme.len()).max().unwrap_or(0) + 1;
    for listen_addr in best {
        let _ =
            writeln!(text, "{:<width$} {}", format!("{}:", listen_addr.scheme), how_to_connect(listen_addr));
    }
    text
}

/// The first IPv4 address of one listener, or else its first: not every netcat speaks IPv6.
fn easiest_to_reach(addrs: Vec<&ListenAddr>) -> Option<&ListenAddr> {
    let is_ipv4 =
        |listen_addr: &&ListenAddr| matches!(listen_addr.address, Address::Ip(addr) if addr.is_ipv4());
    addrs.iter().copied().find(is_ipv4).or_else(|| addrs.first().copied())
}

/// The command that connects by hand, and with the client if it can.
fn how_to_connect(listen_addr: &ListenAddr) -> String {
    let addr = match &listen_addr.address {
        Address::Ip(addr) => reachable(*addr),
        Address::File(path) => return format!("nc -U {}", quoted(path.to_str())),
    };
    let (ip, port) = (addr.ip(), addr.port());
    match listen_addr.scheme {
        "udp" => format!("client --mode udp --host {addr}, or frames by hand: nc -u {ip} {port}"),
        "tcp" => format!("client --host {addr}, or frames by hand: nc {ip} {port}"),
        _ => format!("nc {ip} {port}, or telnet {ip} {port}"),
    }
}

/// An address to connect to from this machine: the unspecified address becomes loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// A path quoted for a shell, if it is plain text.
fn quoted(path: Option<&str>) -> String {
    let plain = path.filter(|path| crate::escape::escape(path.as_bytes()) == *path);
    let quoted = plain.and_then(|path| shlex::try_quote(path).ok());
    quoted.map_or_else(|| "with that path, which is not plain text".to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        listen: ListenArgs,
    }

    fn resolve(words: &[&str]) -> ListenPlan {
        Line::try_parse_from([&["server"], words].concat()).unwrap().listen.resolve().unwrap()
    }

    fn pair(host: &str, port: u16, (tcp, udp): (bool, bool)) -> Option<Listen> {
        Some(Listen { host: host.to_owned(), port, tcp, udp })
    }

    fn urls(listening: &ListenPlan) -> Vec<String> {
        listening.urls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn by_default_the_server_listens_for_frames_on_one_port_and_for_lines_on_the_next() {
        let listening = resolve(&[]);
        assert_eq!(listening.pair, pair("localhost", 50_000, (true, true)));
        assert_eq!(urls(&listening), ["line://localhost:50001"]);
    }

    #[test]
    fn the_short_form_alone_has_no_line_listener() {
        for (words, expected) in [
            (&["--mode", "both"][..], pair("localhost", 50_000, (true, true))),
            (&["--mode", "TCP"], pair("localhost", 50_000, (true, false))),
            (&["--host", "[::1]:1"], pair("::1", 1, (true, true))),
            (&["--mode", "udp", "--host", "a:2"], pair("a", 2, (false, true))),
        ] {
            let listening = resolve(words);
            assert_eq!((listening.pair, listening.urls.len()), (expected, 0), "{words:?}");
        }
    }

    #[test]
    fn a_url_replaces_the_default_listeners_and_adds_to_the_short_form() {
        let alone = resolve(&["--listen", "unix:///run/a", "--listen", "line://h"]);
        assert_eq!((alone.pair.is_none(), urls(&alone)), (true, texts(&["unix:///run/a", "line://h:50001"])));
        let both = resolve(&["--listen", "unix:///run/a", "--mode", "tcp"]);
        assert_eq!(both.pair, pair("localhost", 50_000, (true, false)));
        assert_eq!(urls(&both), ["unix:///run/a"]);
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn listen_addr(scheme: &'static str, addr: &str) -> ListenAddr {
        ListenAddr { scheme, address: Address::Ip(addr.parse().unwrap()) }
    }

    #[test]
    fn each_listener_is_printed_with_a_command_that_connects_to_it() {
        for (scheme, addr, expected) in [
            ("tcp", "10.0.0.1:5", "client --host 10.0.0.1:5, or frames by hand: nc 10.0.0.1 5"),
            ("tcp", "[::]:5", "client --host [::1]:5, or frames by hand: nc ::1 5"),
            (
                "udp",
                "0.0.0.0:5",
                "client --mode udp --host 127.0.0.1:5, or frames by hand: nc -u 127.0.0.1 5",
            ),
            ("line", "[::1]:5", "nc ::1 5, or telnet ::1 5"),
        ] {
            assert_eq!(how_to_connect(&listen_addr(scheme, addr)), expected);
        }
        for (path, expected) in [
            ("/run/a", "nc -U /run/a"),
            ("/run/a b'c", r#"nc -U "/run/a b'c""#),
            ("/run/\u{1b}[2J", "nc -U with that path, which is not plain text"),
        ] {
            let listen_addr = ListenAddr { scheme: "unix", address: Address::File(path.into()) };
            assert_eq!(how_to_connect(&listen_addr), expected);
        }
    }

    #[test]
    fn every_option_of_a_url_in_the_help_is_accepted() {
        for name in [
            "rate=5/s,64KiB/s",
            "rate_per_host=50/s",
            "reuse_port=1",
            "v6only=1",
            "mode=0660",
            "room=lobby",
            "greet=none",
            "flush=5",
        ] {
            let scheme = if name.starts_with("mode") { "line+unix:///a" } else { "line://h" };
            let url: ListenUrl = format!("{scheme}?{name}&echo=off&name=WORD").parse().unwrap();
            assert_eq!(url.listener.name, "WORD", "{name}");
            let option = name.split('=').next().unwrap_or_default();
            assert!(HELP.contains(&format!("\n  {option}=")), "{option}");
        }
    }
}
