//! Random programs on several workers, threads and tasks at once, against a model of what each client must hear.
//!
//! ```text
//!   actors   threads, tasks, handlers of sockets: each does its steps in order, some of them only after a step of another actor
//!   steps    join and leave rooms that only this actor uses, for sockets of any worker; emit to rooms, sockets, everybody
//!   model    who is in an actor's rooms is known at each of its steps, so are the receivers of each emit. At each receiver, what one
//!            actor emits keeps its order, and what happened before a step is heard before what that step emits
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use posthaste::{Data, Server, Socket};
use posthaste_testkit::{Client, Random, within};
use proptest::prelude::*;

use crate::spread::{Placed, Spread};

/// Rooms of each actor.
const ROOMS: usize = 3;
const ACTORS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A thread of its own.
    Thread,
    /// A task of the application's runtime, which may run on any of its threads.
    Task,
    /// A task each of whose steps is done on another thread.
    Wanderer,
    /// A handler of the socket of this number.
    Handler(usize),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join { socket: usize, room: usize },
    Leave { socket: usize, room: usize },
    All,
    Room(usize),
    Rooms(usize, usize),
    Except(usize, usize),
    Socket(usize),
    OwnRoom(usize),
    Yield,
}

/// A step in the order in which a single thread could do them all.
#[derive(Clone, Debug)]
struct Planned {
    actor: usize,
    step: Step,
    /// Whether what it emits is too long to be copied for each receiver.
    is_long: bool,
    /// A step to wait for, so many before this one.
    after: Option<usize>,
}

#[derive(Clone, Debug)]
struct Plan {
    workers: usize,
    kinds: Vec<Kind>,
    steps: Vec<Planned>,
    /// Whether other clients come and go meanwhile.
    storm: bool,
}

fn any_step() -> impl Strategy<Value = Step> {
    let (socket, room) = (0..8usize, 0..ROOMS);
    prop_oneof![
        4 => (socket.clone(), room.clone()).prop_map(|(socket, room)| Step::Join { socket, room }),
        3 => (socket.clone(), room.clone()).prop_map(|(socket, room)| Step::Leave { socket, room }),
        2 => Just(Step::All),
        4 => room.clone().prop_map(Step::Room),
        2 => (room.clone(), room.clone()).prop_map(|(one, other)| Step::Rooms(one, other)),
        2 => (room.clone(), room).prop_map(|(one, other)| Step::Except(one, other)),
        2 => socket.clone().prop_map(Step::Socket),
        1 => socket.prop_map(Step::OwnRoom),
        1 => Just(Step::Yield),
    ]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        Just(Kind::Thread),
        Just(Kind::Task),
        Just(Kind::Wanderer),
        (0..8usize).prop_map(Kind::Handler),
        (0..8usize).prop_map(Kind::Handler),
    ];
    let step = (0..ACTORS, any_step(), prop::bool::weighted(0.1), prop::option::weighted(0.3, 1..12usize));
    let step = step.prop_map(|(actor, step, is_long, after)| Planned { actor, step, is_long, after });
    (2..5usize, prop::collection::vec(kind, ACTORS), prop::collection::vec(step, 20..250), any::<bool>())
        .prop_map(|(workers, kinds, steps, storm)| Plan { workers, kinds, steps, storm })
}

/// What the model knows of an emit.
struct Expected {
    receivers: BTreeSet<usize>,
    /// The steps that happened before, by actor: so many of all steps up to this one.
    before: [usize; ACTORS],
}

