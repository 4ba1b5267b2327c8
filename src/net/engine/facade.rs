//! Starting a [`Handler`], or the chat, at URLs.

#![expect(clippy::disallowed_types, reason = "drivers own the source of tokens and keys")]

use std::io;

use rand::SeedableRng as _;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;

use super::{Engine, EngineHandle, EngineKind};
use crate::config::ServerConfig;
use crate::host::{Context, Handler, Host, Settings};
use crate::listener::Speaks;
use crate::net::listen::{ListenUrl, Listeners};
use crate::net::open_error::OpenError;
use crate::server::Server;

impl<H: Handler + 'static> Engine<Host<H>> {
    /// Serves a handler at these URLs (`raw://127.0.0.1:7000`, `msg+unix:///run/jobs`, ..), on readiness loops.
    ///
    /// # Errors
    ///
    /// Fails if a URL is invalid or cannot be listened on, or the system cannot wait for another socket.
    pub fn host(urls: &[&str], settings: Settings, handler: H) -> Result<Self, OpenError> {
        Self::host_with(urls, settings, |_| handler)
    }

    /// As [`Engine::host`] for a handler that needs a handle of its own engine: to give work to threads, which come back
    /// by [`EngineHandle::with`].
    ///
    /// ```
    /// use std::io::{Read as _, Write as _};
    /// use bytes::Bytes;
    /// use sayagain::host::{Context, Handler, Host, Settings};
    /// use sayagain::net::{Engine, EngineHandle};
    /// use sayagain::service::ConnId;
    ///
    /// /// Answers each line by a thread, and keeps the connection until then.
    /// struct Slow(EngineHandle<Host<Slow>>);
    ///
    /// impl Handler for Slow {
    ///     fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, line: Bytes) {
    ///         cx.hold(conn);
    ///         let engine = self.0.clone();
    ///         std::thread::spawn(move || {
    ///             let answer = line.to_ascii_uppercase(); // long work, outside the lock
    ///             engine.with(|_, cx| {
    ///                 let _ = cx.send(conn, &answer);
    ///                 cx.release(conn);
    ///             })
    ///         });
    ///     }
    /// }
    ///
    /// let engine = Engine::host_with(&["line://127.0.0.1:0"], Settings::default(), Slow)?;
    /// let url = engine.listen_addrs()[0].to_string();
    /// let mut peer = std::net::TcpStream::connect(url.trim_start_matches("line://"))?;
    /// peer.write_all(b"again\n")?;
    /// peer.shutdown(std::net::Shutdown::Write)?; // as `nc -N` does
    /// let mut answer = String::new();
    /// peer.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "AGAIN\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails as [`Engine::host`].
    pub fn host_with(
        urls: &[&str],
        settings: Settings,
        make: impl FnOnce(EngineHandle<Host<H>>) -> H,
    ) -> Result<Self, OpenError> {
        let listeners = bind(urls, |_| true)?;
        let list = listeners.list();
        let handle = EngineHandle::default();
        let not_yet = handle.pending();
        let engine =
            Self::start(EngineKind::default(), listeners, |_| Host::new(settings, list, make(handle)))?;
        not_yet.started(engine.driver.downgrade());
        Ok(engine)
    }

    /// Calls `act` with the handler and a context, as in a callback: [`Engine::change`] for handlers. Not for callbacks,
    /// which have both already: there it would wait for itself.
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub fn with<R>(&self, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> R {
        self.change(|host, now| host.with(now, act))
    }
}

impl Engine<Server> {
    /// Serves the chat at these URLs (`tcp://127.0.0.1:50000`, `udp://..`, `unix:///run/chat`, `line://..`), on
    /// readiness loops. [`ServerConfig::listeners`] is replaced by these listeners; tokens and keys come from the system's
    /// randomness.
    ///
    /// ```
    /// use sayagain::config::ServerConfig;
    /// use sayagain::net::{Engine, blocking::Client};
    /// use sayagain::reliable::Outcome;
    ///
    /// let config = ServerConfig { max_per_host: 20, ..ServerConfig::default() };
    /// let chat = Engine::chat(&["udp://127.0.0.1:0", "line://127.0.0.1:0?rate=2/s"], config)?;
    /// for addr in chat.listen_addrs() {
    ///     println!("listening on {addr}");
    /// }
    /// let url = chat.listen_addrs()[0].to_string();
    /// let (ada, _events) = Client::builder(&url).name("ada").connect_blocking()?;
    /// assert_eq!(ada.send("ada", "Hello, me!"), Outcome::Acked(Vec::new()));
    /// assert_eq!(chat.look(|server| server.sessions()), 1);
    /// ada.close();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Another engine, or a seeded source of tokens, takes the steps one by one: [`Listeners`], `listeners.list()` into the
    /// configuration, [`Server::new`], [`Engine::start`].
    ///
    /// # Errors
    ///
    /// Fails if a URL is invalid, is of a scheme that the chat does not speak (`raw`, `msg`), or cannot be listened on.
    /// Also fails if the system has no randomness, or cannot wait for another socket.
    pub fn chat(urls: &[&str], config: ServerConfig) -> Result<Self, OpenError> {
        let listeners = bind(urls, |url| !matches!(url.listener.speaks, Speaks::Messages | Speaks::Bytes))?;
        let config = ServerConfig { listeners: listeners.list(), ..config };
        let keys = ChaCha20Rng::try_from_rng(&mut SysRng)
            .map_err(|error| OpenError::Randomness(io::Error::other(error)))?;
        Ok(Self::start(EngineKind::default(), listeners, |now| Server::new(now, config, Box::new(keys)))?)
    }
}

/// Binds URLs that the service can serve.
fn bind(urls: &[&str], can_serve: impl Fn(&ListenUrl) -> bool) -> Result<Listeners, OpenError> {
    let mut listeners = Listeners::default();
    for url in urls {
        let parsed: ListenUrl =
            url.parse().map_err(|source| OpenError::Url { url: (*url).to_owned(), source })?;
        if !can_serve(&parsed) {
            return Err(OpenError::NotOfTheChat { url: (*url).to_owned() });
        }
        listeners.add(&parsed)?;
    }
    Ok(listeners)
}
