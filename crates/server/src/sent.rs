//! What becomes of something that was sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use posthaste_adapter::Delivery;

use crate::error::SendError;

/// Something that was sent. It left, in the order of the calls, before this was returned; awaiting it tells whether it could.
///
/// On a single node the answer is ready at once, and awaiting it never gives way to another task: unless more than 16 MiB wait for
/// one of the server's threads to take them. Then it is ready when they are taken, so that a publisher that awaits what it sends is
/// no faster than the server. It never waits for a client.
///
/// # Cancel safety
/// Dropping it takes nothing back.
#[must_use = "it was sent already; awaiting it says whether it could be"]
pub struct Sent(State);

enum State {
    Ready(Option<Result<(), SendError>>),
    Pending(Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>),
}

impl Sent {
    pub(crate) const fn ready(result: Result<(), SendError>) -> Self {
        Self(State::Ready(Some(result)))
    }

    pub(crate) fn by(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Done => Self::ready(Ok(())),
            Delivery::Pending(rest) => Self::pending(async { Ok(rest.await?) }),
        }
    }

    /// What becomes of it is not known yet.
    pub(crate) fn pending(rest: impl Future<Output = Result<(), SendError>> + Send + 'static) -> Self {
        Self(State::Pending(Box::pin(rest)))
    }

    /// Whether it is known that the socket it was for has left.
    pub(crate) const fn has_nobody(&self) -> bool {
        matches!(self.0, State::Ready(Some(Err(SendError::Disconnected))))
    }

    /// Both of them: the first error of the two.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (State::Ready(Some(Ok(()))), other) => other,
            (one, State::Ready(Some(Ok(())))) => one,
            (one @ State::Ready(_), State::Ready(_)) => one,
            (one @ State::Ready(_), State::Pending(rest)) | (State::Pending(rest), one @ State::Ready(_)) => {
                // What is known to have failed is not waited for; the rest goes on by itself.
                drop(rest);
                one
            }
            (State::Pending(one), State::Pending(other)) => State::Pending(Box::pin(async move {
                let (one, other) = (one.await, other.await);
                one.and(other)
            })),
        })
    }

    /// The same, ready no sooner than `behind`. What failed already is not waited for.
    pub(crate) fn after(self, behind: impl Future<Output = ()> + Send + 'static) -> Self {
        let rest = match self.0 {
            State::Ready(Some(Ok(())) | None) => None,
            State::Pending(rest) => Some(rest),
            failed @ State::Ready(Some(Err(_))) => return Self(failed),
        };
        Self(State::Pending(Box::pin(async move {
            behind.await;
            match rest {
                Some(rest) => rest.await,
                None => Ok(()),
            }
        })))
    }

    /// What is known without waiting: an error made here, or success as far as this node goes.
    ///
    /// # Errors
    /// As awaiting it, the other nodes left out.
    pub fn now(self) -> Result<(), SendError> {
        match self.0 {
            State::Ready(result) => result.unwrap_or(Ok(())),
            State::Pending(_) => Ok(()),
        }
    }
}

impl Future for Sent {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Ready(result) => Poll::Ready(result.take().unwrap_or(Ok(()))),
            State::Pending(rest) => rest.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Ready(result) => f.debug_tuple("Sent").field(result).finish(),
            State::Pending(_) => f.write_str("Sent(pending)"),
        }
    }
}
