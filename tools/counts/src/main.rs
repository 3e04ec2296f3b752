//! Does one operation so many times, for whoever counts from outside: `counts OPERATION TIMES`.
//!
//! What a server does once, and what grows to its size, is over before: the operation is done a few times beforehand.

use std::process::ExitCode;
use std::time::Duration;

use posthaste_counts::{Operation, Subject};

/// So often before anything counts.
const WARM_UP: usize = 10;
/// Long enough for a worker to fall asleep, also where it runs fifty times slower than usual.
const PACE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match read(&arguments) {
        Ok((operation, times)) => {
            let mut subject = Subject::new(operation, PACE);
            subject.run(WARM_UP + times);
            // No good-byes: closing would be counted, and how many turns it takes is chance.
            std::process::exit(0)
        }
        Err(error) => {
            eprintln!("usage: counts OPERATION TIMES\n{error}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<(Operation, usize), String> {
    let [operation, times] = arguments else { return Err("two arguments are needed".to_owned()) };
    let times = times.parse().map_err(|error| format!("TIMES is a number: {error}"))?;
    Ok((operation.parse()?, times))
}
