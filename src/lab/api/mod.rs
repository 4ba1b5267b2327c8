//! The HTTP API of `lab proxy`, without HTTP: a request's method, path and body to a status and JSON.
//!
//! Its shapes are those of toxiproxy 2 (`GET /proxies`, `POST /proxies/NAME/toxics`, ..), so that toxiproxy's clients
//! can steer proxies of ours. A proxy has its base links, one for each direction, and toxics on top of them: what a
//! direction does is its base link with every toxic of that stream added ([`effect`]). The proxies themselves know
//! links only; which toxics made them is remembered here.
//!
//! ```text
//! route    method and path -> what is asked for
//! fields   a body's JSON, field by field
//! toxic    a toxic as it is written
//! effect   what toxics do to a link
//! book     what is known of a proxy here: base links, toxics
//! error    why a request is refused
//! ```
//!
//! Connections, limits and who may ask at all are in `net::api`.

mod book;
mod effect;
mod error;
mod fields;
mod route;
mod toxic;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::book::{Book, Wanted, differs};
pub(crate) use self::error::ApiError;
use self::fields::{Fields, json};
use self::route::Route;
use self::toxic::Toxic;
use crate::lab::proxy::control::{Change, ControlError, NewProxy, Proxies, ProxyState};

/// How many proxies there may be before no more are made. Each holds sockets.
const MAX_PROXIES: usize = 256;

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body, if there is one.
    pub(crate) body: Option<Value>,
}

/// What remembers which toxics the proxies have. Requests are answered one after another.
pub(crate) struct Api {
    proxies: Arc<dyn Proxies>,
    /// By the name of the proxy.
    books: BTreeMap<String, Book>,
}

impl Api {
    /// An API for `proxies`; what their links are now, or when they are first seen, are their base links.
    pub(crate) fn new(proxies: Arc<dyn Proxies>) -> Self {
        Self { proxies, books: BTreeMap::new() }
    }