/// Every emit by its step's number.
fn model(plan: &Plan, sockets: usize) -> BTreeMap<usize, Expected> {
    let mut rooms = vec![vec![BTreeSet::new(); ROOMS]; ACTORS];
    // Of each step, of each actor the last step (counted from one) that happened before it or is it.
    let mut known: Vec<[usize; ACTORS]> = Vec::new();
    let mut latest = [[0; ACTORS]; ACTORS];
    let mut emits = BTreeMap::new();
    for (number, planned) in plan.steps.iter().enumerate() {
        let mut clock = latest[planned.actor];
        if let Some(cause) = planned.cause(number) {
            clock.iter_mut().zip(&known[cause]).for_each(|(mine, its)| *mine = (*mine).max(*its));
        }
        let before = clock;
        clock[planned.actor] = number + 1;
        latest[planned.actor] = clock;
        known.push(clock);
        let rooms = &mut rooms[planned.actor];
        let receivers = match planned.step {
            Step::Join { socket, room } => {
                rooms[room].insert(socket % sockets);
                continue;
            }
            Step::Leave { socket, room } => {
                rooms[room].remove(&(socket % sockets));
                continue;
            }
            Step::Yield => continue,
            Step::All => (0..sockets).collect(),
            Step::Room(room) => rooms[room].clone(),
            Step::Rooms(one, other) => &rooms[one] | &rooms[other],
            Step::Except(one, other) => &rooms[one] - &rooms[other],
            Step::Socket(socket) | Step::OwnRoom(socket) => [socket % sockets].into(),
        };
        emits.insert(number, Expected { receivers, before });
    }
    emits
}

impl Planned {
    fn cause(&self, number: usize) -> Option<usize> {
        self.after.and_then(|back| number.checked_sub(back))
    }
}

/// What all actors share.
struct Stage {
    plan: Plan,
    io: Server,
    sockets: Vec<Socket>,
    /// How far the steps of each actor are: the number of the last one done, counted from one.
    done: Vec<AtomicUsize>,
}

impl Stage {
    fn steps_of(&self, actor: usize) -> impl Iterator<Item = usize> {
        (0..self.plan.steps.len()).filter(move |number| self.plan.steps[*number].actor == actor)
    }

    fn may_do(&self, number: usize) -> bool {
        let cause = self.plan.steps[number].cause(number);
        cause.is_none_or(|cause| self.done[self.plan.steps[cause].actor].load(Ordering::Acquire) > cause)
    }

    fn act(&self, number: usize) {
        let Planned { actor, step, is_long, .. } = self.plan.steps[number];
        let room = |room: usize| format!("{actor}/{room}");
        let socket = |number: usize| &self.sockets[number % self.sockets.len()];
        let what = (number, if is_long { "x".repeat(20_000) } else { String::new() });
        let io = &self.io;
        let sent = match step {
            Step::Join { socket: who, room: to } => {
                socket(who).join(room(to));
                None
            }
            Step::Leave { socket: who, room: from } => {
                socket(who).leave(room(from));
                None
            }
            Step::Yield => None,
            Step::All => Some(io.emit("step", &what)),
            Step::Room(to) => Some(io.to(room(to)).emit("step", &what)),
            Step::Rooms(one, other) => Some(io.to([room(one), room(other)]).emit("step", &what)),
            Step::Except(one, other) => Some(io.to(room(one)).except(room(other)).emit("step", &what)),
            Step::Socket(to) => Some(socket(to).emit("step", &what)),
            Step::OwnRoom(to) => Some(io.to(socket(to).id()).emit("step", &what)),
        };
        sent.into_iter().for_each(|sent| sent.now().unwrap());
        self.done[actor].store(number + 1, Ordering::Release);
    }

    fn run_on_thread(&self, actor: usize) {
        for number in self.steps_of(actor) {
            while !self.may_do(number) {
                std::thread::yield_now();
            }
            self.act(number);
        }
    }

