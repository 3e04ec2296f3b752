//! Answers of HTTP, read as they come.

use std::borrow::Cow;

use crate::failure::Failure;

/// The longest head taken, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// The most header lines of an answer.
const MOST_HEADERS: usize = 64;
/// The most chunks of one body: bounds the work that empty-handed ones ask for.
const MOST_CHUNKS: usize = 4096;

/// The head of an answer, as far as it matters here.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) bytes: usize,
    length: Option<usize>,
    chunked: bool,
    pub(super) accept: Option<String>,
}

/// Reads a head; `None` until it is complete.
///
/// # Errors
/// [`Failure::Protocol`] if this is no HTTP.
pub(super) fn head(input: &[u8]) -> Result<Option<Head>, Failure> {
    let odd = |what: &str| Failure::Protocol(what.into());
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let bytes = match response.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() > LONGEST_HEAD => return Err(odd("a head without an end")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(odd("no HTTP")),
    };
    let mut head = Head { status: response.code.unwrap_or(0), bytes, length: None, chunked: false, accept: None };
    for header in response.headers.iter() {
        let value = || std::str::from_utf8(header.value).unwrap_or("").trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = Some(value().parse().map_err(|_| odd("a length that is no number"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value().eq_ignore_ascii_case("chunked");
        } else if header.name.eq_ignore_ascii_case("sec-websocket-accept") {
            head.accept = Some(value().to_owned());
        }
    }
    Ok(Some(head))
}

/// A whole answer, and the bytes it took.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: Cow<'a, [u8]>,
    pub(super) bytes: usize,
}

/// Reads a whole answer; `None` until it is complete.
///
/// # Errors
/// [`Failure::Protocol`], and [`Failure::TooLarge`] for a body of more than `largest` bytes.
pub(super) fn answer(input: &[u8], largest: usize) -> Result<Option<Answer<'_>>, Failure> {
    let Some(head) = head(input)? else { return Ok(None) };
    let rest = &input[head.bytes..];
    let Some(body) = body(&head, rest, largest)? else { return Ok(None) };
    Ok(Some(Answer { status: head.status, body: body.content, bytes: head.bytes + body.bytes }))
}

/// A whole body, and the bytes it took on the wire.
struct Body<'a> {
    content: Cow<'a, [u8]>,
    bytes: usize,
}

fn body<'a>(head: &Head, rest: &'a [u8], largest: usize) -> Result<Option<Body<'a>>, Failure> {
    if head.chunked {
        return chunks(rest, largest);
    }
    match head.length {
        Some(length) if length > largest => Err(Failure::TooLarge(largest)),
        Some(length) => Ok(rest.get(..length).map(|body| Body { content: Cow::Borrowed(body), bytes: length })),
        None if matches!(head.status, 204 | 304) => Ok(Some(Body { content: Cow::Borrowed(&[]), bytes: 0 })),
        None => Err(Failure::Protocol("an answer without a length".into())),
    }
}

fn chunks(rest: &[u8], largest: usize) -> Result<Option<Body<'_>>, Failure> {
    let odd = || Failure::Protocol("a malformed chunk".into());
    let mut body = Vec::new();
    let mut at = 0;
    for _ in 0..MOST_CHUNKS {
        let (start, size) = match httparse::parse_chunk_size(&rest[at..]) {
            Ok(httparse::Status::Complete((start, size))) => (at + start, size),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(odd()),
        };
        if size > (largest - body.len()) as u64 {
            return Err(Failure::TooLarge(largest));
        }
        let end = start + size as usize;
        let Some(tail) = rest.get(end..end + 2) else { return Ok(None) };
        // Trailers do not occur here: nobody asked for them.
        if tail != b"\r\n" {
            return Err(odd());
        }
        body.extend_from_slice(&rest[start..end]);
        at = end + 2;
        if size == 0 {
            return Ok(Some(Body { content: Cow::Owned(body), bytes: at }));
        }
    }
    Err(odd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_awaited_at_every_cut() {
        for (bytes, status, body) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..], 200, &b"hello"[..]),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n",
                200,
                b"hello",
            ),
            (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", 404, b""),
        ] {
            for cut in 0..bytes.len() {
                assert!(answer(&bytes[..cut], 100).unwrap().is_none(), "{cut}");
            }
            let mut more = bytes.to_vec();
            more.extend_from_slice(b"HTTP/1.1");
            let read = answer(&more, 100).unwrap().unwrap();
            assert_eq!((read.status, &*read.body, read.bytes), (status, body, bytes.len()));
        }
    }

    #[test]
    fn bodies_have_a_bound_and_heads_too() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert_eq!(answer(bytes, 100).err(), Some(Failure::TooLarge(100)));
        }
        let mut endless = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        endless.resize(LONGEST_HEAD + 1, b'y');
        assert!(answer(&endless, 100).is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 100).is_err());
    }
}
