//! A few things in no order, of which there may be several alike.

/// At most `N` things, kept sorted so that equal bags are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Bag<T, const N: usize>([Option<T>; N]);

/// The bag holds as much as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T: Copy + Ord, const N: usize> Bag<T, N> {
    /// Nothing.
    pub const EMPTY: Self = Self([None; N]);

    /// Puts one in.
    ///
    /// # Errors
    /// There is no room: the step that wanted it is outside of the model's bounds.
    pub fn put(&mut self, thing: T) -> Result<(), Full> {
        // `None` sorts first, so the first place is the last to be taken.
        if self.0[0].is_some() {
            return Err(Full);
        }
        self.0[0] = Some(thing);
        self.0.sort_unstable();
        Ok(())
    }

    /// Takes one out; one that is not there stays away.
    pub fn take(&mut self, thing: T) {
        if let Some(place) = self.0.iter().position(|own| *own == Some(thing)) {
            self.0[place] = None;
            self.0.sort_unstable();
        }
    }

    /// Puts one in the place of another.
    pub fn replace(&mut self, old: T, new: T) {
        self.take(old);
        // A place was just freed, or there was nothing to replace.
        let _full = self.put(new);
    }

    /// Changes all of them.
    pub fn change(&mut self, change: impl Fn(&mut T)) {
        self.0.iter_mut().flatten().for_each(change);
        self.0.sort_unstable();
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().flatten().copied()
    }

    /// One of each that are alike.
    pub fn distinct(&self) -> impl Iterator<Item = T> + '_ {
        self.0
            .iter()
            .enumerate()
            .filter(|(place, thing)| *place == 0 || self.0[place - 1] != **thing)
            .filter_map(|(_, thing)| *thing)
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_forgotten_and_copies_are_counted() {
        let (mut one, mut other) = (Bag::<u8, 3>::EMPTY, Bag::<u8, 3>::EMPTY);
        for thing in [2, 1, 2] {
            one.put(thing).unwrap();
        }
        for thing in [2, 2, 1] {
            other.put(thing).unwrap();
        }
        assert_eq!(one, other);
        assert_eq!(one.put(3), Err(Full));
        assert_eq!(one.distinct().collect::<Vec<_>>(), [1, 2]);
        one.take(2);
        assert_eq!(one.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
