//! The base address of the API.

use std::net::IpAddr;

use ureq::http::Uri;

/// The public API of the exchange.
pub const DEFAULT_URL: &str = "https://api.hyperliquid.xyz";

/// A valid base address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host, port and path, without a trailing slash.
    pub(crate) base: String,
    pub(crate) is_https: bool,
}

impl Address {
    /// Parses `https://HOST[:PORT][/PATH]`. Plain HTTP is allowed to this machine only: on a
    /// network, anybody on the way could change the prices.
    ///
    /// # Errors
    /// What is wrong with the address. Repeats nothing of it that could be a password.
    ///
    /// ```
    /// use zero_feed_hyperliquid::address::Address;
    ///
    /// assert!(Address::parse("https://api.example.org/").is_ok());
    /// assert!(Address::parse("http://127.0.0.1:8080").is_ok());
    /// let problem = Address::parse("http://api.example.org").unwrap_err();
    /// assert_eq!(problem, "plain http:// is allowed to this machine only; use https://");
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || "is invalid; write https://HOST[:PORT][/PATH]".to_owned();
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        if authority.as_str().contains('@') {
            return Err("must not contain a name or password; the API needs none".to_owned());
        }
        if authority.host().is_empty() || uri.query().is_some() {
            return Err(invalid());
        }
        if !is_https && !is_loopback(authority.host()) {
            return Err("plain http:// is allowed to this machine only; use https://".to_owned());
        }
        let scheme = if is_https { "https" } else { "http" };
        Ok(Self { base: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), is_https })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
