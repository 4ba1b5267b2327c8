//! The HTTP API of `lab proxy` without HTTP: from a request's method, path and body to a status and JSON. Connections,
//! limits and access checks are in `lab::sockets::api`.
//!
//! The interface is that of toxiproxy 2 (`GET /proxies`, `POST /proxies/NAME/toxics`, ..), so that toxiproxy's clients
//! can control our proxies. A proxy has a base link in each direction, and toxics on top. The effect of a direction is
//! its base link with every toxic of that stream added ([`effect`]). The proxies themselves know only links; the
//! toxics are stored here.
//!
//! ```text
//! route           from method and path to a route
//! fields          the fields of a body
//! toxic           the JSON form of a toxic
//! effect          the effect of toxics on a link
//! toxic_set       the base links and toxics of one proxy
//! proxy_registry  the toxic sets of all proxies
//! error           errors in toxiproxy's form
//! tests           tests with proxies without sockets
//! ```

mod effect;
mod error;
mod fields;
mod proxy_registry;
mod route;
mod toxic;
mod toxic_set;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use futures::lock::Mutex;
use serde_json::{Map, Value, json};

pub(crate) use self::error::ApiError;
use self::fields::{Fields, json};
use self::proxy_registry::ProxyRegistry;
use self::route::Route;
use self::toxic::Toxic;
use self::toxic_set::{ToxicSet, Wanted, check_room, differs};
use crate::escape::escape_short;
use crate::lab::proxy::control::{Change, ControlError, NewProxy, Proxies, ProxyState};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body, if there is one.
    pub(crate) body: Option<Value>,
}

/// The API and the toxics of its proxies. Changes are executed one after another; reading requests never wait for
/// them.
pub(crate) struct Api {
    proxies: Arc<dyn Proxies>,
    registry: ProxyRegistry,
    /// Held during a change, from the first check to the end.
    change_lock: Mutex<()>,
}

impl Api {
    /// Creates an API for `proxies`. Their base links are their links now, or when they are first seen.
    pub(crate) fn new(proxies: Arc<dyn Proxies>) -> Self {
        Self { registry: ProxyRegistry::new(proxies.clone()), proxies, change_lock: Mutex::new(()) }
    }

