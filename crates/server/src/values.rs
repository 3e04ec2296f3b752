//! What an application keeps with a socket in this process: one value of each type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::local::guarded;
use crate::socket::Socket;

type Table = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// One value of each type. They are copied and dropped when nothing is locked: that is the application's code.
#[derive(Default)]
pub(crate) struct Values(Mutex<Table>);

impl Values {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        let old = self.lock().insert(TypeId::of::<T>(), Arc::new(value));
        old.and_then(|old| old.downcast().ok()).map(Arc::unwrap_or_clone)
    }

    fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        let value = self.lock().get(&TypeId::of::<T>()).cloned()?;
        value.downcast_ref().cloned()
    }

    fn get_or_insert_with<T: Clone + Send + Sync + 'static>(&self, make: fn() -> T) -> T {
        let value = self.lock().entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(make())).clone();
        value.downcast_ref::<T>().cloned().expect("invariant: a value lies under its own type")
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        // Whoever is the last to hold a socket must not be taken along by a value that panics.
        let values = std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
        for value in values.into_values() {
            guarded(|| drop(value));
        }
    }
}

impl Socket {
    /// Keeps a value with the socket, one of each type. Returns the one that was there.
    pub fn insert<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.0.values.get_or_init(Arc::default).insert(value)
    }

    /// The value of that type kept with the socket, cloned.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.values.get()?.get()
    }

    /// The value of that type kept with the socket, made if there is none.
    pub(crate) fn get_or_insert_with<T: Clone + Send + Sync + 'static>(&self, make: fn() -> T) -> T {
        self.0.values.get_or_init(Arc::default).get_or_insert_with(make)
    }
}
