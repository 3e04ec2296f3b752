//! What a client offers and a server agrees to.

use std::fmt;

/// The name of the extension.
const NAME: &[u8] = b"permessage-deflate";
/// The largest window of DEFLATE, which is the default: 2¹⁵ bytes.
const LARGEST_WINDOW: u8 = 15;
/// The smallest window that may be named.
const SMALLEST_WINDOW: u8 = 8;
/// The smallest window zlib can compress with; one of 2⁸ bytes it rounds up, and the peer would not understand.
const SMALLEST_TO_COMPRESS: u8 = 9;

/// The parameters of permessage-deflate: what a server asks for at least, and what was agreed.
///
/// Source: RFC 7692 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateTerms {
    /// Whether each message of the server is compressed by itself.
    pub server_no_context_takeover: bool,
    /// Whether each message of the client is.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2 to this power of bytes; 9 to 15.
    pub server_max_window_bits: u8,
    /// The client's window is; 8 to 15.
    pub client_max_window_bits: u8,
}

impl Default for DeflateTerms {
    /// No context on either side, windows of any size: nothing is kept for a connection.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: LARGEST_WINDOW,
            client_max_window_bits: LARGEST_WINDOW,
        }
    }
}

/// What the server says in `Sec-WebSocket-Extensions` about an offer that it took; `Display` gives the header's value.
///
/// It names every parameter that the offer had and the client is bound by, besides those that the server asks for: `client_max_window_bits`
/// only where the offer had it, as the client has to understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateAnswer {
    /// What was agreed.
    pub terms: DeflateTerms,
    names_server_window: bool,
    names_client_window: bool,
}

impl fmt::Display for DeflateAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate")?;
        if self.terms.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.terms.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.names_server_window {
            write!(f, "; server_max_window_bits={}", self.terms.server_max_window_bits)?;
        }
        if self.names_client_window {
            write!(f, "; client_max_window_bits={}", self.terms.client_max_window_bits)?;
        }
        Ok(())
    }
}

/// One offer of the extension, as a client writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: without a value, the client takes any.
    client_max_window_bits: Option<Option<u8>>,
}

impl DeflateTerms {
    /// Looks for the first offer of permessage-deflate that can be taken, these terms being the least that the server asks for.
    ///
    /// `lines` are the values of `Sec-WebSocket-Extensions`, in order. Linear in their length. An offer with a parameter that is unknown, is
    /// there twice or has a value it cannot have is passed over, as is one for a window that zlib cannot compress with (2⁸ bytes), and
    /// the next may do. `None` when none does: the connection is a plain one. A line that is no list of extensions offers
    /// nothing from where it goes wrong.
    ///
    /// Source: RFC 7692 §5.1, §7.1; the grammar is RFC 6455 §9.1's.
    ///
    /// ```
    /// use posthaste_websocket_proto::DeflateTerms;
    ///
    /// let browser = b"permessage-deflate; client_max_window_bits";
    /// let answer = DeflateTerms::default().accept([&browser[..]]).expect("an offer that can be taken");
    /// assert_eq!(answer.to_string(), "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    /// ```
    #[must_use]
    pub fn accept<'a>(&self, lines: impl IntoIterator<Item = &'a [u8]>) -> Option<DeflateAnswer> {
        lines.into_iter().find_map(|line| {
            let mut rest = Words(line);
            while let Some(extension) = rest.extension() {
                if let Some(answer) = extension.and_then(|offer| self.agree(&offer)) {
                    return Some(answer);
                }
            }
            None
        })
    }

    fn agree(&self, offer: &Offer) -> Option<DeflateAnswer> {
        let server_max_window_bits =
            offer.server_max_window_bits.unwrap_or(LARGEST_WINDOW).min(self.server_max_window_bits);
        if server_max_window_bits < SMALLEST_TO_COMPRESS {
            return None;
        }
        let offered = offer.client_max_window_bits.map(|bits| bits.unwrap_or(LARGEST_WINDOW));
        let client_max_window_bits = offered.map_or(LARGEST_WINDOW, |bits| bits.min(self.client_max_window_bits));
        Some(DeflateAnswer {
            terms: Self {
                server_no_context_takeover: self.server_no_context_takeover || offer.server_no_context_takeover,
                client_no_context_takeover: self.client_no_context_takeover || offer.client_no_context_takeover,
                server_max_window_bits,
                client_max_window_bits,
            },
            names_server_window: offer.server_max_window_bits.is_some() || server_max_window_bits < LARGEST_WINDOW,
            names_client_window: offered.is_some() && client_max_window_bits < LARGEST_WINDOW,
        })
    }
}

