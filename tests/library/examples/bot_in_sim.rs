//! A bot in the simulator.

use super::run;

#[test]
fn every_question_is_answered_once_and_in_order_whatever_the_seed() {
    for seed in ["1", "2", "3", "4"] {
        let ended = run("bot_in_sim", &[seed]);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "seed {seed}");
        assert!(ended.out.starts_with("100 answers in "), "{}", ended.out);
        let lost = ended.out.split_once("with ").and_then(|(_, rest)| rest.split_once(' '));
        assert!(
            lost.is_some_and(|(lost, _)| lost.parse::<u64>().is_ok_and(|lost| lost > 50)),
            "{}",
            ended.out
        );
    }
}

#[test]
fn a_seed_repeats_a_run() {
    assert_eq!(run("bot_in_sim", &["7"]).out, run("bot_in_sim", &["7"]).out);
}
