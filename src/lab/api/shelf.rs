//! The books of all proxies. They can be read at any time, also while a change is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::book::Book;
use super::error::ApiError;
use crate::lab::proxy::control::{Proxies, ProxyState};

/// The proxies, each with its book.
pub(super) struct Shelf {
    proxies: Arc<dyn Proxies>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// By the name of the proxy.
    known: BTreeMap<String, Book>,
    /// The book of a proxy that is being made or changed.
    pending: Option<(String, Book)>,
}

impl Shelf {
    pub(super) fn new(proxies: Arc<dyn Proxies>) -> Self {
        Self { proxies, books: Mutex::default() }
    }

    /// The proxies as they are now, each with what made it so.
    pub(super) fn view(&self) -> Vec<(ProxyState, Book)> {
        let books = self.lock();
        let view = |state: ProxyState| {
            let book = books.of(&state);
            (state, book)
        };
        self.proxies.list().into_iter().map(view).collect()
    }

    /// One proxy as it is now.
    pub(super) fn find(&self, name: &str) -> Result<(ProxyState, Book), ApiError> {
        self.view().into_iter().find(|(state, _)| state.name == name).ok_or_else(ApiError::no_proxy)
    }

    /// The proxies as they are now, and a book for each of them and for no other.
    pub(super) fn refresh(&self) -> Vec<ProxyState> {
        let mut books = self.lock();
        let states = self.proxies.list();
        books.known = states.iter().map(|state| (state.name.clone(), books.of(state))).collect();
        states
    }

    /// The book of a proxy.
    pub(super) fn book(&self, name: &str) -> Result<Book, ApiError> {
        self.lock().known.get(name).cloned().ok_or_else(ApiError::no_proxy)
    }

    /// What a proxy is about to become.
    pub(super) fn begin(&self, name: &str, book: Book) {
        self.lock().pending = Some((name.to_owned(), book));
    }

    /// It has become so, or not.
    pub(super) fn end(&self, is_done: bool) {
        let mut books = self.lock();
        if let Some((name, book)) = books.pending.take().filter(|_| is_done) {
            books.known.insert(name, book);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // A book is replaced whole: there are no half changed ones.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The book of a proxy that is in `state`. One without has its present links as its base links.
    fn of(&self, state: &ProxyState) -> Book {
        let pending = self.pending.as_ref().filter(|(name, book)| *name == state.name && book.is_of(state));
        let known = pending.map(|(_, book)| book).or_else(|| self.known.get(&state.name));
        known.cloned().unwrap_or_else(|| Book::of(state))
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("books", &self.books).finish_non_exhaustive()
    }
}
