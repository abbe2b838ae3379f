//! A breadth-first checker: explores every state that a model can reach within its bounds, and
//! tells the shortest way to whatever breaks.
//!
//! States are kept whole, so two of them are never taken for one, as fingerprints might be. A
//! state at rest is one in which the protocol itself has nothing left to do; what faults and
//! people might still do to it does not count. Together with [`Explored::endless`] this is liveness:
//! when every state at rest is in order and the protocol alone cannot go on for ever, then from
//! every reachable state, once the faults end, all comes to good order.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// What is explored.
pub trait Model {
    /// Everything that the next steps depend on.
    type State: Copy + Eq + Hash + 'static;
    /// One atomic step.
    type Action: Copy + Display;

    /// The first state.
    fn start(&self) -> Self::State;
    /// Every step that may follow; `actions` comes empty.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// The state after a step.
    fn apply(&self, state: &Self::State, action: Self::Action) -> Step<Self::State>;
    /// True for what the protocol does by itself; false for faults and people.
    fn is_of_the_protocol(&self, action: Self::Action) -> bool;
    /// Names the properties that a state breaks.
    fn broken(&self, state: &Self::State) -> impl Iterator<Item = &'static str>;
    /// Names the property that a state breaks by being at rest.
    fn broken_at_rest(&self, state: &Self::State) -> Option<&'static str>;
    /// What must be seen in some state, else the model proves nothing.
    fn witnesses(&self) -> &'static [Witness<Self::State>];
    /// A state in a few words.
    fn describe(&self, state: &Self::State) -> String;
}

/// Something that some state must show, by its name.
pub type Witness<S> = (&'static str, fn(&S) -> bool);

/// What a step leads to.
pub struct Step<S> {
    /// The state after it; none when the model has no room for it.
    pub next: Option<S>,
    /// The property that the step itself breaks.
    pub broken: Option<&'static str>,
}

/// When to end before everything is explored.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// As soon as this property is found broken; none: as soon as any is.
    pub broken: Option<&'static str>,
    /// The most states.
    pub states: usize,
    /// The longest time.
    pub time: Duration,
}

/// What the exploration found.
#[derive(Debug)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// States at rest.
    pub rests: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether every state was explored.
    pub complete: bool,
    /// Steps for which the model had no room.
    pub pruned: u64,
    /// The shortest way to each broken property.
    pub broken: BTreeMap<&'static str, Vec<String>>,
    /// Witnesses that no state gave.
    pub unseen: Vec<&'static str>,
}

impl Report {
    /// One line of numbers.
    #[must_use]
    pub fn numbers(&self) -> String {
        format!(
            "{} states, {} steps, depth {}, {} at rest, {:.1} s{}{}",
            self.states,
            self.steps,
            self.depth,
            self.rests,
            self.took.as_secs_f64(),
            if self.complete { "" } else { ", not complete" },
            if self.pruned == 0 {
                String::new()
            } else {
                format!(", {} steps without room", self.pruned)
            },
        )
    }
}

/// A model with every state that was reached.
pub struct Explored<'a, M: Model> {
    model: &'a M,
    known: Known<M::State>,
    /// What was found.
    pub report: Report,
}

