//! Cool-downs, budgets, disturbance, the last healthy member, errors and waves: no random life exceeds them.

use proptest::prelude::*;

use super::{
    farm::{Farm, Rules, over},
    judge,
    life::{deed, live, rules},
};

/// A life under random rules, lived and then judged.
fn judged(cases: u32, judge: impl Fn(&Farm, &Rules) -> usize) {
    let lives = (rules(), prop::collection::vec(deed(), 10..40));
    over(cases, &lives, |(rules, deeds)| {
        let mut farm = Farm::of_all(&rules);
        live(&mut farm, &deeds);
        judge(&farm, &rules)
    });
}

#[test]
fn cool_downs_and_budgets_are_never_exceeded() {
    judged(12, |farm, rules| {
        judge::cool_downs(&farm.world, rules);
        judge::budgets(&farm.world, rules)
    });
}

#[test]
fn disturbance_counts_over_all_plans_and_people() {
    judged(12, |farm, rules| judge::disturbance(&farm.world, rules));
}

#[test]
fn the_last_healthy_member_is_never_taken() {
    judged(12, |farm, rules| judge::healthy_members(&farm.world, rules));
}

#[test]
fn every_key_has_one_effect_and_fences_grow() {
    judged(12, |farm, _| {
        judge::effects(&farm.world);
        judge::errors(&farm.world)
    });
}