/// What is left of a list of extensions.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// The next extension of the list: `Some(None)` for one that is no offer to be taken, `None` at the end of what can be read.
    fn extension(&mut self) -> Option<Option<Offer>> {
        // Lists may have empty members.
        while self.skip(b',') {}
        let name = self.token()?;
        let mut offer = (name == NAME).then(Offer::default);
        while self.skip(b';') {
            let parameter = self.token()?;
            let value = if self.skip(b'=') { Some(self.value()?) } else { None };
            offer = offer.and_then(|offer| offer.with(parameter, value));
        }
        if !self.skip(b',') && !self.0.is_empty() {
            // Neither another parameter nor another extension: nobody knows what this is, or was.
            self.0 = b"";
            return None;
        }
        Some(offer)
    }

    fn blanks(&mut self) {
        let blanks = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.0 = &self.0[blanks..];
    }

    /// Takes `separator` and the blanks around it, if it comes next.
    fn skip(&mut self, separator: u8) -> bool {
        self.blanks();
        let Some((&first, rest)) = self.0.split_first() else { return false };
        if first != separator {
            return false;
        }
        self.0 = rest;
        self.blanks();
        true
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        (len > 0).then_some(token)
    }

    /// A token, or one in quotes; what is escaped in quotes is no number, so it need not be read.
    fn value(&mut self) -> Option<&'a [u8]> {
        let Some(quoted) = self.0.strip_prefix(b"\"") else { return self.token() };
        let len = quoted.iter().position(|byte| *byte == b'"')?;
        let value = &quoted[..len];
        self.0 = &quoted[len + 1..];
        value.iter().all(|byte| is_token(*byte)).then_some(value)
    }
}

