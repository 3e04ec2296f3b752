//! Polling answers, compressed where they are made.
//!
//! A compressor of zlib takes a few hundred kilobytes: each thread keeps one of each kind that it needed.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};
use posthaste_engine_proto::ContentCoding;

use crate::compression::HttpCompression;
use crate::config::EngineConfig;

/// What is offered; of what a client likes equally well, the first.
const OFFERED: &[ContentCoding] = &[
    ContentCoding::Gzip,
    ContentCoding::Deflate,
    #[cfg(feature = "brotli")]
    ContentCoding::Brotli,
];

thread_local! {
    static GZIP: RefCell<Option<(u8, Compress)>> = const { RefCell::new(None) };
    static ZLIB: RefCell<Option<(u8, Compress)>> = const { RefCell::new(None) };
}

/// The coding that a request asks for; `lines` are the values of its `Accept-Encoding`.
pub(crate) fn coding<'a, L: Iterator<Item = &'a [u8]>>(lines: impl Fn() -> L) -> ContentCoding {
    ContentCoding::choose(|| lines().filter_map(|line| std::str::from_utf8(line).ok()), OFFERED)
}

/// How the body of a polling answer leaves.
pub(crate) struct Coded {
    /// Compressed, and the name of the coding; absent when it leaves as it is.
    pub(crate) compressed: Option<(Vec<u8>, &'static str)>,
    /// Whether another client might have got it otherwise.
    pub(crate) varies: bool,
}

impl EngineConfig {
    /// Compresses the body of a polling answer, if that is worth it and its client reads that.
    pub(crate) fn coded(&self, body: &[u8], may_compress: bool, coding: impl FnOnce() -> ContentCoding) -> Coded {
        let worth = |set: &HttpCompression| may_compress && (set.threshold..=set.max_bytes).contains(&body.len());
        let Some(settings) = self.http_compression.filter(worth) else {
            return Coded { compressed: None, varies: false };
        };
        let coding = coding();
        Coded { compressed: settings.compress(body, coding).zip(coding.token()), varies: true }
    }
}

impl HttpCompression {
    /// `body` in `coding`; `None` when it would become no shorter, and leaves as it is.
    fn compress(&self, body: &[u8], coding: ContentCoding) -> Option<Vec<u8>> {
        let level = Compression::new(u32::from(self.level));
        match coding {
            ContentCoding::Identity => None,
            ContentCoding::Gzip => GZIP.with_borrow_mut(|kept| self.zlib(body, kept, || Compress::new_gzip(level, 15))),
            ContentCoding::Deflate => ZLIB.with_borrow_mut(|kept| self.zlib(body, kept, || Compress::new(level, true))),
            ContentCoding::Brotli => brotli(body),
        }
    }

    fn zlib(&self, body: &[u8], kept: &mut Option<(u8, Compress)>, make: impl Fn() -> Compress) -> Option<Vec<u8>> {
        if kept.as_ref().is_none_or(|(level, _)| *level != self.level) {
            *kept = Some((self.level, make()));
        }
        let (_, compress) = kept.as_mut()?;
        compress.reset();
        // What does not fit has not become shorter.
        let mut out = Vec::with_capacity(body.len());
        match compress.compress_vec(body, &mut out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) if out.len() < body.len() => Some(out),
            _ => None,
        }
    }
}

#[cfg(feature = "brotli")]
fn brotli(body: &[u8]) -> Option<Vec<u8>> {
    // The second quality: a megabyte in 9 ms, and smaller than zlib's best.
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 2,
        lgwin: 18,
        size_hint: body.len(),
        ..brotli::enc::BrotliEncoderParams::default()
    };
    let mut out = Vec::with_capacity(body.len() / 4 + 64);
    brotli::BrotliCompress(&mut &*body, &mut out, &parameters).ok().filter(|_| out.len() < body.len())?;
    Some(out)
}

#[cfg(not(feature = "brotli"))]
fn brotli(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| b"[\"event\",{\"id\":17}],"[i % 20]).collect()
    }

    #[test]
    fn what_is_compressed_is_what_it_was() {
        for len in [1024, 5000, 100_000] {
            let body = text(len);
            // Twice: the compressor is kept.
            for level in [2, 6, 2, 2] {
                let settings = HttpCompression { level, ..HttpCompression::default() };
                let (mut gzip, mut zlib) = (Vec::new(), Vec::new());
                let compressed = settings.compress(&body, ContentCoding::Gzip).expect("shorter");
                flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut gzip).expect("gzip");
                let compressed = settings.compress(&body, ContentCoding::Deflate).expect("shorter");
                flate2::read::ZlibDecoder::new(&compressed[..]).read_to_end(&mut zlib).expect("zlib");
                assert!(gzip == body && zlib == body, "{len}");
            }
            #[cfg(feature = "brotli")]
            {
                let mut out = Vec::new();
                let compressed = HttpCompression::default().compress(&body, ContentCoding::Brotli).expect("shorter");
                brotli::BrotliDecompress(&mut &compressed[..], &mut out).expect("brotli");
                assert!(out == body, "{len}");
            }
        }
    }

    #[test]
    fn what_would_grow_stays_as_it_is() {
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(2000).collect();
        for coding in OFFERED {
            assert_eq!(HttpCompression::default().compress(&noise, *coding), None, "{coding:?}");
        }
    }
}
