//! GET and POST of a polling session.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use posthaste_engine_proto::{Jsonp, Limit, PostForm, Revision, Wire};
use tokio::sync::oneshot;

use super::compress::{self, Coded};
use super::{Engine, EngineBody, empty, payload, polling, unavailable};
use crate::gate::Ticket;
use crate::worker::{ConnectionId, Cut, GetAnswer, PostAnswer, PostRefused, Reply, SessionFacts, WorkerHandle};

/// How long what comes of a refused body is taken.
const LINGER: Duration = Duration::from_secs(2);

impl Engine {
    pub(super) async fn open_polling(
        &self,
        parts: &Parts,
        wire: Wire,
        jsonp: Option<Jsonp>,
        ticket: Option<Ticket>,
    ) -> Response<EngineBody> {
        let (app, request) = (self.0.app, Arc::new(self.0.request(parts)));
        match self.0.workers.nearest().call(move |worker| worker.local().open_polling(app, request, wire, ticket)).await
        {
            Ok(Some((sid, body))) => {
                let (content_type, body) = payload(body, jsonp);
                let mut answer = polling(content_type, body, &parts.headers);
                if let Some(cookie) = &self.0.config.cookie {
                    answer.headers_mut().append(SET_COOKIE, cookie.header(&sid));
                }
                answer
            }
            Ok(None) | Err(_) => unavailable(),
        }
    }

    /// Waits for packets. Dropped before its answer (the client hung up), the session ends.
    pub(super) async fn poll(
        &self,
        worker: &WorkerHandle,
        facts: SessionFacts,
        jsonp: Option<Jsonp>,
        headers: &HeaderMap,
    ) -> Response<EngineBody> {
        let (reply, answer) = oneshot::channel();
        let id = facts.id;
        let Ok(Some(number)) = worker.call(move |worker| worker.local().poll(id, Reply::Task(reply))).await else {
            return empty(StatusCode::BAD_REQUEST);
        };
        let mut hangup = Hangup { worker, armed: true, tell: Told::Poll { id, number } };
        let answer = answer.await;
        hangup.armed = false;
        match answer {
            Ok(GetAnswer::Body(body, may_compress)) => self.packets(payload(body, jsonp), may_compress, headers),
            Ok(GetAnswer::Binary(body, may_compress)) => {
                self.packets(("application/octet-stream", body), may_compress, headers)
            }
            Ok(GetAnswer::Overlap) | Err(_) => empty(StatusCode::BAD_REQUEST),
        }
    }

    /// The answer to a poll, compressed if that is worth it and its client reads that.
    fn packets(
        &self,
        (content_type, body): (&'static str, Vec<u8>),
        may_compress: bool,
        request: &HeaderMap,
    ) -> Response<EngineBody> {
        let coding = || compress::coding(|| request.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes));
        let Coded { compressed, varies } = self.config().coded(&body, may_compress, coding);
        let (body, token) = compressed.map_or((body, None), |(compressed, token)| (compressed, Some(token)));
        let mut answer = polling(content_type, body, request);
        if let Some(token) = token {
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(token));
        }
        if varies {
            answer.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        answer
    }

    /// Takes packets. The body is counted as it comes: one above the bound is refused before it is held.
    pub(super) async fn post<B>(
        &self,
        worker: &WorkerHandle,
        facts: SessionFacts,
        jsonp: Option<Jsonp>,
        headers: &HeaderMap,
        body: B,
    ) -> Response<EngineBody>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let id = facts.id;
        let (cut, cut_off) = oneshot::channel();
        let (number, most) = match worker.call(move |worker| worker.local().post_begin(id, Cut::Task(cut))).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(PostRefused::Unknown | PostRefused::Overlap)) => return empty(StatusCode::BAD_REQUEST),
            Err(_) => return unavailable(),
        };
        let mut hangup = Hangup { worker, armed: true, tell: Told::Post { id, number } };
        // Revision 4 carries binary as base64 text.
        let is_binary = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"application/octet-stream"));
        if is_binary && facts.wire.revision() == Revision::V4 {
            return empty(StatusCode::BAD_REQUEST); // and the hang-up ends the session
        }
        let form = match jsonp {
            Some(_) => PostForm::Form,
            None if is_binary => PostForm::Binary,
            None => PostForm::Text,
        };
        let mut body = Box::pin(body);
        let read = tokio::select! {
            read = read_body(body.as_mut(), most) => read,
            // The session ended under the request: nobody will take what it still brings.
            _ = cut_off => Err(BodyError::Broken),
        };
        let body = match read {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                hangup.armed = false;
                tokio::spawn(pass_over(body, most));
                self.0.gate.count(Limit::Payload);
                let dropped = worker.call(move |worker| worker.local().post_dropped(id, number, false)).await;
                return if dropped.is_ok() { empty(StatusCode::PAYLOAD_TOO_LARGE) } else { unavailable() };
            }
            Err(BodyError::Broken) => {
                let mut answer = empty(StatusCode::BAD_REQUEST);
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                return answer;
            }
        };
        let (reply, answer) = oneshot::channel();
        let posted = worker.call(move |worker| worker.local().post(id, (form, body), Reply::Task(reply))).await;
        // Complete: from here on the client may hang up without losing anything.
        hangup.armed = false;
        if posted.is_err() {
            return unavailable();
        }
        match answer.await {
            Ok(PostAnswer::Ok) => polling("text/html", "ok", headers),
            Ok(PostAnswer::Overlap) | Err(_) => empty(StatusCode::BAD_REQUEST),
        }
    }
}

enum Told {
    Poll { id: ConnectionId, number: u64 },
    Post { id: ConnectionId, number: u64 },
}

/// Tells the worker when a request is dropped before its answer.
struct Hangup<'a> {
    worker: &'a WorkerHandle,
    armed: bool,
    tell: Told,
}

impl Drop for Hangup<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // A worker that has ended has no sessions left to end.
        let _ = match self.tell {
            Told::Poll { id, number } => self.worker.post(move |worker| worker.local().poll_aborted(id, number)),
            Told::Post { id, number } => self.worker.post(move |worker| worker.local().post_dropped(id, number, true)),
        };
    }
}

enum BodyError {
    TooLarge,
    Broken,
}

/// Takes what is still coming of a body that was refused, up to `most` bytes and for a while: a connection that is closed on somebody
/// who writes is lost to them, and with it the answer.
async fn pass_over<B: Body>(mut body: Pin<Box<B>>, most: usize) {
    let all = async {
        let mut left = most;
        while let Some(Ok(frame)) = next_frame(&mut body.as_mut()).await {
            let size = frame.data_ref().map_or(0, bytes::Buf::remaining);
            match left.checked_sub(size) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, all).await;
}

async fn next_frame<B: Body>(body: &mut Pin<&mut B>) -> Option<Result<Frame<B::Data>, B::Error>> {
    std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<_> { body.as_mut().poll_frame(cx) }).await
}

/// Reads a body of at most `limit` bytes.
async fn read_body<B: Body>(mut body: Pin<&mut B>, limit: usize) -> Result<Vec<u8>, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut whole = Vec::new();
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        if let Ok(data) = frame.into_data() {
            let mut data = data;
            while bytes::Buf::has_remaining(&data) {
                let chunk = bytes::Buf::chunk(&data);
                if whole.len() + chunk.len() > limit {
                    return Err(BodyError::TooLarge);
                }
                whole.extend_from_slice(chunk);
                let taken = chunk.len();
                bytes::Buf::advance(&mut data, taken);
            }
        }
    }
    Ok(whole)
}
