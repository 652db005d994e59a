//! Decides which of the ledger's two copies is believed, so that no damage and no old copy takes the anchor back.
//!
//! Each write makes a new generation: the first copy, the second copy, then the witness, which holds the generation
//! alone. A copy below the witness is an old one, put in place by a disk or by a person, and never believed: next to a
//! damaged newer copy it would take this host back.

/// What stands in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// Nothing.
    Missing,
    /// Something that cannot be believed, and why.
    Damaged(String),
    /// What was written there.
    Good(T),
}

/// One undamaged copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Counted from one; zero in ledgers of the versions that kept one copy.
    pub generation: u64,
    /// Of its content.
    pub checksum: String,
}

/// What follows from what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belief {
    /// There never was a ledger.
    FirstStart,
    /// One copy is believed.
    Copy {
        /// Which: 0 or 1.
        which: usize,
        /// Its generation.
        generation: u64,
        /// What is put right before anything rests on it; empty if all three agree.
        amiss: Vec<String>,
    },
}

/// The names of the two copies and of the witness.
pub const NAMES: [&str; 3] = ["ledger.json", "ledger.copy.json", "ledger.generation.json"];

/// Decides. The error is why nothing is believed.
pub fn believe(copies: &[Found<Stamp>; 2], witness: &Found<u64>) -> Result<Belief, Vec<String>> {
    if let ([Found::Missing, Found::Missing], Found::Missing) = (copies, witness) {
        return Ok(Belief::FirstStart);
    }
    let mut amiss: Vec<String> = copies.iter().zip(NAMES).filter_map(|(copy, name)| fault_of(copy, name)).collect();
    amiss.extend(fault_of(witness, NAMES[2]));
    let good = |which: usize| match &copies[which] {
        Found::Good(stamp) => Some((which, stamp)),
        _ => None,
    };
    let (which, newest) = match (good(0), good(1)) {
        (Some((_, one)), Some((_, two))) if one.generation == two.generation && one.checksum != two.checksum => {
            amiss.push(format!("both copies are generation {}, with different content", one.generation));
            return Err(amiss);
        }
        (Some(one), Some(two)) if two.1.generation > one.1.generation => two,
        (Some(one), _) => one,
        (None, Some(two)) => two,
        (None, None) => return Err(amiss),
    };
    let generation = newest.generation;
    let alone = good(1 - which).is_none();
    match witness {
        Found::Good(witness) if generation < *witness => {
            amiss.push(format!("{} is generation {generation}, and {witness} was written", NAMES[which]));
            return Err(amiss);
        }
        Found::Good(witness) if generation > *witness => amiss.push(format!("{} is behind", NAMES[2])),
        Found::Good(_) => {}
        // Without a witness nobody can say whether a copy that stands alone is the newest. Only the first write, cut
        // short, leaves that behind; and the versions that kept one copy.
        Found::Missing if alone && generation <= 1 && copies[1 - which] == Found::Missing => {}
        Found::Missing | Found::Damaged(_) if alone => return Err(amiss),
        Found::Missing | Found::Damaged(_) => {}
    }
    if let Some((other, stamp)) = good(1 - which)
        && stamp.generation < generation
    {
        amiss.push(format!("{} is behind", NAMES[other]));
    }
    Ok(Belief::Copy { which, generation, amiss })
}

