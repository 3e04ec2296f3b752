//! Power cuts and broken disks under work queues: random histories, and whatever a cut may leave of what nobody synced.

mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::{Clock, Config, EmbeddedStore};
use posthaste_history::store::{Durability, Store as _, StoreError, Timestamp, wait};
use posthaste_queue::{
    Command, Config as QueueConfig, Consume, Dedup, DedupMode, Delivery, Effect, End, MessageId, OnExhausted, Outcome,
    Put, QueueName, Queues, Receipt, Refusal, Select, Settle, Settled, State, Stop, Verdict,
};
use posthaste_testkit::Random;
use tempfile::TempDir;

use image::{cut, end_of, journals, quick_folder, reopened_with};

const HOUR_MS: u64 = 3_600_000;
const CONSUMER: u64 = 1;

/// What can be seen of a message, whoever has it at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Open { payload: Bytes, failures: u32, history: usize },
    Dead { payload: Bytes, failures: u32, why: String },
    Done(Bytes),
}

/// What can be seen of queues: all messages up to some number, and each queue's switches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    messages: BTreeMap<MessageId, Seen>,
    queues: BTreeMap<QueueName, (bool, bool, u32)>,
}

fn name(name: &str) -> QueueName {
    name.into()
}

/// A store whose clock is set, and what its queues said.
struct Scene {
    _folder: TempDir,
    config: Config,
    store: EmbeddedStore,
    queues: Arc<dyn Queues>,
    given: Arc<Mutex<Vec<Delivery>>>,
    now: Arc<AtomicU64>,
    boot: u32,
    /// The greatest number of a message that anybody was told, and of a token.
    last_id: MessageId,
    tokens: BTreeSet<u64>,
    puts: u64,
    /// Keys of deduplication that were answered for: the message, and the view by which that was.
    known: BTreeMap<Arc<str>, (MessageId, usize)>,
    /// What was seen after each command.
    views: Vec<View>,
    /// The last of them that cannot be taken back, and where the journal ended then.
    synced: (usize, usize),
}

/// How long what is open may take to be given out.
const PATIENCE: Duration = Duration::from_secs(30);

fn listen(queues: &Arc<dyn Queues>) -> Arc<Mutex<Vec<Delivery>>> {
    let given = Arc::<Mutex<Vec<Delivery>>>::default();
    let hears = given.clone();
    queues.listen(Some(Arc::new(move |effects| {
        let granted = |effect| if let Effect::Granted(delivery) = effect { Some(delivery) } else { None };
        hears.lock().expect("not poisoned").extend(effects.into_iter().filter_map(granted));
    })));
    given
}

fn ask(queues: &Arc<dyn Queues>, now: &AtomicU64, command: Command) -> Result<Result<Outcome, Refusal>, StoreError> {
    wait(queues.ask(Timestamp(now.load(Ordering::SeqCst)), command))
}

fn view(queues: &Arc<dyn Queues>, now: &AtomicU64, last_id: MessageId) -> View {
    let mut view = View::default();
    let look = |command| ask(queues, now, command).expect("the store works");
    for id in 1..=last_id {
        let seen = match look(Command::Get(id)) {
            Ok(Outcome::Messages(found)) => {
                let found = &found[0];
                let (payload, rest, history) = (found.payload.clone(), found.rest, &found.history);
                let why = || history.last().map(|(_, why)| String::from(&**why)).unwrap_or_default();
                match found.state {
                    State::Dead => Seen::Dead { payload, failures: rest.failures, why: why() },
                    _ => Seen::Open { payload, failures: rest.failures, history: history.len() },
                }
            }
            Ok(Outcome::Ended(_, End::Done(result))) => Seen::Done(result.unwrap_or_default()),
            Err(Refusal::UnknownMessage(_)) => continue,
            other => panic!("a message, not {other:?}"),
        };
        view.messages.insert(id, seen);
    }
    let Ok(Outcome::Queues(queues)) = look(Command::List { after: name(""), max: 100 }) else { panic!("queues") };
    for (queue, depth) in queues {
        let Ok(Outcome::Config(config)) = look(Command::Config(queue.clone())) else { panic!("a config") };
        view.queues.insert(queue, (depth.is_paused, depth.is_draining, config.attempts));
    }
    view
}

