//! Events of clients that become messages of queues: values, checked as they are read.

use posthaste::{QueueRoute, Server};
use serde::Deserialize;

use crate::config::Span;
use crate::rooms::Access;

/// Events that the server has handlers of its own for.
const OURS: [&str; 3] = ["room:", "sio:", "q:"];
/// Where clients use queues by their verbs.
const QUEUES: &str = "/queues";

/// One `[[route]]` of the configuration: an event that becomes a message of a queue, whose result answers it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Route(Written);

/// A route as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Its name, or with a star at the end how it begins.
    event: String,
    queue: String,
    #[serde(default = "main_namespace")]
    namespace: String,
    /// Who may emit it.
    #[serde(default)]
    emit: Access,
    /// How long an emitter waits for the result.
    timeout: Option<Span>,
    #[serde(default)]
    priority: u8,
    /// Where in the arguments the message's key is.
    key: Option<String>,
    ttl: Option<Span>,
    attempts: Option<u32>,
}

fn main_namespace() -> String {
    "/".into()
}

impl Written {
    fn route(&self) -> QueueRoute {
        let is_allowed = self.emit.is_allowed();
        let mut route =
            QueueRoute::new(&self.event, &self.queue).priority(self.priority).permit(move |_, _| is_allowed);
        if let Some(Span(timeout)) = self.timeout {
            route = route.timeout(timeout);
        }
        if let Some(key) = &self.key {
            route = route.key(key);
        }
        if let Some(Span(ttl)) = self.ttl {
            route = route.ttl(ttl);
        }
        if let Some(attempts) = self.attempts {
            route = route.attempts(attempts);
        }
        route
    }
}

impl TryFrom<Written> for Route {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if let Some(ours) = OURS.iter().find(|ours| written.event.starts_with(**ours)) {
            return Err(format!("events that begin with `{ours}` are the server's own"));
        }
        let namespace = &written.namespace;
        if !namespace.starts_with('/') {
            return Err(format!("a namespace begins with `/`\ndid you mean `/{namespace}`?"));
        }
        if namespace == QUEUES {
            return Err(format!("`{QUEUES}` has events of its own: a route is for another namespace"));
        }
        written.route().check().map_err(|refusal| refusal.to_string())?;
        Ok(Self(written))
    }
}

/// Has the events of these routes become messages. Of two for the same event the first counts.
pub(crate) fn open(io: &Server, routes: &[Route]) -> anyhow::Result<()> {
    // The last that is added is the one that counts.
    for Route(written) in routes.iter().rev() {
        io.try_namespace(&written.namespace)?.add_route(written.route())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    fn route(text: &str) -> Written {
        let Config { mut routes, .. } = Config::parse(&format!("[[route]]\n{text}")).unwrap();
        assert_eq!(routes.len(), 1);
        routes.remove(0).0
    }

    fn refusal(text: &str) -> String {
        Config::parse(&format!("[[route]]\n{text}")).unwrap_err().to_string()
    }

    #[test]
    fn a_route_says_which_event_becomes_what() {
        let plain = route("event = 'order:*'\nqueue = 'orders'");
        assert_eq!((&*plain.namespace, plain.emit.is_allowed(), plain.priority), ("/", false, 0));
        let all = "event = 'order:new'\nqueue = 'orders'\nnamespace = '/shop'\nemit = 'anyone'\ntimeout = '10s'\npriority = 9\nkey = '/0/customer'\nttl = '1h'\nattempts = 3";
        let all = route(all);
        assert_eq!((&*all.namespace, all.emit.is_allowed(), all.priority), ("/shop", true, 9));
        assert_eq!(all.timeout, Some(Span(Duration::from_secs(10))));
        assert_eq!(
            (all.key.as_deref(), all.ttl, all.attempts),
            (Some("/0/customer"), Some(Span(Duration::from_secs(3_600))), Some(3))
        );
    }

    #[test]
    fn what_cannot_be_is_an_error_that_says_where_and_why() {
        let both = "event = 'order:*'\nqueue = 'orders'\n";
        for (text, line, said) in [
            ("event = 'order:*'\nqueu = 'orders'", "line 3", "did you mean `queue`?"),
            ("event = 'order:*'", "line 1", "missing field `queue`"),
            ("event = 'or*er'\nqueue = 'orders'", "line 1", "a name, or the beginning of one with a `*` behind it"),
            ("event = 'a'\nqueue = 'two words'", "line 1", "\"two words\" is no name"),
            ("event = 'room:join'\nqueue = 'orders'", "line 1", "events that begin with `room:` are the server's own"),
            (&format!("{both}namespace = 'shop'"), "line 1", "did you mean `/shop`?"),
            (&format!("{both}namespace = '/queues'"), "line 1", "a route is for another namespace"),
            (&format!("{both}emit = 'anyon'"), "line 4", "did you mean `anyone`?"),
            (&format!("{both}emit = 'authenticated'"), "line 4", "needs to know who a client is"),
            (&format!("{both}timeout = '10'"), "line 4", "is no time"),
            (&format!("{both}timeout = '2d'"), "line 1", "not longer than a day"),
            (&format!("{both}priority = 32"), "line 1", "a `priority` is 0 to 31"),
            (&format!("{both}priority = -1"), "line 4", "invalid value"),
            (&format!("{both}key = 'customer'"), "line 1", "a JSON pointer"),
            (&format!("{both}attempts = 0"), "line 1", "not 0"),
        ] {
            let told = refusal(text);
            assert!(told.contains(line) && told.contains(said), "{text}: {told}");
        }
    }
}
