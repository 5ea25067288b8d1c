//! The address of a receiver: `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;

use crate::error::Result;
use crate::token::refused;

/// What an address says, checked.
#[derive(Debug)]
pub(super) struct Address {
    /// Scheme, authority and prefix, without a slash at the end. Holds no secret.
    pub(super) base: String,
    /// Whether it is https.
    pub(super) secure: bool,
    /// Certificates of authorities to trust instead of the system's.
    pub(super) ca: Option<PathBuf>,
    /// How long one request may take as a whole.
    pub(super) timeout: Duration,
}

impl Address {
    /// Reads an address.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let what = "the receiver's address";
        // The text may hold a secret by mistake, so it is not repeated before it is known what each part is.
        let uri: Uri = text
            .parse()
            .map_err(|_| refused(what, "is no address; it should look like https://HOST[:PORT][/PREFIX]"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused(what, "should begin with http:// or https://")),
        };
        let Some(authority) = uri.authority() else { return Err(refused(what, "names no host")) };
        let (host, scheme) = (authority.host(), if secure { "https" } else { "http" });
        let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let base = format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/'));
        if authority.as_str().contains('@') {
            return Err(refused(
                &base,
                "holds a name or password before the host, which process listings show; put the token into \
                 ZERO_MIRROR_TOKEN, or into a file that ZERO_MIRROR_TOKEN_FILE names",
            ));
        }
        if host.is_empty() || authority.as_str() != format!("{host}{port}") {
            return Err(refused(&base, "names no host, or no port that there is"));
        }
        let mut address = Self { base, secure, ca: None, timeout: Duration::from_secs(60) };
        let insecure = address.read_options(uri.query().unwrap_or_default())?;
        if !secure && !insecure && !is_loopback(host) {
            return Err(refused(
                &address.base,
                "over http the token and the events could be read on the way; use https://, or add ?insecure=true where the way is safe",
            ));
        }
        Ok(address)
    }

    /// Takes the options; gives whether plain http was allowed.
    fn read_options(&mut self, query: &str) -> Result<bool> {
        let mut insecure = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("insecure", "true") => insecure = true,
                ("insecure", "false") => insecure = false,
                ("ca", path) if !path.is_empty() => self.ca = Some(PathBuf::from(path)),
                ("timeout", seconds) => match seconds.parse() {
                    Ok(seconds @ 1..=3600) => self.timeout = Duration::from_secs(seconds),
                    _ => return Err(refused(&self.base, "timeout should be 1 to 3600 seconds")),
                },
                _ => {
                    let known = "insecure=true, ca=PATH, timeout=SECONDS";
                    let problem =
                        format!("does not know the option `{}` so; there are {known}", name.escape_debug());
                    return Err(refused(&self.base, &problem));
                }
            }
        }
        Ok(insecure)
    }
}

/// Whether a host is this machine itself, where nobody is on the way.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses() {
        let address = Address::parse("https://example.org:8443/bus/?ca=/etc/a%20b.pem&timeout=5").unwrap();
        assert_eq!(address.base, "https://example.org:8443/bus");
        assert_eq!(address.ca.unwrap().to_str(), Some("/etc/a b.pem"));
        assert_eq!(address.timeout, Duration::from_secs(5));
        for plain in
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://a.example?insecure=true"]
        {
            assert!(!Address::parse(plain).unwrap().secure, "{plain}");
        }
    }

    #[test]
    fn what_is_refused_is_not_repeated() {
        for (text, named) in [
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
            let said = Address::parse(text).unwrap_err().to_string();
            assert!(said.contains(named) && !said.contains("secret"), "{text}: {said}");
        }
    }
}