impl Offer {
    /// This offer with one more parameter; `None` when it may not have that.
    fn with(mut self, parameter: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let is_new = match parameter {
            b"server_no_context_takeover" if value.is_none() => {
                !std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            b"client_no_context_takeover" if value.is_none() => {
                !std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            b"server_max_window_bits" => self.server_max_window_bits.replace(window_bits(value?)?).is_none(),
            b"client_max_window_bits" => {
                let bits = match value {
                    Some(value) => Some(window_bits(value)?),
                    None => None,
                };
                self.client_max_window_bits.replace(bits).is_none()
            }
            _ => false,
        };
        is_new.then_some(self)
    }
}

/// A decimal number from 8 to 15, without zeros in front.
fn window_bits(value: &[u8]) -> Option<u8> {
    let bits = match *value {
        [digit @ b'8'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + digit - b'0',
        _ => return None,
    };
    debug_assert!((SMALLEST_WINDOW..=LARGEST_WINDOW).contains(&bits));
    Some(bits)
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYTHING: DeflateTerms = DeflateTerms {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };

    fn answer(terms: &DeflateTerms, lines: &[&str]) -> Option<String> {
        terms.accept(lines.iter().map(|line| line.as_bytes())).map(|answer| answer.to_string())
    }

    #[test]
    fn offers_are_answered_as_rfc_7692_has_it() {
        for (offer, expected) in [
            ("permessage-deflate", Some("")),
            ("permessage-deflate; client_max_window_bits", Some("")),
            ("permessage-deflate;client_max_window_bits=15", Some("")),
            ("permessage-deflate; client_max_window_bits=8", Some("; client_max_window_bits=8")),
            ("permessage-deflate; client_max_window_bits=10", Some("; client_max_window_bits=10")),
            ("permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=15")),
            ("permessage-deflate; server_max_window_bits=10", Some("; server_max_window_bits=10")),
            ("permessage-deflate; server_max_window_bits=\"10\"", Some("; server_max_window_bits=10")),
            // zlib cannot.
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_no_context_takeover", Some("; server_no_context_takeover")),
            ("permessage-deflate; client_no_context_takeover", Some("; client_no_context_takeover")),
            (
                "permessage-deflate ;\tserver_max_window_bits=9 ; client_max_window_bits = 9; client_no_context_takeover",
                Some("; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9"),
            ),
            // The first that can be taken, of several.
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", Some("; server_max_window_bits=10")),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
            ("x-webkit-deflate-frame, permessage-deflate", Some("")),
            ("a; b=\"c\", , permessage-deflate", Some("")),
            (
                "permessage-deflate; unknown, permessage-deflate; client_no_context_takeover",
                Some("; client_no_context_takeover"),
            ),
        ] {
            let expected = expected.map(|parameters| format!("permessage-deflate{parameters}"));
            assert_eq!(answer(&ANYTHING, &[offer]), expected, "{offer}");
        }
    }

    #[test]
    fn the_server_asks_for_no_less_than_its_own_terms() {
        let terms = DeflateTerms { server_max_window_bits: 12, client_max_window_bits: 11, ..DeflateTerms::default() };
        let none =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=";
        for (offer, expected) in [
            ("permessage-deflate", "12"),
            ("permessage-deflate; server_max_window_bits=10", "10"),
            ("permessage-deflate; server_max_window_bits=14", "12"),
            // Only a client that names the parameter understands it.
            ("permessage-deflate; client_max_window_bits", "12; client_max_window_bits=11"),
            ("permessage-deflate; client_max_window_bits=9", "12; client_max_window_bits=9"),
            ("permessage-deflate; client_max_window_bits=13", "12; client_max_window_bits=11"),
        ] {
            assert_eq!(answer(&terms, &[offer]), Some(format!("{none}{expected}")), "{offer}");
        }
    }

    #[test]
    fn sec_18_parameters_that_cannot_be_decline_their_offer() {
        for parameter in [
            "unknown",
            "server_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "server_max_window_bits=0xf",
            "server_max_window_bits=115",
            "server_max_window_bits=99999999999999999999",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits=9; client_max_window_bits",
            "SERVER_NO_CONTEXT_TAKEOVER",
            "",
            "=",
            "=10",
            "server_max_window_bits=\"10",
            "server_max_window_bits=\"1\\0\"",
            "server_max_window_bits=\"\"",
            "server_max_window_bits=10 11",
            "client_no_context_takeover\u{e9}",
        ] {
            assert_eq!(answer(&ANYTHING, &[&format!("permessage-deflate; {parameter}")]), None, "{parameter}");
        }
    }

    #[test]
    fn sec_18_a_broken_list_offers_nothing_from_where_it_breaks() {
        for line in [
            "",
            ",",
            ";",
            " ",
            "=",
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate client_no_context_takeover",
            "permessage-deflate/1",
            "(permessage-deflate)",
            "\"permessage-deflate\"",
            "permessage-deflate2",
            "permessage-deflat",
            "Permessage-Deflate",
            "other; a=\", permessage-deflate",
            "other other, permessage-deflate",
        ] {
            assert_eq!(answer(&ANYTHING, &[line]), None, "{line}");
            // Another line may do.
            assert_eq!(
                answer(&ANYTHING, &[line, "permessage-deflate"]).as_deref(),
                Some("permessage-deflate"),
                "{line}"
            );
        }
        assert_eq!(answer(&ANYTHING, &["permessage-deflate, ;;;"]).as_deref(), Some("permessage-deflate"));
    }

    #[test]
    fn many_offers_are_looked_at_once_each() {
        let line = "permessage-deflate; server_max_window_bits=8, ".repeat(10_000);
        assert_eq!(answer(&ANYTHING, &[&line]), None);
        assert_eq!(answer(&ANYTHING, &[&format!("{line}permessage-deflate")]).as_deref(), Some("permessage-deflate"));
    }
}
