//! Hides the secrets of an account in texts that a vendor sends, before they are logged or stored.

use domain::secret::hide;

use crate::connection::Connection;
use crate::tokens::Tokens;

/// The secrets to hide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretMask<'a> {
    connection: Option<&'a Connection>,
    tokens: Option<&'a Tokens>,
}

impl<'a> SecretMask<'a> {
    /// Hides nothing. For token answers: the caller, who knows the request, hides what they repeat.
    pub(crate) const NONE: SecretMask<'static> = SecretMask { connection: None, tokens: None };

    /// Hides the secrets of an account and its tokens.
    pub(crate) fn new(connection: &'a Connection, tokens: Option<&'a Tokens>) -> Self {
        Self { connection: Some(connection), tokens }
    }

    /// Returns the text without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        let tokens = self.tokens.into_iter().flat_map(|tokens| std::iter::once(&tokens.access).chain(&tokens.refresh));
        hide(text, self.connection.into_iter().flat_map(Connection::secrets).chain(tokens))
    }
}
