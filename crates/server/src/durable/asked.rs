//! What the store has of questions to sessions.

use std::sync::Arc;

use posthaste_adapter::SocketId;
use posthaste_history::Budget;
use posthaste_history::store::{Answer, Message, Put, Range, Receipt, Retention, StoreError, Write, at_once};
use posthaste_socket_proto::Args;

use super::questions::{self, Passed, Settled, asked_in, cost_of, id_of, questions_of, tell};
use super::{BUSY, Form, Keeper, now};
use crate::local;
use crate::namespace::NamespaceInner;

/// A page of questions, where only their positions are wanted.
const PAGE: Budget = Budget { max_bytes: 256 * 1024, max_events: 256 };

impl Keeper {
    /// Commits a question to a session; the worker that has its socket asks it when that is done.
    pub(super) fn put_question(&self, to: SocketId, ticket: u64, form: &Form) -> Answer<Vec<Receipt>> {
        let stream = questions_of(to);
        let max_away = u64::try_from(self.settings().max_away.as_millis()).unwrap_or(u64::MAX);
        // Sessions are noted again as long as they are there: one that was just lost has yet as long as this.
        let retention = Retention { max_age_ms: max_away.saturating_mul(2), ..Retention::UNLIMITED };
        let mut writes: Vec<Write> = self.retain_as(&stream, retention).into_iter().collect();
        writes.push(Write::Put(Put::new(&stream, questions::encode(ticket, form), self.settings().durability)));
        self.shard().commit(now(), writes)
    }

    /// Has a client asked what was committed, if it is a question. Called by the thread that commits.
    pub(super) fn ask(&self, namespace: &Arc<NamespaceInner>, message: &Message) {
        let Some(to) = asked_in(message) else { return };
        let Some((ticket, form)) = questions::decode(message.payload.clone()) else {
            return tracing::error!(pos = message.pos, "what was committed is no question");
        };
        if self.questions().committed(to, ticket, message.pos) {
            local::publish_question(namespace, to, message.pos, form);
        }
    }

    /// The id under which the question at `pos` is asked.
    pub(crate) fn question_id(&self, pos: u64) -> u64 {
        id_of(self.position(pos))
    }

    /// A client has answered under this id: whoever waits hears it, and the store knows. Does nothing for what was not asked, or was
    /// answered before.
    pub(crate) fn answered(self: &Arc<Self>, from: SocketId, id: u64, args: Args<'_>) {
        let Some(Settled { waiter, passed }) = self.questions().answer(from, |pos| self.question_id(pos) == id) else {
            return;
        };
        self.settle(from, passed);
        tell(waiter, Ok(args.into_owned()));
    }

    /// A session is over: nobody is asked any more.
    pub(crate) fn end_questions(self: &Arc<Self>, of: SocketId) {
        if let Some(passed) = self.questions().end(of) {
            self.settle(of, passed);
        }
    }

    /// Has the store know what was answered, which nobody waits for; again when it is behind.
    fn settle(self: &Arc<Self>, of: SocketId, passed: Passed) {
        let stream = questions_of(of);
        let writes = match passed {
            Passed::All { through, marked } => {
                let forget = |pos: u64| Write::ForgetCursor { stream: stream.clone(), device: mark(pos) };
                let mut writes: Vec<Write> = marked.into_iter().map(forget).collect();
                writes.push(Write::Trim { stream, through });
                writes
            }
            Passed::Alone(pos) => vec![Write::Cursor { stream, device: mark(pos), pos }],
        };
        let mut answer = self.shard().commit(now(), writes.clone());
        match at_once(&mut answer) {
            Some(Err(StoreError::Busy { .. })) => {
                let this = self.clone();
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(BUSY).await;
                        match this.shard().commit(now(), writes.clone()).await {
                            Err(StoreError::Busy { .. }) => {}
                            Err(error) => return unsettled(&error),
                            Ok(_) => return,
                        }
                    }
                });
            }
            Some(Err(error)) => unsettled(&error),
            Some(Ok(_)) | None => {}
        }
    }

    /// Looks what is still open of a session that is coming back, unless that is known.
    pub(crate) async fn load_questions(&self, of: SocketId) -> Result<(), StoreError> {
        let stream = questions_of(of);
        if self.questions().knows(of) || self.shard().look_up(&stream)?.is_none_or(|there| there.messages == 0) {
            return Ok(());
        }
        // Behind what was answered, perhaps just now.
        self.shard().commit(now(), Vec::new()).await?;
        let marks = self.shard().cursors(&stream).await?;
        let (mut all, mut range) = (Vec::new(), Range::after(&stream, 0));
        loop {
            let page = self.shard().read(vec![range.clone()], PAGE).await?;
            for message in page.messages {
                let is_answered = marks.iter().any(|(name, pos)| *pos == message.pos && *name == mark(message.pos));
                all.push((message.pos, cost_of(message.payload.len()), is_answered));
            }
            if page.complete {
                break;
            }
            range = range.rest(page.through);
        }
        self.questions().load(of, all);
        Ok(())
    }
}

/// What names the answer to the question at `pos`.
fn mark(pos: u64) -> Arc<str> {
    pos.to_string().into()
}

fn unsettled(error: &StoreError) {
    tracing::warn!(%error, "that questions were answered was not stored: they may be asked again");
}
