//! Fetches what a restore will need, in the order of need, while it is busy with what came before. What lies close together
//! in a pack is one question, so a line with a long way is hardly ever idle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::Id;

use super::store::{Part, Store};
use super::trouble::Trouble;

/// How much may be announced and not taken yet, in bytes. It is only known by name, and lets questions be long.
const ANNOUNCED: u64 = 128 * 1024 * 1024;
/// How much of that may be here, or on its way.
const FETCHED: u64 = 48 * 1024 * 1024;
/// How much one question may ask for: a pack.
const LONGEST: u64 = 16 * 1024 * 1024;
/// What lies between two pieces that are needed is read along, up to this: less than what passes in one round trip.
const GAP: u64 = 64 * 1024;

/// A piece of a pack by its place: where it begins.
type Key = (Id, u64);

/// What is needed, from when it is announced until it is taken.
#[derive(Debug, Default)]
pub struct Needs {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: BTreeMap<Key, Piece>,
    /// In the order of need. What is not waiting any more is passed over.
    order: VecDeque<Key>,
    announced: u64,
    fetched: u64,
    /// What somebody waits for.
    awaited: BTreeSet<Key>,
    /// The storage is away.
    trouble: Option<Trouble>,
    is_over: bool,
}

#[derive(Debug)]
struct Piece {
    length: u32,
    /// How often it will be asked for.
    uses: usize,
    /// The last file that needs it.
    last: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Announced,
    UnderWay,
    Here(Bytes),
}

/// What is asked for at once.
#[derive(Debug)]
struct Question {
    pack: Id,
    part: Part,
    keys: Vec<Key>,
}

impl Needs {
    /// Announces what the file of this number needs; files have rising numbers. Waits while too much is announced.
    pub fn announce(&self, file: u64, pieces: impl Iterator<Item = (Id, Part)>) {
        let mut state = self.state();
        while !state.room().0 && !state.is_over {
            state = self.wait(state);
        }
        if state.is_over {
            return;
        }
        for (pack, part) in pieces {
            state.add(file, (pack, part.offset), part.length);
        }
        self.changed.notify_all();
    }

    /// A piece of a pack, when it is here. None if it was not announced, or could not be read together with others.
    pub fn take(&self, pack: &Id, part: Part) -> Option<Result<Bytes, Trouble>> {
        let key = (*pack, part.offset);
        let mut state = self.state();
        let mut is_first = true;
        loop {
            if state.trouble.is_some() {
                return state.trouble.clone().map(Err);
            }
            match state.pieces.get(&key).filter(|piece| piece.length == part.length).map(|piece| &piece.stage)? {
                Stage::Here(bytes) => {
                    let (bytes, before) = (bytes.clone(), state.room());
                    state.use_up(&key);
                    if state.room() != before {
                        self.changed.notify_all();
                    }
                    return Some(Ok(bytes));
                }
                Stage::Announced if is_first => state.order.push_front(key),
                Stage::Announced | Stage::UnderWay => {}
            }
            state.awaited.insert(key);
            // Once: others who wait would tell each other without end.
            if is_first {
                self.changed.notify_all();
            }
            is_first = false;
            state = self.wait(state);
            state.awaited.remove(&key);
        }
    }

    /// The file of this number needs nothing more, whether it took all of it or not.
    pub fn done(&self, file: u64, pieces: impl Iterator<Item = (Id, Part)>) {
        let mut state = self.state();
        for (pack, part) in pieces {
            let key = (pack, part.offset);
            if state.pieces.get(&key).is_some_and(|piece| piece.last == file) {
                state.forget(&key);
            }
        }
        self.changed.notify_all();
    }

    /// Nothing more is needed at all.
    pub fn end(&self) {
        let mut state = self.state();
        *state = State { is_over: true, trouble: state.trouble.take(), ..State::default() };
        self.changed.notify_all();
    }

    /// Fetches what is announced, from where the store has a pack, until the end.
    pub fn fetch(&self, store: &dyn Store, path: impl Fn(&Id) -> String) {
        // Whoever waits for us must not wait for ever.
        let _over = Over(self);
        while let Some(question) = self.next() {
            let read = store.read(&path(&question.pack), Some(question.part));
            self.arrived(&question, read);
        }
    }

