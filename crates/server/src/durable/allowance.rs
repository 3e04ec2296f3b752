//! How much of what is stored may be sent again to one person in a time.
//!
//! ```text
//!   full ─► spend ─► so much less ─► it fills up, at its rate ─► full: nothing is remembered of it
//!                       └─ less than nothing: whoever spends next waits until it is not
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use posthaste_adapter::SocketId;

use crate::socket::Socket;

/// How much may be sent again to one identity, or to one session that belongs to nobody: missed events of durable rooms when its clients
/// come back, and what they ask for of a room. When it is used up, such goes on as slowly as it fills up; nothing is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayBudget {
    /// What may be sent at once, in bytes; 64 MiB by default.
    pub burst_bytes: u64,
    /// What is added in a second, in bytes; 8 MiB by default, at least 1.
    pub bytes_per_second: u64,
}

impl Default for ReplayBudget {
    fn default() -> Self {
        Self { burst_bytes: 64 << 20, bytes_per_second: 8 << 20 }
    }
}

impl ReplayBudget {
    /// How long it takes until so much is added.
    fn time_for(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Who it is that something is sent again to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Identity(Arc<str>),
    /// Who comes back keeps the id.
    Session(SocketId),
}

impl Whose {
    pub(crate) fn new(identity: Option<Arc<str>>, id: SocketId) -> Self {
        identity.filter(|identity| !identity.is_empty()).map_or(Self::Session(id), Self::Identity)
    }

    pub(crate) fn of(socket: &Socket) -> Self {
        Self::new(socket.identity(), socket.id())
    }
}

/// So many are remembered before it is looked for those that are full.
const FIRST_SWEEP: usize = 1_024;

/// Everybody's.
#[derive(Debug)]
pub(crate) struct Allowances {
    budget: ReplayBudget,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When it is full again, for those where it is not.
    full_at: HashMap<Whose, Instant>,
    next_sweep: usize,
}

impl Allowances {
    pub(crate) fn new(budget: ReplayBudget) -> Self {
        Self { budget, state: Mutex::new(State { full_at: HashMap::new(), next_sweep: FIRST_SWEEP }) }
    }

    /// Waits until so much may be sent to somebody. Of several who wait, each has its turn in the order of the calls.
    ///
    /// # Cancel safety
    /// Safe: what was not waited for was not spent.
    pub(crate) async fn spend(self: &Arc<Self>, whose: &Whose, bytes: usize) {
        if bytes > 0 {
            self.wait(whose.clone(), bytes as u64).await.settle(bytes);
        }
    }

    /// Waits as [`Allowances::spend`] does for what is about to be read, of which no more than `most` bytes may come: whoever has to wait has it
    /// read afterwards. Of a small budget a quarter is enough: the last that is read may be more than there is.
    ///
    /// # Cancel safety
    /// Safe: what was not waited for was not spent.
    pub(crate) async fn reserve(self: &Arc<Self>, whose: Whose, most: usize) -> Reserved {
        let most = (most as u64).min(self.budget.burst_bytes / 4);
        self.wait(whose, most).await
    }

    async fn wait(self: &Arc<Self>, whose: Whose, bytes: u64) -> Reserved {
        let cost = self.budget.time_for(bytes);
        let wait = self.take(&whose, cost, Instant::now());
        let reserved = Reserved { allowances: self.clone(), whose, cost };
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        reserved
    }

    /// Takes so much, and says how long to wait with what it was taken for.
    fn take(&self, whose: &Whose, cost: Duration, now: Instant) -> Duration {
        let mut state = self.lock();
        if state.full_at.len() >= state.next_sweep {
            state.full_at.retain(|_, full_at| *full_at > now);
            state.next_sweep = FIRST_SWEEP.max(2 * state.full_at.len());
        }
        let full_at = state.full_at.entry(whose.clone()).or_insert(now);
        let lacking = full_at.saturating_duration_since(now);
        *full_at = (*full_at).max(now).checked_add(cost).unwrap_or(*full_at);
        lacking.saturating_sub(self.budget.time_for(self.budget.burst_bytes))
    }

