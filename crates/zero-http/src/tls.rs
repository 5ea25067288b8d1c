//! TLS 1.2 and 1.3 for a server, by rustls.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::bounded_file::read_bounded_file;
use crate::error::{Error, Result};

/// The PEM files that a server with TLS needs.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, followed by the intermediate certificates.
    pub certificates: PathBuf,
    /// The private key, which the world must not be able to read.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Loads the files.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>> {
        let Self { certificates, key } = self;
        let chain = CertificateDer::pem_slice_iter(&read_bounded_file(certificates)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(certificates, &error))?;
        if chain.is_empty() {
            return Err(invalid(certificates, &"the file contains no certificate in PEM"));
        }
        let metadata = std::fs::metadata(key).map_err(|error| unreadable(key, &error))?;
        if metadata.mode() & 0o007 != 0 {
            return Err(invalid(key, &"every user may read this key; run: chmod o= on it"));
        }
        let private_key = PrivateKeyDer::from_pem_slice(&read_bounded_file(key)?)
            .map_err(|error| unreadable(key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
            .map_err(|error| {
                invalid(certificates, &format!("does not match the key {}: {error}", key.display()))
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn invalid(path: &Path, problem: &dyn Display) -> Error {
    Error::new(path.display().to_string(), problem.to_string())
}

fn unreadable(path: &Path, error: &dyn Display) -> Error {
    invalid(path, &format!("cannot read the file: {error}"))
}
