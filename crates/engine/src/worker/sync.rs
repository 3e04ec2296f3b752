//! What the queue between threads is made of. The model checker's test of the queue has its own.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Mutex, PoisonError};

pub(super) use tokio::sync::Notify;