    /// Does what a request asks for, whole or not at all.
    pub(crate) async fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let result = match Route::find(method, path) {
            Ok(route) => self.perform(route, body).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| Answer::from(&error))
    }

    async fn perform(&mut self, route: Route, body: &[u8]) -> Result<Answer, ApiError> {
        let states = self.refresh();
        match route {
            Route::List => Ok(Answer::ok(self.listed(&states))),
            Route::Version => {
                Ok(Answer::ok(json!({ "version": env!("CARGO_PKG_VERSION"), "program": "sayagain lab" })))
            }
            Route::Show(name) => Ok(Answer::ok(self.shown(find(&states, &name)?))),
            Route::Create => self.create(Fields::parse(body)?).await,
            Route::Populate => self.populate(&states, json(body)?).await,
            Route::Reset => self.reset(&states).await,
            Route::Update(name) => self.update(find(&states, &name)?, Fields::parse(body)?).await,
            Route::Delete(name) => self.delete(find(&states, &name)?).await,
            Route::Toxics(name) => Ok(Answer::ok(self.book(&name)?.toxics_json())),
            Route::ShowToxic(name, toxic) => Ok(Answer::ok(self.book(&name)?.toxic(&toxic)?.json())),
            Route::AddToxic(name) => self.add_toxic(find(&states, &name)?, Fields::parse(body)?).await,
            Route::UpdateToxic(name, toxic) => {
                self.update_toxic(find(&states, &name)?, &toxic, Fields::parse(body)?).await
            }
            Route::DeleteToxic(name, toxic) => self.delete_toxic(find(&states, &name)?, &toxic).await,
        }
    }

    /// The proxies as they are, with a book for each.
    fn refresh(&mut self) -> Vec<ProxyState> {
        let states = self.proxies.list();
        let mut known = std::mem::take(&mut self.books);
        for state in &states {
            let book = known.remove(&state.name).unwrap_or_else(|| Book::of(state));
            self.books.insert(state.name.clone(), book);
        }
        states
    }

    async fn create(&mut self, fields: Fields) -> Result<Answer, ApiError> {
        let wanted = Wanted::new_proxy(fields)?;
        let state = self.make(wanted).await?;
        Ok(Answer { status: 201, body: Some(self.shown(&state)) })
    }

    /// Makes a proxy with its toxics: at no time does it listen without them.
    async fn make(&mut self, wanted: Wanted) -> Result<ProxyState, ApiError> {
        let name = wanted.name.clone().ok_or_else(|| ApiError::missing("name"))?;
        if self.books.len() >= MAX_PROXIES {
            return Err(ApiError::new(503, format!("there are {MAX_PROXIES} proxies, and no room for more")));
        }
        let book = Book::wanted(&wanted)?;
        let (up, down) = book.links()?;
        let enabled = wanted.enabled.unwrap_or(true);
        let new = NewProxy {
            name: Some(name.clone()),
            listen: wanted.listen.unwrap_or_else(|| "tcp://127.0.0.1:0".to_owned()),
            upstream: wanted.upstream.unwrap_or_default(),
            enabled,
            up,
            down,
        };
        let state = self.proxies.create(new).await?;
        self.books.insert(name, book);
        Ok(state)
    }

    /// Makes or replaces several. All are checked before the first is made; the system may still refuse one, and then
    /// those before it stay.
    async fn populate(&mut self, states: &[ProxyState], body: Value) -> Result<Answer, ApiError> {
        let wanted = Wanted::several(body)?;
        let mut done = Vec::new();
        for wanted in wanted {
            match self.put(states, wanted).await {
                Ok(state) => done.push(self.shown(&state)),
                Err(error) => return Ok(error.with_proxies(done)),
            }
        }
        Ok(Answer { status: 201, body: Some(json!({ "proxies": done })) })
    }

    /// Makes a proxy, or gives the one of that name these fields and no toxics but these.
    async fn put(&mut self, states: &[ProxyState], wanted: Wanted) -> Result<ProxyState, ApiError> {
        let Some(state) = states.iter().find(|state| wanted.name.as_ref() == Some(&state.name)) else {
            return self.make(wanted).await;
        };
        let book = Book::wanted(&wanted)?;
        let enabled = Some(wanted.enabled.unwrap_or(true));
        self.change(state, Wanted { enabled, ..wanted }, book).await
    }

    async fn update(&mut self, state: &ProxyState, fields: Fields) -> Result<Answer, ApiError> {
        let wanted = Wanted::change(fields, state)?;
        let mut book = self.book(&state.name)?.clone();
        book.rebase(&wanted);
        let state = self.change(state, wanted, book).await?;
        Ok(Answer::ok(self.shown(&state)))
    }

    /// Gives a proxy the fields that are wanted and the links of `book`.
    async fn change(
        &mut self,
        state: &ProxyState,
        wanted: Wanted,
        book: Book,
    ) -> Result<ProxyState, ApiError> {
        let (up, down) = book.links()?;
        let change = Change {
            listen: wanted.listen.filter(|listen| differs(listen, &state.listen)),
            upstream: wanted.upstream.filter(|upstream| differs(upstream, &state.upstream)),
            enabled: wanted.enabled.filter(|enabled| *enabled != state.enabled),
            up: (up != state.up).then_some(up),
            down: (down != state.down).then_some(down),
        };
        let state = match change == Change::default() {
            true => state.clone(),
            false => self.proxies.update(&state.name, change).await?,
        };
        self.books.insert(state.name.clone(), book);
        Ok(state)
    }

    async fn delete(&mut self, state: &ProxyState) -> Result<Answer, ApiError> {
        self.proxies.delete(&state.name).await?;
        self.books.remove(&state.name);
        Ok(Answer::nothing())
    }

    /// Switches every proxy on and takes its toxics away; its base links stay.
    async fn reset(&mut self, states: &[ProxyState]) -> Result<Answer, ApiError> {
        let mut result = Ok(Answer::nothing());
        for state in states {
            let book = self.book(&state.name)?.without_toxics();
            let wanted = Wanted { enabled: Some(true), ..Wanted::default() };
            // One that cannot be switched on does not keep the others from it.
            if let Err(error) = self.change(state, wanted, book).await {
                result = Err(error);
            }
        }
        result
    }

    async fn add_toxic(&mut self, state: &ProxyState, fields: Fields) -> Result<Answer, ApiError> {
        let toxic = Toxic::new(fields)?;
        let book = self.book(&state.name)?.with(toxic.clone())?;
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn update_toxic(
        &mut self,
        state: &ProxyState,
        name: &str,
        fields: Fields,
    ) -> Result<Answer, ApiError> {
        let book = self.book(&state.name)?;
        let toxic = book.toxic(name)?.updated(fields)?;
        let book = book.with_changed(toxic.clone());
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn delete_toxic(&mut self, state: &ProxyState, name: &str) -> Result<Answer, ApiError> {
        let book = self.book(&state.name)?.without(name)?;
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::nothing())
    }

    fn book(&self, name: &str) -> Result<&Book, ApiError> {
        self.books.get(name).ok_or_else(ApiError::no_proxy)
    }

    fn listed(&self, states: &[ProxyState]) -> Value {
        let shown: Map<String, Value> =
            states.iter().map(|state| (state.name.clone(), self.shown(state))).collect();
        Value::Object(shown)
    }

    fn shown(&self, state: &ProxyState) -> Value {
        self.books.get(&state.name).map_or(Value::Null, |book| book.json(state))
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
        f.debug_struct("Api").field("books", &self.books).finish_non_exhaustive()
    }
}
