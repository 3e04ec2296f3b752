//! The other side, written by the letter of RFC 6455 §5.2 and §5.3 without help from the crate under test.

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// Bit to add to an opcode for the last frame of a message.
pub(crate) const FIN: u8 = 0x80;

pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The header of a masked frame with this first byte, which declares `len` bytes.
pub(crate) fn header(first: u8, len: u64, key: [u8; 4]) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=0xffff => {
            header.push(0x80 | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(len.to_be_bytes());
        }
    }
    header.extend(key);
    header
}

/// A whole masked frame with this first byte.
pub(crate) fn frame_masked_by(key: [u8; 4], first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64, key);
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

/// A whole masked frame with this first byte and the usual key.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_masked_by(KEY, first, payload)
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}