fn fault_of<T>(found: &Found<T>, name: &str) -> Option<String> {
    match found {
        Found::Missing => Some(format!("{name} is missing")),
        Found::Damaged(why) => Some(format!("{name} is damaged: {why}")),
        Found::Good(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(generation: u64) -> Found<Stamp> {
        Found::Good(Stamp { generation, checksum: format!("content {generation}") })
    }

    fn damaged<T>() -> Found<T> {
        Found::Damaged("torn".into())
    }

    /// Which generation is believed; none at a first start.
    fn believed(one: Found<Stamp>, two: Found<Stamp>, witness: Found<u64>) -> Result<Option<u64>, ()> {
        match believe(&[one, two], &witness) {
            Ok(Belief::FirstStart) => Ok(None),
            Ok(Belief::Copy { generation, .. }) => Ok(Some(generation)),
            Err(_) => Err(()),
        }
    }

    #[test]
    fn only_nothing_at_all_is_a_first_start() {
        use Found::{Good, Missing};
        assert_eq!(believed(Missing, Missing, Missing), Ok(None));
        assert_eq!(believed(Missing, Missing, Good(3)), Err(()));
        assert_eq!(believed(Missing, Missing, damaged()), Err(()));
        assert_eq!(believed(damaged(), Missing, Missing), Err(()));
        assert_eq!(believed(damaged(), damaged(), Good(3)), Err(()));
    }

    #[test]
    fn t10_one_damaged_or_missing_copy_heals_from_the_other() {
        use Found::{Good, Missing};
        let all = || believe(&[good(3), good(3)], &Good(3));
        assert_eq!(all(), Ok(Belief::Copy { which: 0, generation: 3, amiss: vec![] }));
        for (broken, why) in [(Missing, "is missing"), (damaged(), "is damaged: torn")] {
            let first = believe(&[broken.clone(), good(3)], &Good(3));
            let amiss = vec![format!("ledger.json {why}")];
            assert_eq!(first, Ok(Belief::Copy { which: 1, generation: 3, amiss }));
            let second = believe(&[good(3), broken], &Good(3));
            let amiss = vec![format!("ledger.copy.json {why}")];
            assert_eq!(second, Ok(Belief::Copy { which: 0, generation: 3, amiss }));
        }
        assert_eq!(believed(good(3), good(3), Missing), Ok(Some(3)));
        assert_eq!(believed(good(3), good(3), damaged()), Ok(Some(3)));
    }

    #[test]
    fn t10_an_old_copy_is_never_believed_once_a_newer_one_was_used() {
        use Found::{Good, Missing};
        assert_eq!(believed(good(2), good(3), Good(3)), Ok(Some(3)));
        assert_eq!(believed(good(3), good(2), Good(3)), Ok(Some(3)));
        for newer in [Missing, damaged()] {
            assert_eq!(believed(good(2), newer.clone(), Good(3)), Err(()));
            assert_eq!(believed(newer.clone(), good(2), Good(3)), Err(()));
            // Two of three gone: nobody can say whether the third is the newest.
            assert_eq!(believed(good(2), newer.clone(), Missing), Err(()));
            assert_eq!(believed(good(2), newer, damaged()), Err(()));
        }
        assert_eq!(believed(good(2), good(2), Good(3)), Err(()));
        let other = Good(Stamp { generation: 3, checksum: "another".into() });
        assert_eq!(believed(good(3), other, Good(3)), Err(()));
    }

    #[test]
    fn a_write_that_was_cut_anywhere_is_the_old_generation_or_the_new_one() {
        use Found::{Good, Missing};
        // The first write ever.
        assert_eq!(believed(good(1), Missing, Missing), Ok(Some(1)));
        assert_eq!(believed(good(1), damaged(), Missing), Err(()));
        assert_eq!(believed(damaged(), good(1), Missing), Err(()));
        assert_eq!(believed(good(1), good(1), Missing), Ok(Some(1)));
        // A later one.
        let cut = believe(&[good(4), good(3)], &Good(3)).unwrap();
        let amiss = vec!["ledger.generation.json is behind".to_owned(), "ledger.copy.json is behind".to_owned()];
        assert_eq!(cut, Belief::Copy { which: 0, generation: 4, amiss });
        let amiss = vec!["ledger.generation.json is behind".to_owned()];
        let cut = believe(&[good(4), good(4)], &Good(3)).unwrap();
        assert_eq!(cut, Belief::Copy { which: 0, generation: 4, amiss });
        // And then the copy that got it is lost: nobody had used it.
        assert_eq!(believed(damaged(), good(3), Good(3)), Ok(Some(3)));
    }

    #[test]
    fn a_ledger_of_a_version_with_one_copy_is_read() {
        assert_eq!(believed(good(0), Found::Missing, Found::Missing), Ok(Some(0)));
        assert_eq!(believed(good(0), good(7), Found::Good(7)), Ok(Some(7)));
    }
}
