//! Queues and messages for people.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Longest payload and reason in a line, in characters.
const MAX_TEXT: usize = 80;

const COUNTS: [&str; 5] = ["ready", "leased", "delayed", "dead", "consumers"];

/// A table of queues.
pub(super) fn queues(queues: &[Value]) -> String {
    let head = ["queue", "ready", "leased", "delayed", "dead", "consumers", "oldest", ""].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(queues.iter().map(|queue| {
        let mut row = vec![text(queue, "name")];
        row.extend(COUNTS.iter().map(|name| text(queue, name)));
        row.push(queue["oldest"].as_u64().map_or_else(|| "-".to_owned(), duration));
        row.push(switches(queue));
        row
    }));
    table(&rows)
}

/// What a queue has, a line each.
pub(super) fn stats(stats: &Value) -> String {
    let mut out = String::new();
    for name in COUNTS.iter().chain(&["bytes"]) {
        out += &format!("{name:<10} {}\n", text(stats, name));
    }
    if let Some(oldest) = stats["oldest"].as_u64() {
        out += &format!("{:<10} {}\n", "oldest", duration(oldest));
    }
    let switches = switches(stats);
    if !switches.is_empty() {
        out += &switches;
        out.push('\n');
    }
    let counted = stats["counted"].as_object().into_iter().flatten();
    let counted: Vec<String> =
        counted.filter(|(_, count)| count.as_u64() != Some(0)).map(|(name, count)| format!("{name} {count}")).collect();
    if !counted.is_empty() {
        out += &format!("{:<10} {}\n", "since start", counted.join(", "));
    }
    out
}

/// A table of messages.
pub(super) fn messages(messages: &[Value]) -> String {
    let head = ["id", "state", "priority", "deliveries", "failures", "payload", "reason"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(messages.iter().map(|it| {
        let mut row: Vec<_> = head[..5].iter().map(|name| text(it, name)).collect();
        row.push(shortened(&it["payload"].to_string()));
        row.push(shortened(it["reason"].as_str().unwrap_or_default()));
        row
    }));
    table(&rows)
}

/// A table of schedules.
pub(super) fn schedules(schedules: &[Value]) -> String {
    let now = now();
    let head = ["schedule", "queue", "when", "next", "last", "count", ""].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(schedules.iter().map(|it| {
        let mut row = vec![text(it, "name"), text(it, "queue"), when(it)];
        row.extend([next(it, now), last(it, now), text(it, "count"), state(it)]);
        row
    }));
    table(&rows)
}

/// One of them, a line each.
pub(super) fn schedule(it: &Value) -> String {
    let now = now();
    let mut out = String::new();
    let missed = format!("{} {}", text(it, "missed"), text(it, "max_missed"));
    for (name, value) in [
        ("schedule", text(it, "name")),
        ("queue", text(it, "queue")),
        ("when", when(it)),
        ("missed", missed.trim_end().to_owned()),
        ("next", next(it, now)),
        ("last", last(it, now)),
        ("count", text(it, "count")),
        ("state", state(it)),
        ("payload", shortened(&it["payload"].to_string())),
    ] {
        if !value.is_empty() {
            out += &format!("{name:<10} {value}\n");
        }
    }
    out
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn when(it: &Value) -> String {
    match it["every"].as_u64() {
        Some(every) => format!("every {}", duration(every)),
        None => format!("{}, {}", text(it, "cron"), text(it, "zone")),
    }
}

fn next(it: &Value, now: u64) -> String {
    it["next"].as_u64().map_or_else(|| "-".to_owned(), |next| format!("in {}", duration(next.saturating_sub(now))))
}

fn last(it: &Value, now: u64) -> String {
    let at = it["last"]["at"].as_u64();
    at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", duration(now.saturating_sub(at))))
}

fn state(it: &Value) -> String {
    let paused = if it["paused"] == Value::Bool(true) { "paused" } else { "" };
    let said = [paused.to_owned(), text(it, "problem")];
    said.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", ")
}

fn switches(of: &Value) -> String {
    let on = ["paused", "draining"].into_iter().filter(|name| of[name] == Value::Bool(true));
    on.collect::<Vec<_>>().join(", ")
}

fn text(of: &Value, name: &str) -> String {
    match &of[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What people put must not move the cursor of whoever looks at it.
fn shortened(text: &str) -> String {
    let mut chars = text.chars().map(|it| if it.is_control() { ' ' } else { it });
    let short: String = chars.by_ref().take(MAX_TEXT).collect();
    if chars.next().is_some() { format!("{short}…") } else { short }
}

fn duration(milliseconds: u64) -> String {
    match milliseconds / 1_000 {
        0 => format!("{milliseconds}ms"),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(it, &width)| format!("{it:<width$}")).collect();
        out += line.join("  ").trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_stand_in_columns() {
        let mut queue = json!({ "name": "mail", "ready": 12, "leased": 0, "delayed": 3, "dead": 0, "consumers": 1 });
        queue["oldest"] = json!(7_200_000);
        queue["paused"] = json!(true);
        let expected = "queue  ready  leased  delayed  dead  consumers  oldest\nmail   12     0       3        0     1          2h      paused\n";
        assert_eq!(queues(&[queue]), expected);
    }

    #[test]
    fn what_people_put_stays_in_its_line() {
        let long = json!({ "payload": "x".repeat(100), "reason": "two\nlines\u{1b}[2J" });
        let said = messages(&[long]);
        assert_eq!(said.lines().count(), 2);
        assert!(said.contains('…') && said.contains("two lines [2J") && !said.contains('\u{1b}'), "{said}");
        assert_eq!(["5ms", "5s", "5m", "5h", "5d"], [5, 5_000, 300_000, 18_000_000, 432_000_000].map(duration));
    }
}
