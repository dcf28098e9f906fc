//! The trail and walks against a model chain that grows, forks and begins anew.

use super::sawtooth_block::Link;
use super::trail::{Standing, Step, Trail, Walk};
use crate::flows::events::BlockRef;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// A ledger: all blocks there ever were, and the chain that counts.
#[derive(Default)]
struct Chain {
    all: HashMap<String, Link>,
    chain: Vec<Link>,
    made: usize,
}

impl Chain {
    fn grow(&mut self, count: usize) {
        for _ in 0..count {
            self.made += 1;
            let link = Link {
                block: BlockRef {
                    number: i64::try_from(self.chain.len()).unwrap(),
                    id: format!("b{}", self.made),
                },
                previous: self
                    .chain
                    .last()
                    .map_or("0000".to_owned(), |last| last.block.id.clone()),
            };
            self.all.insert(link.block.id.clone(), link.clone());
            self.chain.push(link);
        }
    }

    fn fork(&mut self, depth: usize) {
        let left = self.chain.len().saturating_sub(depth);
        self.chain.truncate(left);
        self.grow(depth.max(1) + 1);
    }

    fn head(&self) -> Link {
        self.chain.last().unwrap().clone()
    }

    fn holds(&self, block: &BlockRef) -> bool {
        let at = usize::try_from(block.number).unwrap();
        self.chain.get(at).is_some_and(|link| link.block == *block)
    }
}

/// What a stream does, without the stream.
struct Follower {
    trail: Trail,
    handed: Vec<BlockRef>,
    abandoned: Vec<BlockRef>,
}

impl Follower {
    fn follow(&mut self, chain: &Chain, from: Link) {
        match self.trail.standing(&from) {
            Standing::Known => {}
            Standing::Next => self.hand(vec![from]),
            Standing::Apart => {
                let mut walk = Walk::new(0, usize::MAX);
                let mut next = from;
                let ancestor = loop {
                    match walk.step(&self.trail, next).unwrap() {
                        Step::Ask(id) => next = chain.all[&id].clone(),
                        Step::Arrived(ancestor) => break ancestor,
                        Step::TooFar => panic!("there is no limit"),
                    }
                };
                if let Some(fork) = self.trail.go_back(ancestor.as_ref()) {
                    assert_eq!(fork.ancestor, ancestor);
                    self.abandoned.extend(fork.abandoned);
                }
                self.hand(walk.into_path());
            }
        }
    }

    fn hand(&mut self, links: Vec<Link>) {
        for link in links {
            self.trail.push(link.block.clone());
            self.handed.push(link.block);
        }
    }
}

#[derive(Clone, Debug)]
enum Happens {
    /// Blocks that are told.
    Told(usize),
    /// Blocks that are missed.
    Missed(usize),
    /// So many blocks are replaced, and that is told.
    Fork(usize),
    /// The newest block is told again.
    Again,
    /// The stream begins again with what was remembered.
    Restart,
    /// The ledger begins anew.
    Anew,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1_usize..4).prop_map(Happens::Told),
        3 => (1_usize..200).prop_map(Happens::Missed),
        2 => (1_usize..60).prop_map(Happens::Fork),
        2 => Just(Happens::Again),
        2 => Just(Happens::Restart),
        1 => Just(Happens::Anew),
    ]
}

