//! Which request asks for what: method and path to a [`Route`].

use super::error::ApiError;
use crate::escape::escape_short;

/// What a request asks for. Names are as they were meant: percent-escapes are undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// All proxies.
    List,
    /// A new proxy.
    Create,
    /// Several proxies, new or replaced.
    Populate,
    /// Everything on, no toxics.
    Reset,
    /// Who answers.
    Version,
    /// One proxy.
    Show(String),
    /// Other fields for a proxy.
    Update(String),
    /// No such proxy any more.
    Delete(String),
    /// The toxics of a proxy.
    Toxics(String),
    /// A new toxic.
    AddToxic(String),
    /// One toxic of a proxy.
    ShowToxic(String, String),
    /// Other fields for a toxic.
    UpdateToxic(String, String),
    /// No such toxic any more.
    DeleteToxic(String, String),
}

impl Route {
    /// What `method` on `path` asks for; what follows a `?` does not matter.
    ///
    /// # Errors
    ///
    /// 404 for a path that is none of ours, 405 for a method that the path does not know.
    pub(super) fn find(method: &str, path: &str) -> Result<Self, ApiError> {
        let segments: Vec<String> = segments(path)?;
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        let own = |name: &str| name.to_owned();
        Ok(match (method, names.as_slice()) {
            ("GET", ["proxies"]) => Self::List,
            ("POST", ["proxies"]) => Self::Create,
            ("POST", ["populate"]) => Self::Populate,
            ("POST", ["reset"]) => Self::Reset,
            ("GET", ["version"]) => Self::Version,
            ("GET", ["proxies", proxy]) => Self::Show(own(proxy)),
            ("POST" | "PATCH", ["proxies", proxy]) => Self::Update(own(proxy)),
            ("DELETE", ["proxies", proxy]) => Self::Delete(own(proxy)),
            ("GET", ["proxies", proxy, "toxics"]) => Self::Toxics(own(proxy)),
            ("POST", ["proxies", proxy, "toxics"]) => Self::AddToxic(own(proxy)),
            ("GET", ["proxies", proxy, "toxics", toxic]) => Self::ShowToxic(own(proxy), own(toxic)),
            ("POST" | "PATCH", ["proxies", proxy, "toxics", toxic]) => {
                Self::UpdateToxic(own(proxy), own(toxic))
            }
            ("DELETE", ["proxies", proxy, "toxics", toxic]) => Self::DeleteToxic(own(proxy), own(toxic)),
            (_, names) => return Err(unknown(method, path, names)),
        })
    }

    /// Whether this changes something.
    pub(super) fn is_change(&self) -> bool {
        let reads = matches!(
            self,
            Self::List | Self::Version | Self::Show(_) | Self::Toxics(_) | Self::ShowToxic(..)
        );
        !reads
    }
}

/// Whether the path is at fault, or the method.
fn unknown(method: &str, path: &str, names: &[&str]) -> ApiError {
    match names {
        ["proxies" | "populate" | "reset" | "version"]
        | ["proxies", _]
        | ["proxies", _, "toxics"]
        | ["proxies", _, "toxics", _] => {
            let method = escape_short(method.as_bytes(), 20);
            ApiError::new(405, format!("{method} is not for {}", escape_short(path.as_bytes(), 80)))
        }
        _ => ApiError::new(404, "page not found; there are /proxies, /populate, /reset and /version"),
    }
}

/// The parts of a path, one slash at its end forgiven.
fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let path = path.split('?').next().unwrap_or(path);
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner.strip_suffix('/').unwrap_or(inner).split('/').map(unescaped).collect()
}

/// RFC 3986 section 2.1: `%2F` is a slash that parts nothing.
fn unescaped(segment: &str) -> Result<String, ApiError> {
    let wrong =
        || ApiError::new(400, "the path has a % that is not followed by two hexadecimal digits of UTF-8");
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => escaped_byte(rest.next(), rest.next()).ok_or_else(wrong)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn escaped_byte(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str) -> u16 {
        Route::find(method, path).unwrap_err().status
    }

    #[test]
    fn every_endpoint_of_toxiproxy_is_found() {
        let find = |method, path| Route::find(method, path).unwrap();
        let (a, t) = ("a".to_owned(), "t".to_owned());
        assert_eq!(find("GET", "/proxies"), Route::List);
        assert_eq!(find("GET", "/proxies/"), Route::List);
        assert_eq!(find("POST", "/proxies"), Route::Create);
        assert_eq!(find("POST", "/populate"), Route::Populate);
        assert_eq!(find("POST", "/reset"), Route::Reset);
        assert_eq!(find("GET", "/version?x=y"), Route::Version);
        assert_eq!(find("GET", "/proxies/a"), Route::Show(a.clone()));
        assert_eq!(find("POST", "/proxies/a"), Route::Update(a.clone()));
        assert_eq!(find("PATCH", "/proxies/a"), Route::Update(a.clone()));
        assert_eq!(find("DELETE", "/proxies/a"), Route::Delete(a.clone()));
        assert_eq!(find("GET", "/proxies/a/toxics"), Route::Toxics(a.clone()));
        assert_eq!(find("POST", "/proxies/a/toxics"), Route::AddToxic(a.clone()));
        assert_eq!(find("GET", "/proxies/a/toxics/t"), Route::ShowToxic(a.clone(), t.clone()));
        assert_eq!(find("POST", "/proxies/a/toxics/t"), Route::UpdateToxic(a.clone(), t.clone()));
        assert_eq!(find("PATCH", "/proxies/a/toxics/t"), Route::UpdateToxic(a.clone(), t.clone()));
        assert_eq!(find("DELETE", "/proxies/a/toxics/t"), Route::DeleteToxic(a, t));
    }

    #[test]
    fn an_unknown_path_is_404_and_an_unknown_method_405() {
        for path in ["", "/", "/metrics", "/proxies/a/b", "/proxies/a/toxics/b/c", "//proxies"] {
            assert_eq!(status("GET", path), 404, "{path}");
        }
        for (method, path) in [("PUT", "/proxies"), ("GET", "/reset"), ("DELETE", "/proxies/a/toxics")] {
            assert_eq!(status(method, path), 405, "{method} {path}");
        }
    }

    #[test]
    fn escapes_in_names_are_undone_and_broken_ones_refused() {
        assert_eq!(
            Route::find("GET", "/proxies/a%20b%2Fc%C3%A4").unwrap(),
            Route::Show("a b/c\u{e4}".to_owned())
        );
        for path in ["/proxies/%", "/proxies/%4", "/proxies/%zz", "/proxies/%ff"] {
            assert_eq!(status("GET", path), 400, "{path}");
        }
    }
}
