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
//! shelf    the books of all proxies
//! error    why a request is refused
//! ```
//!
//! Connections, limits and who may ask at all are in `lab::sockets::api`.

mod book;
mod effect;
mod error;
mod fields;
mod route;
mod shelf;
mod toxic;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use futures::lock::Mutex;
use serde_json::{Map, Value, json};

use self::book::{Book, Wanted, check_room, differs};
pub(crate) use self::error::ApiError;
use self::fields::{Fields, json};
use self::route::Route;
use self::shelf::Shelf;
use self::toxic::Toxic;
use crate::escape::escape_short;
use crate::lab::proxy::control::{Change, ControlError, NewProxy, Proxies, ProxyState};

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body, if there is one.
    pub(crate) body: Option<Value>,
}

/// What remembers which toxics the proxies have. Changes are made one after another; what only reads waits for none.
pub(crate) struct Api {
    proxies: Arc<dyn Proxies>,
    shelf: Shelf,
    /// Held by whoever changes something, from the first look to the end.
    turn: Mutex<()>,
}

impl Api {
    /// An API for `proxies`; what their links are now, or when they are first seen, are their base links.
    pub(crate) fn new(proxies: Arc<dyn Proxies>) -> Self {
        Self { shelf: Shelf::new(proxies.clone()), proxies, turn: Mutex::new(()) }
    }

    /// Does what a request asks for, whole or not at all; only `/populate` and `/reset` may stop half way, and say where.
    pub(crate) async fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let result = match Route::find(method, path) {
            Ok(route) => self.perform(route, body).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| Answer::from(&error))
    }

    async fn perform(&self, route: Route, body: &[u8]) -> Result<Answer, ApiError> {
        let turn = if route.is_change() { Some(self.turn.lock().await) } else { None };
        let states = turn.as_ref().map(|_| self.shelf.refresh()).unwrap_or_default();
        match route {
            Route::List => Ok(Answer::ok(self.listed())),
            Route::Version => {
                Ok(Answer::ok(json!({ "version": env!("CARGO_PKG_VERSION"), "program": "sayagain lab" })))
            }
            Route::Show(name) => {
                let (state, book) = self.shelf.find(&name)?;
                Ok(Answer::ok(self.shown(&state, &book)))
            }
            Route::Create => self.create(Fields::parse(body)?).await,
            Route::Populate => self.populate(&states, json(body)?).await,
            Route::Reset => self.reset(&states).await,
            Route::Update(name) => self.update(find(&states, &name)?, Fields::parse(body)?).await,
            Route::Delete(name) => self.delete(find(&states, &name)?).await,
            Route::Toxics(name) => Ok(Answer::ok(self.shelf.find(&name)?.1.toxics_json())),
            Route::ShowToxic(name, toxic) => Ok(Answer::ok(self.shelf.find(&name)?.1.toxic(&toxic)?.json())),
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

    /// Makes a proxy with its toxics: at no time does it listen without them. Gives what is shown of it.
    async fn make(&self, wanted: Wanted) -> Result<Value, ApiError> {
        let name = wanted.name.clone().ok_or_else(|| ApiError::missing("name"))?;
        check_room(self.proxies.list().len() + 1)?;
        let book = Book::wanted(&wanted)?;
        let (up, down) = book.links()?;
        let new = NewProxy {
            name: Some(name.clone()),
            listen: wanted.listen_or_anywhere(),
            upstream: wanted.upstream.unwrap_or_default(),
            enabled: wanted.enabled.unwrap_or(true),
            up,
            down,
        };
        self.shelf.begin(&name, book.clone());
        let made = self.proxies.create(new).await;
        self.shelf.end(made.is_ok());
        Ok(self.shown(&made?, &book))
    }

    /// Makes or replaces several. All are checked before the first is made; the system may still refuse one, and then
    /// those before it stay.
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

    /// Makes a proxy, or gives the one of that name these fields and no toxics but these.
    async fn put(&self, states: &[ProxyState], wanted: Wanted) -> Result<Value, ApiError> {
        let Some(state) = states.iter().find(|state| wanted.name.as_ref() == Some(&state.name)) else {
            return self.make(wanted).await;
        };
        let book = Book::wanted(&wanted)?;
        let enabled = Some(wanted.enabled.unwrap_or(true));
        self.change(state, Wanted { enabled, ..wanted }, book).await
    }

    async fn update(&self, state: &ProxyState, fields: Fields) -> Result<Answer, ApiError> {
        let wanted = Wanted::change(fields, state)?;
        let mut book = self.shelf.book(&state.name)?;
        book.rebase(&wanted);
        Ok(Answer::ok(self.change(state, wanted, book).await?))
    }

    /// Gives a proxy the fields that are wanted and the links of `book`. Gives what is shown of it then.
    async fn change(&self, state: &ProxyState, wanted: Wanted, book: Book) -> Result<Value, ApiError> {
        let (up, down) = book.links()?;
        let change = Change {
            listen: wanted.listen.filter(|listen| differs(listen, &state.listen)),
            upstream: wanted.upstream.filter(|upstream| differs(upstream, &state.upstream)),
            enabled: wanted.enabled.filter(|enabled| *enabled != state.enabled),
            up: (up != state.up).then_some(up),
            down: (down != state.down).then_some(down),
        };
        self.shelf.begin(&state.name, book.clone());
        let changed = match change == Change::default() {
            true => Ok(state.clone()),
            false => self.proxies.update(&state.name, change).await,
        };
        self.shelf.end(changed.is_ok());
        Ok(self.shown(&changed?, &book))
    }

    async fn delete(&self, state: &ProxyState) -> Result<Answer, ApiError> {
        self.proxies.delete(&state.name).await?;
        Ok(Answer::nothing())
    }

    /// Takes the toxics of all proxies away, then switches every one on; base links stay. One that cannot be switched on
    /// keeps no other from it, and stays off without toxics.
    async fn reset(&self, states: &[ProxyState]) -> Result<Answer, ApiError> {
        for state in states {
            let book = self.shelf.book(&state.name)?.without_toxics();
            self.change(state, Wanted::default(), book).await?;
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
        let book = self.shelf.book(&state.name)?.with(toxic.clone())?;
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn update_toxic(&self, state: &ProxyState, name: &str, fields: Fields) -> Result<Answer, ApiError> {
        let book = self.shelf.book(&state.name)?;
        let toxic = book.toxic(name)?.updated(fields)?;
        let book = book.with_changed(toxic.clone());
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::ok(toxic.json()))
    }

    async fn delete_toxic(&self, state: &ProxyState, name: &str) -> Result<Answer, ApiError> {
        let book = self.shelf.book(&state.name)?.without(name)?;
        self.change(state, Wanted::default(), book).await?;
        Ok(Answer::nothing())
    }

    fn listed(&self) -> Value {
        let view = self.shelf.view();
        let shown = view.iter().map(|(state, book)| (state.name.clone(), self.shown(state, book)));
        Value::Object(shown.collect::<Map<String, Value>>())
    }

    fn shown(&self, state: &ProxyState, book: &Book) -> Value {
        book.json(state, self.proxies.totals(&state.name).as_ref())
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
        f.debug_struct("Api").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}
