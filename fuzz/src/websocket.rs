//! WebSocket frames: read from anything, and written and read back.

use posthaste_websocket_proto::{
    CloseCode, Decoded, Decoder, Event, FrameHeader, FrameStart, Limits, Opcode, ProtocolError, append_close,
    append_frame, unmask,
};

use crate::input::Input;

/// A byte that chooses the limits, one that chooses how the stream is cut, then the stream.
pub(crate) const STREAMS: &[&[u8]] = &[
    b"\x07\x00\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x07\x01\x01\x83\0\0\0\0Hel\x89\x82\0\0\0\0hi\x80\x82\0\0\0\0lo",
    b"\x07\x02\x82\xfe\0\x7e\x01\x02\x03\x04",
    b"\x04\x03\x01\x81\0\0\0\0\xe2\x00\x81\0\0\0\0\x82\x80\x81\0\0\0\0\xac",
    b"\x07\x00\x88\x85\0\0\0\0\x03\xe9bye\x81\x80\0\0\0\0",
    b"\x07\x00\x82\xff\0\0\0\0\0\x01\0\0\x01\x02\x03\x04",
    b"\x03\x07\x02\x80\0\0\0\0\x00\x80\0\0\0\0\x00\x80\0\0\0\0\x8a\x80\0\0\0\0",
    b"\x07\x00\x88\x82\0\0\0\0\x03\xed",
    b"\x02\x00\x81\x86\0\0\0\0abcdef",
];

pub(crate) const HEADERS: &[&[u8]] = &[
    b"\x81\x80\0\0\0\0",
    b"\x01\x81\0\0\0\0",
    b"\x80\x80\0\0\0\0",
    b"\x00\x81\0\0\0\0",
    b"\x02\xfe",
    b"\x82\xff\0\0\0\0",
    b"\x89\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\xf0\x9f\xa6\x80",
    b"\xe2\x82\xac",
    b"\xed\xa0",
];

/// What a stream of frames comes to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    events: Vec<Owned>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Fragment,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The stream ends within a frame, of which this many bytes are there; 0 between two frames.
    Within(usize),
    Closed,
    Refused(ProtocolError),
}

/// Law: a stream means what RFC 6455 says, however it is cut; memory follows what came, and the end is the end.
pub(crate) fn decoder(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let limits = Limits {
        max_message_bytes: [0, 1, 5, 125, 126, 300, 65_536, 1_000_000][usize::from(choice & 7)],
        max_fragments: [1, 2, 5, 4096][usize::from(choice >> 3 & 3)],
    };
    let cuts = input.byte();
    let stream = input.rest();

    let expected = model(stream, &limits);
    assert_eq!(read(stream, &limits, usize::MAX, 0), expected, "in one piece");
    assert_eq!(read(stream, &limits, 1 + usize::from(cuts & 15), cuts >> 4), expected, "in pieces");
}

/// Feeds the stream in pieces of `piece` bytes and a growing number more, as a reader of sockets would.
fn read(stream: &[u8], limits: &Limits, piece: usize, growth: u8) -> Outcome {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    let mut rest = stream;
    // Few enough pieces that a long stream takes no longer than a short one.
    let mut piece = piece.max(stream.len() / 128);
    // The least that the frame at the start of the buffer needs to be whole, as far as the decoder has said.
    let mut needed = 0;
    loop {
        loop {
            let had = buffer.len();
            // To look at all of a long one again for every piece of it would take most of the time there is.
            let before = (had <= 2048).then(|| buffer.clone());
            match decoder.decode(&mut buffer, limits) {
                Ok(Decoded::Incomplete { missing }) => {
                    assert!(missing > 0, "what is whole is not incomplete");
                    needed = needed.max(had.saturating_add(missing));
                    assert!(before.is_none_or(|before| buffer == before), "an incomplete frame is left alone");
                    break;
                }
                Ok(Decoded::Frame { consumed, event }) => {
                    assert!(had >= needed, "no frame comes before the bytes that were missing");
                    needed = 0;
                    events.push(owned(&event));
                    drop(buffer.drain(..consumed));
                }
                Ok(Decoded::Finished) => panic!("a finished decoder is not asked again here"),
                Err(error) => return Outcome { events, end: finished(&mut decoder, End::Refused(error)) },
            }
            if matches!(events.last(), Some(Owned::Close(_))) {
                return Outcome { events, end: finished(&mut decoder, End::Closed) };
            }
            let overhead = 256; // the box around the buffer
            assert!(decoder.buffered_bytes() <= limits.max_message_bytes + overhead, "memory is bounded");
        }
        if rest.is_empty() {
            return Outcome { events, end: End::Within(buffer.len()) };
        }
        let (next, behind) = rest.split_at(piece.min(rest.len()));
        buffer.extend_from_slice(next);
        rest = behind;
        piece = piece.saturating_add(usize::from(growth));
    }
}

