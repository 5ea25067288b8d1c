//! The address of a receiver: `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;

use crate::error::{Error, Result};

/// Time limit of one request, if the address does not set one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A valid address.
#[derive(Debug)]
pub(super) struct Address {
    /// Scheme, host, port and prefix, without a trailing slash. It contains no secret.
    pub(super) base: String,
    pub(super) is_https: bool,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub(super) ca: Option<PathBuf>,
    /// Time limit of one request as a whole.
    pub(super) timeout: Duration,
}

impl Address {
    /// Reads an address. The text may contain a secret by mistake, so messages repeat only the
    /// parts that cannot be one.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = |problem: &str| Error::refused("the receiver's address", problem);
        let uri: Uri = text.parse().map_err(|_| invalid("is invalid; write https://HOST[:PORT][/PREFIX]"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("must begin with http:// or https://")),
        };
        let Some(authority) = uri.authority() else { return Err(invalid("names no host")) };
        let (host, scheme) = (authority.host(), if is_https { "https" } else { "http" });
        let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let base = format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/'));
        if authority.as_str().contains('@') {
            let problem = "holds a name or password before the host, which process listings show; set \
                           ZERO_MIRROR_TOKEN, or set ZERO_MIRROR_TOKEN_FILE to the path of a file with the token";
            return Err(Error::refused(base, problem));
        }
        if host.is_empty() || authority.as_str() != format!("{host}{port}") {
            return Err(Error::refused(base, "names no host, or an invalid port"));
        }
        let mut address = Self { base, is_https, ca: None, timeout: DEFAULT_TIMEOUT };
        let allows_plain_http = address.read_options(uri.query().unwrap_or_default())?;
        if !is_https && !allows_plain_http && !is_loopback(host) {
            let problem = "over http the token and the events could be read on the network; use https://, or add \
                           ?insecure=true if the network is safe";
            return Err(Error::refused(address.base, problem));
        }
        Ok(address)
    }

    /// Reads the options into `self`. Returns whether they allow plain HTTP.
    fn read_options(&mut self, query: &str) -> Result<bool> {
        let mut allows_plain_http = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("insecure", "true") => allows_plain_http = true,
                ("insecure", "false") => allows_plain_http = false,
                ("ca", path) if !path.is_empty() => self.ca = Some(PathBuf::from(path)),
                ("timeout", seconds) => match seconds.parse() {
                    Ok(seconds @ 1..=3600) => self.timeout = Duration::from_secs(seconds),
                    _ => return Err(Error::refused(&self.base, "timeout must be 1 to 3600 seconds")),
                },
                _ => {
                    let problem = format!(
                        "the option `{}` is unknown or has an invalid value; the options are insecure=true, ca=PATH \
                         and timeout=SECONDS",
                        name.escape_debug()
                    );
                    return Err(Error::refused(&self.base, problem));
                }
            }
        }
        Ok(allows_plain_http)
    }
}

/// Whether a host is this machine, so that nothing goes over a network.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_has_a_base_and_options() {
        let address = Address::parse("https://example.org:8443/bus/?ca=/etc/a%20b.pem&timeout=5").unwrap();
        assert_eq!(address.base, "https://example.org:8443/bus");
        assert_eq!(address.ca.unwrap().to_str(), Some("/etc/a b.pem"));
        assert_eq!(address.timeout, Duration::from_secs(5));
        for plain in
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://a.example?insecure=true"]
        {
            assert!(!Address::parse(plain).unwrap().is_https, "{plain}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_secrets() {
        for (text, expected) in [
            ("https://me:secret@example.org/", "https://example.org: holds a name or password"),
            ("https://secret@example.org/", "ZERO_MIRROR_TOKEN_FILE"),
            ("http://example.org/?insecure=secret", "`insecure`"),
            ("http://example.org/?token=secret", "`token`"),
            ("http://127.0.0.2.example.org/", "insecure=true"),
            ("http://10.0.0.1/", "insecure=true"),
            ("http://localhost.example.org/", "insecure=true"),
            ("https://example.org?timeout=0", "1 to 3600"),
            ("https://example.org:99999/", "port"),
            ("ftp://secret:secret@x/", "http://"),
            ("secret", "address"),
            ("https://", "address"),
            ("http://secret secret", "address"),
        ] {
            let message = Address::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("secret"), "{text}: {message}");
        }
    }
}
