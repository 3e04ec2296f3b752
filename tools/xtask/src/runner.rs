//! `cargo xtask test`: chooses steps, runs them in order and sums up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::steps::{STEPS, Step};
use crate::workspace::Workspace;

/// Runs the steps that `arguments` choose.
///
/// # Errors
/// `arguments` make no sense, or a step failed; the summary on standard output says which.
pub(crate) fn test(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let choice = Choice::parse(arguments)?;
    if choice.list {
        for step in STEPS {
            println!("{:<12}{}", step.name, step.about);
        }
        return Ok(());
    }

    let started = Instant::now();
    let mut results: Vec<StepResult> = Vec::new();
    for step in choice.wanted() {
        let outcome = match choice.obstacle(step, &results) {
            Some(reason) => Outcome::Skipped(reason),
            None => {
                println!("\n==> {}: {}", step.name, step.about);
                match (step.run)(workspace) {
                    Ok(remark) => Outcome::Ok(remark),
                    Err(error) => {
                        // To the same stream as the heading: a log that keeps streams apart stays readable.
                        println!("==> {} failed: {error:#}", step.name);
                        Outcome::Failed
                    }
                }
            }
        };
        let before: Duration = results.iter().map(|result| result.duration).sum();
        results.push(StepResult { name: step.name, duration: started.elapsed().saturating_sub(before), outcome });
    }

    println!("\n==> summary");
    for result in &results {
        println!("{result}");
    }
    let failed: Vec<_> = failures(&results).collect();
    if failed.is_empty() {
        let passed = results.iter().filter(|result| matches!(result.outcome, Outcome::Ok(_))).count();
        let skipped = results.len() - passed;
        println!("{passed} passed, {skipped} skipped in {:.0} s", started.elapsed().as_secs_f64());
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

struct StepResult {
    name: &'static str,
    duration: Duration,
    outcome: Outcome,
}

enum Outcome {
    /// With a remark, which may be empty.
    Ok(String),
    Failed,
    /// With the reason.
    Skipped(String),
}

impl std::fmt::Display for StepResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, remark) = match &self.outcome {
            Outcome::Ok(remark) => ("ok", remark.as_str()),
            Outcome::Failed => ("FAILED", ""),
            Outcome::Skipped(reason) => ("skipped", reason.as_str()),
        };
        let seconds = self.duration.as_secs_f64();
        let line = format!("{:<12}{word:<8}{seconds:>7.1} s  {remark}", self.name);
        f.write_str(line.trim_end())
    }
}

fn failures(results: &[StepResult]) -> impl Iterator<Item = &'static str> {
    results.iter().filter(|result| matches!(result.outcome, Outcome::Failed)).map(|result| result.name)
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Choice {
    only: BTreeSet<&'static str>,
    skip: BTreeSet<&'static str>,
    keep_going: bool,
    list: bool,
}

impl Choice {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut choice = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (argument.as_str(), None),
            };
            let steps = match (option, attached) {
                ("--only", _) => &mut choice.only,
                ("--skip", _) => &mut choice.skip,
                ("--keep-going", None) => {
                    choice.keep_going = true;
                    continue;
                }
                ("--list", None) => {
                    choice.list = true;
                    continue;
                }
                _ => bail!("unknown option {argument:?}; see cargo xtask help"),
            };
            let name = attached
                .or_else(|| rest.next().map(String::as_str))
                .with_context(|| format!("{option} lacks the name of a step"))?;
            steps.insert(find(name)?.name);
        }
        Ok(choice)
    }

    /// The chosen steps with everything they need, in order; a skipped one stays in, to be mentioned.
    fn wanted(&self) -> Vec<&'static Step> {
        let mut wanted = self.only.clone();
        // Needs point backwards, so one pass from the end finds them all.
        for step in STEPS.iter().rev() {
            if wanted.contains(step.name) {
                wanted.extend(step.needs);
            }
        }
        STEPS.iter().filter(|step| self.only.is_empty() || wanted.contains(step.name)).collect()
    }

    /// Why `step` must not run after these results, if anything speaks against it.
    ///
    /// A need that was skipped by wish is none: whoever skips the installation has what it installs.
    fn obstacle(&self, step: &Step, results: &[StepResult]) -> Option<String> {
        if self.skip.contains(step.name) {
            return Some("as asked".into());
        }
        if !self.keep_going {
            return failures(results).next().map(|name| format!("{name} failed"));
        }
        let broken = results.iter().find(|result| {
            let absent = match result.outcome {
                Outcome::Ok(_) => false,
                Outcome::Failed => true,
                Outcome::Skipped(_) => !self.skip.contains(result.name),
            };
            absent && step.needs.contains(&result.name)
        });
        broken.map(|result| format!("needs {}", result.name))
    }
}

