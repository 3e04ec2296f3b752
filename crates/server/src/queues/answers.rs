//! What the answer to a job says.
//!
//! | the answer has | the job is |
//! |---|---|
//! | nothing, or `null` | done |
//! | one value | done, with that result |
//! | several values | done, with their array as the result |
//! | `{"$q": {"do": "done", "result": …}}` | done with that result, whatever it looks like |
//! | `{"$q": {"do": "retry", "in": 5000, "why": "…"}}` | failed: again later |
//! | `{"$q": {"do": "release"}}` | somebody else's; it did not fail |
//! | `{"$q": {"do": "dead", "why": "…"}}` | given up |
//!
//! What says `$q` alone and is none of these counts as a failure whose reason says so: it must not pass for done.

use std::borrow::Cow;
use std::sync::Arc;

use posthaste_queue::{Backoff, Verdict};
use posthaste_socket_proto::Args;

use super::error::Refused;
use super::options::Options;
use super::payload::Payload;

/// What becomes of a job by its answer.
pub(crate) fn verdict(args: &Args<'_>) -> Verdict {
    let raw = args.raw();
    if raw.is_empty() || raw == "null" {
        return Verdict::Done(None);
    }
    // Most results are not even near.
    if raw.contains("$q")
        && let mut values = args.iter()
        && let (Some(only), None) = (values.next(), values.next())
        && let Some(order) = order_of(only)
    {
        return match ordered(order, args) {
            Ok(verdict) => verdict,
            Err(why) => Verdict::Retry { after_ms: None, why: format!("unreadable answer: {}", why.text()).into() },
        };
    }
    match Payload::of_args(args) {
        Some(payload) => Verdict::Done(Some(payload.into_stored())),
        None => Verdict::Retry { after_ms: None, why: "unreadable answer: too many binary parts".into() },
    }
}

/// What is said under `$q`, if a value is an object with nothing else.
fn order_of(value: &str) -> Option<&str> {
    value.starts_with('{').then_some(())?;
    let mut members = Options::read(Some(value)).ok()?;
    let order = members.take("$q")?;
    members.end().is_ok().then(|| order.get())
}

fn ordered(order: &str, args: &Args<'_>) -> Result<Verdict, Refused> {
    let mut options = Options::read(Some(order))?;
    match Outcome::take(&mut options, "do")? {
        Outcome::Done => {
            let result = options.take("result");
            options.end()?;
            let result = result.map(|result| Payload::from_text(result.get(), args.attachments()).into_stored());
            Ok(Verdict::Done(result))
        }
        other => other.verdict(options),
    }
}

/// What a settlement says became of a message, besides its result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Retry,
    Release,
    Dead,
}

impl Outcome {
    /// The one that is named by an option, which has to be there.
    pub(crate) fn take(options: &mut Options<'_>, name: &str) -> Result<Self, Refused> {
        const WORDS: &[(&str, Outcome)] = &[
            ("done", Outcome::Done),
            ("retry", Outcome::Retry),
            ("release", Outcome::Release),
            ("dead", Outcome::Dead),
        ];
        options.word(name, WORDS)?.ok_or_else(|| Refused::invalid(format!("`{name}` is missing")))
    }

    /// The verdict with what its options say; no others may be left.
    pub(crate) fn verdict(self, mut options: Options<'_>) -> Result<Verdict, Refused> {
        let verdict = match self {
            Self::Done => {
                let result = options.take("result");
                Verdict::Done(result.map(|result| Payload::from_text(result.get(), &[]).into_stored()))
            }
            Self::Retry => {
                Verdict::Retry { after_ms: options.number("in", 0..=Backoff::MAX_MS)?, why: why(&mut options)? }
            }
            Self::Release => Verdict::Release,
            Self::Dead => Verdict::Dead { why: why(&mut options)? },
        };
        options.end()?;
        Ok(verdict)
    }
}

/// The reason that is given, if one is; a long one is cut.
fn why(options: &mut Options<'_>) -> Result<Arc<str>, Refused> {
    let Some(why) = options.take("why") else { return Ok("".into()) };
    let why = serde_json::from_str::<Cow<'_, str>>(why.get()).map_err(|_| Refused::invalid("`why` is text"))?;
    Ok(cut(&why).into())
}

/// As much of a reason as is kept.
pub(crate) fn cut(why: &str) -> &str {
    let mut end = why.len().min(Verdict::MAX_WHY);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    &why[..end]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of(array: &str) -> Verdict {
        verdict(&Args::decode(array, Vec::new()).unwrap())
    }

    fn done(result: &str) -> Verdict {
        Verdict::Done(Some(Bytes::copy_from_slice(result.as_bytes())))
    }

    #[test]
    fn an_answer_settles_a_job() {
        assert_eq!(of("[]"), Verdict::Done(None));
        assert_eq!(of("[null]"), Verdict::Done(None));
        for result in
            ["0", "false", "\"\"", "\"$q\"", "{}", r#"{"a":"$q"}"#, r#"{"$q":{"do":"dead"},"a":1}"#, r#"[{"$q":1}]"#]
        {
            assert_eq!(of(&format!("[{result}]")), done(result), "{result}");
        }
        assert_eq!(of(r#"[1,{"$q":{"do":"dead"}}]"#), done(r#"[1,{"$q":{"do":"dead"}}]"#));
        assert_eq!(of(r#"[{"$q":{"do":"done"}}]"#), Verdict::Done(None));
        assert_eq!(of(r#"[{"$q":{"do":"done","result":{"$q":1}}}]"#), done(r#"{"$q":1}"#));
        assert_eq!(of(r#"[{"$q":{"do":"release"}}]"#), Verdict::Release);
        assert_eq!(of(r#"[{"$q":{"do":"dead","why":"no"}}]"#), Verdict::Dead { why: "no".into() });
        let retry = Verdict::Retry { after_ms: Some(5000), why: "later".into() };
        assert_eq!(of(r#"[ {"$q": {"do": "retry", "in": 5000, "why": "later"}} ]"#), retry);
        assert_eq!(of(r#"[{"$q":{"do":"retry"}}]"#), Verdict::Retry { after_ms: None, why: "".into() });
        assert_eq!(of(r#"[{"\u0024q":{"do":"done"}}]"#), done(r#"{"\u0024q":{"do":"done"}}"#), "plainly spelled");
    }

    #[test]
    fn what_cannot_be_read_is_a_failure_that_says_so() {
        for order in
            ["5", "{}", r#"{"do":"retri"}"#, r#"{"do":"retry","in":-5}"#, r#"{"do":"release","in":1}"#, r#"{"do":5}"#]
        {
            let verdict = of(&format!(r#"[{{"$q":{order}}}]"#));
            assert!(
                matches!(&verdict, Verdict::Retry { after_ms: None, why } if why.starts_with("unreadable answer")),
                "{order}: {verdict:?}"
            );
        }
    }

    #[test]
    fn results_keep_what_is_binary() {
        let data = Bytes::from_static(b"\x01");
        for array in [
            r#"[{"image":{"_placeholder":true,"num":0}}]"#,
            r#"[{"$q":{"do":"done","result":{"image":{"_placeholder":true,"num":0}}}}]"#,
        ] {
            let Verdict::Done(Some(result)) = verdict(&Args::decode(array, vec![data.clone()]).unwrap()) else {
                panic!("{array} is done with a result");
            };
            let payload = Payload::from_stored(result);
            let (text, parts) = payload.parts().unwrap();
            assert_eq!((text, parts), (r#"{"image":{"_placeholder":true,"num":0}}"#, vec![data.clone()]));
        }
    }
}
