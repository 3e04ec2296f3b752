//! Reading what a room was sent, within bounds.

use posthaste::store::StoreError;
use posthaste::{Budget, DurableError, History, HistoryPage, HistoryStart, Namespace, Socket};

use crate::rooms::answer::{Code, Refusal};
use crate::rooms::event::{Binary, Page, fit_into_packet};

/// How many events a page has if nobody says.
pub(crate) const USUAL_LIMIT: usize = 100;
/// The most events of a page.
pub(crate) const MAX_LIMIT: usize = 1_000;
/// The most bytes of a page's events. An answer has to fit beside what else waits for its client.
const MAX_BYTES: usize = 256 << 10;

/// Reads a page. An offset that this store does not know is a gap, and the page is the oldest, or the last: it is an offset of a
/// store that was made anew, or was salvaged.
pub(crate) async fn page(
    namespace: &Namespace,
    room: &str,
    start: HistoryStart<'_>,
    limit: usize,
) -> Result<HistoryPage, Refusal> {
    let history = namespace.history(room).map_err(|error| refusal(&error))?;
    read(&history, start, limit).await.map_err(|error| refusal(&error))
}

/// As [`page`], for a client's answer: what can be in one packet. If the client has had too much in a short time, it waits.
pub(crate) async fn page_for(
    socket: &Socket,
    room: &str,
    start: HistoryStart<'_>,
    limit: usize,
) -> Result<Page, Refusal> {
    let history = socket.namespace().history(room).map_err(|error| refusal(&error))?;
    let reserved = history.reserve(socket, budget(limit)).await;
    let mut page = read(&history, start, limit).await.map_err(|error| refusal(&error))?;
    fit_into_packet(&mut page);
    reserved.settle(&page);
    Ok(Page::new(page, Binary::Attached))
}

/// As [`page`], of a history that is at hand.
pub(crate) async fn read(
    history: &History,
    start: HistoryStart<'_>,
    limit: usize,
) -> Result<HistoryPage, DurableError> {
    let budget = budget(limit);
    match history.page(start, budget).await {
        Err(DurableError::Offset) => {
            let start = match start {
                HistoryStart::Before(..) => HistoryStart::Last(limit),
                _ => HistoryStart::Oldest,
            };
            let mut page = history.page(start, budget).await?;
            page.gap = true;
            Ok(page)
        }
        read => read,
    }
}

const fn budget(limit: usize) -> Budget {
    Budget { max_events: limit, max_bytes: MAX_BYTES }
}

/// What a client gives for an offset, if it could be one.
pub(crate) fn offset(text: &str) -> Result<&str, Refusal> {
    if History::is_offset(text) { Ok(text) } else { Err(Refusal::new(Code::Invalid, "that is no offset")) }
}

/// How many, if that is asked for within bounds.
pub(crate) fn limit(wanted: Option<usize>) -> Result<usize, Refusal> {
    match wanted.unwrap_or(USUAL_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Refusal::new(Code::Invalid, format!("a limit is 1 to {MAX_LIMIT}"))),
    }
}

/// What a client is told when something could not be kept, or read.
pub(crate) fn refusal(error: &DurableError) -> Refusal {
    let (code, message) = match error {
        DurableError::Encode(_) => (Code::Invalid, "the event cannot be sent"),
        DurableError::Store(StoreError::Refused(_)) => (Code::Invalid, "the event is too large to be kept"),
        DurableError::Store(StoreError::Full { .. }) => (Code::StorageFull, "the server's disk is full"),
        DurableError::Store(StoreError::Busy { .. }) => (Code::Busy, "the server's disk is behind: try again"),
        _ => (Code::Unavailable, "the server's store does not answer"),
    };
    tracing::warn!(%error, "a room's history");
    Refusal::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_a_form() {
        let one = format!("~{}", "aZ0-_x".repeat(4).split_at(22).0);
        assert!(offset(&one).is_ok());
        assert!(offset(&one.repeat(2)).is_ok());
        for text in ["", "~", "abc", &one[1..], &one.repeat(3), &one.replace('a', "é"), &one.replace('a', "+")] {
            assert!(offset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        assert_eq!(limit(None).ok(), Some(USUAL_LIMIT));
        assert_eq!(limit(Some(MAX_LIMIT)).ok(), Some(MAX_LIMIT));
        assert!(limit(Some(0)).is_err() && limit(Some(MAX_LIMIT + 1)).is_err());
    }
}
