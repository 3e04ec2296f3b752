//! HTTP/1.1 by hand.

use std::io;
use std::net::SocketAddr;

use crate::wire::Wire;

/// A request, to be sent whole or in pieces.
#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// A request without a body, for `target` (path and query).
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { head: format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n"), body: Vec::new() }
    }

    /// A GET.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with `body` and its length.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::with_body("POST", target, body)
    }

    /// A request with `body` and its length.
    #[must_use]
    pub fn with_body(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        Self { body, ..Self::new(method, target).header("Content-Length", &length) }
    }

    /// Adds a header line. Nothing is checked.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body of the answer is text")
    }

    /// The first header of that name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// One HTTP connection, kept alive between requests.
#[derive(Debug)]
pub struct Http(Wire);

impl Http {
    /// Connects to `addr`.
    ///
    /// # Panics
    /// When nobody accepts there.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self(Wire::connect(addr).await)
    }

    /// Speaks HTTP on `wire`.
    #[must_use]
    pub const fn new(wire: Wire) -> Self {
        Self(wire)
    }

    /// The connection below.
    pub const fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    /// The connection below, for something else: a reset, another protocol.
    #[must_use]
    pub fn into_wire(self) -> Wire {
        self.0
    }

    /// Sends a request on a new connection and reads the answer.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    pub async fn once(addr: SocketAddr, request: &Request) -> io::Result<Response> {
        Self::connect(addr).await.send(request).await
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    pub async fn send(&mut self, request: &Request) -> io::Result<Response> {
        let written = self.0.write(&request.encode()).await;
        match self.response().await {
            Ok(response) => Ok(response),
            // A server may answer, and let go, before it has all of a request that it does not take.
            Err(error) => written.and(Err(error)),
        }
    }

    /// Begins a request whose body follows in chunks of any number and size ([`Http::chunk`]), up to an empty one.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn begin_chunked(&mut self, request: Request) -> io::Result<()> {
        self.0.write(&request.header("Transfer-Encoding", "chunked").encode()).await
    }

    /// Sends the next chunk of the body; an empty one ends it.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
        self.0.write(&chunk).await
    }

    /// Reads the next answer: its body by length, by chunks, or up to the end of the connection. Answers without a body (1xx,
    /// 204, 304) have none.
    ///
    /// # Errors
    /// When the connection ends before the answer does, or what comes is no answer.
    pub async fn response(&mut self) -> io::Result<Response> {
        let head = self.0.take_until(b"\r\n\r\n").await?;
        let (status, headers) = parse_head(&head).ok_or(io::ErrorKind::InvalidData)?;
        let mut response = Response { status, headers, body: Vec::new() };
        if (100..200).contains(&status) || status == 204 || status == 304 {
            return Ok(response);
        }
        response.body = if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            self.0.take(length).await?
        } else if response.header("transfer-encoding") == Some("chunked") {
            self.chunks().await?
        } else {
            self.0.take_rest().await?
        };
        Ok(response)
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.0.take_until(b"\r\n").await?;
            let length = std::str::from_utf8(&line).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let length = length.ok_or(io::ErrorKind::InvalidData)?;
            body.extend(self.0.take(length).await?);
            if self.0.take(2).await? != b"\r\n" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

fn parse_head(head: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some((status, headers.collect::<Option<_>>()?))
}