impl Scene {
    fn new() -> Self {
        let folder = quick_folder();
        let now = Arc::new(AtomicU64::new(1_700_000_000_000));
        let told = now.clone();
        let config = Config {
            sync_interval: Duration::from_secs(3_600),
            reserved_bytes: 0,
            checkpoint_groups: 7,
            boot: Some("boot 0".into()),
            clock: Clock::Told(Arc::new(move || Timestamp(told.load(Ordering::SeqCst)))),
            ..Config::new(folder.path().join("data folder"))
        };
        let store = EmbeddedStore::open(config.clone()).expect("it opens");
        let queues = store.queues().expect("queues");
        let given = listen(&queues);
        let mut scene = Self {
            _folder: folder,
            config,
            store,
            queues,
            given,
            now,
            boot: 0,
            last_id: 0,
            tokens: BTreeSet::new(),
            puts: 0,
            known: BTreeMap::new(),
            views: vec![View::default()],
            synced: (0, 0),
        };
        scene.begin();
        scene
    }

    /// What is done once in every run, so that later nothing is synced but what somebody waits for.
    fn begin(&mut self) {
        for durability in [Durability::Os, Durability::Disk] {
            self.put(vec![Put::new(&name("first"), Bytes::from_static(b"first"), durability)]);
        }
        let body = QueueConfig { keep_results_ms: HOUR_MS, dead_letter: Some(name("letters")), ..patient() };
        self.does(Command::Configure(name("kept"), Box::new(body)));
        self.does(Command::Configure(name("plain"), Box::new(patient())));
        for queue in ["kept", "plain"] {
            let consume = Consume {
                consumer: CONSUMER + u64::from(queue == "kept"),
                queue: name(queue),
                prefetch: 4,
                bytes: u64::MAX,
                lease_ms: Some(60_000),
                keys: None,
                once: None,
            };
            self.does(Command::Consume(consume));
        }
    }

    /// Where the journal ends, behind where it ended before: no command writes more than a megabyte.
    fn journal_end(&self) -> usize {
        let file = File::open(journals(&self.config).pop().expect("a journal")).expect("a journal");
        let mut bytes = vec![0; 1 << 20];
        let count = file.read_at(&mut bytes, self.synced.1 as u64).expect("a journal");
        self.synced.1 + end_of(&bytes[..count])
    }

    /// Asks, and notes what is seen then. `is_sure`: what the answer promises cannot be taken back.
    fn does(&mut self, command: Command) -> Option<Outcome> {
        let syncs = self.store.queue_syncs();
        let answer = ask(&self.queues, &self.now, command).expect("the store works");
        if let Ok(Outcome::Put(receipts)) = &answer {
            self.last_id = receipts.iter().map(|receipt| receipt.id).chain([self.last_id]).max().unwrap_or(0);
        }
        // A letter has a number of its own, which nobody was told.
        let last = self.last_id + 40;
        self.views.push(view(&self.queues, &self.now, last));
        if self.store.queue_syncs() != syncs {
            self.synced = (self.views.len() - 1, self.journal_end());
        }
        let given = self.given.lock().expect("not poisoned");
        self.tokens.extend(given.iter().map(|delivery| delivery.token));
        answer.ok()
    }

    /// Puts; a receipt that promises the disk was synced.
    fn put(&mut self, puts: Vec<Put>) -> Vec<Receipt> {
        let keys: Vec<_> = puts.iter().map(|put| put.dedup.as_ref().map(|dedup| dedup.key.clone())).collect();
        let Some(Outcome::Put(receipts)) = self.does(Command::Put(puts)) else { return Vec::new() };
        for (receipt, key) in receipts.iter().zip(keys) {
            if receipt.durability >= Durability::Disk {
                assert_eq!(self.synced.0, self.views.len() - 1, "a receipt for the disk comes after a sync");
            }
            if let Some(key) = key {
                let at = self.views.len() - 1;
                self.known.entry(key).or_insert((receipt.id, at));
            }
        }
        receipts
    }

