//! The base links and toxics of one proxy, and the wanted state of a proxy in a body. The sets of all proxies are in
//! `proxy_registry`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::effect;
use super::error::ApiError;
use super::fields::Fields;
use super::toxic::{Toxic, checked};
use crate::escape::escape_short;
use crate::lab::proxy::control::ProxyState;
use crate::lab::proxy::limits::{MAX_PROXIES, address, addresses, check_name, check_same};
use crate::lab::proxy::totals::ProxyTotals;
use crate::link::{Direction, LinkConfig};

/// Bound on the toxics of a proxy.
const MAX_TOXICS: usize = 32;

/// Bound on an address or the text of a link, in bytes.
const MAX_TEXT: usize = 2_048;

/// The default listening address.
const ANYWHERE: &str = "tcp://127.0.0.1:0";

/// A proxy's base links and toxics.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToxicSet {
    /// Whether the proxy carries streams: `tcp://`.
    is_stream: bool,
    up: LinkConfig,
    down: LinkConfig,
    /// In the order in which they were added.
    toxics: Vec<Toxic>,
}

impl ToxicSet {
    /// Creates the set of an existing proxy without toxics, for instance one of the command line: its links become its
    /// base links.
    pub(super) fn of(state: &ProxyState) -> Self {
        let (up, down) = (state.up.clone(), state.down.clone());
        Self { is_stream: is_stream(&state.listen), up, down, toxics: Vec::new() }
    }

    /// Creates the set of a proxy that is to be created.
    pub(super) fn wanted(wanted: &Wanted) -> Result<Self, ApiError> {
        let link = |given: &Option<LinkConfig>| given.clone().unwrap_or_else(LinkConfig::perfect);
        let (up, down) = (link(&wanted.up), link(&wanted.down));
        let is_stream = wanted.listen.as_deref().or(wanted.upstream.as_deref()).is_none_or(is_stream);
        let toxics = Self { is_stream, up, down, toxics: Vec::new() };
        wanted.toxics.iter().try_fold(toxics, |toxics, toxic| toxics.with(toxic.clone()))
    }

    /// Whether base links and toxics together are the links of a proxy in `state`.
    pub(super) fn is_of(&self, state: &ProxyState) -> bool {
        self.links().is_ok_and(|(up, down)| up == state.up && down == state.down)
    }

    /// Takes over the wanted scheme and base links.
    pub(super) fn rebase(&mut self, wanted: &Wanted) {
        self.is_stream = wanted.listen.as_deref().map_or(self.is_stream, is_stream);
        for (own, given) in [(&mut self.up, &wanted.up), (&mut self.down, &wanted.down)] {
            if let Some(given) = given {
                own.clone_from(given);
            }
        }
    }

    /// Returns the links of the two directions, toxics included.
    ///
    /// # Errors
    ///
    /// 400 for toxics that cannot be combined.
    pub(super) fn links(&self) -> Result<(LinkConfig, LinkConfig), ApiError> {
        Ok((self.link(Direction::Up)?, self.link(Direction::Down)?))
    }