    fn give_back(&self, whose: &Whose, cost: Duration) {
        let mut state = self.lock();
        if let Some(full_at) = state.full_at.get_mut(whose) {
            *full_at = full_at.checked_sub(cost).unwrap_or(*full_at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be read for somebody now. What was not spent of it when it is dropped is given back.
#[must_use]
#[derive(Debug)]
pub(crate) struct Reserved {
    allowances: Arc<Allowances>,
    whose: Whose,
    cost: Duration,
}

impl Reserved {
    /// So much was read, and is sent. What is more than was reserved is waited for by whoever comes next.
    pub(crate) fn settle(mut self, bytes: usize) {
        let spent = self.allowances.budget.time_for(bytes as u64);
        let more = spent.saturating_sub(self.cost);
        if more > Duration::ZERO {
            self.allowances.take(&self.whose, more, Instant::now());
        }
        self.cost = self.cost.saturating_sub(spent);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.cost > Duration::ZERO {
            self.allowances.give_back(&self.whose, self.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: ReplayBudget = ReplayBudget { burst_bytes: 1_000, bytes_per_second: 100 };

    fn ada() -> Whose {
        Whose::Identity("ada".into())
    }

    fn take(allowances: &Allowances, whose: &Whose, bytes: u64, now: Instant) -> u64 {
        allowances.take(whose, BUDGET.time_for(bytes), now).as_secs()
    }

    #[test]
    fn what_is_used_up_fills_up_again_and_no_further() {
        let (allowances, start) = (Allowances::new(BUDGET), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(take(&allowances, &ada(), 900, at(0)), 0);
        assert_eq!(take(&allowances, &ada(), 400, at(0)), 0, "the last may be more than there is");
        assert_eq!(take(&allowances, &ada(), 100, at(0)), 3);
        assert_eq!(take(&allowances, &ada(), 100, at(0)), 4, "behind the one before");
        let other = Whose::Session(SocketId::from_bytes([7; 15]));
        assert_eq!(take(&allowances, &other, 1_000, at(0)), 0, "that of another is another");
        assert_eq!(take(&allowances, &ada(), 100, at(5)), 0);
        assert_eq!(take(&allowances, &ada(), 1_000, at(1_000)), 0);
        assert_eq!(take(&allowances, &ada(), 1, at(1_000)), 0, "full is full, however long it was");
        assert_eq!(take(&allowances, &ada(), 1, at(1_000)), 0);
    }

    #[test]
    fn who_has_used_nothing_for_long_is_forgotten() {
        let (allowances, start) = (Allowances::new(BUDGET), Instant::now());
        for number in 0..10 * FIRST_SWEEP {
            let at = start + Duration::from_secs(number as u64);
            assert_eq!(take(&allowances, &Whose::Identity(number.to_string().into()), 100, at), 0);
        }
        assert!(allowances.lock().full_at.len() <= FIRST_SWEEP);
    }

    #[tokio::test]
    async fn what_was_reserved_and_not_read_is_given_back() {
        // So slow that nothing is by the time that this takes.
        let budget = ReplayBudget { bytes_per_second: 1, ..BUDGET };
        let (allowances, ada) = (Arc::new(Allowances::new(budget)), ada());
        let owed = || {
            allowances
                .lock()
                .full_at
                .get(&ada)
                .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
        };
        let is_about = |bytes: u64| owed().abs_diff(budget.time_for(bytes)) < Duration::from_secs(30);
        allowances.reserve(ada.clone(), 200).await.settle(50);
        assert!(is_about(50), "{:?}", owed());
        drop(allowances.reserve(ada.clone(), 200).await);
        assert!(is_about(50), "{:?}", owed());
        let reserved = allowances.reserve(ada.clone(), 1_000_000).await;
        assert!(is_about(300), "a quarter of what may be sent at once: {:?}", owed());
        reserved.settle(1_450);
        assert!(is_about(1_500), "{:?}", owed());
        let waiting = tokio::time::timeout(Duration::ZERO, allowances.reserve(ada.clone(), 10));
        assert!(waiting.await.is_err(), "what was too much is waited for by the next");
        assert!(is_about(1_500), "{:?}", owed());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_spent() {
        let (allowances, ada) = (Arc::new(Allowances::new(BUDGET)), ada());
        allowances.spend(&ada, 2_000).await;
        for _ in 0..100 {
            let waiting = tokio::time::timeout(Duration::ZERO, allowances.spend(&ada, 1_000));
            assert!(waiting.await.is_err());
        }
        let full_at = allowances.lock().full_at[&ada];
        assert!(full_at <= Instant::now() + BUDGET.time_for(2_000));
    }
}
