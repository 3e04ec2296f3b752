//! The mount `/hooked/`: what an application has to say about requests before they are connections. Its dynamic namespaces are
//! forgotten when nobody is in them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use posthaste::{
    Answer, ConnectionError, Cookie, Data, EngineRequest, ErrorContext, NamespaceError, Revision, SameSite, Server,
    Stop, Transport, Workers,
};
use serde_json::{Value, json};

use crate::events;

/// Does what the request's headers ask for.
async fn middleware(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    request.answer_headers().insert("x-middleware", HeaderValue::from_static("seen"));
    if let Some(text) = text(&request.headers, "x-answer") {
        let mut answer = Response::new(text.into());
        *answer.status_mut() = StatusCode::IM_A_TEAPOT;
        return Err(request.answer(answer));
    }
    match text(&request.headers, "x-refuse") {
        Some(reason) => Err(request.refuse(reason)),
        None => Ok(request),
    }
}

async fn allow(request: EngineRequest) -> Result<(), String> {
    text(&request.headers, "x-forbid").map_or(Ok(()), Err)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

pub(crate) fn mount(workers: &Workers) -> anyhow::Result<Server> {
    let cookie = Cookie::builder()
        .name("sticky")
        .max_age(Duration::from_secs(90))
        .secure(true)
        .same_site(SameSite::Strict)
        .build()?;
    let io = Server::builder()
        .path("/hooked")
        .serve_client(false)
        .shared_workers(workers)
        .cookie(cookie)
        .cleanup_empty_namespaces(true)
        .engine_middleware(middleware)
        .allow_request(allow)
        .initial_headers(|headers, _| {
            headers.insert("x-initial", HeaderValue::from_static("1"));
        })
        .headers(|headers, request| {
            let method = HeaderValue::from_str(request.method.as_str());
            headers.extend(method.ok().map(|method| (http::HeaderName::from_static("x-every"), method)));
        })
        .build()?;
    let errors = Arc::new(Mutex::new(Vec::new()));
    let record = errors.clone();
    io.on_connection_error(move |error| {
        record.lock().unwrap_or_else(PoisonError::into_inner).push(as_the_official_server_tells_it(error));
    });
    io.on("connection-errors", move || {
        let errors = std::mem::take(&mut *errors.lock().unwrap_or_else(PoisonError::into_inner));
        async move { Answer((errors,)) }
    });
    io.on("echo", async |Data(value): Data<Value>| Answer(value));
    events::dynamic(&io)?;
    io.on("children", async |io: Server| {
        let mut names: Vec<_> = events::dynamic(&io)?.children().iter().map(|child| child.name().to_owned()).collect();
        names.sort_unstable();
        Ok::<_, NamespaceError>((names,))
    });
    Ok(io)
}

fn as_the_official_server_tells_it(error: &ConnectionError<'_>) -> Value {
    let transport = |transport: Transport| match transport {
        Transport::Polling => "polling",
        Transport::WebSocket => "websocket",
    };
    let revision = |revision: Revision| match revision {
        Revision::V3 => 3,
        Revision::V4 => 4,
    };
    let mut context = match error.context() {
        ErrorContext::UnknownTransport { transport: Some(transport) } => json!({ "transport": transport }),
        ErrorContext::UnknownSession { sid } => json!({ "sid": sid }),
        ErrorContext::HandshakeMethod { method } => json!({ "method": method.as_str() }),
        ErrorContext::TransportMismatch { transport: asked, previous } => {
            json!({ "transport": transport(asked), "previousTransport": transport(previous) })
        }
        ErrorContext::ProtocolMismatch { revision: asked, previous } => {
            json!({ "protocol": revision(asked), "previousProtocol": revision(previous) })
        }
        ErrorContext::UnsupportedVersion { revision: asked } => json!({ "protocol": revision(asked) }),
        ErrorContext::Forbidden { message } => json!({ "message": message }),
        _ => json!({}),
    };
    if let (Some(name), Value::Object(context)) = (error.name(), &mut context) {
        context.insert("name".to_owned(), name.into());
    }
    json!({ "code": error.code(), "message": error.message(), "context": context })
}
