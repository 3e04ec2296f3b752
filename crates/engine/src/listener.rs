//! Listeners of the engine's own: one socket per worker, all on one address.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_service::Service;

use crate::http::Engine;
use crate::stream::Rewound;
use crate::worker::{Goodbye, HEAD_BYTES, HEAD_TIMEOUT, Listening, Reactor, Worker, WorkerGone, WorkerHandle, Workers};

/// The connections a listening socket holds before they are accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address a request came from, as an extension of the request. Requests of a [`Listener`] carry it; in another HTTP server
/// a layer may add it, so that polling handshakes know their client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddr(pub SocketAddr);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("{addr} is taken by another program")]
    Taken {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be used at all.
    #[error("cannot listen on {addr}")]
    Unusable {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The workers were shut down.
    #[error("the workers have ended")]
    WorkersGone,
}

/// A service that listens. Dropping it, or [`Listener::close`], stops accepting; open WebSockets are not touched.
#[derive(Debug)]
pub struct Listener {
    local_addr: SocketAddr,
    closed: watch::Sender<bool>,
}

impl Listener {
    /// Serves `service` over HTTP/1.1 on `addr`, on the threads of `workers`: each has its own socket (`SO_REUSEPORT`), so that
    /// a connection is accepted, parsed and owned by one thread. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`] names the address and what is in the way.
    pub fn bind<S, B>(workers: &Workers, addr: SocketAddr, service: S) -> Result<Self, ListenError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::bind_each(workers, addr, |handle, socket, watch| {
            let service = service.clone();
            handle.post(move |_| {
                tokio::task::spawn_local(accept(socket, service, watch));
            })
        })
    }

    /// As [`Listener::bind`] on the workers of `engine`, whose usual requests are answered where they are read; `service`, which the
    /// engine is a part of, gets all others.
    pub(crate) fn bind_direct<S, B>(addr: SocketAddr, engine: Engine, service: S) -> Result<Self, ListenError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !Reactor::AVAILABLE {
            return Self::bind(&engine.workers().clone(), addr, service);
        }
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let workers = engine.workers().clone();
        Self::bind_each(&workers, addr, |handle, socket, mut closed| {
            let (engine, service) = (engine.clone(), service.clone());
            handle.post(move |worker| {
                let watch = closed.clone();
                let general =
                    move |stream: std::net::TcpStream, read: Vec<u8>, remote| match TcpStream::from_std(stream) {
                        Ok(stream) => {
                            let stream = Rewound { read, at: 0, stream };
                            tokio::task::spawn_local(serve(stream, RemoteAddr(remote), service.clone(), watch.clone()));
                        }
                        Err(error) => tracing::warn!(%error, "a connection could not be registered"),
                    };
                if let Err(error) = worker.local().listen(Listening::new(number, socket, engine, general)) {
                    return tracing::error!(%error, "a listening socket could not be registered");
                }
                let (local, mut stopping) = (worker.local().clone(), worker.http_stopping());
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        _ = closed.wait_for(|closed| *closed) => {}
                        _ = stopping.wait_for(|stopping| *stopping) => {}
                    }
                    local.stop_listening(number);
                });
            })
        })
    }

    fn bind_each(
        workers: &Workers,
        addr: SocketAddr,
        hand_out: impl Fn(&WorkerHandle, std::net::TcpListener, watch::Receiver<bool>) -> Result<(), WorkerGone>,
    ) -> Result<Self, ListenError> {
        let unusable = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken { addr },
            _ => ListenError::Unusable { addr, source },
        };
        // Sockets that share a port would share it with another program of the same user as well. A socket that does not
        // share finds that out.
        let first = socket(addr, false).map_err(unusable)?;
        let local_addr = first.local_addr().map_err(unusable)?.as_socket().unwrap_or(addr);
        drop(first);
        let (closed, watch) = watch::channel(false);
        for handle in workers.handles() {
            let socket = socket(local_addr, true).map_err(unusable)?;
            socket.listen(BACKLOG).map_err(unusable)?;
            hand_out(handle, socket.into(), watch.clone()).map_err(|_| ListenError::WorkersGone)?;
        }
        Ok(Self { local_addr, closed })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, and ends idle HTTP connections; requests being answered go on.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

fn socket(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Lets a restarted server have its port back while old connections linger.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    #[cfg(not(unix))]
    let _ = shared;
    // Inherited by accepted sockets.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

async fn accept<S, B>(listener: std::net::TcpListener, service: S, mut closed: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut stopping = Worker::current().expect("invariant: listeners run on workers").http_stopping();
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listening socket could not be registered"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                tokio::task::spawn_local(serve(
                    Rewound { read: Vec::new(), at: 0, stream },
                    RemoteAddr(remote),
                    service.clone(),
                    closed.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors, or a connection that was reset while it waited.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S, B>(stream: Rewound, remote: RemoteAddr, service: S, mut closed: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let worker = Worker::current().expect("invariant: listeners run on workers");
    let mut stopping = worker.http_stopping();
    let _goodbye = Goodbye::new(&worker);
    let service = TowerToHyperService::new(WithAddr { remote, service });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = async {
            tokio::select! {
                _ = closed.wait_for(|closed| *closed) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Adds the client's address to its requests.
#[derive(Clone)]
struct WithAddr<S> {
    remote: RemoteAddr,
    service: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithAddr<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.remote);
        self.service.call(request)
    }
}
