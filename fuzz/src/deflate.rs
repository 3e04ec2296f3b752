//! Compressed messages, and what is agreed on about them.

use posthaste_websocket_proto::{
    Decoded, Decoder, DeflateTerms, Deflater, Event, Limits, Opcode, PerMessageDeflate, ProtocolError, append_deflated,
    append_frame, unmask,
};

use crate::input::Input;

/// A byte that chooses limits and context, one that chooses how messages are cut, then messages: the length of each, and its bytes.
pub(crate) const MESSAGES: &[&[u8]] = &[
    b"\x07\x00\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x05\xf2\x00\x11\x00\x00",
    b"\x0f\x02\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x05\xf2\x00\x11\x00\x00",
    b"\x02\x11\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00\x01\x00",
    b"\x03\x05\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\x02\x03\x00",
    b"\x06\x31\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    b"\x05\x00\x0d\xed\xc1\x01\x01\x00\x00\x00\x82\x20\xff\xaf\x6e\x48\x40",
    b"\x07\x81\x09\xaa\x3c\xb4\xf2\x68\x7e\x05\x00\x01",
];

pub(crate) const BLOCKS: &[&[u8]] = &[
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"\xf2\x00\x11\x00\x00",
    b"\x00\x00\x00\xff\xff",
    b"\x03\x00",
    b"\x01\x00\x00\xff\xff",
    b"\xed\xc1\x01",
    b"\x00\x05\x00\xfa\xff",
    b"\x4b\x4c\x04\x02",
];

/// What messages come to: those before the end, and how that came about.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    messages: Vec<Vec<u8>>,
    error: Option<ProtocolError>,
}

/// Law: compressed messages mean the same however they are cut into fragments and pieces, never become larger than may be, and come back
/// from our own compressor as they were.
pub(crate) fn messages(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let limits = Limits {
        max_message_bytes: [0, 1, 5, 126, 300, 5_000, 65_536, 200_000][usize::from(choice & 7)],
        max_fragments: 4096,
    };
    let terms = DeflateTerms {
        client_no_context_takeover: choice & 8 == 0,
        server_no_context_takeover: choice & 16 == 0,
        server_max_window_bits: 9 + (choice >> 5) % 7,
        client_max_window_bits: 15,
    };
    let (opcode, cut, control) = (0x02 - (input.byte() & 1), 1 + usize::from(choice >> 4), choice & 0x40 != 0);
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < 32 {
        let len = input.length();
        sent.push(input.bytes(len));
    }

    let whole = read(&terms, &limits, usize::MAX, &frames(&sent, opcode, usize::MAX, false));
    // A fragment for a few bytes, few enough of them that a long message takes no longer than a short one.
    let cut = cut.max(sent.iter().map(|body| body.len()).max().unwrap_or(0) / 64);
    let pieces = read(&terms, &limits, 1 + usize::from(choice), &frames(&sent, opcode, cut, control));
    // Which of two mistakes is found first depends on where it was cut.
    assert_eq!((&whole.messages, whole.error.is_some()), (&pieces.messages, pieces.error.is_some()));
    assert!(whole.messages.iter().all(|message| message.len() <= limits.max_message_bytes));
    if let Some(error) = whole.error {
        let expected = [ProtocolError::InvalidDeflate, ProtocolError::MessageTooLarge, ProtocolError::TextNotUtf8];
        assert!(expected.contains(&error), "{error:?}");
    }
    returns(&terms, &whole.messages);
}

/// The frames of a client: each message compressed, in fragments of `cut` bytes.
fn frames(sent: &[&[u8]], opcode: u8, cut: usize, control: bool) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 3, 4];
    let mut stream = Vec::new();
    let mut frame = |first: u8, payload: &[u8]| {
        let start = stream.len();
        // The length in the form that it needs.
        append_frame(&mut stream, Opcode::Binary, payload);
        let header = stream.len() - start - payload.len();
        stream[start] = first;
        stream[start + 1] |= 0x80;
        stream.splice(start + header..start + header, KEY);
        unmask(&mut stream[start + header + 4..], KEY);
    };
    for body in sent {
        let chunks: Vec<&[u8]> = if body.is_empty() { vec![&[]] } else { body.chunks(cut.min(body.len())).collect() };
        for (index, chunk) in chunks.iter().enumerate() {
            let first = if index == 0 { 0x40 | opcode } else { 0 };
            let fin = if index + 1 == chunks.len() { 0x80 } else { 0 };
            frame(fin | first, chunk);
            if control && fin == 0 {
                frame(0x89, b"between");
            }
        }
    }
    stream
}