    fn link(&self, stream: Direction) -> Result<LinkConfig, ApiError> {
        let base = match stream {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        let mut toxics = self.toxics.iter().filter(|toxic| toxic.stream == stream);
        toxics.try_fold(base.clone(), |link, toxic| effect::add(&link, toxic, self.is_stream))
    }

    /// Returns the set with one more toxic.
    pub(super) fn with(&self, toxic: Toxic) -> Result<Self, ApiError> {
        if self.toxic(&toxic.name).is_ok() {
            return Err(ApiError::new(409, "toxic already exists"));
        }
        if self.toxics.len() >= MAX_TOXICS {
            return Err(ApiError::new(400, format!("a proxy has at most {MAX_TOXICS} toxics")));
        }
        let mut toxics = self.clone();
        toxics.toxics.push(toxic);
        Ok(toxics)
    }

    /// Returns the set with `toxic` in place of the one with its name.
    pub(super) fn with_changed(&self, toxic: Toxic) -> Self {
        let mut toxics = self.clone();
        for old in toxics.toxics.iter_mut().filter(|old| old.name == toxic.name) {
            old.clone_from(&toxic);
        }
        toxics
    }

    /// Returns the set without the toxic with that name.
    pub(super) fn without(&self, name: &str) -> Result<Self, ApiError> {
        self.toxic(name)?;
        let mut toxics = self.clone();
        toxics.toxics.retain(|toxic| toxic.name != name);
        Ok(toxics)
    }

    /// Returns the set with the base links alone.
    pub(super) fn without_toxics(&self) -> Self {
        Self { toxics: Vec::new(), ..self.clone() }
    }

    /// Returns the toxic with that name.
    pub(super) fn toxic(&self, name: &str) -> Result<&Toxic, ApiError> {
        self.toxics.iter().find(|toxic| toxic.name == name).ok_or_else(ApiError::no_toxic)
    }

    /// Returns the toxics as JSON, those of `upstream` first.
    pub(super) fn toxics_json(&self) -> Value {
        let of = |stream| self.toxics.iter().filter(move |toxic| toxic.stream == stream).map(Toxic::json);
        Value::Array(of(Direction::Up).chain(of(Direction::Down)).collect())
    }

    /// Returns the proxy as JSON.
    pub(super) fn json(&self, state: &ProxyState, stats: Option<&ProxyTotals>) -> Value {
        json!({
            "name": state.name,
            "listen": shown(&state.listen),
            "upstream": shown(&state.upstream),
            "enabled": state.enabled,
            "toxics": self.toxics_json(),
            "link_up": self.up.to_string(),
            "link_down": self.down.to_string(),
            "effective_up": state.up.to_string(),
            "effective_down": state.down.to_string(),
            "stats": stats.map(ProxyTotals::to_json),
        })
    }
}

/// The wanted state of a proxy in a body; `None` means not mentioned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: Option<String>,
    /// With its scheme.
    pub(super) listen: Option<String>,
    /// With its scheme.
    pub(super) upstream: Option<String>,
    pub(super) enabled: Option<bool>,
    /// The base link.
    pub(super) up: Option<LinkConfig>,
    /// The base link.
    pub(super) down: Option<LinkConfig>,
    pub(super) toxics: Vec<Toxic>,
}

impl Wanted {
    /// Reads a proxy to create: TCP unless a scheme says otherwise.
    pub(super) fn new_proxy(mut fields: Fields) -> Result<Self, ApiError> {
        let toxics = fields.list("toxics")?.unwrap_or_default();
        let mut wanted = Self::read(fields, "tcp")?;
        if wanted.name.is_none() {
            return Err(ApiError::missing("name"));
        }
        if wanted.upstream.is_none() {
            return Err(ApiError::missing("upstream"));
        }
        wanted.toxics =
            toxics.into_iter().map(|toxic| Toxic::new(Fields::of(toxic)?)).collect::<Result<_, _>>()?;
        Ok(wanted)
    }

    /// Reads several proxies: a list, or an object with the list under `proxies`. Each is checked with its toxics, as
    /// far as possible without system calls. Those whose name is in `states` are changes.
    pub(super) fn several(body: Value, states: &[ProxyState]) -> Result<Vec<Self>, ApiError> {
        let list = match body {
            Value::Array(list) => list,
            other => Fields::of(other)?.list("proxies")?.ok_or_else(|| ApiError::missing("proxies"))?,
        };
        let mut names = BTreeSet::new();
        let mut several = Vec::with_capacity(list.len());
        for proxy in list {
            let wanted = Self::new_proxy(Fields::of(proxy)?)?;
            wanted.check(states)?;
            if !names.insert(wanted.name.clone()) {
                let name = wanted.name.unwrap_or_default();
                return Err(ApiError::bad(format_args!(
                    "duplicate proxy name `{}`",
                    escape_short(name.as_bytes(), 40)
                )));
            }
            several.push(wanted);
        }
        let present = |state: &&ProxyState| names.contains(&Some(state.name.clone()));
        let replaced = states.iter().filter(present).count();
        check_room(states.len() + several.len() - replaced)?;
        Ok(several)
    }