/// Explores until the end or until `until`.
pub fn explore<M: Model>(model: &M, until: Until) -> Explored<'_, M> {
    let begun = Instant::now();
    let mut known = Known::new();
    let mut unseen: Vec<_> = model.witnesses().to_vec();
    let mut report = Report {
        states: 0,
        steps: 0,
        depth: 0,
        rests: 0,
        took: Duration::ZERO,
        complete: true,
        pruned: 0,
        broken: BTreeMap::new(),
        unseen: Vec::new(),
    };
    // Ways are told at the end: until then the place and the breaking step suffice.
    let mut found: BTreeMap<&'static str, (usize, Option<M::Action>)> = BTreeMap::new();
    let mut actions = Vec::new();
    known.insert(model.start(), 0);
    let (mut at, mut level_ends) = (0, 1);
    while at < known.states.len() {
        if at == level_ends {
            report.depth += 1;
            level_ends = known.states.len();
        }
        let satisfied = match until.broken {
            Some(name) => found.contains_key(name),
            None => !found.is_empty(),
        };
        let spent = at % 4096 == 0 && begun.elapsed() > until.time;
        if satisfied || spent || known.states.len() >= until.states {
            report.complete = false;
            break;
        }
        let state = known.states[at];
        unseen.retain(|(_, shows)| !shows(&state));
        for name in model.broken(&state) {
            found.entry(name).or_insert((at, None));
        }
        model.actions(&state, &mut actions);
        if !actions
            .iter()
            .any(|action| model.is_of_the_protocol(*action))
        {
            report.rests += 1;
            if let Some(name) = model.broken_at_rest(&state) {
                found.entry(name).or_insert((at, None));
            }
        }
        for action in actions.drain(..) {
            let step = model.apply(&state, action);
            report.steps += 1;
            if let Some(name) = step.broken {
                found.entry(name).or_insert((at, Some(action)));
            }
            match step.next {
                Some(next) => known.insert(next, at),
                None => report.pruned += 1,
            }
        }
        at += 1;
    }
    report.states = known.states.len();
    report.took = begun.elapsed();
    report.unseen = unseen.into_iter().map(|(name, _)| name).collect();
    report.broken = found
        .into_iter()
        .map(|(name, (at, step))| (name, way(model, &known, at, step)))
        .collect();
    Explored {
        model,
        known,
        report,
    }
}

impl<M: Model> Explored<'_, M> {
    /// How many states lie on, or only lead into, a circle that the protocol runs by itself. None
    /// of them may: else faults could end and the work would not.
    ///
    /// # Panics
    /// When the exploration was not complete: nothing can be said then.
    #[must_use]
    pub fn endless(&self) -> usize {
        assert!(self.report.complete, "because every state must be known");
        let mut leads_to = Vec::new();
        let mut entries = vec![0_u16; self.known.states.len()];
        for state in &self.known.states {
            self.next_of(state, &mut leads_to);
            for next in leads_to.drain(..) {
                entries[next] += 1;
            }
        }
        let mut free: Vec<usize> = (0..entries.len()).filter(|at| entries[*at] == 0).collect();
        let mut peeled = 0;
        while let Some(at) = free.pop() {
            peeled += 1;
            self.next_of(&self.known.states[at], &mut leads_to);
            for next in leads_to.drain(..) {
                entries[next] -= 1;
                if entries[next] == 0 {
                    free.push(next);
                }
            }
        }
        entries.len() - peeled
    }

    /// Where the protocol alone leads in one step.
    fn next_of(&self, state: &M::State, found: &mut Vec<usize>) {
        let mut actions = Vec::new();
        self.model.actions(state, &mut actions);
        for action in actions {
            if self.model.is_of_the_protocol(action)
                && let Some(next) = self.model.apply(state, action).next
                && let Some(place) = self.known.place(&next)
            {
                found.push(place);
            }
        }
    }
}

/// The shortest way to a state, in words; `step` is one more, which breaks something itself.
fn way<M: Model>(
    model: &M,
    known: &Known<M::State>,
    mut at: usize,
    step: Option<M::Action>,
) -> Vec<String> {
    let tell = |from: &M::State, action: M::Action| match model.apply(from, action).next {
        Some(next) => format!("{action}  [{}]", model.describe(&next)),
        None => action.to_string(),
    };
    let mut told: Vec<String> = step
        .map(|action| tell(&known.states[at], action))
        .into_iter()
        .collect();
    let mut actions = Vec::new();
    while at > 0 {
        let parent = known.parents[at] as usize;
        let (from, to) = (known.states[parent], known.states[at]);
        model.actions(&from, &mut actions);
        let taken = actions
            .drain(..)
            .find(|action| model.apply(&from, *action).next == Some(to));
        told.extend(taken.map(|action| tell(&from, action)));
        at = parent;
    }
    told.reverse();
    told
}

