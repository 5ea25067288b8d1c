//! The URL of a witness in a policy: its submission prefix.

use ureq::http::Uri;

/// A valid URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WitnessUrl {
    /// Scheme, host, port and prefix, without a trailing slash. It contains no secret.
    pub(super) base: String,
    pub(super) is_https: bool,
}

impl WitnessUrl {
    /// Reads a URL. The text may contain a secret by mistake, so messages do not repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is invalid; write https://HOST[:PORT][/PREFIX]")?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with http:// or https://"),
        };
        let Some(authority) = uri.authority() else { return Err("names no host") };
        if authority.as_str().contains('@') {
            return Err("has a user name before the host; a witness needs none");
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("has a query or a fragment; it must be the submission prefix alone");
        }
        let (host, scheme) = (authority.host(), if is_https { "https" } else { "http" });
        let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        if host.is_empty() || authority.as_str() != format!("{host}{port}") {
            return Err("names no host, or an invalid port");
        }
        let base = format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/'));
        Ok(Self { base, is_https })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::WitnessUrl;

    #[test]
    fn a_url_is_a_submission_prefix() {
        for (text, base) in [
            ("https://witness.example", "https://witness.example"),
            ("https://witness.example:8443/a/b/", "https://witness.example:8443/a/b"),
            ("http://[::1]:80/", "http://[::1]:80"),
        ] {
            let url = WitnessUrl::parse(text).unwrap();
            assert_eq!((&*url.base, url.is_https), (base, text.starts_with("https")));
        }
        for text in [
            "witness.example",
            "ftp://witness.example",
            "https://",
            "https:///a",
            "https://me:secret@witness.example",
            "https://witness.example/?ca=x",
            "https://witness.example/#x",
            "https://witness.example:99999",
            "https://witness.example:",
            "/a",
            "",
        ] {
            assert!(!WitnessUrl::parse(text).unwrap_err().contains("secret"), "{text}");
        }
    }
}
