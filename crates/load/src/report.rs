//! What was measured: as JSON for scripts, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use crate::measure::Summary;

/// The figures of a run. Serialized, it is the JSON that `--json` prints; names of fields hold their units.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `connect`, `echo`, …
    pub scenario: &'static str,
    /// The server.
    pub url: String,
    /// `websocket` or `polling`.
    pub transport: &'static str,
    /// Connections that took part.
    pub connections: usize,
    /// Payload of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    /// In flight: of each connection in `echo`, in all otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// The rate that was asked for, with an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// How long was measured.
    pub seconds: f64,
    /// What an operation is: `echo`, `delivery`, `connection`.
    pub operation: &'static str,
    /// How many ended in that time.
    pub operations: u64,
    /// And in a second.
    pub operations_per_second: f64,
    /// By what was timed, in the order of the table.
    #[serde(serialize_with = "as_map")]
    pub latency: Vec<(&'static str, Summary)>,
    /// Further counts, in the order of the table.
    #[serde(serialize_with = "as_map")]
    pub counts: Vec<(&'static str, u64)>,
    /// Failures of connections, by their text.
    pub failures: BTreeMap<String, u64>,
    /// What the server took, where it was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerUse>,
    /// CPU time of the load itself, in cores: near 1 it is what limits.
    pub load_cpu_cores: f64,
    /// What must not happen and did: the run failed.
    pub problems: Vec<String>,
    /// What one should know who reads the figures.
    pub remarks: Vec<String>,
    /// Whether it was ended early.
    pub interrupted: bool,
}

/// What the server took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ServerUse {
    /// CPU time for each operation, in microseconds.
    pub cpu_us_per_operation: f64,
    /// CPU time in cores.
    pub cpu_cores: f64,
    /// Memory that came for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_per_connection: Option<f64>,
    /// Memory when all connections were up and nothing had been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_before: Option<u64>,
    /// Memory a second after the last delivery, with all connections still up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_after: Option<u64>,
    /// The most memory that it had at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_peak: Option<u64>,
    /// CPU time in cores while connections were only held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_cpu_cores: Option<f64>,
}