    /// Executes a request atomically; only `/populate` and `/reset` may stop half way, and say where.
    pub(crate) async fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let result = match Route::find(method, path) {
            Ok(route) => self.perform(route, body).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| Answer::from(&error))
    }

    async fn perform(&self, route: Route, body: &[u8]) -> Result<Answer, ApiError> {
        let change = if route.is_change() { Some(self.change_lock.lock().await) } else { None };
        let states = change.as_ref().map(|_| self.registry.refresh()).unwrap_or_default();
        match route {
            Route::List => Ok(Answer::ok(self.listed())),
            Route::Version => {
                Ok(Answer::ok(json!({ "version": env!("CARGO_PKG_VERSION"), "program": "sayagain lab" })))
            }
            Route::Show(name) => {
                let (state, toxics) = self.registry.find(&name)?;
                Ok(Answer::ok(self.shown(&state, &toxics)))
            }
            Route::Create => self.create(Fields::parse(body)?).await,
            Route::Populate => self.populate(&states, json(body)?).await,
            Route::Reset => self.reset(&states).await,
            Route::Update(name) => self.update(find(&states, &name)?, Fields::parse(body)?).await,
            Route::Delete(name) => self.delete(find(&states, &name)?).await,
            Route::Toxics(name) => Ok(Answer::ok(self.registry.find(&name)?.1.toxics_json())),
            Route::ShowToxic(name, toxic) => {
                Ok(Answer::ok(self.registry.find(&name)?.1.toxic(&toxic)?.json()))
            }
            Route::AddToxic(name) => self.add_toxic(find(&states, &name)?, Fields::parse(body)?).await,
            Route::UpdateToxic(name, toxic) => {
                self.update_toxic(find(&states, &name)?, &toxic, Fields::parse(body)?).await
            }
            Route::DeleteToxic(name, toxic) => self.delete_toxic(find(&states, &name)?, &toxic).await,
        }
    }

    async fn create(&self, fields: Fields) -> Result<Answer, ApiError> {
        let wanted = Wanted::new_proxy(fields)?;
        Ok(Answer { status: 201, body: Some(self.make(wanted).await?) })
    }

    /// Creates a proxy with its toxics: it never listens without them. Returns its JSON.
    async fn make(&self, wanted: Wanted) -> Result<Value, ApiError> {
        let name = wanted.name.clone().ok_or_else(|| ApiError::missing("name"))?;
        check_room(self.proxies.list().len() + 1)?;
        let toxics = ToxicSet::wanted(&wanted)?;
        let (up, down) = toxics.links()?;
        let new = NewProxy {
            name: Some(name.clone()),
            listen: wanted.listen_or_anywhere(),
            upstream: wanted.upstream.unwrap_or_default(),
            enabled: wanted.enabled.unwrap_or(true),
            up,
            down,
        };
        self.registry.begin(&name, toxics.clone());
        let made = self.proxies.create(new).await;
        self.registry.end(made.is_ok());
        Ok(self.shown(&made?, &toxics))
    }

    /// Creates or replaces several proxies. All are checked before the first is created. The system may still refuse
    /// one; those before it remain.
    async fn populate(&self, states: &[ProxyState], body: Value) -> Result<Answer, ApiError> {
        let wanted = Wanted::several(body, states)?;
        let mut done = Vec::new();
        for wanted in wanted {
            match self.put(states, wanted).await {
                Ok(shown) => done.push(shown),
                Err(error) => return Ok(error.with_proxies(done)),
            }
        }
        Ok(Answer { status: 201, body: Some(json!({ "proxies": done })) })
    }

    /// Creates a proxy, or gives the existing one these fields and exactly these toxics.
    async fn put(&self, states: &[ProxyState], wanted: Wanted) -> Result<Value, ApiError> {
        let Some(state) = states.iter().find(|state| wanted.name.as_ref() == Some(&state.name)) else {
            return self.make(wanted).await;
        };
        let toxics = ToxicSet::wanted(&wanted)?;
        let enabled = Some(wanted.enabled.unwrap_or(true));
        self.change(state, Wanted { enabled, ..wanted }, toxics).await
    }

    async fn update(&self, state: &ProxyState, fields: Fields) -> Result<Answer, ApiError> {
        let wanted = Wanted::change(fields, state)?;
        let mut toxics = self.registry.toxics(&state.name)?;
        toxics.rebase(&wanted);
        Ok(Answer::ok(self.change(state, wanted, toxics).await?))
    }

    /// Changes a proxy to the wanted fields and the links of `toxics`. Returns its JSON.
    async fn change(&self, state: &ProxyState, wanted: Wanted, toxics: ToxicSet) -> Result<Value, ApiError> {
        let (up, down) = toxics.links()?;
        let change = Change {
            listen: wanted.listen.filter(|listen| differs(listen, &state.listen)),
            upstream: wanted.upstream.filter(|upstream| differs(upstream, &state.upstream)),
            enabled: wanted.enabled.filter(|enabled| *enabled != state.enabled),
            up: (up != state.up).then_some(up),
            down: (down != state.down).then_some(down),
        };
        self.registry.begin(&state.name, toxics.clone());
        let changed = match change == Change::default() {
            true => Ok(state.clone()),
            false => self.proxies.update(&state.name, change).await,
        };
        self.registry.end(changed.is_ok());
        Ok(self.shown(&changed?, &toxics))
    }

    async fn delete(&self, state: &ProxyState) -> Result<Answer, ApiError> {
        self.proxies.delete(&state.name).await?;
        Ok(Answer::nothing())
    }

    /// Removes the toxics of all proxies, then enables every proxy; base links stay. A proxy that cannot be enabled
    /// stays disabled without toxics, and the others are still handled.
    async fn reset(&self, states: &[ProxyState]) -> Result<Answer, ApiError> {
        for state in states {
            let toxics = self.registry.toxics(&state.name)?.without_toxics();
            self.change(state, Wanted::default(), toxics).await?;
        }
        let mut refused = Vec::new();
        for state in states.iter().filter(|state| !state.enabled) {
            let change = Change { enabled: Some(true), ..Change::default() };
            if let Err(error) = self.proxies.update(&state.name, change).await {
                refused.push(format!("`{}` stays off: {error}", escape_short(state.name.as_bytes(), 80)));
            }
        }
        match refused.is_empty() {
            true => Ok(Answer::nothing()),
            false => Err(ApiError::new(500, format!("all toxics are gone, but {}", refused.join("; ")))),
        }
    }

    async fn add_toxic(&self, state: &ProxyState, fields: Fields) -> Result<Answer, ApiError> {
        let toxic = Toxic::new(fields)?;
        let toxics = self.registry.toxics(&state.name)?.with(toxic.clone())?;
        self.change(state, Wanted::default(), toxics).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn update_toxic(&self, state: &ProxyState, name: &str, fields: Fields) -> Result<Answer, ApiError> {
        let toxics = self.registry.toxics(&state.name)?;
        let toxic = toxics.toxic(name)?.updated(fields)?;
        let toxics = toxics.with_changed(toxic.clone());
        self.change(state, Wanted::default(), toxics).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn delete_toxic(&self, state: &ProxyState, name: &str) -> Result<Answer, ApiError> {
        let toxics = self.registry.toxics(&state.name)?.without(name)?;
        self.change(state, Wanted::default(), toxics).await?;
        Ok(Answer::nothing())
    }

    fn listed(&self) -> Value {
        let view = self.registry.view();
        let shown = view.iter().map(|(state, toxics)| (state.name.clone(), self.shown(state, toxics)));
        Value::Object(shown.collect::<Map<String, Value>>())
    }

    fn shown(&self, state: &ProxyState, toxics: &ToxicSet) -> Value {
        toxics.json(state, self.proxies.totals(&state.name).as_ref())
    }
}

fn find<'a>(states: &'a [ProxyState], name: &str) -> Result<&'a ProxyState, ApiError> {
    states.iter().find(|state| state.name == name).ok_or_else(ApiError::no_proxy)
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }

    fn nothing() -> Self {
        Self { status: 204, body: None }
    }
}

impl From<&ApiError> for Answer {
    fn from(error: &ApiError) -> Self {
        Self { status: error.status, body: Some(error.json()) }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Conflict(_) => Self::new(409, "proxy already exists"),
            ControlError::NotFound(_) => Self::no_proxy(),
            ControlError::Invalid(why) => Self::new(400, why),
            ControlError::Failed(why) => Self::new(500, why),
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("registry", &self.registry).finish_non_exhaustive()
    }
}
