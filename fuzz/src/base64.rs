//! Base64, written down a second time: a character at a time, and nothing forgiven.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of padded, canonical base64; `None` for any other text.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bits = Vec::new();
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let whole = bits.len() / 8 * 8;
    // What padding stands for is zero, and less than a digit.
    if bits.len() - whole >= 6 || bits[whole..].contains(&1) {
        return None;
    }
    Some(bits[..whole].chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | *bit as u8)).collect())
}