/// Feeds the stream in pieces, as a reader of sockets would.
fn read(terms: &DeflateTerms, limits: &Limits, piece: usize, stream: &[u8]) -> Outcome {
    let mut decoder = Decoder::with_deflate(PerMessageDeflate::server(*terms));
    let (mut spare, mut buffer, mut messages) = (None, Vec::new(), Vec::new());
    for piece in stream.chunks(piece.min(stream.len()).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let consumed = match decoder.decode_with(&mut buffer, limits, &mut spare) {
                Ok(Decoded::Frame { consumed, event }) => {
                    match event {
                        Event::Text(text) => messages.push(text.into_owned().into_bytes()),
                        Event::Binary(bytes) => messages.push(bytes.into_owned()),
                        Event::Ping(b"between") | Event::Fragment => {}
                        other => panic!("nobody sent {other:?}"),
                    }
                    consumed
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Ok(Decoded::Finished) => panic!("nothing was closed"),
                Err(error) => {
                    assert!(decoder.is_finished() && decoder.buffered_bytes() == 0);
                    return Outcome { messages, error: Some(error) };
                }
            };
            drop(buffer.drain(..consumed));
            let overhead = 512; // the boxes around the buffer
            assert!(decoder.buffered_bytes() <= limits.max_message_bytes + overhead, "memory is bounded");
        }
    }
    assert!(buffer.is_empty(), "whole frames leave nothing over");
    Outcome { messages, error: None }
}

/// Law: what we compress, we read.
fn returns(terms: &DeflateTerms, messages: &[Vec<u8>]) {
    let (mut server, mut shared) = (PerMessageDeflate::server(*terms), None);
    let mut client = Decoder::with_deflate(PerMessageDeflate::client(*terms));
    for message in messages {
        let mut frame = Vec::new();
        let deflater = match server.own_deflater(1) {
            Some(own) => own,
            None => shared.get_or_insert_with(|| Deflater::new(1, terms.server_max_window_bits)),
        };
        if !append_deflated(&mut frame, Opcode::Binary, message, deflater) {
            append_frame(&mut frame, Opcode::Binary, message);
            assert!(frame.len() <= message.len() + 10);
        }
        let read = client.decode_unmasked(&frame, &Limits::default());
        let expected = Decoded::Frame { consumed: frame.len(), event: Event::Binary(message.into()) };
        assert_eq!(read, Ok(expected));
    }
}

/// A byte that chooses what the server wants, then lines of the header with 0xff between them.
pub(crate) const OFFERS: &[&[u8]] = &[
    b"\x00permessage-deflate; client_max_window_bits",
    b"\xffpermessage-deflate; server_no_context_takeover; client_no_context_takeover",
    b"\x21permessage-deflate; server_max_window_bits=8, permessage-deflate;server_max_window_bits=\"10\"",
    b"\x43x-webkit-deflate-frame; a=b, ,permessage-deflate;client_max_window_bits=9\xffpermessage-deflate",
    b"\x05permessage-deflate; server_max_window_bits; unknown=1, permessage-deflate =",
];

pub(crate) const WORDS: &[&[u8]] = &[
    b"permessage-deflate",
    b"server_no_context_takeover",
    b"client_no_context_takeover",
    b"server_max_window_bits",
    b"client_max_window_bits",
    b"=8",
    b"=10",
    b"=15",
    b"\"9\"",
    b"; ",
    b", ",
    b"\xff",
];