    /// Something, by chance.
    fn step(&mut self, random: &mut Random) {
        let durability = [Durability::Memory, Durability::Os, Durability::Disk, Durability::Disk][random.below(4)];
        match random.below(16) {
            0..=5 => {
                let puts = (0..1 + random.below(3)).map(|_| self.message(random, durability)).collect();
                self.put(puts);
            }
            6..=11 => {
                let mut given = self.given.lock().expect("not poisoned");
                if given.is_empty() {
                    return;
                }
                let at = random.below(given.len());
                let Delivery { id, token, .. } = given.remove(at);
                drop(given);
                let why: Arc<str> = "why".into();
                let verdict = match random.below(6) {
                    0..=2 => Verdict::Done(Some(Bytes::from(format!("result {id}")))),
                    3 => Verdict::Retry { after_ms: Some(1_000 * random.below(3) as u64), why },
                    4 => Verdict::Dead { why },
                    _ => Verdict::Release,
                };
                self.does(Command::Settle(vec![Settle { id, token, verdict }]));
            }
            12 => {
                self.now.fetch_add(500 + random.below(90_000) as u64, Ordering::SeqCst);
                self.does(Command::Orphans);
            }
            13 => {
                let select = Select { states: vec![State::Dead], id: None, max: Some(2) };
                self.does(Command::Redrive(name("kept"), select));
            }
            14 => {
                let select =
                    Select { states: vec![State::Ready, State::Dead], id: None, max: Some(1 + random.below(2)) };
                self.does(Command::Purge(name(["kept", "letters"][random.below(2)]), select));
            }
            _ => {
                let command = match random.below(3) {
                    0 => Command::Pause(name("plain"), random.once_in(2)),
                    1 => Command::Delete(name("brief")),
                    _ => Command::Configure(
                        name("plain"),
                        Box::new(QueueConfig { attempts: 1_000 + random.below(9) as u32, ..patient() }),
                    ),
                };
                self.does(command);
            }
        }
    }

    fn message(&mut self, random: &mut Random, durability: Durability) -> Put {
        let queue = name(["kept", "plain", "plain", "kept", "brief"][random.below(5)]);
        self.puts += 1;
        let mut payload = format!("message {} ", self.puts).into_bytes();
        payload.resize(payload.len() + random.below(900), b'.');
        let mut put = Put::new(&queue, payload.into(), durability);
        put.priority = random.below(3) as u8;
        put.key = random.once_in(3).then(|| format!("key {}", random.below(3)).into());
        put.due =
            random.once_in(4).then(|| Timestamp(self.now.load(Ordering::SeqCst) + 1 + random.below(200_000) as u64));
        if random.once_in(4) && &*queue != "brief" {
            let key = format!("{queue} {}", random.below(20)).into();
            put.dedup = Some(Dedup { key, mode: DedupMode::Reject, window_ms: Some(24 * HOUR_MS) });
        }
        put
    }

    /// What a cut leaves now is what was seen at some time since the last sync.
    fn is_cut(&mut self, random: &mut Random, full: Option<&View>) -> usize {
        self.boot += 1;
        // A clock of its own: the store that was copied runs on, and an hour would pass there as well.
        let now = Arc::new(AtomicU64::new(self.now.load(Ordering::SeqCst)));
        let told = now.clone();
        let config = Config {
            boot: Some(format!("boot {}", self.boot)),
            clock: Clock::Told(Arc::new(move || Timestamp(told.load(Ordering::SeqCst)))),
            ..self.config.clone()
        };
        let synced = self.synced.1;
        let (_folder, _, store) =
            reopened_with(&config, |bytes| cut(&mut bytes[synced..], &mut || random.below(1 << 31) as u64));
        let store = store.unwrap_or_else(|error| panic!("it opens: {error}"));
        let queues = store.queues().expect("queues");
        let given = listen(&queues);
        let last = self.last_id + 40;
        let found = view(&queues, &now, last);
        let allowed = self.views[self.synced.0..].iter().chain(full);
        let at = allowed.clone().position(|view| *view == found);
        let at = at.unwrap_or_else(|| {
            panic!("after a cut: {found:#?}\nallowed: {:#?}", allowed.collect::<Vec<_>>());
        });
        self.goes_on(&queues, &given, &found, &now);
        at
    }