    fn next(&self) -> Option<Question> {
        let mut state = self.state();
        while !state.is_over && state.trouble.is_none() {
            let (_, has_room) = state.room();
            if let Some(key) = state.first().filter(|key| has_room || state.awaited.contains(key)) {
                return Some(state.question(key, if has_room { LONGEST } else { 0 }));
            }
            state = self.wait(state);
        }
        None
    }

    fn arrived(&self, question: &Question, read: Result<Bytes, Trouble>) {
        let mut state = self.state();
        match read {
            Ok(bytes) => {
                for key in &question.keys {
                    // Nobody may want it any more.
                    let Some(piece) = state.pieces.get_mut(key) else { continue };
                    let from = usize::try_from(key.1 - question.part.offset).unwrap_or(usize::MAX);
                    match bytes.get(from..from.saturating_add(piece.length as usize)) {
                        // A copy: the others may be taken long before it, and should not stay for its sake.
                        Some(found) => piece.stage = Stage::Here(Bytes::copy_from_slice(found)),
                        None => state.forget(key),
                    }
                }
            }
            Err(trouble) if trouble.is_of_all() => state.trouble = Some(trouble),
            // Damage somewhere: whoever needs a piece asks for that one.
            Err(_) => question.keys.iter().for_each(|key| state.forget(key)),
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'state>(&self, state: MutexGuard<'state, State>) -> MutexGuard<'state, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether more may be announced, and whether more may be fetched.
    fn room(&self) -> (bool, bool) {
        (self.announced < ANNOUNCED, self.fetched + LONGEST <= FETCHED)
    }

    fn add(&mut self, file: u64, key: Key, length: u32) {
        if !self.pieces.contains_key(&key) {
            self.order.push_back(key);
            self.announced += u64::from(length);
            self.pieces.insert(key, Piece { length, uses: 0, last: file, stage: Stage::Announced });
        }
        if let Some(piece) = self.pieces.get_mut(&key) {
            (piece.uses, piece.last) = (piece.uses + 1, file);
        }
    }

    fn use_up(&mut self, key: &Key) {
        let Some(piece) = self.pieces.get_mut(key) else { return };
        piece.uses -= 1;
        if piece.uses == 0 {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(piece) = self.pieces.remove(key) else { return };
        self.announced -= u64::from(piece.length);
        if !matches!(piece.stage, Stage::Announced) {
            self.fetched -= u64::from(piece.length);
        }
    }

    /// What is needed next of all that nobody asked for.
    fn first(&mut self) -> Option<Key> {
        while let Some(key) = self.order.front().copied() {
            if self.pieces.get(&key).is_some_and(|piece| matches!(piece.stage, Stage::Announced)) {
                return Some(key);
            }
            self.order.pop_front();
        }
        None
    }

    /// A question for this piece, and for what is announced around it, as long as all of it is no longer than this.
    fn question(&mut self, key: Key, longest: u64) -> Question {
        let end = |key: &Key, piece: &Piece| key.1 + u64::from(piece.length);
        let is_free = |other: &Key, piece: &Piece| other.0 == key.0 && matches!(piece.stage, Stage::Announced);
        let (mut from, mut to) = (key.1, self.pieces.get(&key).map_or(key.1, |piece| end(&key, piece)));
        let mut keys = vec![key];
        for (other, piece) in self.pieces.range((Bound::Excluded(key), Bound::Unbounded)) {
            if !is_free(other, piece) || other.1 > to + GAP || end(other, piece) > from + longest {
                break;
            }
            to = to.max(end(other, piece));
            keys.push(*other);
        }
        for (other, piece) in self.pieces.range(..key).rev() {
            if !is_free(other, piece) || end(other, piece) + GAP < from || to > other.1 + longest {
                break;
            }
            from = other.1;
            keys.push(*other);
        }
        for key in &keys {
            if let Some(piece) = self.pieces.get_mut(key) {
                piece.stage = Stage::UnderWay;
                self.fetched += u64::from(piece.length);
            }
        }
        let length = u32::try_from(to - from).unwrap_or(u32::MAX);
        Question { pack: key.0, part: Part { offset: from, length }, keys }
    }
}

/// Ends it when it goes away.
pub struct Over<'needs>(pub &'needs Needs);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::Pack;
    use super::super::trouble::Kind;
    use super::*;

