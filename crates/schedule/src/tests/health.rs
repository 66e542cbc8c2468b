//! Suspensions, probes, flushes, deadlines and slow-downs, as scripts.

use super::script::check;

#[test]
fn three_failures_suspend_a_site_and_one_probe_reopens_it() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+900 unreachable
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 again=+900 unreachable
        closed s2
        = open s3 S by d.test
        ready s3
        = assign s3 3
        done s3 3 again=+900 unreachable
        = suspended S
        closed s3
        add 5 d.test
        T +59
        T +7.1
        = open s4 S by d.test
        ? 5 site S could not be reached or was suspended; waits for the probe that finds out how it is now
        ready s4
        = assign s4 4
        done s4 4 good
        = resumed S
        ready s4
        = assign s4 5",
    );
}

#[test]
fn hosts_that_all_fail_alike_suspend_the_site_by_their_first_message() {
    check(
        101,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        T +1
        alike S +0 refused
        = suspended S
        done s1 1 again=+900 unreachable
        closed s1
        T +59
        T +7.1
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 good
        = resumed S",
    );
}

#[test]
fn a_failed_probe_leaves_the_site_suspended_for_longer() {
    let dead = "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        site d.test S
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        = open s4 S by d.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        ready s3
        = assign s3 3
        done s1 1 again=+9000 unreachable
        closed s1
        done s2 2 again=+9000 unreachable
        closed s2
        done s3 3 again=+9000 unreachable
        = suspended S
        = quit s4
        closed s3
        closed s4
        T +67
        = open s5 S by d.test
        ready s5
        = assign s5 4
        done s5 4 again=+1 unreachable
        = suspended S
        closed s5
        T +119
        T +14
        = open s6 S by d.test";
    // The fourth session is idle when the site is suspended, once it has said so.
    check(
        100,
        &dead
            .replace(
                "done s1 1",
                "ready s4\n= assign s4 4\ndone s4 4 again=+0 good\ndone s1 1",
            )
            .replace(
                "= quit s4\n        closed s3\n        closed s4",
                "closed s3\n        closed s4",
            ),
    );
}

#[test]
fn a_rule_suspends_a_site_until_its_time_or_a_resume() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        suspend S +60 listed
        site d.test S
        ? 1 site S suspended until 2026-01-01T00:01:00Z by listed
        T +60
        = open s1 S by d.test
        ready s1
        = assign s1 1
        suspend S +60 listed
        done s1 1 again=+10 neutral
        ready s1
        T +10
        = quit s1
        closed s1
        resume S
        = open s2 S by d.test",
    );
}

#[test]
fn a_flush_sets_aside_due_time_and_suspension_but_not_the_rate() {
    check(
        100,
        "
        suspend S +600 listed
        add 1 d.test due=+60
        add 2 d.test due=+60
        add 3 d.test due=+60
        flush 1 2
        = resolve d.test
        site d.test S rate=1
        = open s1 S by d.test
        ready s1
        = assign s1 1 all
        done s1 1 good
        ready s1
        ? 2 site S suspended until 2026-01-01T00:10:00Z by listed
        T +0.9
        T +0.1
        = assign s1 2 all
        done s1 2 good
        ready s1
        T +100
        = quit s1
        ? 3 site S suspended until 2026-01-01T00:10:00Z by listed",
    );
}

#[test]
fn a_flush_of_a_dead_site_is_one_probe() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+1 unreachable
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 again=+1 unreachable
        closed s2
        = open s3 S by d.test
        ready s3
        = assign s3 3
        done s3 3 again=+1 unreachable
        = suspended S
        closed s3
        T +2
        flush all
        = open s4 S by d.test
        ready s4
        = assign s4 1 all
        done s4 1 again=+900 unreachable
        = suspended S
        closed s4
        T +3
        flush all
        = open s5 S by d.test
        ready s5
        = assign s5 1 all
        done s5 1 good
        = resumed S
        ready s5
        = assign s5 2 all",
    );
}

#[test]
fn what_was_flushed_and_broke_off_is_still_meant_with_all_its_recipients() {
    check(
        100,
        "
        add 1 d.test due=+900
        flush all
        = resolve d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1 all
        closed s1
        T +2
        = open s2 S by d.test
        ready s2
        = assign s2 1 all",
    );
}

#[test]
fn what_was_flushed_in_vain_goes_with_all_its_recipients_when_the_site_is_back() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        add 2 d.test
        add 3 d.test due=+900
        done s1 1 again=+1 unreachable
        ready s1
        = assign s1 2
        done s1 2 again=+1 unreachable
        ready s1
        T +1
        = assign s1 1
        done s1 1 again=+1 unreachable
        = suspended S
        closed s1
        flush all
        = open s2 S by d.test
        ready s2
        = assign s2 1 all
        done s2 1 again=+2000 unreachable
        = suspended S
        closed s2
        T +140
        = open s3 S by d.test
        ready s3
        = assign s3 2 all
        done s3 2 good
        = resumed S
        ready s3
        = assign s3 3 all",
    );
}

#[test]
fn a_job_whose_deadline_comes_in_a_suspension_expires() {
    check(
        100,
        "
        suspend S +600 listed
        add 1 d.test deadline=+60
        = resolve d.test
        site d.test S
        T +59.9
        T +0.1
        = expire 1
        settled d.test 1
        ? 1 
        add 2 d.test deadline=+60
        T +60
        = expire 2
        settled d.test 2 again=+0
        T +0.9
        T +0.1
        = expire 2",
    );
}

#[test]
fn the_last_dispatch_is_at_the_deadline_for_all_recipients() {
    check(
        100,
        "
        add 1 d.test due=+900 deadline=+60
        T +59.9
        T +0.1
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1 all",
    );
}

#[test]
fn a_session_that_breaks_off_gives_its_job_back_and_cannot_spin() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        closed s1
        T +0.9
        T +0.1
        = open s2 S by d.test
        closed s2
        T +0.9
        T +0.1
        = open s3 S by d.test
        ready s3
        = assign s3 1
        ready s3
        T +1
        = assign s3 1",
    );
}

#[test]
fn slow_halves_rate_and_connections_and_they_recover_step_by_step() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S connections=4 rate=4
        = open s1 S by d.test
        slow S +60 too-fast
        slow S +60 too-fast
        ready s1
        = assign s1 1
        add 2 d.test
        done s1 1 good
        ready s1
        T +0.44
        T +0.01
        = assign s1 2
        done s1 2 good
        closed s1
        T +31
        slow S +60 too-fast
        add 3 d.test
        = open s2 S by d.test
        add 4 d.test
        ready s2
        = assign s2 3
        T +10
        ? 4 site S: waits for its one connection
        T +50
        = open s3 S by d.test",
    );
}