    /// Whoever works on with what a cut left finds each message once, under tokens that nobody has had.
    fn goes_on(&self, queues: &Arc<dyn Queues>, given: &Mutex<Vec<Delivery>>, found: &View, now: &AtomicU64) {
        let does = |command| ask(queues, now, command).expect("the store works");
        let Ok(Outcome::Consumers(orphans)) = does(Command::Orphans) else { panic!("consumers") };
        for orphan in orphans {
            assert_eq!(does(Command::Stop(orphan, Stop::Return)), Ok(Outcome::Done));
        }
        for (key, (id, at)) in &self.known {
            // What was synced with its key is the same one still, whether it has ended or not.
            let queue = name(key.split(' ').next().expect("a queue"));
            if *at > self.synced.0 || !found.queues.contains_key(&queue) {
                continue;
            }
            let dedup = Dedup { key: key.clone(), mode: DedupMode::Reject, window_ms: Some(24 * HOUR_MS) };
            let put = Put { dedup: Some(dedup), ..Put::new(&queue, Bytes::from_static(b"again"), Durability::Disk) };
            match does(Command::Put(vec![put])) {
                Ok(Outcome::Put(receipts)) => assert_eq!((receipts[0].id, receipts[0].dup), (*id, true), "{key}"),
                other => panic!("a receipt, not {other:?}"),
            }
        }
        let new = Put::new(&name("plain"), Bytes::from_static(b"new"), Durability::Disk);
        match does(Command::Put(vec![new])) {
            Ok(Outcome::Put(receipts)) => assert!(receipts[0].id > self.last_id, "{receipts:?} after {}", self.last_id),
            other => panic!("a receipt, not {other:?}"),
        }
        now.fetch_add(HOUR_MS, Ordering::SeqCst);
        let open = found.messages.values().filter(|seen| matches!(seen, Seen::Open { .. })).count() + 1;
        let mut done = BTreeSet::new();
        for (number, queue) in found.queues.keys().enumerate() {
            assert_eq!(does(Command::Pause(queue.clone(), false)), Ok(Outcome::Done));
            let consume = Consume {
                consumer: 100 + number as u64,
                queue: queue.clone(),
                prefetch: 1_000,
                bytes: u64::MAX,
                lease_ms: Some(60_000),
                keys: None,
                once: None,
            };
            assert_eq!(does(Command::Consume(consume)), Ok(Outcome::Done));
        }
        let begin = Instant::now();
        while done.len() < open {
            assert!(matches!(does(Command::Orphans), Ok(Outcome::Consumers(_))));
            if begin.elapsed() > PATIENCE {
                let undone = found.messages.keys().filter(|id| !done.contains(*id)).map(|id| does(Command::Get(*id)));
                let (undone, now) = (undone.collect::<Vec<_>>(), now.load(Ordering::SeqCst));
                let depths = does(Command::List { after: name(""), max: 100 });
                panic!("at {now} {} of {open} are given, but not {undone:#?}, of {depths:#?}", done.len());
            }
            let now_given = std::mem::take(&mut *given.lock().expect("not poisoned"));
            for Delivery { id, token, .. } in now_given {
                assert!(!self.tokens.contains(&token), "token {token} was given before");
                assert!(done.insert(id), "message {id} is given once");
                let settle = Settle { id, token, verdict: Verdict::Done(None) };
                let settled = does(Command::Settle(vec![settle.clone()]));
                assert_eq!(settled, Ok(Outcome::Settled(vec![Ok(Settled::Ended)])));
                let again = does(Command::Settle(vec![settle]));
                assert_eq!(again, Ok(Outcome::Settled(vec![Err(Refusal::StaleLease(id))])));
            }
        }
        assert_eq!(done.len(), open);
    }

