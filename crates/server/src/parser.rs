//! How packets are written: the choice of an application.

use crate::config::Builder;
use crate::error::ConnectError;
use crate::namespace::Namespace;

/// How packets are written. Clients are told by their own configuration, and both must agree.
///
/// An application sees no difference: arguments are JSON with binary values, whichever way they came. What MessagePack knows and JSON
/// does not arrives as `JSON.stringify` would write it: a `Date` as text, `undefined` and NaN as `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parser {
    /// Text, with binary values in messages of their own: what clients speak unless told otherwise.
    #[default]
    Json,
    /// Each packet one binary message in MessagePack, as with the npm package
    /// [`socket.io-msgpack-parser`](https://www.npmjs.com/package/socket.io-msgpack-parser).
    ///
    /// Lists and objects may be 512 deep inside one another. A client that sends deeper ones is disconnected; what is deeper and meant
    /// for such a client is left out, with a warning in the log.
    MessagePack,
    /// Each client speaks whichever it begins with.
    Either,
}

impl Parser {
    /// Whether a client may speak `parser`.
    pub(crate) fn takes(self, parser: Self) -> bool {
        self == Self::Either || self == parser
    }

    /// What a client is told that speaks another.
    pub(crate) fn refusal(self) -> ConnectError {
        ConnectError::new(match self {
            Self::MessagePack => "This namespace takes packets in MessagePack only",
            Self::Json | Self::Either => "This namespace takes packets in JSON only",
        })
    }
}

impl Builder {
    /// How clients of this server write packets; JSON by default. One that writes otherwise is disconnected (`forced close`).
    ///
    /// ```
    /// use posthaste::{Parser, Server};
    /// let io = Server::builder().path("/binary").parser(Parser::MessagePack).build()?;
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn parser(mut self, parser: Parser) -> Self {
        self.config.parser = parser;
        self
    }
}

impl Namespace {
    /// How clients of this namespace must write packets; whichever way the server takes by default. Others are refused with an
    /// error that says so, and may join other namespaces.
    ///
    /// It narrows what [`Builder::parser`] allows, so it is of use where that is [`Parser::Either`].
    ///
    /// ```
    /// use posthaste::{Parser, Server};
    /// let io = Server::builder().parser(Parser::Either).build()?;
    /// io.namespace("/telemetry").parser(Parser::MessagePack);
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn parser(&self, parser: Parser) -> &Self {
        self.change(|router| router.parser = Some(parser));
        self
    }
}
