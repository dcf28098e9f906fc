use super::*;
use crate::flows::sites::AppName;
use crate::handlers::sample::visit;
use std::path::Path;
use std::time::{Duration, Instant};

fn settings(args: &[&str]) -> CommandHandler {
    CommandHandler {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        timeout: Duration::from_secs(60),
        max_output_bytes: 64 * 1024,
    }
}

fn handler_of(settings: CommandHandler) -> CommandVisits {
    CommandVisits::new(settings, None, 16 * 1024).unwrap()
}

async fn run(args: &[&str]) -> Visited {
    handler_of(settings(args)).visit(&visit()).await
}

async fn shell(script: &str) -> Visited {
    run(&["sh", "-c", script]).await
}

fn failure(visited: Visited) -> (FailureKind, String) {
    let error = visited.result.unwrap_err();
    (error.kind, error.detail)
}

/// Whether a process runs; one that is dead and waits for its parent does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| {
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        !matches!(state, Some('Z' | 'X'))
    })
}

async fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !test() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The number of a process that wrote it to this file, once it has.
async fn pid_in(file: &Path) -> String {
    let mut pid = String::new();
    eventually("the process says its number", || {
        pid = std::fs::read_to_string(file).unwrap_or_default();
        pid.ends_with('\n')
    })
    .await;
    pid
}

