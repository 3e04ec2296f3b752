//! JSONP: polling by `<script>` and `<form>`, as clients of revision 3 do in browsers that know nothing better.
//!
//! The answer to a GET is a script that calls one of the client's functions with a payload; a POST is a form whose field `d` is a
//! payload. Nothing of a request but a number gets into the script.

use form_urlencoded::parse;

/// The number of the client's function (`j` in the query).
///
/// Only its digits count, of which there are at most nine: whatever else a request puts there is not repeated to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jsonp(u32);

/// More digits are left out: no page has so many functions.
const DIGITS: usize = 9;

impl Jsonp {
    /// Reads the parameter `j`; without a digit it is 0.
    ///
    /// ```
    /// use posthaste_engine_proto::Jsonp;
    /// assert_eq!(Jsonp::parse("2];alert(1)//").script("1:6"), br#"___eio[21]("1:6");"#);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(
            text.chars().filter_map(|character| character.to_digit(10)).take(DIGITS).fold(0, |all, one| all * 10 + one),
        )
    }

    /// The script that hands `payload` to the client.
    ///
    /// Source: `engine.io` 6.6, `transports/polling-jsonp`.
    #[must_use]
    pub fn script(self, payload: &str) -> Vec<u8> {
        let mut script = Vec::with_capacity(payload.len() + payload.len() / 8 + 32);
        script.extend_from_slice(b"___eio[");
        script.extend_from_slice(itoa::Buffer::new().format(self.0).as_bytes());
        script.extend_from_slice(b"](\"");
        for character in payload.chars() {
            let escape: &[u8] = match character {
                '"' => b"\\\"",
                '\\' => b"\\\\",
                '\n' => b"\\n",
                '\r' => b"\\r",
                '\t' => b"\\t",
                // Line ends to JavaScript, though not to JSON.
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                control if u32::from(control) < 0x20 => {
                    let digits = b"0123456789abcdef";
                    let code = control as usize;
                    script.extend_from_slice(&[b'\\', b'u', b'0', b'0', digits[code >> 4], digits[code & 15]]);
                    continue;
                }
                other => {
                    script.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            script.extend_from_slice(escape);
        }
        script.extend_from_slice(b"\");");
        script
    }
}

/// The payload of a form: its field `d`. `None` when there is none, or more than one.
///
/// Forms change line ends, so the client writes a line feed as `\n` and a backslash before an `n` as two.
///
/// ```
/// use posthaste_engine_proto::jsonp::read_form;
/// assert_eq!(read_form(br"d=4%3A4a%5Cnb").as_deref(), Some("4:4a\nb"));
/// assert_eq!(read_form(br"d=5%3A4a%5C%5Cnb").as_deref(), Some(r"5:4a\nb"));
/// ```
#[must_use]
pub fn read_form(body: &[u8]) -> Option<String> {
    let mut fields = parse(body).filter(|(name, _)| name == "d");
    let (_, field) = fields.next()?;
    fields.next().is_none().then(|| unescape(&field))
}

fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix(r"\\n") {
            text.push_str(r"\n");
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(r"\n") {
            text.push('\n');
            rest = behind;
        } else {
            text.push('\\');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sec_07_only_digits_of_the_parameter_reach_the_script() {
        for (given, number) in [
            ("0", "0"),
            ("12", "12"),
            ("", "0"),
            ("abc", "0"),
            ("0](alert(document.cookie));//", "0"),
            ("1;x=2", "12"),
            ("\u{661}\u{ff12}3", "3"),
            ("99999999999999999999", "999999999"),
        ] {
            let script = String::from_utf8(Jsonp::parse(given).script("x")).expect("text");
            assert_eq!(script, format!("___eio[{number}](\"x\");"), "{given:?}");
        }
    }

    #[test]
    fn a_payload_is_a_string_to_javascript_whatever_is_in_it() {
        let script = Jsonp::parse("3").script("4:4\"\\\u{2028}\u{2029}\n\r\t\u{1}\u{1f}</script>€😀");
        let expected = r#"___eio[3]("4:4\"\\\u2028\u2029\n\r\t\u0001\u001f</script>€😀");"#;
        assert_eq!(String::from_utf8(script).expect("text"), expected);
    }

    #[test]
    fn a_form_has_one_field_of_that_name() {
        for (form, payload) in [
            (&b"d=1%3A2"[..], Some("1:2")),
            (b"x=1&d=1:2&y", Some("1:2")),
            (b"d=a+b%2Bc", Some("a b+c")),
            (b"d=%E2%82%AC", Some("€")),
            (b"d=", Some("")),
            (b"d", Some("")),
            (b"d=1:2&d=1:2", None),
            (b"D=1:2", None),
            (b"", None),
            (b"1:2", None),
        ] {
            assert_eq!(read_form(form).as_deref(), payload, "{}", String::from_utf8_lossy(form));
        }
    }

    /// What `engine.io-client` 3 does to a payload before it puts it into the form.
    fn escaped(payload: &str) -> String {
        payload.replace(r"\n", "\\\n").replace('\n', r"\n")
    }

    proptest! {
        #[test]
        fn every_payload_survives_the_form(payload in "(\\\\|n|\n|a|€|:|%|&){0,40}") {
            // The client's own escape is not one to one: what it writes for a backslash before a line feed means the other as well.
            prop_assume!(!payload.contains("\\\n"));
            let form: String = form_urlencoded::Serializer::new(String::new()).append_pair("d", &escaped(&payload)).finish();
            prop_assert_eq!(read_form(form.as_bytes()), Some(payload));
        }

        #[test]
        fn no_form_makes_reading_panic(form: Vec<u8>) {
            let _ = read_form(&form);
        }

        #[test]
        fn sec_07_a_script_is_one_call_with_one_string(j in ".{0,30}", payload in ".{0,60}") {
            let script = String::from_utf8(Jsonp::parse(&j).script(&payload)).expect("text");
            let rest = script.strip_prefix("___eio[").expect("the function");
            let (number, string) = rest.split_once(']').expect("its number");
            prop_assert!(!number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit()));
            let string = string.strip_prefix("(\"").and_then(|string| string.strip_suffix("\");")).expect("one string");
            // Nothing in it ends it, and no line ends in it.
            let mut characters = string.chars();
            while let Some(character) = characters.next() {
                let is_plain = character >= ' ' && !matches!(character, '"' | '\u{2028}' | '\u{2029}');
                prop_assert!(is_plain, "{:?}", character);
                if character == '\\' {
                    prop_assert!(characters.next().is_some());
                }
            }
        }
    }
}
