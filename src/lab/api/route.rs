//! Routing: from method and path to a [`Route`]. Bodies are not read here.

use super::error::ApiError;
use crate::escape::escape_short;

/// The operation that a request asks for. Percent-escapes in names are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// List all proxies.
    List,
    /// Create a proxy.
    Create,
    /// Create or replace several proxies.
    Populate,
    /// Enable all proxies, remove all toxics.
    Reset,
    /// Show the version.
    Version,
    /// Show one proxy.
    Show(String),
    /// Change a proxy.
    Update(String),
    /// Remove a proxy.
    Delete(String),
    /// List the toxics of a proxy.
    Toxics(String),
    /// Add a toxic.
    AddToxic(String),
    /// Show one toxic of a proxy.
    ShowToxic(String, String),
    /// Change a toxic.
    UpdateToxic(String, String),
    /// Remove a toxic.
    DeleteToxic(String, String),
}

impl Route {
    /// Finds the route of `method` on `path`, ignoring the part from `?` on.
    ///
    /// # Errors
    ///
    /// 404 for an unknown path, 405 for a method that the path does not have.
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

    /// Whether the operation changes something.
    pub(super) fn is_change(&self) -> bool {
        let reads = matches!(
            self,
            Self::List | Self::Version | Self::Show(_) | Self::Toxics(_) | Self::ShowToxic(..)
        );
        !reads
    }
}

/// Returns the error for an unknown path, or for an unknown method of a known path.
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

/// Splits a path into segments, ignoring one slash at its end.
fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let path = path.split('?').next().unwrap_or(path);
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner.strip_suffix('/').unwrap_or(inner).split('/').map(unescaped).collect()
}

/// Decodes percent-escapes (RFC 3986 section 2.1); `%2F` is a slash within a segment.
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
    fn escapes_in_names_are_decoded_and_invalid_ones_refused() {
        assert_eq!(
            Route::find("GET", "/proxies/a%20b%2Fc%C3%A4").unwrap(),
            Route::Show("a b/c\u{e4}".to_owned())
        );
        for path in ["/proxies/%", "/proxies/%4", "/proxies/%zz", "/proxies/%ff"] {
            assert_eq!(status("GET", path), 400, "{path}");
        }
    }
}
