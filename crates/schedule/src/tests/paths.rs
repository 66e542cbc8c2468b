//! The way of jobs and sessions while all goes well, as scripts.

use super::script::check;

#[test]
fn a_message_goes_its_way_and_an_idle_session_ends() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        ? 1 d.test: waits for DNS
        site d.test S
        = open s1 S by d.test
        ? 1 site S: a session is about to take it
        ready s1
        = assign s1 1
        ? 1 d.test: is being tried now
        done s1 1 good
        ready s1
        T +2.9
        T +0.2
        = quit s1
        closed s1
        T +600",
    );
}

#[test]
fn a_deferred_job_is_due_again_at_its_time_and_not_before() {
    check(
        100,
        "
        add 1 d.test due=+60
        T +59.999
        ? 1 d.test: waits for its next attempt at 2026-01-01T00:01:00Z
        T +0.001
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+300 good
        closed s1
        T +299.999
        T +0.001
        = resolve d.test
        = open s2 S by d.test",
    );
}

#[test]
fn the_oldest_due_job_is_the_one_that_has_waited_longest_for_a_session() {
    check(
        100,
        "
        due none
        add 1 d.test due=+60
        due none
        T +60
        = resolve d.test
        due 2026-01-01T00:01:00Z
        T +5
        add 2 d.test
        due 2026-01-01T00:01:00Z
        site d.test S
        = open s1 S by d.test
        = open s2 S by d.test
        due 2026-01-01T00:01:00Z
        ready s1
        = assign s1 1
        due 2026-01-01T00:01:05Z
        suspend S +600 rule
        remove 2
        due none
        add 3 d.test due=+3600
        due none
        flush 3
        due 2026-01-01T00:01:05Z
        done s1 1 again=+300 good
        due 2026-01-01T00:01:05Z",
    );
}

#[test]
fn one_session_carries_many_messages_and_ends_at_its_limit() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=1 messages=2
        = open s1 S by d.test
        ? 3 site S: waits for its one connection
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 2
        done s1 2 good
        ready s1
        = quit s1
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 3",
    );
}

#[test]
fn domains_of_one_site_share_its_sessions() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 e.test
        = resolve e.test
        site d.test S connections=1
        = open s1 S by d.test
        site e.test S connections=5
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 2",
    );
}

#[test]
fn senders_take_turns_so_a_mailing_does_not_delay_another() {
    check(
        100,
        "
        add 1 d.test from=bulk
        = resolve d.test
        add 2 d.test from=bulk
        add 3 d.test from=bulk
        add 4 d.test from=reset
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 4
        done s1 4 good
        ready s1
        = assign s1 2",
    );
}

#[test]
fn a_rate_paces_the_dispatches_of_all_sessions_together() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S rate=2
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        ? 2 site S: rate 2/s reached
        T +0.4
        T +0.05
        = assign s1 2
        done s1 2 good
        ready s1
        T +0.45
        T +0.05
        = assign s1 3",
    );
}

#[test]
fn the_window_limits_a_new_site_below_its_connections() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        add 5 d.test
        add 6 d.test
        site d.test S connections=20
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        = open s4 S by d.test
        = open s5 S by d.test
        ready s1
        = assign s1 1
        ? 6 site S: waits for one of 5 connections",
    );
}

#[test]
fn what_happens_to_a_job_in_flight_happens_after_it() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        add 1 d.test due=+60
        done s1 1 good
        ? 1 d.test: waits for its next attempt at 2026-01-01T00:01:00Z
        ready s1
        T +60
        = quit s1
        = open s2 S by d.test
        closed s1
        ready s2
        = assign s2 1
        remove 1
        done s2 1 again=+60 neutral
        ? 1 
        ready s2
        T +100
        = quit s2",
    );
}

#[test]
fn a_removed_job_is_not_tried_wherever_it_was() {
    check(
        100,
        "
        add 1 d.test due=+60
        remove 1
        add 2 d.test
        = resolve d.test
        remove 2
        add 3 d.test
        site d.test S connections=1
        = open s1 S by d.test
        add 4 d.test
        remove 3
        ready s1
        = assign s1 4
        T +100",
    );
}

#[test]
fn limits_may_fall_while_sessions_run() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=3
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        limit S connections=1
        ready s3
        = quit s3
        done s2 2 good
        ready s2
        = quit s2
        closed s2
        closed s3
        done s1 1 good
        ready s1
        = assign s1 3",
    );
}

#[test]
fn a_next_hop_that_moves_takes_its_jobs_along() {
    check(
        100,
        "
        suspend S +3600 listed
        add 1 d.test
        = resolve d.test
        site d.test S
        add 2 d.test
        T +299
        add 3 d.test
        T +2
        add 4 d.test
        = resolve d.test
        site d.test R connections=1
        = open s1 R by d.test
        ready s1
        = assign s1 1",
    );
}

#[test]
fn a_refresh_asks_again_and_loosens_limits() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        refresh
        = resolve d.test
        site d.test S connections=2
        = open s2 S by d.test",
    );
}

#[test]
fn after_a_refresh_nothing_new_goes_by_the_limits_of_before() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        refresh
        add 2 d.test
        = resolve d.test
        ready s1
        site d.test S connections=1
        = assign s1 2",
    );
}

#[test]
fn a_site_without_any_session_gets_the_next_free_place() {
    check(
        2,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S
        = open s1 S by d.test
        = open s2 S by d.test
        add 9 e.test
        = resolve e.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        site e.test R
        ? 9 waits for one of the 2 sessions of all sites together
        done s1 1 good
        ready s1
        = quit s1
        closed s1
        = open s3 R by e.test
        ready s3
        = assign s3 9
        done s2 2 good
        ready s2
        = assign s2 3",
    );
}

#[test]
fn an_idle_session_makes_room_at_once_for_a_site_that_has_none() {
    check(
        1,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        add 2 e.test
        = resolve e.test
        site e.test R
        = quit s1
        closed s1
        = open s2 R by e.test",
    );
}

#[test]
fn an_idle_session_makes_room_for_a_site_that_wants_one_more() {
    check(
        2,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        add 2 e.test
        = resolve e.test
        site e.test R
        = open s2 R by e.test
        ready s2
        = assign s2 2
        add 3 e.test
        = quit s1
        add 4 e.test
        closed s1
        = open s3 R by e.test
        done s2 2 good
        closed s2
        = open s4 R by e.test",
    );
}

#[test]
fn a_session_has_more_work_while_its_last_outcome_is_written_down() {
    check(
        10,
        "add 1 d.test
        = resolve d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        add 2 d.test
        carried s1 good
        ready s1
        = assign s1 2
        flush all
        closed s1
        settled d.test 1 again=+60
        T +2
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 good
        closed s2
        T +58
        = open s3 S by d.test
        ready s3
        = assign s3 1
        settled d.test 1
        done s3 1 good",
    );
}