    const MEBIBYTE: u64 = 1024 * 1024;

    /// Pieces of this length that lie side by side.
    fn pieces(offsets: impl Iterator<Item = u64>, length: u32) -> Vec<(Id, Part)> {
        offsets.map(|offset| (Id::default(), Part { offset, length })).collect()
    }

    /// Does something while what is announced is fetched from this pack.
    fn fetching<T>(needs: &Needs, pack: &Pack, act: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| needs.fetch(pack, |_| "data/00/pack".to_owned()));
            let _over = Over(needs);
            act()
        })
    }

    #[test]
    fn what_lies_together_is_one_question_in_whatever_order_it_is_needed() {
        let (needs, pack) = (Needs::default(), Pack::new(300_000));
        let mut wanted = pieces((0..3000).map(|number| number * 100), 100);
        wanted.reverse();
        wanted.swap(7, 1000);
        needs.announce(1, wanted.iter().copied());
        fetching(&needs, &pack, || {
            for (id, part) in &wanted {
                let at = usize::try_from(part.offset).unwrap();
                assert_eq!(needs.take(id, *part).unwrap().unwrap(), pack.bytes[at..at + 100]);
            }
            assert!(needs.take(&wanted[0].0, wanted[0].1).is_none(), "it was needed once");
            let state = needs.state();
            assert_eq!((state.announced, state.fetched, state.pieces.len()), (0, 0, 0));
        });
        assert_eq!(*pack.asked.lock().unwrap(), [Part { offset: 0, length: 300_000 }]);
    }

    #[test]
    fn no_more_is_fetched_than_there_is_room_for_but_what_somebody_waits_for() {
        let (needs, pack) = (Needs::default(), Pack::new(100 * 1024 * 1024));
        let wanted = pieces((0..100).map(|number| number * MEBIBYTE), 1024 * 1024);
        needs.announce(1, wanted.iter().copied());
        fetching(&needs, &pack, || {
            for (id, part) in wanted.iter().rev() {
                assert_eq!(needs.take(id, *part).unwrap().unwrap().len(), 1024 * 1024);
                assert!(needs.state().fetched <= FETCHED + MEBIBYTE);
            }
        });
        let asked: u64 = pack.asked.lock().unwrap().iter().map(|part| u64::from(part.length)).sum();
        assert_eq!(asked, 100 * MEBIBYTE, "nothing is fetched twice");
    }

    #[test]
    fn what_cannot_be_read_with_others_is_left_to_whoever_needs_it() {
        let (needs, pack) = (Needs::default(), Pack { readable: 10_000, ..Pack::new(20_000) });
        let wanted = pieces((0..200).map(|number| number * 100), 100);
        needs.announce(1, wanted.iter().copied());
        fetching(&needs, &pack, || assert!(wanted.iter().all(|(id, part)| needs.take(id, *part).is_none())));
    }

    #[test]
    fn a_storage_that_is_away_is_not_asked_again() {
        let away = Pack { readable: 0, otherwise: Kind::Away, ..Pack::new(20_000) };
        let needs = Needs::default();
        let wanted = pieces([0, 10_000].into_iter(), 100);
        needs.announce(1, wanted.iter().copied());
        fetching(&needs, &away, || {
            for (id, part) in &wanted {
                assert_eq!(needs.take(id, *part).unwrap().unwrap_err().kind, Kind::Away);
            }
        });
    }

    #[test]
    fn what_a_file_did_not_take_does_not_stay_unless_a_later_one_needs_it() {
        let needs = Needs::default();
        let wanted = pieces([0, 100].into_iter(), 100);
        needs.announce(1, wanted.iter().copied());
        needs.announce(2, wanted[1..].iter().copied());
        let left = || {
            let state = needs.state();
            (state.announced, state.pieces.len())
        };
        needs.done(1, wanted.iter().copied());
        assert_eq!(left(), (100, 1));
        needs.done(2, wanted[1..].iter().copied());
        assert_eq!(left(), (0, 0));
    }
}
