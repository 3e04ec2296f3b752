//! Which names a parent makes namespaces for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use posthaste_engine::Request;
use posthaste_socket_proto::parse_json;
use regex::Regex;
use serde::de::DeserializeOwned;

use super::name::{NamespaceError, with_slash};
use super::params::Values;
use crate::error::{ConnectError, ExtractError};
use crate::handshake::Handshake;

/// Decides whether a name is a parent's.
pub(crate) enum Matcher {
    /// One route, as in axum.
    Pattern(Box<matchit::Router<()>>),
    Regex(Regex),
    Predicate(BoxedPredicate),
}

type Allowed = Pin<Box<dyn Future<Output = Result<bool, ConnectError>>>>;
pub(crate) type BoxedPredicate = Box<dyn Fn(NamespaceRequest) -> Allowed + Send + Sync>;

/// What a [`Matcher`] says about a name.
pub(crate) enum Matched {
    Yes(Values),
    No,
    /// Only the application can tell.
    Ask,
}

/// A client's wish for a namespace that is not there, as a predicate sees it.
///
/// There is no socket yet, and none of the namespace's middlewares has been asked.
#[derive(Clone)]
pub struct NamespaceRequest {
    pub(crate) name: Arc<str>,
    pub(crate) auth: Option<Box<str>>,
    pub(crate) request: Arc<Request>,
}

impl NamespaceRequest {
    /// The name the client asks for, with its leading slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the client sent along, as a type. Without any it is `{}`.
    ///
    /// # Errors
    /// [`ExtractError::Auth`] when it is not of that type.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ExtractError> {
        Ok(parse_json(self.handshake().auth())?)
    }

    /// What the client said about itself when it connected.
    #[must_use]
    pub fn handshake(&self) -> Handshake<'_> {
        Handshake { request: &self.request, auth: self.auth.as_deref() }
    }
}

impl fmt::Debug for NamespaceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a predicate may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell whether a namespace may be made",
    label = "not the result of a predicate",
    note = "return `bool`, or `Result<bool, E>` with `E: Into<ConnectError>`, whose error refuses the client"
)]
pub trait IntoAllowed {
    /// Whether it may be made; `false` leaves the name to the parents behind this one.
    ///
    /// # Errors
    /// The refusal: nobody behind is asked.
    fn allowed(self) -> Result<bool, ConnectError>;
}

impl IntoAllowed for bool {
    fn allowed(self) -> Result<bool, ConnectError> {
        Ok(self)
    }
}

impl<E: Into<ConnectError>> IntoAllowed for Result<bool, E> {
    fn allowed(self) -> Result<bool, ConnectError> {
        self.map_err(Into::into)
    }
}

impl Matcher {
    pub(crate) fn pattern(pattern: &str) -> Result<(String, Self), NamespaceError> {
        let pattern = with_slash(pattern);
        if let Some(character) = pattern.chars().find(|character| matches!(character, ',' | '?')) {
            return Err(NamespaceError::Character { name: pattern, character });
        }
        let mut router = matchit::Router::new();
        match router.insert(pattern.as_str(), ()) {
            Ok(()) => Ok((pattern, Self::Pattern(Box::new(router)))),
            Err(source) => Err(NamespaceError::Pattern { pattern, source }),
        }
    }

    pub(crate) fn regex(expression: &str) -> Result<Self, NamespaceError> {
        Regex::new(expression).map(Self::Regex).map_err(|error| NamespaceError::Regex(Box::new(error)))
    }

    pub(crate) fn predicate<Fut>(predicate: impl Fn(NamespaceRequest) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output: IntoAllowed> + 'static,
    {
        Self::Predicate(Box::new(move |request| {
            let running = predicate(request);
            Box::pin(async move { running.await.allowed() })
        }))
    }

    pub(crate) fn matches(&self, name: &str) -> Matched {
        match self {
            Self::Pattern(router) => router.at(name).map_or(Matched::No, |found| {
                Matched::Yes(found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            }),
            Self::Regex(regex) => regex.captures(name).map_or(Matched::No, |found| {
                let groups = regex.capture_names().enumerate().skip(1);
                let params = groups.filter_map(|(number, name)| {
                    let name = name.map_or_else(|| number.to_string(), str::to_owned);
                    Some((name, found.get(number)?.as_str().to_owned()))
                });
                Matched::Yes(params.collect())
            }),
            Self::Predicate(_) => Matched::Ask,
        }
    }

    /// As [`Matcher::matches`], the application asked if need be: what the name gave, or `None`.
    pub(crate) async fn ask(&self, request: &NamespaceRequest) -> Result<Option<Values>, ConnectError> {
        match (self.matches(&request.name), self) {
            (Matched::Yes(params), _) => Ok(Some(params)),
            (Matched::Ask, Self::Predicate(predicate)) => Ok(predicate(request.clone()).await?.then_some(Values::NONE)),
            (Matched::No | Matched::Ask, _) => Ok(None),
        }
    }
}
