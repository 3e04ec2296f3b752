//! Values at places that stay: small numbers instead of pointers.

use super::message::NONE;

/// Values at places that stay.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(value);
            return place;
        }
        let place = u32::try_from(self.places.len()).unwrap_or(NONE);
        assert!(place != NONE, "invariant: there are fewer than 2^32 of a kind");
        self.places.push(Some(value));
        place
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let value = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        if self.free.len() == self.places.len() {
            *self = Self::default(); // a burst is over: its memory is given back
        }
        Some(value)
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places.iter().enumerate().filter_map(|(place, value)| Some((place as u32, value.as_ref()?)))
    }
}