    /// Checks whether the proxy can be created, or the existing one changed, as far as possible without system calls.
    fn check(&self, states: &[ProxyState]) -> Result<(), ApiError> {
        ToxicSet::wanted(self)?.links()?;
        let state = states.iter().find(|state| self.name.as_ref() == Some(&state.name));
        let listen = self.listen.as_deref().or_else(|| Some(state?.listen.as_str()));
        let (listen, _) =
            addresses(listen.unwrap_or(ANYWHERE), self.upstream.as_deref().unwrap_or_default())?;
        match state {
            Some(state) => check_same(address(&state.listen)?.scheme, &listen)?,
            None => check_name(self.name.as_deref().unwrap_or_default())?,
        }
        Ok(())
    }

    /// Returns the wanted listening address, or the default.
    pub(super) fn listen_or_anywhere(&self) -> String {
        self.listen.as_deref().unwrap_or(ANYWHERE).to_owned()
    }

    /// Reads changed fields of the proxy in `state`. Toxics are ignored: toxiproxy does so in an update, and its Go
    /// client sends outdated ones.
    pub(super) fn change(fields: Fields, state: &ProxyState) -> Result<Self, ApiError> {
        let scheme = state.listen.split_once("://").map_or("tcp", |(scheme, _)| scheme);
        let wanted = Self::read(fields, scheme)?;
        if wanted.name.as_ref().is_some_and(|name| *name != state.name) {
            return Err(ApiError::bad("the name of a proxy cannot change; delete it and make another"));
        }
        Ok(wanted)
    }

    /// Reads all fields except the toxics. An address without a scheme gets that of `listen`, or else `scheme`.
    fn read(mut fields: Fields, scheme: &str) -> Result<Self, ApiError> {
        let listen = text(&mut fields, "listen")?.map(|listen| qualified(listen, scheme));
        let scheme = listen.as_deref().and_then(|listen| Some(listen.split_once("://")?.0)).unwrap_or(scheme);
        let is_stream = scheme == "tcp";
        Ok(Self {
            name: fields.text("name")?.map(checked).transpose()?,
            upstream: text(&mut fields, "upstream")?.map(|upstream| qualified(upstream, scheme)),
            enabled: fields.flag("enabled")?,
            up: link(&mut fields, "link_up", is_stream)?,
            down: link(&mut fields, "link_down", is_stream)?,
            toxics: Vec::new(),
            listen,
        })
    }
}

/// Checks the number of proxies against the bound.
pub(super) fn check_room(count: usize) -> Result<(), ApiError> {
    if count <= MAX_PROXIES {
        return Ok(());
    }
    Err(ApiError::new(503, format!("there are at most {MAX_PROXIES} proxies, and no room for more")))
}

/// Takes a text of bounded length.
fn text(fields: &mut Fields, name: &str) -> Result<Option<String>, ApiError> {
    match fields.text(name)? {
        Some(text) if text.len() > MAX_TEXT => {
            Err(ApiError::bad(format_args!("`{name}` has at most {MAX_TEXT} bytes")))
        }
        text => Ok(text),
    }
}

/// Takes the text of a link, of which the proxy must support every part.
fn link(fields: &mut Fields, name: &str, is_stream: bool) -> Result<Option<LinkConfig>, ApiError> {
    let Some(text) = text(fields, name)? else { return Ok(None) };
    let wrong = |why: &dyn std::fmt::Display| ApiError::bad(format_args!("{name}: {why}"));
    let link: LinkConfig = text.parse().map_err(|error| wrong(&error))?;
    effect::idle_part(&link, is_stream).map_or(Ok(Some(link)), |why| Err(wrong(&why)))
}

/// Whether an address has the scheme of TCP.
fn is_stream(address: &str) -> bool {
    address.starts_with("tcp://")
}

/// Returns an address with a scheme.
fn qualified(address: String, scheme: &str) -> String {
    if address.contains("://") { address } else { format!("{scheme}://{address}") }
}

/// Returns an address without `tcp://`: toxiproxy's clients know TCP only.
fn shown(address: &str) -> &str {
    address.strip_prefix("tcp://").unwrap_or(address)
}

/// Whether an address differs from the current one in either form. Clients send back all fields that they received.
pub(super) fn differs(wanted: &str, present: &str) -> bool {
    shown(wanted) != shown(present)
}
