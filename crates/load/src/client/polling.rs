//! A client's long-polling: a GET is always open, packets go out in POSTs, one at a time.

use posthaste_engine_proto::payload::SEPARATOR;

use super::{Dialect, Lane, Outgoing, http};
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Polling {
    /// Empty until the session is open.
    sid: String,
    /// A GET has not been answered.
    polling: bool,
    /// A POST has not been answered.
    posting: bool,
    /// Packets for the next POST, joined.
    queue: Vec<u8>,
    /// A body that was answered and of which packets are left.
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    text: String,
    at: usize,
}

impl Polling {
    pub(super) fn start(dialect: &Dialect, out: &mut Outgoing) -> Self {
        let mut polling = Self { sid: String::new(), polling: false, posting: false, queue: Vec::new(), body: None };
        polling.poll(dialect, out);
        polling
    }

    pub(super) fn opened(&mut self, sid: &str) {
        sid.clone_into(&mut self.sid);
    }

    pub(super) fn awaits(&self, lane: Lane) -> bool {
        match lane {
            Lane::Main => self.polling,
            Lane::Post => self.posting,
        }
    }

    fn poll(&mut self, dialect: &Dialect, out: &mut Outgoing) {
        self.polling = true;
        out.main.extend_from_slice(format!("GET {}polling", dialect.path).as_bytes());
        if !self.sid.is_empty() {
            out.main.extend_from_slice(b"&sid=");
            out.main.extend_from_slice(self.sid.as_bytes());
        }
        out.main.extend_from_slice(format!(" HTTP/1.1\r\n{}Accept: */*\r\n\r\n", dialect.headers).as_bytes());
    }

    /// The next packet of an answered poll, and how many bytes of `input` that took.
    pub(super) fn polled(
        &mut self,
        input: &[u8],
        dialect: &Dialect,
        out: &mut Outgoing,
    ) -> Result<Option<(usize, Option<String>)>, Failure> {
        if let Some(packet) = self.packet() {
            return Ok(Some((0, Some(packet))));
        }
        if !self.polling {
            self.poll(dialect, out);
        }
        let Some(answer) = http::answer(input, dialect.limits.max_message_bytes)? else { return Ok(None) };
        if answer.status != 200 {
            return Err(Failure::Http { status: answer.status, detail: Failure::excerpt(&answer.body) });
        }
        self.polling = false;
        let text = String::from_utf8(answer.body.into_owned());
        let text = text.map_err(|_| Failure::Protocol("a polling body that is no text".into()))?;
        self.body = Some(Body { text, at: 0 });
        Ok(Some((answer.bytes, None)))
    }

    fn packet(&mut self) -> Option<String> {
        let body = self.body.as_mut()?;
        let rest = &body.text[body.at..];
        let end = rest.find(char::from(SEPARATOR));
        let packet = rest[..end.unwrap_or(rest.len())].to_owned();
        match end {
            Some(end) => body.at += end + 1,
            None => self.body = None,
        }
        Some(packet)
    }

    /// How many bytes of `input` were the answer to the POST.
    pub(super) fn posted(
        &mut self,
        input: &[u8],
        dialect: &Dialect,
        out: &mut Outgoing,
    ) -> Result<Option<usize>, Failure> {
        let Some(answer) = http::answer(input, dialect.limits.max_message_bytes)? else { return Ok(None) };
        if answer.status != 200 {
            return Err(Failure::Http { status: answer.status, detail: Failure::excerpt(&answer.body) });
        }
        self.posting = false;
        self.post(dialect, out);
        Ok(Some(answer.bytes))
    }

    pub(super) fn send(&mut self, packet: &[u8], dialect: &Dialect, out: &mut Outgoing) {
        if !self.queue.is_empty() {
            self.queue.push(SEPARATOR);
        }
        self.queue.extend_from_slice(packet);
        self.post(dialect, out);
    }

    fn post(&mut self, dialect: &Dialect, out: &mut Outgoing) {
        if self.posting || self.queue.is_empty() {
            return;
        }
        self.posting = true;
        let head = format!(
            "POST {}polling&sid={} HTTP/1.1\r\n{}Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            dialect.path,
            self.sid,
            dialect.headers,
            self.queue.len()
        );
        out.post.extend_from_slice(head.as_bytes());
        out.post.append(&mut self.queue);
    }
}
