//! What an application keeps with a socket so that every server can see it.

use std::sync::Arc;

use posthaste_socket_proto::parse_json;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::socket::Socket;

/// JSON text, among the socket's values: like them it is there only when it is used, and stays with a socket that comes back.
#[derive(Clone)]
struct Stored(Arc<str>);

impl Socket {
    /// Keeps `data` with the socket, as JSON: servers that [fetch](crate::Operator::fetch_sockets) it get a copy. It replaces what
    /// was there. Where sessions are [durable](crate::Builder::durable) it is among what outlives the process.
    ///
    /// What only this process needs, or what is no JSON, is kept with [`Socket::insert`].
    ///
    /// ```no_run
    /// # use posthaste::{RemoteSocket, Socket};
    /// #[derive(serde::Deserialize, serde::Serialize)]
    /// struct Player { name: String, score: u32 }
    ///
    /// fn begin(socket: &Socket) -> serde_json::Result<()> {
    ///     socket.set_data(&Player { name: "Ada".into(), score: 0 })
    /// }
    ///
    /// fn score(anywhere: &RemoteSocket) -> serde_json::Result<u32> {
    ///     Ok(anywhere.data::<Player>()?.score)
    /// }
    /// ```
    ///
    /// # Errors
    /// When it cannot be JSON; what was there stays then.
    pub fn set_data<T: Serialize + ?Sized>(&self, data: &T) -> Result<(), serde_json::Error> {
        let text = serde_json::to_string(data)?;
        let text: Arc<str> = text.into();
        self.insert(Stored(text.clone()));
        if self.0.namespace.journal.as_ref().is_some_and(|journal| journal.kept().is_some()) {
            let socket = self.clone();
            self.run_on_worker(move |local| local.store_data(&socket, text));
        }
        Ok(())
    }

    /// What the store had of it, for a socket that is back.
    pub(crate) fn restore_data(&self, text: Arc<str>) {
        self.insert(Stored(text));
    }

    /// What [`Socket::set_data`] keeps, as a type; `{}` when it was never called.
    ///
    /// # Errors
    /// When that is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        parse_json(&self.raw_data())
    }

    /// What [`Socket::set_data`] keeps, as JSON text; `{}` when it was never called.
    #[must_use]
    pub fn raw_data(&self) -> Arc<str> {
        self.get().map_or_else(|| "{}".into(), |Stored(text)| text)
    }
}
