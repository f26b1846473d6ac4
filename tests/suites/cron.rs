//! What a cron job sees from attach to the fix, by exit codes: too young, a leak, clean again, and lossy, which is never clean.

use std::time::{Duration, Instant};

use memscope_tests::deadline::until;
use memscope_tests::memscope::{Memscope, Output};
use memscope_tests::session::Session;
use memscope_tests::target::Target;

/// Longest that a verdict may take; it needs a minute of collection.
const VERDICT: Duration = Duration::from_secs(120);

/// A minute's leak, judged clean again: as long as it lasted at most.
const FIXED: Duration = Duration::from_secs(120);

const REQUEST: Duration = Duration::from_millis(100);

fn check(memscope: &Memscope, target: &Target) -> Output {
    memscope.run(&["check", &target.pid().to_string()])
}

/// A request that takes five blocks, gives four back, and leaks one.
fn leaking_request(target: &mut Target) {
    target.act("take 1 10007");
    sound_request(target);
}

fn sound_request(target: &mut Target) {
    target.act("take 4 20011");
    target.act("give 4 20011");
}

#[test]
fn attach_leak_check_1_fix_check_0_and_lossy_6() {
    let memscope = Memscope::new();
    let [mut freed, mut stopped, mut lossy] = [Target::blocks(), Target::blocks(), Target::blocks()];
    let _sessions = [
        Session::attach(&memscope, freed.pid()),
        Session::attach(&memscope, stopped.pid()),
        Session::attach_with(&memscope, lossy.pid(), &["--max-blocks", "1024"]),
    ];
    let begun = Instant::now();
    // Half of these find no room.
    lossy.act("take 2048 10007");
    let young = check(&memscope, &freed).expect_code(6);
    assert!(young.stdout.contains("too young"), "{young}");

    let mut leaked = 0;
    let mut asked = Instant::now();
    let found = until(VERDICT, "a leak that check finds", || {
        leaking_request(&mut freed);
        leaking_request(&mut stopped);
        leaked += 1;
        std::thread::sleep(REQUEST);
        if asked.elapsed() < Duration::from_secs(5) {
            return None;
        }
        asked = Instant::now();
        let outputs = [check(&memscope, &freed), check(&memscope, &stopped)];
        outputs.iter().all(|output| output.code() == 1).then_some(outputs)
    });
    println!("found after {:?} and {leaked} requests", begun.elapsed());
    for output in &found {
        assert_eq!(output.stdout.lines().count(), 1, "one line a suspect: {output}");
        assert!(
            output.stdout.contains("LEAKING") && output.stdout.contains("layer_one"),
            "{output}"
        );
    }
    // With a baseline of what is known to leak, and with a limit above it, there is nothing to tell.
    let pid = freed.pid().to_string();
    memscope.ok(&["check", &pid, "--quiet", "--min-rate", "1000000000"]);

    // The fix: one gives all of it back, the other only stops.
    freed.act(&format!("give {leaked} 10007"));
    let fixed = Instant::now();
    let mut waiting = vec![&mut freed, &mut stopped];
    until(FIXED, "both to be clean again", || {
        waiting.iter_mut().for_each(|target| sound_request(target));
        std::thread::sleep(REQUEST * 10);
        waiting.retain(|target| {
            let output = check(&memscope, target);
            assert_ne!(output.code(), 4, "{output}");
            let clean = output.code() == 0;
            if clean {
                println!("process {}: clean {:?} after the fix", target.pid(), fixed.elapsed());
                assert!(output.stdout.contains("no suspected leaks"), "{output}");
            }
            !clean
        });
        waiting.is_empty().then_some(())
    });

    // Lossy stays lossy: neither time nor freeing everything makes it clean.
    for _ in 0..2 {
        let output = check(&memscope, &lossy).expect_code(6);
        assert!(
            output.stdout.contains("INCONCLUSIVE: lossy: 1024 blocks not recorded"),
            "{output}"
        );
        lossy.act("give 1024 10007");
    }
    // Of several targets the finding outweighs, then what cannot be judged.
    memscope.run(&["check"]).expect_code(6);
}