/// Law: after the end nothing comes out and nothing is held.
fn finished(decoder: &mut Decoder, end: End) -> End {
    assert!(decoder.is_finished());
    assert_eq!(decoder.buffered_bytes(), 0);
    let mut more = *b"\x81\x80\0\0\0\0";
    assert_eq!(decoder.decode(&mut more, &Limits::default()), Ok(Decoded::Finished));
    end
}

fn owned(event: &Event<'_>) -> Owned {
    match event {
        Event::Text(text) => Owned::Text(text.clone().into_owned()),
        Event::Binary(bytes) => Owned::Binary(bytes.clone().into_owned()),
        Event::Ping(bytes) => Owned::Ping(bytes.to_vec()),
        Event::Pong(bytes) => Owned::Pong(bytes.to_vec()),
        Event::Close(close) => Owned::Close(close.map(|close| (close.code.get(), close.reason.to_owned()))),
        Event::Fragment => Owned::Fragment,
    }
}

/// RFC 6455 §5, written down a second time: byte by byte, with everything in memory.
fn model(mut stream: &[u8], limits: &Limits) -> Outcome {
    let mut events = Vec::new();
    // The message under way: whether it is text, its bytes, and its fragments so far.
    let mut message: Option<(bool, Vec<u8>, usize)> = None;
    let end = loop {
        match model_frame(stream, limits, &mut message) {
            Ok(Some((consumed, event))) => {
                stream = &stream[consumed..];
                let closed = matches!(event, Owned::Close(_));
                events.push(event);
                if closed {
                    break End::Closed;
                }
            }
            Ok(None) => break End::Within(stream.len()),
            Err(error) => break End::Refused(error),
        }
    };
    Outcome { events, end }
}

fn model_frame(
    stream: &[u8],
    limits: &Limits,
    message: &mut Option<(bool, Vec<u8>, usize)>,
) -> Result<Option<(usize, Owned)>, ProtocolError> {
    let Some(&first) = stream.first() else { return Ok(None) };
    let (fin, reserved, opcode) = (first >= 0x80, first & 0x70, first & 0x0f);
    if reserved != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    if !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) {
        return Err(ProtocolError::UnknownOpcode);
    }
    let control = opcode >= 8;
    if control && !fin {
        return Err(ProtocolError::FragmentedControl);
    }
    let Some(&second) = stream.get(1) else { return Ok(None) };
    let (masked, short) = (second >= 0x80, second & 0x7f);
    if control && short > 125 {
        return Err(ProtocolError::LongControl);
    }
    let extended = [0, 2, 8][usize::from(short.saturating_sub(125))];
    let start = 2 + extended + if masked { 4 } else { 0 };
    if stream.len() < start {
        return Ok(None);
    }
    let number = stream[2..2 + extended].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let length = match extended {
        0 => u64::from(short),
        2 if number < 126 => return Err(ProtocolError::LengthNotMinimal),
        8 if number >> 63 == 1 => return Err(ProtocolError::LengthOutOfRange),
        8 if number < 65_536 => return Err(ProtocolError::LengthNotMinimal),
        _ => number,
    };
    if !masked {
        return Err(ProtocolError::Unmasked);
    }
    if !control {
        let (held, fragments) = match (&message, opcode) {
            (None, 0) => return Err(ProtocolError::UnexpectedContinuation),
            (Some(_), 1 | 2) => return Err(ProtocolError::UnfinishedMessage),
            (Some((_, bytes, fragments)), _) => (bytes.len(), *fragments),
            (None, _) => (0, 0),
        };
        if fragments >= limits.max_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        if u128::from(length) + held as u128 > limits.max_message_bytes as u128 {
            return Err(ProtocolError::MessageTooLarge);
        }
    }
    if u128::from(length) > (stream.len() - start) as u128 {
        return Ok(None);
    }
    let end = start + length as usize;
    let key = &stream[start - 4..start];
    let payload: Vec<u8> = stream[start..end].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let event = match opcode {
        8 => model_close(&payload)?,
        9 => Owned::Ping(payload),
        10 => Owned::Pong(payload),
        _ => {
            let (text, mut bytes, fragments) = message.take().unwrap_or((opcode == 1, Vec::new(), 0));
            bytes.extend(payload);
            let broken = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(_) => false,
                Err(error) => fin || error.error_len().is_some(),
            };
            if text && broken(&bytes) {
                return Err(ProtocolError::TextNotUtf8);
            }
            match (fin, text) {
                (false, _) => {
                    *message = Some((text, bytes, fragments + 1));
                    Owned::Fragment
                }
                (true, true) => Owned::Text(String::from_utf8(bytes).expect("just checked")),
                (true, false) => Owned::Binary(bytes),
            }
        }
    };
    Ok(Some((end, event)))
}

