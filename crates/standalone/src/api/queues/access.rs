//! Who may use queues over HTTP.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use posthaste::queue::{Command, MessageId, Outcome};

use crate::api::problem::Problem;
use crate::api::queues::Desk;
use crate::queues::Right;

/// What somebody wants to use.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    Queue(&'a str),
    /// Whatever there may be.
    Everything,
    /// Something of some queue: which, is found out later.
    Something,
}

impl Desk {
    /// Decides whether a request may do something. The one place that does: who somebody is, this version asks nobody.
    pub(super) fn access(&self, headers: &HeaderMap, right: Right, what: What<'_>) -> Result<(), Problem> {
        // A page of another site would act in the name of whoever reads it.
        if !comes_from_here(headers) {
            return Err(Problem::forbidden("pages of other sites may not use queues"));
        }
        let is_allowed = match what {
            What::Queue(queue) => self.rules.allow(right, queue),
            What::Everything => self.rules.allow_everywhere(right),
            What::Something => self.rules.allow_somewhere(right),
        };
        if is_allowed {
            return Ok(());
        }
        let right = right.as_str();
        Err(Problem::forbidden(match what {
            What::Queue(queue) => format!("no rule allows to {right} with queue {queue:?}"),
            What::Everything => format!("no rule allows to {right} with every queue"),
            What::Something => format!("no rule allows to {right} with any queue"),
        }))
    }

    /// Whether something may be done with a message, by the queue that it is in, or was in if its result is kept. One that is not there is for
    /// those who may do it everywhere.
    pub(super) async fn may(&self, right: Right, id: MessageId) -> Result<bool, Problem> {
        if self.rules.allow_everywhere(right) {
            return Ok(true);
        }
        match self.ask(Command::Get(id)).await {
            Ok(Outcome::Messages(found)) => Ok(found.first().is_some_and(|it| self.rules.allow(right, &it.queue))),
            Ok(Outcome::Ended(queue, _)) => Ok(self.rules.allow(right, &queue)),
            Ok(_) => Ok(false),
            Err(problem) if problem.code() == "unknown_message" => Ok(false),
            Err(problem) => Err(problem),
        }
    }
}

/// Whether a request is from no page, or from one of this host: browsers say where the page is from that a request is from.
fn comes_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).map(|host| host.as_bytes().to_ascii_lowercase());
    let origin = origin.as_bytes().to_ascii_lowercase();
    let of = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    of.is_some() && of == host.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let comes = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            origin.map(|origin| headers.insert(ORIGIN, origin.parse().unwrap()));
            comes_from_here(&headers)
        };
        assert!(comes(None, "localhost:3000"));
        assert!(comes(Some("http://localhost:3000"), "LOCALHOST:3000") && comes(Some("https://a.b"), "a.b"));
        for origin in ["http://evil.example", "null", "http://localhost:3001", "localhost:3000", ""] {
            assert!(!comes(Some(origin), "localhost:3000"), "{origin}");
        }
    }
}
