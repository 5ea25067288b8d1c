//! Authentication and rate limits: decides whether a request is admitted, and with which access.

use std::time::Instant;

use axum::http::HeaderMap;
use zero_bus::Checksum;

use crate::error::Error;
use crate::problem::Problem;
use crate::rate_limit::RateLimiter;
use crate::request::bearer_token;
use crate::tokens_file::{TokenEntry, TokenScope, TokensFile};

/// What an admitted request may access.
pub enum Access<S> {
    /// Everything: the server has no tokens file.
    Unrestricted,
    /// What the token allows.
    Token(TokenEntry<S>),
}

/// Why a request was not admitted.
#[derive(Debug)]
pub enum AuthError {
    /// A problem for the client.
    Denied(Problem),
    /// The tokens file is unusable. The reason is for the operator only; the client gets
    /// [`Problem::internal`].
    TokensFile(Error),
}

/// Admits requests by token and rate.
pub struct Authenticator<S> {
    tokens: Option<TokensFile<S>>,
    rate_limiter: RateLimiter<Checksum>,
}

impl<S: TokenScope> Authenticator<S> {
    /// Admits the tokens of a file, or every request if there is none. Each token may make this
    /// many requests a second on average, and twice as many at once; without a tokens file all
    /// requests share one limit.
    pub fn new(tokens: Option<TokensFile<S>>, requests_per_second: u32) -> Self {
        Self { tokens, rate_limiter: RateLimiter::new(requests_per_second) }
    }

    /// Admits a request and counts it.
    ///
    /// # Errors
    /// [`AuthError`]: no token, an unknown one, too many requests, or an unusable tokens file.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Access<S>, AuthError> {
        let (access, key) = match &self.tokens {
            None => (Access::Unrestricted, Checksum::of(b"")),
            Some(tokens) => {
                let unauthorized = || AuthError::Denied(Problem::unauthorized());
                let token = bearer_token(headers).ok_or_else(unauthorized)?;
                let entry = tokens.find(token.as_bytes()).map_err(AuthError::TokensFile)?;
                let entry = entry.ok_or_else(unauthorized)?;
                let key = entry.digest;
                (Access::Token(entry), key)
            }
        };
        self.rate_limiter
            .admit(key, Instant::now())
            .map_err(|wait| AuthError::Denied(Problem::too_many_requests(wait.as_secs() + 1)))?;
        Ok(access)
    }

    /// The tokens file, if there is one.
    pub fn tokens(&self) -> Option<&TokensFile<S>> {
        self.tokens.as_ref()
    }
}
