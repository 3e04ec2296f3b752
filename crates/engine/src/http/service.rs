//! The engine as a tower layer: its path is answered here, everything else goes on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use http_body_util::Either;
use tower_layer::Layer;
use tower_service::Service;

use super::{Engine, EngineBody, empty};

/// Answers requests under the engine's path, and others with 404.
impl<ReqBody> Service<Request<ReqBody>> for Engine
where
    ReqBody: http_body::Body + Send + 'static,
    ReqBody::Data: Send,
{
    type Response = Response<EngineBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<EngineBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if !self.serves(request.uri().path()) {
            return Box::pin(std::future::ready(Ok(empty(StatusCode::NOT_FOUND))));
        }
        let engine = self.clone();
        Box::pin(async move { Ok(engine.handle(request).await) })
    }
}

/// Puts an [`Engine`] in front of a service. Requests for other paths are the service's, upgrades among them: unlike the official
/// server, the engine hangs up on none of them (`destroyUpgrade`).
#[derive(Clone)]
pub struct EngineLayer(Engine);

impl EngineLayer {
    /// A layer for `engine`.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self(engine)
    }
}

impl<S> Layer<S> for EngineLayer {
    type Service = EngineService<S>;

    fn layer(&self, inner: S) -> EngineService<S> {
        EngineService { engine: self.0.clone(), inner }
    }
}

/// Answers requests under the engine's path and passes the others on.
#[derive(Clone)]
pub struct EngineService<S> {
    engine: Engine,
    inner: S,
}

type Answer<B, E> = Pin<Box<dyn Future<Output = Result<Response<Either<EngineBody, B>>, E>> + Send>>;

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for EngineService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    ReqBody: http_body::Body + Send + 'static,
    ReqBody::Data: Send,
{
    type Response = Response<Either<EngineBody, ResBody>>;
    type Error = S::Error;
    type Future = Answer<ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if self.engine.serves(request.uri().path()) {
            let engine = self.engine.clone();
            Box::pin(async move { Ok(engine.handle(request).await.map(Either::Left)) })
        } else {
            let answer = self.inner.call(request);
            Box::pin(async move { Ok(answer.await?.map(Either::Right)) })
        }
    }
}
