//! Which compression an HTTP client asks for: `Accept-Encoding`, read once for everything that is answered.

use std::cmp::Reverse;

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// As it is.
    #[default]
    Identity,
    /// gzip.
    Gzip,
    /// zlib (RFC 1950), which HTTP calls deflate.
    Deflate,
    /// Brotli.
    Brotli,
}

impl ContentCoding {
    /// What `Content-Encoding` says; `None` for a body as it is, which has no such header.
    #[must_use]
    pub const fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Brotli => Some("br"),
        }
    }

    /// What the client likes best of `offered`: the higher weight, then a name before `*`, then what it said first, then the order of
    /// `offered`.
    ///
    /// `lines` gives the values of `Accept-Encoding`, in order; it is asked once for each coding. [`Identity`](Self::Identity) is the answer when nothing else is
    /// acceptable, even if the client refused it: what it can read serves it better than a 406.
    ///
    /// Source: RFC 9110 §12.5.3.
    ///
    /// ```
    /// use posthaste_engine_proto::ContentCoding::{self, Brotli, Gzip, Identity};
    ///
    /// assert_eq!(ContentCoding::choose(|| ["gzip;q=0.5, br"], &[Gzip, Brotli]), Brotli);
    /// assert_eq!(ContentCoding::choose(|| ["zstd"], &[Gzip, Brotli]), Identity);
    /// ```
    #[must_use]
    pub fn choose<'a, L: IntoIterator<Item = &'a str>>(lines: impl Fn() -> L, offered: &[Self]) -> Self {
        let liked = offered.iter().filter_map(|coding| {
            let preference = Preference::read(lines().into_iter(), coding.token()?)?;
            Some((preference.rank(), *coding))
        });
        // The first of equals.
        liked
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map_or(Self::Identity, |(_, coding)| coding)
    }
}

/// What `Accept-Encoding` says about one coding.
struct Preference {
    is_named: bool,
    weight: f32,
    position: usize,
}

impl Preference {
    /// The most specific, then heaviest mention of `coding`; `None` when it is absent or refused with `q=0`.
    fn read<'a>(lines: impl Iterator<Item = &'a str>, coding: &str) -> Option<Self> {
        lines
            .flat_map(|line| line.split(','))
            .enumerate()
            .filter_map(|(position, member)| {
                let (name, parameters) = member.split_once(';').unwrap_or((member, ""));
                let name = name.trim_ascii();
                let is_named = name.eq_ignore_ascii_case(coding);
                (is_named || name == "*").then(|| Self { is_named, weight: weight(parameters), position })
            })
            .max_by(|a, b| {
                let by_name = a.is_named.cmp(&b.is_named);
                by_name.then(a.weight.total_cmp(&b.weight))
            })
            .filter(|preference| preference.weight > 0.0)
    }

    fn rank(&self) -> (f32, bool, Reverse<usize>) {
        (self.weight, self.is_named, Reverse(self.position))
    }
}

/// The `q` among a coding's parameters: 1 when there is none, 0 (a refusal) when it is no number.
fn weight(parameters: &str) -> f32 {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim_ascii().eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, value)| {
            let weight = value.trim_ascii().parse().unwrap_or(0.0);
            if f32::is_nan(weight) { 0.0 } else { weight }
        })
}

#[cfg(test)]
mod tests {
    use super::ContentCoding::{self, Brotli, Deflate, Gzip, Identity};

    /// Answers of Node's engine.io to the same headers, where it has the coding.
    #[test]
    fn the_coding_is_what_the_client_likes_best() {
        for (lines, expected) in [
            (&[][..], Identity),
            (&["gzip, deflate"], Gzip),
            (&["deflate, gzip"], Deflate),
            (&["deflate"], Deflate),
            (&["*"], Gzip),
            (&["gzip;q=0, *"], Deflate),
            (&["gzip;q=0.1, deflate;q=0.2"], Deflate),
            (&["gzip;q=0, deflate;q=0"], Identity),
            (&["identity;q=1, *;q=0"], Identity),
            (&["br"], Brotli),
            (&["br, gzip"], Brotli),
            (&["gzip, deflate, br, zstd"], Gzip),
            (&["gzip;q=0.5, br"], Brotli),
            (&["gzip;q=0.5", "deflate"], Deflate),
        ] {
            assert_eq!(
                ContentCoding::choose(|| lines.iter().copied(), &[Gzip, Deflate, Brotli]),
                expected,
                "{lines:?}"
            );
        }
    }
}