fn find(name: &str) -> Result<&'static Step> {
    STEPS.iter().find(|step| step.name == name).with_context(|| {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        format!("there is no step {name:?}; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(line: &str) -> Result<Choice> {
        let arguments: Vec<_> = line.split_whitespace().map(String::from).collect();
        Choice::parse(&arguments)
    }

    fn wanted(line: &str) -> Vec<&'static str> {
        let wanted = choice(line).unwrap().wanted();
        wanted.iter().map(|step| step.name).collect()
    }

    fn result(name: &'static str, outcome: Outcome) -> StepResult {
        StepResult { name, duration: Duration::ZERO, outcome }
    }

    #[test]
    fn without_options_every_step_is_wanted() {
        assert_eq!(wanted("").len(), STEPS.len());
        assert_eq!(wanted("--skip doc").len(), STEPS.len());
    }

    #[test]
    fn a_chosen_step_brings_what_it_needs_in_order() {
        assert_eq!(wanted("--only doc"), ["doc"]);
        assert_eq!(wanted("--only=doc --only fmt"), ["components", "fmt", "doc"]);
        assert_eq!(wanted("--only clients"), ["packages", "modules", "python", "binaries", "rust", "clients"]);
    }

    #[test]
    fn mistyped_arguments_are_refused() {
        for (line, complaint) in [
            ("--only tests", "there is no step \"tests\""),
            ("--skip", "--skip lacks the name"),
            ("--only=", "there is no step \"\""),
            ("--fast", "unknown option \"--fast\""),
            ("--list=all", "unknown option \"--list=all\""),
            ("doc", "unknown option \"doc\""),
        ] {
            let error = choice(line).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{line}: {error}");
        }
    }

    #[test]
    fn the_first_failure_stops_the_rest() {
        let choice = choice("").unwrap();
        let results = [result("fmt", Outcome::Failed)];
        let obstacle = choice.obstacle(find("doc").unwrap(), &results);
        assert_eq!(obstacle.as_deref(), Some("fmt failed"));
    }

    #[test]
    fn keeping_going_stops_only_what_needs_the_failed_step() {
        let choice = choice("--keep-going").unwrap();
        let mut results = vec![result("packages", Outcome::Failed), result("components", Outcome::Ok(String::new()))];
        assert_eq!(choice.obstacle(find("fmt").unwrap(), &results), None);
        let modules = choice.obstacle(find("modules").unwrap(), &results);
        assert_eq!(modules.as_deref(), Some("needs packages"));

        results[0] = result("packages", Outcome::Ok(String::new()));
        results.push(result("modules", Outcome::Skipped("needs packages".into())));
        let clients = choice.obstacle(find("clients").unwrap(), &results);
        assert_eq!(clients.as_deref(), Some("needs modules"));
    }

    #[test]
    fn a_step_skipped_by_wish_stands_in_nobodys_way() {
        let choice = choice("--skip packages --keep-going").unwrap();
        let packages = find("packages").unwrap();
        let reason = choice.obstacle(packages, &[]).unwrap();
        let results = [result("packages", Outcome::Skipped(reason))];
        assert_eq!(choice.obstacle(find("modules").unwrap(), &results), None);
    }
}