    /// Closed and opened, as it should be; nothing is lost by that.
    fn reopen(mut self) -> Self {
        let before = self.views.last().cloned().expect("a view");
        self.queues.listen(None);
        self.store.close().expect("it closes");
        let Self { store, queues, .. } = self;
        drop((store, queues));
        self.store = EmbeddedStore::open(self.config.clone()).expect("it opens");
        self.queues = self.store.queues().expect("queues");
        self.given = listen(&self.queues);
        assert_eq!(view(&self.queues, &self.now, self.last_id + 40), before);
        for consumer in [CONSUMER, CONSUMER + 1] {
            assert_eq!(
                ask(&self.queues, &self.now, Command::Stop(consumer, Stop::Return)).expect("it works"),
                Ok(Outcome::Done)
            );
        }
        self.begin();
        self
    }
}

/// Messages are given out again as often as it takes.
fn patient() -> QueueConfig {
    QueueConfig { attempts: 1_000, crash_limit: 1_000_000, on_exhausted: OnExhausted::Skip, ..QueueConfig::default() }
}

fn seeds(variable: &str, otherwise: u64) -> std::ops::Range<u64> {
    let count = std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let first = std::env::var("POSTHASTE_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    first..first + count
}

/// A history, with cuts now and then. Returns how many cuts took something back, and how many did not.
fn history(seed: u64) -> (Scene, Random, [u64; 2]) {
    let (mut scene, mut random) = (Scene::new(), Random::seeded(seed));
    let mut counts = [0; 2];
    for _ in 0..10 + random.below(30) {
        scene.step(&mut random);
        if random.once_in(12) {
            let at = scene.is_cut(&mut random, None);
            counts[usize::from(scene.synced.0 + at + 1 == scene.views.len())] += 1;
        }
        if random.once_in(25) {
            scene = scene.reopen();
        }
    }
    (scene, random, counts)
}

/// `POSTHASTE_QUEUE_CUTS` says how many histories; 24 otherwise.
#[test]
fn a_power_cut_takes_nothing_back_that_queues_promised() {
    let mut counts = [0; 2];
    for seed in seeds("POSTHASTE_QUEUE_CUTS", 24) {
        let run = std::panic::catch_unwind(|| history(seed).2);
        let of_one = run.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        (counts[0], counts[1]) = (counts[0] + of_one[0], counts[1] + of_one[1]);
    }
    println!("{} cuts took something back that nobody was promised, {} nothing", counts[0], counts[1]);
    assert!(counts[0] > 0 && counts[1] > 0, "cuts at different places: {counts:?}");
}

/// The disk breaks while something is written or synced: nothing is promised from then on, and what was promised is there when it is
/// opened anew, whether the power was cut as well or not. `POSTHASTE_QUEUE_FAILURES` says how many histories; 12 otherwise.
#[test]
fn a_disk_that_fails_takes_nothing_back_that_queues_promised() {
    for seed in seeds("POSTHASTE_QUEUE_FAILURES", 12) {
        let (mut scene, mut random, _) = history(seed + (1 << 32));
        scene.store.fail_syncs();
        let put = scene.message(&mut random, Durability::Disk);
        for _ in 0..2 {
            let refused = ask(&scene.queues, &scene.now, Command::Put(vec![put.clone()]));
            assert!(matches!(refused, Err(StoreError::Poisoned(_))), "seed {seed}: {refused:?}");
            let looks = ask(&scene.queues, &scene.now, Command::Orphans);
            assert!(matches!(looks, Err(StoreError::Poisoned(_))), "seed {seed}: {looks:?}");
        }
        // All that was written reached the disk, and nobody knows.
        let (_folder, _, store) = reopened_with(&scene.config, |_| ());
        let full = view(&store.expect("it opens").queues().expect("queues"), &scene.now, scene.last_id + 40);
        for _ in 0..4 {
            scene.is_cut(&mut random, Some(&full));
        }
    }
}