proptest! {
    #[test]
    fn no_block_is_missed_and_forks_are_told(steps in prop::collection::vec(happens(), 1..40)) {
        let mut chain = Chain::default();
        chain.grow(1);
        let mut follower = Follower { trail: Trail::default(), handed: Vec::new(), abandoned: Vec::new() };
        for step in steps {
            match step {
                Happens::Told(count) => for _ in 0..count {
                    chain.grow(1);
                    follower.follow(&chain, chain.head());
                },
                Happens::Missed(count) => chain.grow(count),
                Happens::Fork(depth) => {
                    chain.fork(depth);
                    follower.follow(&chain, chain.head());
                }
                Happens::Again => follower.follow(&chain, chain.head()),
                Happens::Restart => follower.trail = Trail::read(Some(&follower.trail.document())),
                Happens::Anew => {
                    chain.chain.clear();
                    chain.grow(2);
                }
            }
        }
        chain.grow(1);
        follower.follow(&chain, chain.head());
        let handed: BTreeSet<&str> = follower.handed.iter().map(|block| block.id.as_str()).collect();
        for link in &chain.chain {
            prop_assert!(handed.contains(link.block.id.as_str()), "{:?} is missing", link.block);
        }
        for block in &follower.abandoned {
            prop_assert!(!chain.holds(block), "{block:?} is part of the chain");
        }
        // Of the newest blocks handed over, each that is none of the chain's any more was told.
        let known: BTreeSet<&str> = follower.abandoned.iter().map(|block| block.id.as_str()).collect();
        for block in follower.trail.newest_first() {
            prop_assert!(chain.holds(block) && !known.contains(block.id.as_str()));
        }
        // In order: each block was handed over directly behind the one before it, or
        // after a walk from a known one.
        for pair in follower.handed.windows(2) {
            prop_assert!(pair[1].number <= pair[0].number + 1);
        }
    }

    #[test]
    fn a_trail_is_bounded_and_holds_the_newest_and_some_of_the_oldest(count in 1_i64..20_000) {
        let mut trail = Trail::default();
        for number in 0..count {
            trail.push(BlockRef { number, id: number.to_string() });
        }
        let held: Vec<i64> = trail.newest_first().map(|block| block.number).collect();
        prop_assert!(held.len() <= 96);
        let dense: Vec<i64> = (0..count).rev().take(32).collect();
        prop_assert!(held.starts_with(&dense));
        if count > 4096 {
            prop_assert!(held.iter().any(|number| *number < count - 2000));
        }
        prop_assert!(trail.document().len() < 20_000);
        prop_assert_eq!(Trail::read(Some(&trail.document())), trail);
    }
}

#[test]
fn a_block_of_the_same_number_is_no_duplicate() {
    let mut trail = Trail::default();
    trail.push(BlockRef {
        number: 9,
        id: "a9".to_owned(),
    });
    let other = Link {
        block: BlockRef {
            number: 9,
            id: "b9".to_owned(),
        },
        previous: "a8".to_owned(),
    };
    assert_eq!(trail.standing(&other), Standing::Apart);
}

#[test]
fn a_fork_tells_the_abandoned_blocks_and_the_newest_common_one() {
    let mut trail = Trail::default();
    let block = |number: i64| BlockRef {
        number,
        id: format!("a{number}"),
    };
    for number in 0..10 {
        trail.push(block(number));
    }
    let fork = trail.go_back(Some(&block(7))).unwrap();
    assert_eq!(fork.ancestor, Some(block(7)));
    assert_eq!(fork.abandoned, [block(8), block(9)]);
    assert_eq!(trail.newest(), Some(&block(7)));
    assert_eq!(trail.go_back(Some(&block(7))), None);
}

#[test]
fn a_walk_that_does_not_link_up_is_named() {
    let mut walk = Walk::new(0, 10);
    let trail = Trail::default();
    let link = |number: i64, id: &str, previous: &str| Link {
        block: BlockRef {
            number,
            id: id.to_owned(),
        },
        previous: previous.to_owned(),
    };
    assert_eq!(
        walk.step(&trail, link(9, "b9", "b8")).unwrap(),
        Step::Ask("b8".to_owned())
    );
    let error = walk.step(&trail, link(5, "b8", "b7")).unwrap_err();
    assert!(error.contains("expected 8"), "{error}");
}

#[test]
fn a_walk_ends_at_the_first_block_that_is_wanted_and_is_bounded() {
    let trail = Trail::default();
    let link = |number: i64| Link {
        block: BlockRef {
            number,
            id: number.to_string(),
        },
        previous: (number - 1).to_string(),
    };
    let mut walk = Walk::new(8, 10);
    walk.step(&trail, link(9)).unwrap();
    assert_eq!(walk.step(&trail, link(8)).unwrap(), Step::Arrived(None));
    let mut walk = Walk::new(0, 2);
    walk.step(&trail, link(9)).unwrap();
    assert_eq!(walk.step(&trail, link(8)).unwrap(), Step::TooFar);
}

#[test]
fn what_cannot_be_read_is_as_nothing_known() {
    for state in [
        "",
        "{}",
        r#"{"version":2,"blocks":[]}"#,
        r#"{"version":1,"blocks":[[2,"b"],[1,"a"]]}"#,
    ] {
        assert_eq!(Trail::read(Some(state)), Trail::default(), "{state}");
    }
}
