//! The dump shows every key, and can be read again.

use super::*;

#[test]
fn the_dump_shows_every_key_with_its_origin_and_no_secret() {
    let text = format!("{LEDGER}wait = '3s'\n[batches]\npoll_interval = '9s'\n");
    let environment = [
        ("HIGHWATER_BATCHES__REPOLL__MIN", "2s"),
        ("HIGHWATER_BATCHES__COMMIT_ROWS", "7"),
        ("HIGHWATER_HTTP__CONTROL_TOKEN", "hunter2-hunter2-hunter2"),
    ];
    let first = loaded(&text, &environment);
    let dumped = dump(&first);
    insta::assert_snapshot!(dumped, @r#"
    [database]
    url = "sqlite://highwater.db" # default
    schema = "highwater" # default
    connections = 8 # default
    synchronous = "full" # default

    [http]
    listen = "127.0.0.1:8780" # default
    # control_token = "***" # HIGHWATER_HTTP__CONTROL_TOKEN
    # control_token_file is not set
    # intake_token_file is not set
    # read_token_file is not set
    max_body_bytes = "8MiB" # default

    [server]
    shutdown_timeout = "30s" # default
    lease = "10s" # default

    [log]
    filter = "info,actix_server=warn,actix_http=off" # default
    format = "text" # default
    stderr = true # default
    # file.path is not set
    file.rotation = "daily" # default
    file.keep = 7 # default
    # traces.endpoint is not set
    traces.sample = 1.0 # default

    [batches]
    poll_interval = "9s" # file line 7
    fallback_poll_interval = "60s" # default
    repoll.min = "2s" # HIGHWATER_BATCHES__REPOLL__MIN
    repoll.max = "60s" # default
    give_up_after.age = "24h" # default
    # give_up_after.polls is not set
    backoff.min = "1s" # default
    backoff.max = "5min" # default
    breaker_failures = 5 # default
    max_in_flight = 64 # default
    commit_interval = "5ms" # default
    commit_rows = 7 # HIGHWATER_BATCHES__COMMIT_ROWS

    [sites]
    max_in_flight = 64 # default
    sweep_interval = "5s" # default
    deny_private_networks = false # default
    max_result_bytes = "16KiB" # default
    commit_interval = "25ms" # default
    commit_rows = 2000 # default

    [events]
    commit_interval = "2ms" # default
    commit_rows = 2000 # default
    sweep_interval = "1s" # default
    max_events_per_call = 1000 # default
    max_event_bytes = "1MiB" # default

    [resources]
    fetch_slots = 256 # default
    fetch.batches.weight = 1 # default
    fetch.batches.minimum = 8 # default
    fetch.batches.priority = 0 # default
    fetch.sites.weight = 1 # default
    fetch.sites.minimum = 8 # default
    fetch.sites.priority = 0 # default
    database.leases.weight = 1 # default
    database.leases.minimum = 1 # default
    database.leases.priority = 2 # default
    database.updater.weight = 4 # default
    database.updater.minimum = 2 # default
    database.updater.priority = 1 # default
    database.scheduler.weight = 2 # default
    database.scheduler.minimum = 1 # default
    database.scheduler.priority = 1 # default
    database.http.weight = 2 # default
    database.http.minimum = 2 # default
    database.http.priority = 0 # default
    database.upkeep.weight = 1 # default
    database.upkeep.minimum = 1 # default
    database.upkeep.priority = 0 # default

    [retention]
    settled_batches = "30d" # default
    audit = "365d" # default
    events = "90d" # default
    polls_per_site = 20 # default

    [watchdog]
    restart_backoff.min = "50ms" # default
    restart_backoff.max = "10s" # default
    restart_quiet = "30s" # default
    restart_limit = 10 # default
    restart_period = "60s" # default
    deadline = "10s" # default
    lost_threads = 4 # default

    [[ledgers]]
    name = "trace" # file line 2
    kind = "sawtooth" # file line 3
    url = "http://h" # file line 4
    role = "primary" # default
    connections = 8 # default
    ids_per_request = 500 # default
    timeout = "10s" # default
    wait = "3s" # file line 5
    max_response_bytes = "8MiB" # default
    stream = false # default
    # token_file is not set

    [replication]
    commit_interval = "2ms" # default
    sweep_interval = "1s" # default
    max_modifications = 10000 # default
    max_value_bytes = "256KiB" # default
    max_chunk = 10000 # default
    max_chunk_bytes = "4MiB" # default
    max_watch = "60s" # default
    max_watchers = 1000 # default
    "#);
    let second = loaded(&dumped, &[]);
    let difference = diff(&first.settings, &second.settings);
    assert_eq!(difference.sections, ["http"], "only the secret is gone");
    assert!(difference.ledgers_changed.is_empty() && difference.restart.is_empty());
}

#[test]
fn the_dump_shows_jobs_as_they_can_be_read_again() {
    let text = format!(
        "{SYNC_JOB}{JOB}handler.http = {{ headers = {{ \"X.Y\" = \"a\\\"b\" }}, body = \"1\\n2\", expect = {{ json = {{ \"/a\" = [1.5, {{ b = true }}] }} }} }}\n\
         [[jobs]]\napp='b'\nhandler.command.args = ['visit', '{{site_id}}']\n[[jobs]]\napp='c'\nhandler.code = {{}}\n"
    );
    let first = loaded(&text, &[]);
    let dumped = dump(&first);
    let jobs = dumped
        .split_once("[[jobs]]")
        .map_or("", |(_, jobs)| jobs.trim());
    insta::assert_snapshot!(jobs, @r#"
    app = "org.civicrm.myapp" # file line 3
    name = "sync_activities" # file line 4
    retry = "2 hour (x12); 1 day (x30)" # file line 5
    batches = 4 # file line 6
    per_host = 4 # file line 7
    server = true # default
    tries_more = 0 # default
    handler.http.method = "GET" # file line 9
    handler.http.path = "/sync" # file line 10
    # handler.http.headers is not set
    # handler.http.body is not set
    # handler.http.token_file is not set
    # handler.http.user is not set
    # handler.http.password_file is not set
    handler.http.timeout = "10s" # file line 11
    handler.http.max_response_bytes = "1MiB" # default
    handler.http.expect.status = "2xx" # file line 12
    # handler.http.expect.headers is not set
    handler.http.expect.body_contains = "ok" # file line 12
    # handler.http.expect.body_lacks is not set
    # handler.http.expect.json is not set
    # handler.http.result is not set

    [[jobs]]
    app = "a" # file line 14
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.http.method = "GET" # default
    handler.http.path = "" # default
    handler.http.headers = { "X.Y" = 'a"b' } # file line 15
    handler.http.body = """
    1
    2""" # file line 15
    # handler.http.token_file is not set
    # handler.http.user is not set
    # handler.http.password_file is not set
    handler.http.timeout = "10s" # default
    handler.http.max_response_bytes = "1MiB" # default
    handler.http.expect.status = "2xx" # default
    # handler.http.expect.headers is not set
    # handler.http.expect.body_contains is not set
    # handler.http.expect.body_lacks is not set
    handler.http.expect.json = { "/a" = [1.5, { b = true }] } # file line 15
    # handler.http.result is not set

    [[jobs]]
    app = "b" # file line 17
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.command.args = ["visit", "{site_id}"] # file line 18
    handler.command.timeout = "60s" # default
    handler.command.max_output_bytes = "64KiB" # default

    [[jobs]]
    app = "c" # file line 20
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.code.timeout = "60s" # default

    [replication]
    commit_interval = "2ms" # default
    sweep_interval = "1s" # default
    max_modifications = 10000 # default
    max_value_bytes = "256KiB" # default
    max_chunk = 10000 # default
    max_chunk_bytes = "4MiB" # default
    max_watch = "60s" # default
    max_watchers = 1000 # default
    "#);
    let second = loaded(&dumped, &[]);
    assert_eq!(first.settings.jobs, second.settings.jobs);
    assert_eq!(
        diff(&first.settings, &second.settings),
        SettingsDiff::default()
    );
}
