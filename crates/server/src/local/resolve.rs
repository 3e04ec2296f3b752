//! The namespace that a client asks for: found, or made because a parent matches its name.

use std::sync::Arc;

use posthaste_engine::{ConnectionId, Limit};

use super::Local;
use super::connect::INTERNAL;
use super::dispatch::{caught, guarded};
use crate::error::ConnectError;
use crate::namespace::{Matched, Namespace, NamespaceRequest, Parent, Values};
use crate::server::Inner;

/// What a client is told of a namespace that there is not.
pub(super) const INVALID: &str = "Invalid namespace";

impl Local {
    /// A client asks to join a namespace.
    pub(super) fn connect(&self, id: ConnectionId, name: &str, auth: Option<&str>) {
        let Some(server) = self.server.upgrade() else { return };
        if let Some(namespace) = server.registry.find(name) {
            return self.check_settled(id, namespace, auth);
        }
        let parents = server.registry.parents();
        for (index, parent) in parents.iter().enumerate() {
            match parent.matcher.matches(name) {
                Matched::Yes(params) => {
                    return match self.create(&server, id, &parent.namespace, name, params) {
                        Ok(namespace) => self.check_settled(id, namespace, auth),
                        Err(refusal) => self.refuse(id, name, &refusal),
                    };
                }
                Matched::Ask => return self.ask_for(id, name, auth, parents.clone(), index),
                Matched::No => {}
            }
        }
        self.refuse(id, name, &ConnectError::new(INVALID));
    }

    /// Asks the parents from `first` on, of which the first is the application.
    fn ask_for(&self, id: ConnectionId, name: &str, auth: Option<&str>, parents: Arc<Vec<Parent>>, first: usize) {
        let Some(this) = self.this.upgrade() else { return };
        let Some(request) = self.with_client(id, |client| client.request.clone()) else { return };
        let request = NamespaceRequest { name: name.into(), auth: auth.map(Box::from), request };
        let asking = async move {
            let resolved = caught(resolve(&parents[first..], &request)).await;
            let resolved = resolved.unwrap_or_else(|| Err(ConnectError::new(INTERNAL)));
            // Without the server nobody is left to answer.
            let Some(server) = this.server.upgrade() else { return };
            let made = resolved.and_then(|(parent, params)| this.create(&server, id, parent, &request.name, params));
            match made {
                Ok(namespace) => this.check_settled(id, namespace, request.auth.as_deref()),
                Err(refusal) => this.refuse(id, &request.name, &refusal),
            }
        };
        self.worker.start(id, self.next_serial(), Box::pin(asking));
    }

    /// The child of that name, made if no other client was faster.
    fn create(
        &self,
        server: &Inner,
        id: ConnectionId,
        parent: &Namespace,
        name: &str,
        params: Values,
    ) -> Result<Namespace, ConnectError> {
        if let Some(namespace) = server.registry.find(name) {
            return Ok(namespace);
        }
        // A client that is gone has nothing made for it; nobody hears the refusal.
        let created = self.with_client(id, |client| client.created).unwrap_or(u32::MAX);
        if created >= server.config.max_created_namespaces {
            self.count_limit(Limit::Namespaces);
            return Err(ConnectError::new("Too many new namespaces"));
        }
        let made = guarded(|| server.registry.child(parent, name, params));
        if matches!(made, Some(Err(_))) {
            self.count_limit(Limit::Namespaces);
        }
        let (namespace, is_new) = made.unwrap_or_else(|| Err(ConnectError::new(INTERNAL)))?;
        if is_new {
            self.with_client(id, |client| client.created += 1);
        }
        Ok(namespace)
    }

    /// Has a client checked, once everyone has heard of the namespace who wants to hear of new ones.
    fn check_settled(&self, id: ConnectionId, namespace: Namespace, auth: Option<&str>) {
        if namespace.0.is_settled() {
            return self.check(id, &namespace, auth);
        }
        let Some(this) = self.this.upgrade() else { return };
        let auth: Option<Box<str>> = auth.map(Box::from);
        let waiting = async move {
            namespace.0.settled().await;
            this.check(id, &namespace, auth.as_deref());
        };
        self.worker.start(id, self.next_serial(), Box::pin(waiting));
    }
}

/// The first parent that matches, and what the name gave.
async fn resolve<'a>(
    parents: &'a [Parent],
    request: &NamespaceRequest,
) -> Result<(&'a Namespace, Values), ConnectError> {
    for parent in parents {
        if let Some(params) = parent.matcher.ask(request).await? {
            return Ok((&parent.namespace, params));
        }
    }
    Err(ConnectError::new(INVALID))
}