#[tokio::test]
async fn exit_code_0_is_success_and_a_document_on_its_output_is_learned() {
    let visited = shell(r#"echo ' [ "5.1" , 7 ] '"#).await;
    assert_eq!(visited, Visited::well(Some(r#"["5.1",7]"#.to_owned())));
    for script in ["true", "echo all is well", "printf '[1] and more'"] {
        assert_eq!(shell(script).await, Visited::well(None), "{script}");
    }
}

#[tokio::test]
async fn what_is_filled_in_cannot_become_an_option() {
    let mut visit = visit();
    visit.site.labels = r#"{"x":"-rf","none":""}"#.to_owned();
    for arg in ["{label:x}", "{label:none}{label:x}"] {
        let (kind, detail) = failure(handler_of(settings(&["true", arg])).visit(&visit).await);
        assert_eq!(kind, FailureKind::Handler);
        assert!(detail.contains(&format!("argument \"{arg}\"")), "{detail}");
    }
    for arg in ["--x={label:x}", "-{label:x}", "-x"] {
        let visited = handler_of(settings(&["true", arg])).visit(&visit).await;
        assert_eq!(visited, Visited::well(None), "{arg}");
    }
}

#[tokio::test]
async fn a_failure_names_the_exit_code_or_signal_and_the_first_line_of_the_complaint() {
    let script = r#"printf '\n\033[31mdisk full\033[0m\nmore\n' >&2; echo '[1]'; exit 3"#;
    let (kind, detail) = failure(shell(script).await);
    assert_eq!(kind, FailureKind::Exit);
    assert_eq!(detail, "\"sh\" ended with exit code 3: [31mdisk full [0m");
    let (kind, detail) = failure(shell("kill -TERM $$").await);
    assert_eq!(kind, FailureKind::Exit);
    assert_eq!(detail, "\"sh\" ended with signal 15");
    let (_, detail) = failure(shell("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1").await);
    assert!(detail.chars().count() < 300, "{detail}");
}

#[tokio::test]
async fn the_site_comes_on_standard_input_as_one_document() {
    let app = AppSettings {
        id: AppName::parse("org.example").unwrap(),
        title: "The app".to_owned(),
        url: Some("https://app.example/".parse().unwrap()),
        api_key: Some(crate::config::Credential::Shared("s3cr3t".into())),
        site_key: None,
    };
    let handler = CommandVisits::new(settings(&["cat"]), Some(&app), 16 * 1024).unwrap();
    let told = handler.visit(&visit()).await.result.unwrap().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let expected = json!({
        "app": {"id": "org.example", "title": "The app", "url": "https://app.example/"},
        "job": "sync",
        "site": {
            "site_id": "site-7",
            "url": "https://seven.example/civi",
            "labels": {"region": "north", "size": 3},
            "batch_code": 42,
        },
        "last_run_at": "2023-11-14T22:13:20.000Z",
        "level": 1,
        "count": 2,
    });
    assert_eq!(told, expected);
}

#[tokio::test]
async fn arguments_are_filled_and_no_shell_reads_them() {
    let print = r#"printf '["%s","%s","%s","%s"]' "$@""#;
    let args = [
        "sh",
        "-c",
        print,
        "-",
        "{site_id}",
        "{app_id}!",
        "{label:region}",
        "$HOME;`id`",
    ];
    assert_eq!(
        run(&args).await,
        Visited::well(Some(
            r#"["site-7","org.example!","north","$HOME;`id`"]"#.to_owned()
        ))
    );
    let (kind, detail) = failure(run(&["true", "{label:colour}"]).await);
    assert_eq!(kind, FailureKind::Handler);
    assert!(detail.contains("colour"), "{detail}");
}

#[tokio::test]
async fn a_command_that_does_not_read_its_input_is_no_failure() {
    let mut big = visit();
    big.site.labels = json!({"much": "x".repeat(1_000_000)}).to_string();
    for script in ["true", "exec 0<&-; echo 7"] {
        let visited = handler_of(settings(&["sh", "-c", script]))
            .visit(&big)
            .await;
        assert!(visited.result.is_ok(), "{script}: {visited:?}");
    }
}

#[tokio::test]
async fn much_output_is_thrown_away_and_blocks_nobody() {
    let flood = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 5";
    let (kind, detail) = failure(shell(flood).await);
    assert_eq!(kind, FailureKind::Exit);
    assert!(detail.contains("exit code 5"), "{detail}");
    let mut small = settings(&["echo", "[1, 2, 3]"]);
    small.max_output_bytes = 5;
    let visited = handler_of(small).visit(&visit()).await;
    assert_eq!(visited, Visited::well(None), "the beginning is no document");
    let handler = CommandVisits::new(settings(&["echo", "[1, 2, 3]"]), None, 6).unwrap();
    let visited = handler.visit(&visit()).await;
    assert_eq!(visited, Visited::well(None), "longer than a result may be");
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    for program in ["/there/is/nothing", "no-such-program-anywhere"] {
        let (kind, detail) = failure(run(&[program]).await);
        assert_eq!(kind, FailureKind::Job);
        assert!(
            detail.contains(program) && detail.contains("no such program"),
            "{detail}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let (kind, detail) = failure(run(&[plain.to_str().unwrap()]).await);
    assert_eq!(kind, FailureKind::Job);
    assert!(detail.contains("may not be executed"), "{detail}");
    assert_eq!(failure(run(&[]).await).0, FailureKind::Job);
    // More than an argument may be: that is the site's label alone.
    let mut big = visit();
    big.site.labels = json!({"much": "x".repeat(1_000_000)}).to_string();
    let handler = handler_of(settings(&["true", "--much={label:much}"]));
    assert_eq!(failure(handler.visit(&big).await).0, FailureKind::Handler);
}

#[tokio::test]
async fn when_the_time_is_over_the_command_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "echo waiting for the site >&2; sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & wait",
        file.display()
    );
    let mut hasty = settings(&["sh", "-c", &script]);
    hasty.timeout = Duration::from_secs(1);
    let begun = Instant::now();
    let (kind, detail) = failure(handler_of(hasty).visit(&visit()).await);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(kind, FailureKind::Timeout);
    assert!(
        detail.contains("within 1s") && detail.ends_with(": waiting for the site"),
        "{detail}"
    );
    let child = pid_in(&file).await;
    eventually("the child is gone", || !runs(&child)).await;
}

#[tokio::test]
async fn a_visit_that_nobody_waits_for_kills_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & wait",
        file.display()
    );
    let handler = handler_of(settings(&["sh", "-c", &script]));
    let task = tokio::spawn(async move { handler.visit(&visit()).await });
    let child = pid_in(&file).await;
    assert!(runs(&child));
    task.abort();
    eventually("the child is gone", || !runs(&child)).await;
}

#[tokio::test]
async fn children_that_stay_behind_are_killed_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    // The child holds all three pipes open.
    let script = format!("sleep 1000 & echo $! > {}; echo '[1]'", file.display());
    let begun = Instant::now();
    let visited = shell(&script).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(visited, Visited::well(Some("[1]".to_owned())));
    let child = pid_in(&file).await;
    eventually("the child is gone", || !runs(&child)).await;
}

#[tokio::test]
async fn one_that_left_the_group_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60' & while ! test -s {0}; do :; done; echo '[1]'",
        file.display()
    );
    let begun = Instant::now();
    let visited = shell(&script).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(visited, Visited::well(Some("[1]".to_owned())));
    let escaped: i32 = pid_in(&file).await.trim().parse().unwrap();
    let escaped = rustix::process::Pid::from_raw(escaped).unwrap();
    rustix::process::kill_process(escaped, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn labels_that_are_no_object_are_a_failure_that_says_so() {
    let mut broken = visit();
    broken.site.labels = "[1]".to_owned();
    let visited = handler_of(settings(&["true"])).visit(&broken).await;
    let (kind, detail) = failure(visited);
    assert_eq!(kind, FailureKind::Handler);
    assert_eq!(detail, "the labels of site site-7 are no JSON object");
}

/// Runs itself again, since this process's environment cannot be changed.
#[tokio::test]
async fn what_the_environment_says_to_the_server_alone_is_not_passed_on() {
    let ours = [
        "HIGHWATER_HTTP__CONTROL_TOKEN",
        "highwater_ledgers__trace__token",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    ];
    if std::env::var_os(ours[0]).is_some() {
        let script = r#"env | grep -qx PASSED_ON=yes && ! env | grep -q s3cr3t"#;
        assert_eq!(shell(script).await, Visited::well(None));
        return;
    }
    let again = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "handlers::command::tests::what_the_environment_says_to_the_server_alone_is_not_passed_on",
            "--exact",
        ])
        .envs(ours.map(|name| (name, "s3cr3t")))
        .env("PASSED_ON", "yes")
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && told.contains("1 passed"),
        "{told}"
    );
}
