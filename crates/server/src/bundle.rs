//! The official browser client, served from the binary: a page loads `/socket.io/socket.io.js` from the server it
//! talks to and always gets a client that fits.
//!
//! Beside it is `posthaste-recovery.js`, for pages that go on where the one before them was.
//!
//! Nine files have an answer, each embedded three times: as it is, gzipped and as Brotli. So a request is answered
//! with a slice of the program's own memory, and no compressor is linked. `cargo xtask bundle` writes the files.
//!
//! Left to the caller: the path prefix, the off switch, CORS headers, and leaving out the body for `HEAD`. The method
//! is not looked at, as in Node's server.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use posthaste_engine_proto::ContentCoding;

const SCRIPT: HeaderValue = HeaderValue::from_static("application/javascript; charset=utf-8");
const SOURCE_MAP: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// The client's version in quotes: its eight files change together, with the version.
static CLIENT_ETAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let version = include_str!("../assets/client/VERSION").trim_ascii_end();
    HeaderValue::try_from(format!("\"{version}\""))
        .expect("invariant: assets/client/VERSION is one line of visible ASCII")
});

/// A hash of the helper in quotes: it has no version of its own.
static HELPER_ETAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    // FNV-1a.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = HELPER.identity.iter().fold(0xcbf2_9ce4_8422_2325, step);
    HeaderValue::try_from(format!("\"{hash:016x}\"")).expect("invariant: digits are visible ASCII")
});

static HELPER: File = embed!("posthaste-recovery.js", "../assets/", SCRIPT);

static FILES: [File; 8] = [
    embed!("socket.io.js", SCRIPT),
    embed!("socket.io.js.map", SOURCE_MAP),
    embed!("socket.io.min.js", SCRIPT),
    embed!("socket.io.min.js.map", SOURCE_MAP),
    embed!("socket.io.esm.min.js", SCRIPT),
    embed!("socket.io.esm.min.js.map", SOURCE_MAP),
    embed!("socket.io.msgpack.min.js", SCRIPT),
    embed!("socket.io.msgpack.min.js.map", SOURCE_MAP),
];