fn as_map<S: Serializer, V: Serialize>(pairs: &[(&'static str, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

impl Report {
    /// Whether all went as it must.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// The figures for people, several lines with a final line end.
    pub fn table(&self, colours: bool) -> String {
        let paint = |code: &str, text: &str| match colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(String::new());
        line(format!("  {}   {}", paint("1", self.scenario), self.what()));
        line(format!("  {}", paint("2", &self.how())));
        line(String::new());
        let (one, many) = (self.operation, plural(self.operation));
        line(format!(
            "  {}   {} {} in {}",
            paint("1", &format!("{} {many}/s", grouped(self.operations_per_second))),
            grouped(self.operations as f64),
            if self.operations == 1 { one.to_owned() } else { many.clone() },
            seconds(self.seconds),
        ));
        if self.latency.iter().any(|(_, summary)| summary.count > 0) {
            line(String::new());
            let width = self.latency.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(7);
            let mut header = format!("  {:width$}", "latency");
            for name in ["min", "p50", "p90", "p99", "p99.9", "max"] {
                let _ = write!(header, " {name:>9}");
            }
            line(paint("2", &header));
            for (name, it) in self.latency.iter().filter(|(_, it)| it.count > 0) {
                let mut row = format!("  {:width$}", name.replace('_', " "));
                for value in [it.min_us, it.p50_us, it.p90_us, it.p99_us, it.p999_us, it.max_us] {
                    let _ = write!(row, " {:>9}", micros(value));
                }
                line(row);
            }
        }
        line(String::new());
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(name, count)| format!("{} {}", grouped(*count as f64), name.replace('_', " ")))
            .collect();
        if !counts.is_empty() {
            line(format!("  counted   {}", counts.join(", ")));
        }
        if let Some(server) = &self.server {
            let mut text = format!(
                "  server    {:.2} µs of CPU for each {one}, {:.0} % of a core",
                server.cpu_us_per_operation,
                server.cpu_cores * 100.0
            );
            if let Some(bytes) = server.memory_bytes_per_connection {
                let _ = write!(text, "; {} bytes for each connection", grouped(bytes));
            }
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            if let (Some(before), Some(after)) = (server.memory_bytes_before, server.memory_bytes_after) {
                let _ = write!(text, "; memory {:.1} MB before, {:.1} MB after", megabytes(before), megabytes(after));
            }
            if let Some(peak) = server.memory_bytes_peak {
                let _ = write!(text, "; memory at most {:.1} MB", megabytes(peak));
            }
            if let Some(cores) = server.idle_cpu_cores {
                let _ = write!(text, "; idle {:.1} % of a core", cores * 100.0);
            }
            line(text);
        }
        line(format!("  load      {:.0} % of a core", self.load_cpu_cores * 100.0));
        for (text, count) in &self.failures {
            line(format!("  {}    {} × {text}", paint("33", "failed"), grouped(*count as f64)));
        }
        for text in &self.remarks {
            line(format!("  {}      {text}", paint("33", "note")));
        }
        for text in &self.problems {
            line(format!("  {}   {text}", paint("31;1", "problem")));
        }
        if self.interrupted {
            line(format!("  {}      ended early", paint("33", "note")));
        }
        line(String::new());
        out
    }

    fn what(&self) -> String {
        let mut text = format!(
            "{} {}",
            grouped(self.connections as f64),
            if self.connections == 1 { "connection" } else { "connections" }
        );
        if let Some(count) = self.in_flight {
            let _ = write!(
                text,
                ", {} in flight{}",
                grouped(count as f64),
                if self.operation == "echo" { " each" } else { "" }
            );
        }
        if let Some(bytes) = self.size_bytes {
            let _ = write!(text, ", {} bytes", grouped(bytes as f64));
        }
        text
    }

    fn how(&self) -> String {
        let looped = match self.rate_per_second {
            Some(rate) => {
                format!("open loop at {} a second: latency counts from when an operation was due", grouped(rate))
            }
            None => "closed loop".to_owned(),
        };
        format!("{} over {}, {looped}", self.url, self.transport)
    }
}

fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if noun.ends_with('o') => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// `1234567.8` as `1,234,568`; small numbers with two decimals where they have some.
fn grouped(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in microseconds, in the unit that suits it, with three digits.
fn micros(us: f64) -> String {
    let (value, unit) = match us {
        _ if us >= 999_500.0 => (us / 1e6, "s"),
        _ if us >= 999.5 => (us / 1e3, "ms"),
        _ => (us, "µs"),
    };
    let decimals = match value {
        _ if value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

fn seconds(seconds: f64) -> String {
    micros(seconds * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let summary = Summary {
            count: 10,
            min_us: 90.5,
            mean_us: 0.0,
            p50_us: 1_234.0,
            p90_us: 99_960.0,
            p99_us: 1e6,
            p999_us: 2e7,
            max_us: 3e7,
        };
        Report {
            scenario: "echo",
            url: "http://localhost:3000".into(),
            transport: "websocket",
            connections: 200,
            size_bytes: Some(128),
            in_flight: Some(1),
            rate_per_second: None,
            seconds: 5.0,
            operation: "echo",
            operations: 1_234_567,
            operations_per_second: 246_913.4,
            latency: vec![("round_trip", summary), ("behind_schedule", Summary::default())],
            counts: vec![("wrong_answers", 0)],
            failures: BTreeMap::from([("the server disconnected".to_owned(), 3)]),
            server: Some(ServerUse { cpu_us_per_operation: 7.314, cpu_cores: 0.98, ..ServerUse::default() }),
            load_cpu_cores: 0.5,
            problems: vec!["3 connections were lost".into()],
            remarks: Vec::new(),
            interrupted: false,
        }
    }

    #[test]
    fn the_table_is_for_people() {
        let table = report().table(false);
        let expected = "
  echo   200 connections, 1 in flight each, 128 bytes
  http://localhost:3000 over websocket, closed loop

  246,913 echoes/s   1,234,567 echoes in 5.00 s

  latency          min       p50       p90       p99     p99.9       max
  round trip   90.5 µs   1.23 ms    100 ms    1.00 s    20.0 s    30.0 s

  counted   0 wrong answers
  server    7.31 µs of CPU for each echo, 98 % of a core
  load      50 % of a core
  failed    3 × the server disconnected
  problem   3 connections were lost

";
        // The first column is as wide as its widest name, those without figures included.
        assert_eq!(
            table.replace("     behind", ""),
            expected.replace("latency   ", "latency        ").replace("round trip", "round trip     ")
        );
        assert!(report().table(true).contains("\x1b[31;1mproblem\x1b[0m"));
    }

    #[test]
    fn the_json_is_for_scripts() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["latency"]["round_trip"]["p50_us"], 1_234.0);
        assert_eq!(json["counts"]["wrong_answers"], 0);
        assert_eq!(json["operations"], 1_234_567);
        assert_eq!(json["server"]["cpu_cores"], 0.98);
        assert_eq!(json["failures"]["the server disconnected"], 3);
        assert!(json.get("rate_per_second").is_none());
    }

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (7.25, "7.25"),
            (999.0, "999"),
            (1_000.4, "1,000"),
            (1e6, "1,000,000"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(grouped(value), text);
        }
        for (us, text) in
            [(0.5, "0.50 µs"), (999.4, "999 µs"), (999.6, "1.00 ms"), (12_345.0, "12.3 ms"), (999_600.0, "1.00 s")]
        {
            assert_eq!(micros(us), text);
        }
        assert_eq!([plural("echo"), plural("delivery"), plural("connection")], ["echoes", "deliveries", "connections"]);
    }
}