/// Law: the first offer that can be taken is, as a slow reading of RFC 7692 has it, and its answer is an offer with the same meaning.
pub(crate) fn offers(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let wants = DeflateTerms {
        server_no_context_takeover: choice & 1 != 0,
        client_no_context_takeover: choice & 2 != 0,
        server_max_window_bits: 9 + (choice >> 2) % 7,
        client_max_window_bits: 8 + (choice >> 5),
    };
    let lines: Vec<&[u8]> = input.rest().split(|byte| *byte == 0xff).collect();
    let answer = wants.accept(lines.iter().copied());
    assert_eq!(answer.map(|answer| answer.to_string()), lines.iter().find_map(|line| model(&wants, line)));

    let Some(answer) = answer else { return };
    let DeflateTerms { server_max_window_bits, client_max_window_bits, .. } = answer.terms;
    assert!((9..=wants.server_max_window_bits).contains(&server_max_window_bits));
    assert!((8..=15).contains(&client_max_window_bits));
    assert!(answer.terms.server_no_context_takeover || !wants.server_no_context_takeover);
    assert!(answer.terms.client_no_context_takeover || !wants.client_no_context_takeover);
    let anything = DeflateTerms {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let text = answer.to_string();
    assert_eq!(anything.accept([text.as_bytes()]).map(|again| again.to_string()), Some(text));
}

/// The answer to a line, by lists of texts.
fn model(wants: &DeflateTerms, line: &[u8]) -> Option<String> {
    for extension in grammar(line) {
        let [(name, None), parameters @ ..] = &extension[..] else { continue };
        if name != "permessage-deflate" {
            continue;
        }
        let named = |wanted: &str| parameters.iter().filter(|(name, _)| name == wanted).collect::<Vec<_>>();
        let flags = ["server_no_context_takeover", "client_no_context_takeover"].map(named);
        let bits = ["server_max_window_bits", "client_max_window_bits"].map(named);
        let known: usize = flags.iter().chain(&bits).map(Vec::len).sum();
        let once = flags.iter().chain(&bits).all(|found| found.len() < 2);
        let flags_are_bare = flags.iter().flatten().all(|(_, value)| value.is_none());
        let number = |value: &Option<String>| {
            let value = value.as_ref()?;
            let number = value.parse::<u8>().ok().filter(|number| number.to_string() == *value)?;
            (8..=15).contains(&number).then_some(number)
        };
        let server = bits[0].first().map(|(_, value)| number(value));
        let client = bits[1].first().map(|(_, value)| if value.is_none() { Some(15) } else { number(value) });
        if known != parameters.len() || !once || !flags_are_bare || server == Some(None) || client == Some(None) {
            continue;
        }
        let server_bits = server.flatten().unwrap_or(15).min(wants.server_max_window_bits);
        if server_bits == 8 {
            continue;
        }
        let mut answer = "permessage-deflate".to_owned();
        if wants.server_no_context_takeover || !flags[0].is_empty() {
            answer += "; server_no_context_takeover";
        }
        if wants.client_no_context_takeover || !flags[1].is_empty() {
            answer += "; client_no_context_takeover";
        }
        if server.is_some() || server_bits < 15 {
            answer += &format!("; server_max_window_bits={server_bits}");
        }
        if let Some(client) =
            client.flatten().map(|bits| bits.min(wants.client_max_window_bits)).filter(|bits| *bits < 15)
        {
            answer += &format!("; client_max_window_bits={client}");
        }
        return Some(answer);
    }
    None
}

/// The extensions of a line up to where it is none: names and parameters with their values.
fn grammar(line: &[u8]) -> Vec<Vec<(String, Option<String>)>> {
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    let line: Vec<char> = line.iter().map(|byte| char::from(*byte)).collect();
    // Words: a token, one in quotes, a separator, or what is none of these; blanks between tokens keep them apart.
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let from = at;
        let end = |holds: &dyn Fn(char) -> bool| from + line[from..].iter().take_while(|char| holds(**char)).count();
        if is_token(line[at]) {
            at = end(&is_token);
        } else if line[at] == '"' {
            let close = line[at + 1..].iter().position(|char| *char == '"');
            at = close.map_or(line.len(), |close| at + close + 2);
        } else {
            at += 1;
        }
        words.push(line[from..at].iter().collect());
    }
    words.retain(|word| word != " " && word != "\t");
    let token = |word: Option<&String>| word.filter(|word| word.chars().all(is_token)).cloned();
    let mut all = Vec::new();
    let mut words = words.iter().peekable();
    loop {
        while words.next_if(|word| *word == ",").is_some() {}
        let Some(name) = token(words.next()) else { return all };
        let mut extension = vec![(name, None)];
        while words.next_if(|word| *word == ";").is_some() {
            let Some(name) = token(words.next()) else { return all };
            let mut value = None;
            if words.next_if(|word| *word == "=").is_some() {
                let word = words.next();
                let quoted = word.and_then(|word| word.strip_prefix('"')?.strip_suffix('"')).map(str::to_owned);
                value = match token(quoted.as_ref().or(word)) {
                    None => return all,
                    some => some,
                };
            }
            extension.push((name, value));
        }
        match words.peek() {
            None => {
                all.push(extension);
                return all;
            }
            Some(word) if *word == "," => all.push(extension),
            Some(_) => return all,
        }
    }
}