fn model_close(payload: &[u8]) -> Result<Owned, ProtocolError> {
    let Some(&[high, low]) = payload.first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Owned::Close(None)) } else { Err(ProtocolError::TruncatedCloseCode) };
    };
    let code = u16::from_be_bytes([high, low]);
    let forbidden = [1004, 1005, 1006].contains(&code) || (1015..3000).contains(&code);
    if !(1000..5000).contains(&code) || forbidden {
        return Err(ProtocolError::ForbiddenCloseCode);
    }
    let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
    Ok(Owned::Close(Some((code, reason))))
}

/// Law: what this crate writes it can read, and a client's frames around the same messages bring the same messages.
pub(crate) fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let mut written = Vec::new();
    let mut expected = Vec::new();
    let mut stream = Vec::new();
    for _ in 0..16 {
        if input.is_empty() || written.len() > 100_000 {
            break;
        }
        let text = input.flag();
        let payload = payload(&mut input, text);
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let abandoned = FrameStart::begin(&mut written, opcode);
        written.extend_from_slice(&payload[..payload.len().min(9)]);
        abandoned.abandon(&mut written);
        if input.flag() {
            append_frame(&mut written, opcode, &payload);
        } else {
            let frame = FrameStart::begin(&mut written, opcode);
            written.extend_from_slice(&payload);
            frame.finish(&mut written);
        }
        client_frames(&mut stream, &mut input, opcode, &payload);
        expected.push((opcode, payload));
    }
    // Longer than a close frame takes, and cut within a character more often than not.
    let reason = input.text().repeat(7);
    let code = CloseCode::new(1000 + u16::from(input.byte()));
    append_close(&mut written, code.map(|code| (code, reason.as_str())));

    let mut rest = &written[..];
    for (opcode, payload) in &expected {
        let header = FrameHeader::parse(rest).expect("our own frame").expect("a whole header");
        assert_eq!((header.opcode, header.fin, header.masked), (*opcode, true, None));
        let (frame, behind) = rest.split_at(header.frame_len() as usize);
        assert_eq!(&frame[header.header_len..], payload);
        rest = behind;
    }
    // The close frame as a client would send it back.
    let (head, payload) = rest.split_at(2);
    stream.extend([head[0], head[1] | 0x80, 0, 0, 0, 0]);
    stream.extend_from_slice(payload);

    let limits = Limits { max_message_bytes: 100_000, max_fragments: 64 };
    let outcome = read(&stream, &limits, 1 + input.below(200), input.byte());
    assert_eq!(outcome.end, End::Closed);
    let mut events = outcome.events.into_iter().filter(|event| !matches!(event, Owned::Fragment | Owned::Ping(_)));
    for (opcode, payload) in expected {
        let message = match opcode {
            Opcode::Text => Owned::Text(String::from_utf8(payload).expect("text was chosen")),
            _ => Owned::Binary(payload),
        };
        assert_eq!(events.next(), Some(message));
    }
    match (events.next(), code) {
        (Some(Owned::Close(None)), None) => {}
        (Some(Owned::Close(Some((read, kept)))), Some(code)) => {
            assert_eq!(read, code.get());
            assert!(reason.starts_with(&kept) && (kept == reason || kept.len() > 119), "{kept:?} of {reason:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// A payload: bytes from the input, repeated up to a length that may be where headers grow.
fn payload(input: &mut Input<'_>, text: bool) -> Vec<u8> {
    let length = input.length();
    let piece = input.bytes(length.min(24));
    let piece = if text { String::from_utf8_lossy(piece).into_owned().into_bytes() } else { piece.to_vec() };
    if piece.is_empty() {
        return vec![b'x'; length];
    }
    piece.repeat(length.div_ceil(piece.len()))
}

/// The message as a client may send it: masked, in several frames, with pings between them.
fn client_frames(stream: &mut Vec<u8>, input: &mut Input<'_>, opcode: Opcode, payload: &[u8]) {
    let mut rest = payload;
    for number in 0.. {
        let take = if number == 5 { rest.len() } else { input.length().min(rest.len()) };
        let (part, behind) = rest.split_at(take);
        let fin = behind.is_empty();
        let kind = if number == 0 { opcode as u8 } else { 0 };
        let key = [input.byte(), input.byte(), 3, 4];
        stream.push(kind | if fin { 0x80 } else { 0 });
        match part.len() {
            short @ 0..126 => stream.push(0x80 | short as u8),
            medium @ 126..65_536 => {
                stream.push(0xfe);
                stream.extend((medium as u16).to_be_bytes());
            }
            long => {
                stream.push(0xff);
                stream.extend((long as u64).to_be_bytes());
            }
        }
        stream.extend(key);
        let start = stream.len();
        stream.extend_from_slice(part);
        unmask(&mut stream[start..], key);
        if fin {
            return;
        }
        rest = behind;
        if key[0] & 1 == 1 {
            stream.extend(b"\x89\x81\0\0\0\0!");
        }
    }
}
