//! Checks of a proxy's definition that need no system call: name, addresses, number of proxies.
//!
//! `lab::sockets::relay` applies the same checks, so a definition that passes here is not refused there.

use crate::escape::escape_short;
use crate::lab::proxy::address::Address;
use crate::lab::proxy::control::ControlError;
use crate::net::listen::Scheme;

/// Bound on the proxies at once. Each holds sockets.
pub(crate) const MAX_PROXIES: usize = 256;

/// Bound on the characters in the name of a proxy or a toxic.
pub(crate) const MAX_NAME: usize = 64;

/// Reads an address; the default scheme is TCP.
///
/// # Errors
///
/// The text is not an address.
pub(crate) fn address(text: &str) -> Result<Address, ControlError> {
    Address::parse_or(text, Scheme::Tcp).map_err(|error| ControlError::Invalid(error.to_string()))
}

/// Reads the addresses of a proxy and its upstream.
///
/// # Errors
///
/// A text is not an address, the schemes differ, or the upstream has no port.
pub(crate) fn addresses(listen: &str, upstream: &str) -> Result<(Address, Address), ControlError> {
    let (listen, upstream) = (address(listen)?, address(upstream)?);
    if listen.scheme != upstream.scheme {
        return Err(ControlError::Invalid(format!(
            "cannot relay from {listen} to {upstream}: both must be udp or both tcp"
        )));
    }
    if upstream.at.port == 0 {
        return Err(ControlError::Invalid(format!("cannot relay to {upstream}: its port is 0; name one")));
    }
    Ok((listen, upstream))
}

/// Checks that a proxy of `scheme` may have the address `wanted`.
///
/// # Errors
///
/// The scheme differs.
pub(crate) fn check_same(scheme: Scheme, wanted: &Address) -> Result<(), ControlError> {
    if wanted.scheme == scheme {
        return Ok(());
    }
    Err(ControlError::Invalid(format!("a proxy of {scheme}:// cannot become {wanted}; make another")))
}

/// Checks the name of a proxy or a toxic.
///
/// # Errors
///
/// The name is empty, too long, or contains white space, a slash or a control character.
pub(crate) fn check_name(name: &str) -> Result<(), ControlError> {
    let is_fine = !name.is_empty()
        && name.chars().count() <= MAX_NAME
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '/');
    if is_fine {
        return Ok(());
    }
    let shown = escape_short(name.as_bytes(), 80);
    Err(ControlError::Invalid(format!(
        "`{shown}` is not a name: 1 to {MAX_NAME} characters, no white space and no slash"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_64_characters_without_white_space_slashes_or_control_characters() {
        for name in ["a", "dns-1", "\u{fc}", &"\u{fc}".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "b c", "a/b", "a\n", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_are_of_one_scheme_and_an_upstream_has_a_port() {
        assert!(addresses("127.0.0.1:0", "h:1").is_ok());
        assert!(addresses("udp://127.0.0.1:0", "udp://h:1").is_ok());
        for (listen, upstream) in [
            ("udp://h:1", "h:1"),
            ("h:1", "nonsense"),
            ("nonsense", "h:1"),
            ("h:1", "h:0"),
            ("h:1", "http://h:1"),
        ] {
            assert!(addresses(listen, upstream).is_err(), "{listen} {upstream}");
        }
    }
}