/// Every state reached, in the order of its discovery, with where it was reached from.
struct Known<S> {
    states: Vec<S>,
    parents: Vec<u32>,
    /// Places in `states`, one beyond; 0 is free. Its length is a power of two.
    table: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Known<S> {
    fn new() -> Self {
        Self {
            states: Vec::new(),
            parents: Vec::new(),
            table: vec![0; 1 << 16],
        }
    }

    fn place(&self, state: &S) -> Option<usize> {
        let slot = self.slot(state);
        (self.table[slot] as usize).checked_sub(1)
    }

    fn insert(&mut self, state: S, parent: usize) {
        let slot = self.slot(&state);
        if self.table[slot] != 0 {
            return;
        }
        self.states.push(state);
        self.parents.push(small(parent));
        self.table[slot] = small(self.states.len());
        if self.states.len() * 3 > self.table.len() * 2 {
            self.grow();
        }
    }

    /// The slot of a state, or the free one where it belongs.
    fn slot(&self, state: &S) -> usize {
        let mask = self.table.len() - 1;
        let hash = BuildHasherDefault::<Mixer>::default().hash_one(state);
        let mut slot = usize::try_from(hash >> 16).unwrap_or_default() & mask;
        loop {
            match self.table[slot] {
                0 => return slot,
                place if self.states[place as usize - 1] == *state => return slot,
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for place in 0..self.states.len() {
            let slot = self.slot(&self.states[place]);
            self.table[slot] = small(place + 1);
        }
    }
}

fn small(place: usize) -> u32 {
    u32::try_from(place).expect("because memory ends before four milliard states do")
}

/// A quick hash; equality is always compared besides.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed ^ (mixed >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts to a bound by ones and, once, by a fault that jumps.
    struct Counter {
        circle: bool,
    }

    impl Model for Counter {
        type State = u8;
        type Action = i8;

        fn start(&self) -> u8 {
            0
        }

        fn actions(&self, state: &u8, actions: &mut Vec<i8>) {
            match state {
                0..5 => actions.extend([1, 3]),
                5 if self.circle => actions.push(-1),
                _ => {}
            }
        }

        fn apply(&self, state: &u8, action: i8) -> Step<u8> {
            Step {
                next: state.checked_add_signed(action),
                broken: (*state == 1 && action == 3).then_some("no jump from one"),
            }
        }

        fn is_of_the_protocol(&self, action: i8) -> bool {
            action != 3
        }

        fn broken(&self, state: &u8) -> impl Iterator<Item = &'static str> {
            (*state > 6).then_some("never above six").into_iter()
        }

        fn broken_at_rest(&self, state: &u8) -> Option<&'static str> {
            (*state != 5).then_some("rests at five")
        }

        fn witnesses(&self) -> &'static [Witness<u8>] {
            &[("four", |state| *state == 4), ("nine", |state| *state == 9)]
        }

        fn describe(&self, state: &u8) -> String {
            state.to_string()
        }
    }

    fn explored(counter: &Counter) -> Explored<'_, Counter> {
        let until = Until {
            broken: Some("nothing"),
            states: 1000,
            time: Duration::from_secs(10),
        };
        explore(counter, until)
    }

    #[test]
    fn every_state_is_found_once_and_what_breaks_by_its_shortest_way() {
        let counter = Counter { circle: false };
        let explored = explored(&counter);
        let report = &explored.report;
        assert!(report.complete);
        assert_eq!((report.states, report.rests), (8, 3));
        assert_eq!(report.unseen, ["nine"]);
        let ways: Vec<_> = report
            .broken
            .iter()
            .map(|(name, way)| (*name, way.len()))
            .collect();
        assert_eq!(
            ways,
            [
                ("never above six", 3),
                ("no jump from one", 2),
                ("rests at five", 2)
            ]
        );
        assert_eq!(report.broken["no jump from one"], ["1  [1]", "3  [4]"]);
        assert_eq!(explored.endless(), 0);
    }

    #[test]
    fn a_circle_of_the_protocol_is_seen() {
        let counter = Counter { circle: true };
        assert!(explored(&counter).endless() > 0);
    }
}
