//! Runs a program once: with an end, a bound on its output, and nothing of it
//! left behind.
//!
//! A program gets a process group of its own. The whole group is killed when
//! the program ends, when its time is over and when nobody waits for it any
//! more; only a process that left the group (`setsid`) escapes, and is not
//! waited for either.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Variables whose names begin like this are ours, secrets among them.
const OURS: &[u8] = b"HIGHWATER_";
/// Variables that are for this process alone: with them a program could speak
/// to systemd in our name, or read the headers that our traces are sent with.
const OURS_TOO: [&str; 5] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];
/// Most bytes kept of what a program says on standard error.
const MAX_COMPLAINT_BYTES: usize = 4096;
/// How long pipes are waited for that a process outside the group holds open,
/// and a killed program that the kernel does not let go.
const GRACE: Duration = Duration::from_secs(1);

/// What a program did.
#[derive(Debug)]
pub(super) struct Ended {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// What it wrote to standard output; `None` when that was too much.
    pub(super) output: Option<Vec<u8>>,
    /// The beginning of what it wrote to standard error.
    pub(super) complaint: Vec<u8>,
}

/// Why a program did not end by itself.
#[derive(Debug)]
pub(super) enum RunError {
    /// It could not be started.
    Start(io::Error),
    /// Its time was over; with the beginning of its standard error.
    Timeout(Vec<u8>),
    /// It cannot be known how it ended.
    Lost(io::Error),
}

/// Runs a program: `input` on its standard input, then the end of the file. A
/// program that does not read it is no error. Of its output `max_output_bytes`
/// are kept; the rest is read and thrown away, so that a talkative program
/// neither blocks nor dies of its pipe.
pub(super) async fn run(
    program: &str,
    args: &[String],
    input: &[u8],
    limit: Duration,
    max_output_bytes: usize,
) -> Result<Ended, RunError> {
    let mut running = Running::start(program, args).map_err(RunError::Start)?;
    let (stdin, stdout, stderr) = (
        running.child.stdin.take(),
        running.child.stdout.take(),
        running.child.stderr.take(),
    );
    let mut output = Kept::of(max_output_bytes);
    let mut complaint = Kept::of(MAX_COMPLAINT_BYTES);
    let talk = async {
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A broken pipe: the program does not want to know.
                drop(stdin.write_all(input).await);
            }
        };
        tokio::join!(feed, output.read(stdout), complaint.read(stderr));
    };
    let mut talk = Box::pin(talk);
    let mut talked = false;
    let end = async {
        loop {
            tokio::select! {
                status = running.child.wait() => break status,
                () = &mut talk, if !talked => talked = true,
            }
        }
    };
    let ended = timeout(limit, end).await;
    // In the same turn as the wait ended: the number is still the group's.
    running.kill();
    if ended.is_err() {
        drop(timeout(GRACE, running.child.wait()).await);
    }
    if !talked {
        // The group is dead, so the pipes end, unless somebody left the group.
        drop(timeout(GRACE, &mut talk).await);
    }
    drop(talk);
    match ended {
        Err(_) => Err(RunError::Timeout(complaint.bytes)),
        Ok(Err(error)) => Err(RunError::Lost(error)),
        Ok(Ok(status)) => Ok(Ended {
            status,
            output: (!output.cut).then_some(output.bytes),
            complaint: complaint.bytes,
        }),
    }
}

/// A program that runs. Dropped, it is killed with its group.
struct Running {
    child: Child,
    /// Its process group, until that was killed.
    group: Option<Pid>,
}

impl Running {
    fn start(program: &str, args: &[String]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // Whoever does not wait for it to the end leaves it to the runtime to reap.
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let start = name.as_encoded_bytes().get(..OURS.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(OURS)) {
                command.env_remove(&name);
            }
        }
        for name in OURS_TOO {
            command.env_remove(name);
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            child,
            group: group.and_then(Pid::from_raw),
        })
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // It fails where nobody is left, which is what we want.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }
}

/// Before the child itself is dropped, and with it the claim to its number.
impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The beginning of a stream.
struct Kept {
    bytes: Vec<u8>,
    most: usize,
    /// Whether there was more.
    cut: bool,
}

impl Kept {
    const fn of(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
            cut: false,
        }
    }

    /// Reads a stream to its end.
    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 4096];
        // An error ends the stream as its end does.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let take = count.min(self.most - self.bytes.len());
            self.bytes.extend_from_slice(&buffer[..take]);
            self.cut |= take < count;
        }
    }
}
