//! Verification of a server's certificate: libpq's modes
//! (<https://www.postgresql.org/docs/15/libpq-ssl.html>), by rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use zero_http::{check_system_authorities, read_bounded_file};

/// `sslmode`. `allow` is not supported, since it prefers plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it, with any certificate.
    Prefer,
    /// TLS with any certificate. With `sslrootcert` the same as `verify-ca`, as in libpq.
    Require,
    /// TLS with a certificate that a trusted authority signed.
    VerifyCa,
    /// The same, and the certificate must name the host.
    VerifyFull,
}

impl Mode {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Which certificates to trust.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) mode: Mode,
    /// `sslrootcert`: a PEM file of certificate authorities, or `system`.
    pub(super) authorities: Option<PathBuf>,
}

impl Tls {
    /// The configuration of a connection, or the problem with the authorities.
    pub(super) fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier = match self.mode {
            Mode::VerifyFull => {
                return Ok(builder.with_root_certificates(self.roots()?).with_no_client_auth());
            }
            Mode::Require if self.authorities.is_none() => Verifier { provider, authority_check: None },
            Mode::Disable | Mode::Prefer => Verifier { provider, authority_check: None },
            Mode::Require | Mode::VerifyCa => {
                let check = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(self.roots()?),
                    Arc::clone(&provider),
                );
                let check = check.build().map_err(|error| error.to_string())?;
                Verifier { provider, authority_check: Some(check) }
            }
        };
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }

    /// The trusted authorities: of the named file, or of libpq's file if it exists, or of the
    /// system.
    fn roots(&self) -> Result<RootCertStore, String> {
        let libpq_file = std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
        let mut roots = RootCertStore::empty();
        match (&self.authorities, libpq_file) {
            (Some(file), _) if file != Path::new("system") => add_authorities(&mut roots, file)?,
            (None, Some(file)) if file.exists() => add_authorities(&mut roots, &file)?,
            _ => {
                check_system_authorities().map_err(|error| error.to_string())?;
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err("no certificate authority is known; name a file of them with sslrootcert".to_owned());
        }
        Ok(roots)
    }
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    let problem = |error: &dyn std::fmt::Display| format!("sslrootcert {}: {error}", file.display());
    let pem = read_bounded_file(file).map_err(|error| format!("sslrootcert {error}"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| problem(&error))?;
        roots.add(certificate).map_err(|error| problem(&error))?;
    }
    Ok(())
}

/// Accepts a certificate for any host name, and without `authority_check` any certificate. The
/// server must still prove, by its signature of the handshake, that it has the certificate's key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authority_check: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(check) = &self.authority_check else { return Ok(ServerCertVerified::assertion()) };
        // rustls checks the name last, so with this error the authority has been verified.
        match check.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
