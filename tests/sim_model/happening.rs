//! What may happen to a host, and how one seed chooses.

use crate::fleet::{App, Fleet, Ring};

/// A generator of numbers that is the same everywhere (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What a commit changes. Each makes sense whatever came before it, so that a story stays one when parts are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    App(App),
    Token(u8),
    File(u8),
    Extra(Option<&'static str>),
    Web(bool),
    Shop(bool),
    ShopImage(u8),
    Init(bool),
    Network(bool),
    Shared(u8),
    Follow,
    /// The ring names the commit so many steps before this one.
    Pin(usize),
    Halt,
    Mistake(bool),
}

impl Change {
    /// The fleet after the change; `path` are the numbers of the commits before it, newest first.
    pub fn of(self, mut fleet: Fleet, path: &[usize]) -> Fleet {
        let first = Fleet::first();
        match self {
            Change::Nothing => {}
            Change::App(app) => fleet.web.iter_mut().for_each(|web| web.app = app),
            Change::Token(token) => fleet.web.iter_mut().for_each(|web| web.token = token),
            Change::File(file) => fleet.web.iter_mut().for_each(|web| web.file = file),
            Change::Extra(extra) => fleet.web.iter_mut().for_each(|web| web.extra = extra),
            Change::Web(there) => fleet.web = if there { fleet.web.or(first.web) } else { None },
            Change::Shop(there) => fleet.shop = if there { fleet.shop.or(first.shop) } else { None },
            Change::ShopImage(image) => fleet.shop.iter_mut().for_each(|shop| shop.shop = image),
            Change::Init(works) => fleet.shop.iter_mut().for_each(|shop| shop.init_works = works),
            Change::Network(network) => fleet.shop.iter_mut().for_each(|shop| shop.network = network),
            Change::Shared(shared) => fleet.shop.iter_mut().for_each(|shop| shop.shared = shared),
            Change::Follow => fleet.ring = Ring::Follows,
            Change::Pin(back) => fleet.ring = Ring::Pinned(path[back.min(path.len() - 1)]),
            Change::Halt => fleet.ring = Ring::Halted,
            Change::Mistake(mistaken) => fleet.mistaken = mistaken,
        }
        fleet
    }

    fn random(chance: &mut Chance) -> Self {
        match chance.below(24) {
            0..=2 => Change::App(App::One),
            3..=5 => Change::App(App::Two),
            6 => Change::App(App::Bad),
            7 => Change::App(App::Loops),
            8 => Change::Token(chance.below(3) as u8),
            9 => Change::File(chance.below(3) as u8),
            10..=11 => Change::Extra([None, Some("extra"), Some("other")][chance.below(3)]),
            12 => Change::Web(!chance.one_in(3)),
            13 => Change::Shop(!chance.one_in(3)),
            14..=15 => Change::ShopImage(1 + chance.below(2) as u8),
            16 => Change::Init(!chance.one_in(2)),
            17 => Change::Network(chance.one_in(2)),
            18 => Change::Shared(chance.below(3) as u8),
            19 => Change::Follow,
            20 => Change::Pin(chance.below(4)),
            21 => [Change::Halt, Change::Follow][chance.below(2)],
            22 => Change::Mistake(chance.one_in(2)),
            _ => Change::Nothing,
        }
    }
}

/// What a person does to a container, or to a file of a stack, behind moorline's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Stop,
    Pause,
    Remove,
    Rename,
    /// Compose was killed while it replaced the container; whether the old one is still there.
    HalfRename(bool),
    EditFile,
    RemoveFile,
}

/// What befalls a host in the middle of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    EngineAway,
    DiskFull,
    Hand(usize, Deed),
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    ByItself,
    /// By `kill -9`, after so many effects.
    Killed(usize),
    /// By the order to stop, after so many effects.
    Stopped(usize),
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The operators commit on their branch, and the courier fetches it.
    Commit(Change),
    /// The courier fetches a commit that nobody may sign (0), that a stranger signed (1), or whose signature is that of
    /// another commit (2).
    Evil(usize),
    /// The courier fetches the commit so many steps before the branch's newest.
    Rewind(usize),
    /// The operators rewrite their branch from so many steps before its end on.
    Rewrite(usize, Change),
    Run {
        by_timer: bool,
        ends: Ends,
        trouble: Option<(usize, Trouble)>,
    },
    Hand(usize, Deed),
    Engine {
        answers: bool,
    },
    Registry {
        refuses: Option<usize>,
    },
    Disk {
        full: bool,
    },
    /// Whether every program was asked to end before the power went.
    Reboot {
        in_order: bool,
    },
    /// The clock jumps by so many minutes.
    Clock(i64),
    /// A person holds the host, or one stack, for so many minutes.
    Hold(Option<usize>, i64),
    Release,
    Retry,
    /// The ledger cannot be believed any more, until a person has put it back after the next run.
    DamagedLedger,
    /// One copy of the ledger is damaged, and the other is good.
    DamagedCopy,
}

impl Happening {
    /// A run that nothing disturbs.
    pub const QUIET: Self = Happening::Run { by_timer: false, ends: Ends::ByItself, trouble: None };

    fn random(chance: &mut Chance) -> Self {
        match chance.below(40) {
            0..=14 => Happening::Run {
                by_timer: chance.one_in(2),
                ends: match chance.below(8) {
                    0..=2 => Ends::Killed(chance.below(45)),
                    3 => Ends::Stopped(chance.below(45)),
                    _ => Ends::ByItself,
                },
                trouble: chance.one_in(6).then(|| (chance.below(45), trouble(chance))),
            },
            15..=25 => Happening::Commit(Change::random(chance)),
            26 => Happening::Evil(chance.below(3)),
            27 => Happening::Rewind(1 + chance.below(3)),
            28 => Happening::Rewrite(chance.below(3), Change::random(chance)),
            29..=30 => hand(chance),
            31 => Happening::Engine { answers: chance.one_in(2) },
            32 => Happening::Registry { refuses: (!chance.one_in(3)).then(|| chance.below(5)) },
            33 => Happening::Disk { full: !chance.one_in(3) },
            34 => Happening::Reboot { in_order: chance.one_in(2) },
            35 => Happening::Clock([-525_600, -1_440, -7, 45, 1_440, 20_160][chance.below(6)]),
            36 => {
                let stack = chance.below(3).checked_sub(1);
                Happening::Hold(stack, [5, 240, 1_440][chance.below(3)])
            }
            37 => Happening::Release,
            38 => Happening::Retry,
            _ => [Happening::DamagedLedger, Happening::DamagedCopy][chance.below(2)],
        }
    }

    /// The story of a seed.
    pub fn story(seed: u64) -> Vec<Self> {
        let mut chance = Chance::new(seed);
        (0..3 + chance.below(9)).map(|_| Self::random(&mut chance)).collect()
    }
}

fn deed(chance: &mut Chance) -> Deed {
    [
        Deed::Stop,
        Deed::Stop,
        Deed::Pause,
        Deed::Remove,
        Deed::Rename,
        Deed::HalfRename(true),
        Deed::HalfRename(false),
        Deed::EditFile,
        Deed::RemoveFile,
    ][chance.below(9)]
}

fn hand(chance: &mut Chance) -> Happening {
    Happening::Hand(chance.below(4), deed(chance))
}

fn trouble(chance: &mut Chance) -> Trouble {
    match chance.below(3) {
        0 => Trouble::EngineAway,
        1 => Trouble::DiskFull,
        _ => Trouble::Hand(chance.below(4), [Deed::Stop, Deed::Remove][chance.below(2)]),
    }
}
