//! What is put again and again.

use super::{Script, draft, taker};
use crate::contract::plans::SCHEDULED;
use crate::contract::steps::{Catch, Plan, Step};

pub(super) fn schedules() -> Vec<Script> {
    let every = |seconds: u64| Plan { seconds, ..Plan::default() };
    let expect = |found: [u64; 4]| Step::Expect(SCHEDULED, found);
    let caught = |missed: Catch| Plan { missed, ..every(2) };
    let cron = || Plan { is_cron: true, size: 1, priority: 3, key: Some(1), ..every(3) };
    // The suite begins at a multiple of 200 s, and 2 s behind one of 3 s.
    let mut scripts = vec![
        (
            "it is time again and again",
            vec![
                Step::Schedule(0, every(2)),
                Step::Wait(1_999),
                expect([0; 4]),
                Step::Wait(1),
                expect([1, 0, 0, 0]),
                Step::Wait(4_000),
                expect([3, 0, 0, 0]),
            ],
        ),
        (
            "a cron expression says when",
            vec![Step::Schedule(0, cron()), Step::Wait(999), expect([0; 4]), Step::Wait(5_000), expect([2, 0, 0, 0])],
        ),
        (
            "whoever takes what schedules put is given it when it is time",
            vec![
                Step::Consume(0, taker(SCHEDULED, 9)),
                Step::Schedule(0, every(1)),
                Step::Schedule(1, cron()),
                Step::Wait(3_000),
                expect([0, 4, 0, 0]),
            ],
        ),
        (
            "what was missed is put once",
            vec![
                Step::Schedule(0, caught(Catch::Once)),
                Step::Jump(9_000),
                expect([1, 0, 0, 0]),
                Step::Wait(1_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "or as often as it was missed",
            vec![
                Step::Schedule(0, caught(Catch::All(9))),
                Step::Jump(9_000),
                expect([4, 0, 0, 0]),
                Step::Wait(1_000),
                expect([5, 0, 0, 0]),
            ],
        ),
        (
            "but not more often than it was to be",
            vec![Step::Schedule(0, caught(Catch::All(3))), Step::Jump(9_000), expect([3, 0, 0, 0])],
        ),
        (
            "or not at all if that is long ago",
            vec![
                Step::Schedule(0, Plan { seconds: 200, ..caught(Catch::Skip) }),
                Step::Jump(262_000),
                expect([0; 4]),
                Step::Wait(200_000),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "what is paused misses nothing",
            vec![
                Step::Schedule(0, caught(Catch::All(9))),
                Step::PauseSchedule(0, true),
                Step::Wait(9_000),
                Step::RunSchedule(0),
                expect([1, 0, 0, 0]),
                Step::PauseSchedule(0, false),
                Step::Wait(2_000),
                expect([2, 0, 0, 0]),
                Step::Schedule(0, Plan { is_paused: Some(true), ..every(2) }),
                Step::Wait(2_000),
                Step::Schedule(0, every(2)),
                Step::Wait(2_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "what is told again goes on as it was",
            vec![
                Step::Schedule(0, every(4)),
                Step::Jump(5_000),
                Step::Schedule(0, every(4)),
                expect([1, 0, 0, 0]),
                Step::Schedule(0, every(3)),
                Step::Wait(3_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "what is scheduled no longer puts nothing",
            vec![
                Step::Schedule(0, every(1)),
                Step::Wait(1_000),
                Step::Unschedule(0),
                Step::Wait(5_000),
                expect([1, 0, 0, 0]),
                Step::Unschedule(0),
                Step::PauseSchedule(0, true),
                Step::RunSchedule(0),
            ],
        ),
        (
            "what schedules put expires as they say",
            vec![
                Step::Schedule(0, Plan { ttl: Some(1_500), ..every(2) }),
                Step::Wait(2_000),
                expect([1, 0, 0, 0]),
                Step::Wait(1_500),
                expect([0; 4]),
            ],
        ),
        (
            "schedules go on after a restart, and put nothing again",
            vec![
                Step::Schedule(0, every(2)),
                Step::Schedule(1, cron()),
                Step::Schedule(2, Plan { is_paused: Some(true), ..every(1) }),
                Step::Wait(4_000),
                Step::Reopen,
                Step::Wait(2_000),
                Step::Kill(vec![draft()], true),
                Step::Jump(5_000),
                Step::Kill(vec![draft()], false),
                Step::Wait(100),
                Step::Unschedule(0),
                Step::Reopen,
                Step::Wait(5_000),
            ],
        ),
    ];
    let mistakes = (0..10).map(|mistake| Step::ScheduleWithMistake(0, mistake));
    let mistakes =
        [Step::Schedule(0, every(2))].into_iter().chain(mistakes).chain([Step::Wait(2_000), expect([1, 0, 0, 0])]);
    scripts.push(("what cannot be scheduled is refused", mistakes.collect()));
    scripts
}