struct File {
    name: &'static str,
    content_type: HeaderValue,
    identity: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

/// One row of [`FILES`].
macro_rules! embed {
    ($name:literal, $content_type:expr) => {
        embed!($name, "../assets/client/", $content_type)
    };
    ($name:literal, $folder:literal, $content_type:expr) => {
        File {
            name: $name,
            content_type: $content_type,
            identity: include_bytes!(concat!($folder, $name)),
            gzip: include_bytes!(concat!($folder, $name, ".gz")),
            brotli: include_bytes!(concat!($folder, $name, ".br")),
        }
    };
}
use embed;

/// Answers a request for a client file, or `None` when `file_name` is not one of the nine.
///
/// `file_name` is the last part of the path, undecoded and without the query. The answer is 200 with the file in the
/// encoding that `headers` ask for, or a bare 304 when they say that this version is there already.
///
/// Source: Socket.IO 4.8, behaviour of the Node server with `serveClient`.
pub(crate) fn respond(file_name: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
    let (file, etag) = match FILES.iter().find(|file| file.name == file_name) {
        Some(file) => (file, &CLIENT_ETAG),
        None => (Some(&HELPER).filter(|file| file.name == file_name)?, &HELPER_ETAG),
    };
    if is_current(headers, etag) {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }

    let asked = || headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let coding = ContentCoding::choose(asked, &[ContentCoding::Brotli, ContentCoding::Gzip]);
    let mut response = Response::new(Bytes::from_static(match coding {
        ContentCoding::Gzip => file.gzip,
        ContentCoding::Brotli => file.brotli,
        ContentCoding::Identity | ContentCoding::Deflate => file.identity,
    }));
    let answer = response.headers_mut();
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
    answer.insert(CONTENT_TYPE, file.content_type.clone());
    answer.insert(ETAG, (*etag).clone());
    // Node's server leaves this out; without it a shared cache may hand Brotli to a client that never asked for it.
    answer.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(token) = coding.token() {
        answer.insert(CONTENT_ENCODING, HeaderValue::from_static(token));
    }
    Some(response)
}

/// Whether `If-None-Match` names this version, strongly or weakly.
///
/// Lists and `*` do not count, as in Node's server; such a client gets the file again, which is always right.
fn is_current(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let mut lines = headers.get_all(IF_NONE_MATCH).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let tag = only.as_bytes();
    tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(file_name: &str, headers: &[(&'static str, &str)]) -> Response<Bytes> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        respond(file_name, &map).unwrap()
    }

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn each_of_the_eight_files_is_served_with_its_headers() {
        let script = "application/javascript; charset=utf-8";
        let source_map = "application/json; charset=utf-8";
        for (name, content_type, begins) in [
            ("socket.io.js", script, "/*!\n * Socket.IO v"),
            ("socket.io.min.js", script, "/*!\n * Socket.IO v"),
            ("socket.io.esm.min.js", script, "/*!\n * Socket.IO v"),
            ("socket.io.msgpack.min.js", script, "/*!\n * Socket.IO v"),
            ("socket.io.js.map", source_map, "{\"version\":3,"),
            ("socket.io.min.js.map", source_map, "{\"version\":3,"),
            ("socket.io.esm.min.js.map", source_map, "{\"version\":3,"),
            ("socket.io.msgpack.min.js.map", source_map, "{\"version\":3,"),
        ] {
            let response = get(name, &[]);
            assert_eq!(response.status(), 200, "{name}");
            assert!(response.body().starts_with(begins.as_bytes()), "{name}");
            let mut headers: Vec<_> =
                response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            headers.sort_unstable();
            let etag = format!("\"{}\"", include_str!("../assets/client/VERSION").trim());
            assert_eq!(
                headers,
                [
                    ("cache-control", "public, max-age=0"),
                    ("content-type", content_type),
                    ("etag", etag.as_str()),
                    ("vary", "Accept-Encoding"),
                ],
                "{name}"
            );
        }
    }

    #[test]
    fn any_other_name_is_not_ours() {
        for name in [
            "",
            "socket.io",
            "SOCKET.IO.JS",
            "socket.io.js/",
            "socket.io%2ejs",
            "socket.io.js#a",
            "socket.io.js.gz",
            "socket.io.js.map.br",
            "socket.io.slim.js",
            "a/socket.io.js",
            "../socket.io.js",
            "VERSION",
            "LICENSE",
        ] {
            assert!(respond(name, &HeaderMap::new()).is_none(), "{name:?}");
        }
    }

    /// The scripts carry their version in the opening comment; the ETag must be that one.
    #[test]
    fn the_etag_is_the_version_the_scripts_state() {
        for file in FILES.iter().filter(|file| file.content_type == SCRIPT) {
            let text = std::str::from_utf8(file.identity).unwrap();
            let line = text.lines().nth(1).unwrap();
            let stated = line.strip_prefix(" * Socket.IO v").unwrap();
            assert_eq!(*CLIENT_ETAG, format!("\"{stated}\""), "{}", file.name);
        }
    }

    #[test]
    fn compressed_forms_belong_to_their_file() {
        for file in FILES.iter().chain([&HELPER]) {
            let (body, trailer) = file.gzip.split_last_chunk::<8>().unwrap();
            let (checksum, length) = trailer.split_at(4);
            assert!(body.starts_with(&[0x1f, 0x8b, 8]), "{}", file.name);
            assert_eq!(checksum, crc32(file.identity).to_le_bytes(), "{}", file.name);
            let raw_length = u32::try_from(file.identity.len()).unwrap();
            assert_eq!(length, raw_length.to_le_bytes(), "{}", file.name);
            // Brotli carries no checksum; `cargo xtask bundle` reads back what it wrote.
            let half = file.identity.len() / 2;
            assert!((1..half).contains(&file.brotli.len()), "{}", file.name);
            assert!(file.brotli.len() < file.gzip.len(), "{}", file.name);
        }
    }

    /// Source: RFC 1952 §8.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    /// Answers of Node's socket.io 4.8.4 to the same headers, except in the last group.
    #[test]
    fn the_encoding_is_what_the_client_likes_best() {
        use ContentCoding::{Brotli, Gzip, Identity};
        let table: &[(&[&str], ContentCoding)] = &[
            (&[], Identity),
            (&[""], Identity),
            (&["br"], Brotli),
            (&["gzip"], Gzip),
            (&["identity"], Identity),
            (&["*"], Brotli),
            (&["GZIP"], Gzip),
            (&["Br"], Brotli),
            // The client's order decides.
            (&["gzip, br"], Gzip),
            (&["br, gzip"], Brotli),
            (&["gzip, deflate, br"], Gzip),
            (&["gzip, deflate, br, zstd"], Gzip),
            (&["gzip, br, gzip"], Brotli),
            (&["gzip,,br"], Gzip),
            (&[",br"], Brotli),
            (&["gzip,"], Gzip),
            // Unless it gives weights.
            (&["gzip;q=0.5, br;q=0.8"], Brotli),
            (&["gzip;q=0.8, br;q=0.5"], Gzip),
            (&["gzip;q=0.5, *;q=0.9"], Brotli),
            (&["gzip;q=0.5, *"], Brotli),
            (&["gzip;q=0.2, br;q=0.1, gzip;q=0.05"], Gzip),
            (&["br;q=0.1, gzip;q=0.2, br;q=0.3"], Brotli),
            (&["gzip;q=1e-1, br;q=0.05"], Gzip),
            (&["gzip;q=.5"], Gzip),
            (&["gzip;q=2, br"], Gzip),
            (&["gzip;q=0.5;q=0"], Gzip),
            (&["gzip;level=9"], Gzip),
            // A name counts before the star.
            (&["*, gzip"], Gzip),
            (&["br;q=0.5, *;q=0.5"], Brotli),
            // Weight 0 refuses.
            (&["br;q=0"], Identity),
            (&["br;q=0, gzip"], Gzip),
            (&["gzip;q=0, *"], Brotli),
            (&["gzip;q=0, *;q=0.1"], Brotli),
            (&["*;q=0"], Identity),
            (&["*;q=0, gzip"], Gzip),
            (&["br;q=0.0, gzip;q=0.000"], Identity),
            (&["gzip ;q=0"], Identity),
            (&["gzip; q=0"], Identity),
            (&["gzip;q=0;x=1"], Identity),
            (&["gzip;x=1;q=0"], Identity),
            (&["gzip, gzip;q=0"], Gzip),
            (&["gzip;q=0, gzip"], Gzip),
            // Identity is the last resort, never a preference.
            (&["identity, gzip;q=0.5"], Gzip),
            (&["identity;q=0, gzip;q=0.1"], Gzip),
            (&["identity;q=0"], Identity),
            (&["identity;q=0, *;q=0"], Identity),
            // Unknown and malformed members are as good as absent.
            (&["zstd"], Identity),
            (&["compress, zstd"], Identity),
            (&["x-gzip"], Identity),
            (&["gzip br"], Identity),
            (&["\"gzip\""], Identity),
            (&[";q=1"], Identity),
            (&["gzip;q=abc"], Identity),
            (&["gzip;q=NaN"], Identity),
            (&["gzip;q="], Identity),
            (&["gzip;q=-1"], Identity),
            (&["gzip;q=\"1\""], Identity),
            // Several lines are one list.
            (&["gzip;q=0.5", "br"], Brotli),
            (&["gzip", "br;q=0.5"], Gzip),
            // Node's server also speaks deflate; no browser asks for it alone, so the next best answers here.
            (&["deflate"], Identity),
            (&["deflate, gzip"], Gzip),
            (&["deflate, br"], Brotli),
            (&["deflate;q=1, gzip;q=0.5"], Gzip),
            // Node's server reads only a bare lower-case `q` and the number a text begins with; RFC 9110 says otherwise.
            (&["gzip;Q=0"], Identity),
            (&["gzip ; q = 0"], Identity),
            (&["gzip;q=0.5x"], Identity),
        ];
        for (lines, expected) in table {
            let headers: Vec<_> = lines.iter().map(|line| ("accept-encoding", *line)).collect();
            let response = get("socket.io.min.js", &headers);
            let file = FILES.iter().find(|file| file.name == "socket.io.min.js");
            let file = file.unwrap();
            let (body, token) = match expected {
                Identity => (file.identity, None),
                Gzip => (file.gzip, Some("gzip")),
                Brotli => (file.brotli, Some("br")),
                ContentCoding::Deflate => panic!("no file is kept so"),
            };
            assert_eq!(header(&response, "content-encoding"), token, "{lines:?}");
            assert!(response.body() == body, "{lines:?}: the body is another one");
        }
    }

    /// Answers of Node's socket.io to the same headers, with its version in place of the `V`.
    #[test]
    fn a_client_that_has_this_version_gets_a_bare_304() {
        let version = include_str!("../assets/client/VERSION").trim();
        for (lines, expected) in [
            (&["\"V\""][..], 304),
            (&["W/\"V\""], 304),
            (&["V"], 200),
            (&["W/V"], 200),
            (&["w/\"V\""], 200),
            (&["W/ \"V\""], 200),
            (&["'V'"], 200),
            (&["\"V-br\""], 200),
            (&["\"4.0.0\""], 200),
            (&["\"4.0.0\", \"V\""], 200),
            (&["\"V\", \"V\""], 200),
            (&["\"V\"", "\"V\""], 200),
            (&["*"], 200),
            (&[""], 200),
        ] {
            let tags: Vec<_> = lines.iter().map(|line| line.replace('V', version)).collect();
            let mut headers = vec![("accept-encoding", "br")];
            headers.extend(tags.iter().map(|tag| ("if-none-match", tag.as_str())));
            let response = get("socket.io.js.map", &headers);
            assert_eq!(response.status(), expected, "{lines:?}");
            if expected == 304 {
                assert!(response.headers().is_empty(), "{lines:?}");
                assert!(response.body().is_empty(), "{lines:?}");
            }
        }
    }
}
