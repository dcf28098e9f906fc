//! A random life of the plan.

use super::{End, PLAIN, Variant, World, ms, secs};
use crate::leases::Holdings;
use proptest::prelude::*;

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u16, bool),
    Change(usize, u8),
    Begin,
    Execute(usize),
    Answer(usize, bool),
    Take(u8),
    Fetched(usize),
    Write(usize, End),
    Return(usize),
    Pass(u64),
    SetBack(u64),
    Configure(Variant),
    Lose(usize),
    Regain,
    Tell,
    TellNone,
    Wake,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        3 => Just(End::Success),
        4 => Just(End::Failure),
        1 => (1_u64..60).prop_map(End::RetryAfter),
        1 => Just(End::Refused),
    ];
    let variant = (any::<bool>(), 1_u16..4, 1_usize..3, any::<bool>()).prop_map(
        |(long, batches, per_host, second)| Variant {
            long,
            batches,
            per_host,
            second,
        },
    );
    let step = prop_oneof![
        4 => (0_u8..3, 0_u16..=10_000, any::<bool>()).prop_map(|(host, code, told)| Step::Insert(host, code, told)),
        2 => (any::<usize>(), 0_u8..5).prop_map(|(site, how)| Step::Change(site, how)),
        8 => Just(Step::Begin),
        8 => any::<usize>().prop_map(Step::Execute),
        8 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(read, works)| Step::Answer(read, works)),
        6 => (1_u8..4).prop_map(Step::Take),
        3 => any::<usize>().prop_map(Step::Fetched),
        6 => (any::<usize>(), end).prop_map(|(visit, end)| Step::Write(visit, end)),
        6 => any::<usize>().prop_map(Step::Return),
        6 => (1_u64..8000).prop_map(Step::Pass),
        1 => (1_u64..100_000).prop_map(Step::SetBack),
        1 => variant.prop_map(Step::Configure),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Regain),
        2 => Just(Step::Tell),
        1 => Just(Step::TellNone),
        1 => Just(Step::Wake),
    ];
    prop::collection::vec(step, 1..250)
}

impl World {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Insert(host, code, told) => {
                self.insert(&format!("h{host}"), code);
                if told {
                    self.plan.wake(self.now);
                }
            }
            Step::Change(site, how) => {
                if !self.sites.is_empty() {
                    let site = site % self.sites.len();
                    self.change(site, how);
                }
            }
            Step::Begin => self.begin(),
            Step::Execute(read) => {
                if !self.reads.is_empty() {
                    self.execute(read % self.reads.len());
                }
            }
            Step::Answer(read, works) => {
                if !self.reads.is_empty() {
                    self.answer(read % self.reads.len(), works);
                }
            }
            Step::Take(count) => {
                for _ in 0..count {
                    self.take()?;
                }
            }
            Step::Fetched(visit) => {
                if !self.open.is_empty() {
                    self.fetched(visit % self.open.len());
                }
            }
            Step::Write(visit, end) => {
                if !self.open.is_empty() {
                    self.write(visit % self.open.len(), end);
                }
            }
            Step::Return(visit) => {
                if !self.open.is_empty() {
                    self.end(visit % self.open.len());
                }
            }
            Step::Pass(millis) => self.now = self.now.plus(ms(millis)),
            Step::SetBack(millis) => {
                self.now = self.now.minus(ms(millis));
                // The Scheduler looks at its plan before anything else.
                self.begin();
            }
            Step::Configure(variant) => self.configure(variant),
            Step::Lose(lease) => {
                let count = self.leases.len();
                if let Some((held, epoch)) = self.leases.values_mut().nth(lease % count.max(1)) {
                    (*held, *epoch) = (false, *epoch + 1);
                }
            }
            Step::Regain => self.lease_all(),
            Step::Tell => self.tell(),
            Step::TellNone => {
                self.told = Holdings::default();
                self.plan.hold(&self.told);
            }
            Step::Wake => self.plan.wake(self.now),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, nothing is out twice, early, or
    /// under a lost lease, and in the end everything is visited in time.
    #[test]
    fn every_site_is_visited_in_time_and_never_twice_at_once(steps in steps()) {
        let mut world = World::new(PLAIN);
        world.page_limit = 3;
        for step in steps {
            world.step(step)?;
        }
        world.settle_down(secs(180))?;
    }
}