    async fn run(self: Arc<Self>, actor: usize, wanders: bool) {
        for number in self.steps_of(actor) {
            while !self.may_do(number) {
                tokio::task::yield_now().await;
            }
            if wanders {
                let this = self.clone();
                tokio::task::spawn_blocking(move || this.act(number)).await.unwrap();
            } else {
                self.act(number);
            }
            if matches!(self.plan.steps[number].step, Step::Yield) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Clients that come, join, and go in good order or not, until they are told to end.
async fn storm(addr: std::net::SocketAddr, ends: Arc<AtomicBool>) {
    let mut random = Random::seeded(7);
    while !ends.load(Ordering::Acquire) {
        let client = Client::websocket(addr).await;
        match random.below(3) {
            0 => client.leave().await,
            1 => client.reset(),
            _ => drop(client),
        }
    }
}

/// What a client heard: numbers of steps.
async fn hear(client: &mut Client) -> Vec<usize> {
    client.send(r#"2999["sync"]"#).await;
    let mut heard = Vec::new();
    loop {
        let text = client.text().await;
        if text == "3999[]" {
            return heard;
        }
        let number = text.strip_prefix(r#"2["step","#).and_then(|rest| rest.split_once(','));
        heard.push(number.unwrap_or_else(|| panic!("{text}")).0.parse().unwrap());
    }
}

async fn play(plan: Plan) {
    // Where the handlers find what to do: it is there when the first event comes.
    let stage = Arc::new(std::sync::OnceLock::<Arc<Stage>>::new());
    let at = stage.clone();
    let spread = Spread::over(plan.workers, |io| {
        io.on("run", move |Data(actor): Data<usize>| {
            let stage = at.get().unwrap().clone();
            async move { stage.run(actor, false).await }
        });
        io.on("sync", async || {});
    });
    let mut placed = spread.clients(2).await;
    let ends = Arc::new(AtomicBool::new(false));
    let storm = plan.storm.then(|| tokio::spawn(storm(spread.running.addr, ends.clone())));
    let sockets: Vec<_> = placed.iter().map(|placed| placed.socket.clone()).collect();
    let done = (0..ACTORS).map(|_| AtomicUsize::new(0)).collect();
    let made = Arc::new(Stage { plan: plan.clone(), io: spread.running.io.clone(), sockets, done });
    assert!(stage.set(made.clone()).is_ok());
    let mut ended = tokio::task::JoinSet::new();
    for (actor, kind) in plan.kinds.iter().enumerate() {
        let stage = made.clone();
        match kind {
            Kind::Thread => drop(ended.spawn_blocking(move || stage.run_on_thread(actor))),
            Kind::Task => drop(ended.spawn(stage.run(actor, false))),
            Kind::Wanderer => drop(ended.spawn(stage.run(actor, true))),
            Kind::Handler(socket) => {
                let count = placed.len();
                placed[socket % count].client.emit(&format!(r#"["run",{actor}]"#)).await;
            }
        }
    }
    let last: Vec<usize> = (0..ACTORS).map(|actor| made.steps_of(actor).last().map_or(0, |last| last + 1)).collect();
    within("all actors are done", async {
        while let Some(done) = ended.join_next().await {
            done.unwrap();
        }
        while !made.done.iter().zip(&last).all(|(done, last)| done.load(Ordering::Acquire) == *last) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ends.store(true, Ordering::Release);
    let emits = model(&plan, placed.len());
    for (receiver, Placed { client, .. }) in placed.iter_mut().enumerate() {
        let heard = within("everything is heard", hear(client)).await;
        let expected: BTreeSet<usize> = {
            let mine = emits.iter().filter(|(_, emit)| emit.receivers.contains(&receiver));
            mine.map(|(number, _)| *number).collect()
        };
        let once: BTreeSet<usize> = heard.iter().copied().collect();
        assert_eq!(once, expected, "{receiver} hears what it is meant to hear");
        assert_eq!(heard.len(), once.len(), "{receiver} hears it once: {heard:?}");
        // Of each actor the last step that was heard of.
        let mut latest = [0; ACTORS];
        let place: BTreeMap<usize, usize> = heard.iter().enumerate().map(|(place, number)| (*number, place)).collect();
        for (at, number) in heard.iter().enumerate() {
            let actor = plan.steps[*number].actor;
            assert!(latest[actor] <= *number, "{receiver} hears {actor} in order: {heard:?}");
            latest[actor] = *number;
            let before = &emits[number].before;
            let late = expected.iter().find(|cause| **cause < before[plan.steps[**cause].actor] && place[cause] > at);
            assert!(late.is_none(), "{receiver} hears {number} before its cause {late:?}: {heard:?}");
        }
    }
    if let Some(storm) = storm {
        within("the storm ends", storm).await.unwrap();
        let io = &spread.running.io;
        // Those who came and went have left nothing.
        posthaste_testkit::eventually("only the placed are left", async || {
            let stats = io.stats().await;
            (stats.connections, stats.sockets) == (placed.len(), placed.len())
        })
        .await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        // A plan that fails may do so once in many times: there is nothing to shrink by.
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_done_wherever_each_client_hears_what_it_must_once_and_behind_its_causes(plan in any_plan()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(plan));
    }
}
