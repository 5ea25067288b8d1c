//! A PostgreSQL server of our own: started in a fresh directory, reached through a socket file, and stopped again.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Appender, Lines, line, produce};

/// Where Debian keeps the server's programs; elsewhere they are on the path.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";

pub struct Postgres {
    /// Before the server, so that they are gone when it is stopped.
    producers: Vec<Producer>,
    server: Server,
    lines: Lines,
    numbers: AtomicU64,
}

struct Producer {
    client: Client,
    insert: postgres::Statement,
}

impl Postgres {
    /// `None` where there is no server to be started.
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Option<Self>> {
        let Some(programs) = find() else { return Ok(None) };
        let server = Server::start(&programs, dir, producers)?;
        server.connect()?.batch_execute("CREATE TABLE events (id bigint PRIMARY KEY, line text NOT NULL)")?;
        let connect = |_| {
            let mut client = server.connect()?;
            let insert = client.prepare("INSERT INTO events (id, line) VALUES ($1, $2)")?;
            anyhow::Ok(Producer { client, insert })
        };
        let producers = (0..producers).map(connect).collect::<Result<_>>()?;
        Ok(Some(Self { producers, server, lines: lines.clone(), numbers: AtomicU64::new(1) }))
    }
}

impl Appender for Postgres {
    fn name(&self) -> String {
        format!("{}, an insert a transaction", self.server.version)
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the write-ahead log, made long enough before (`fsync=on`, `synchronous_commit=on`), shared by \
         who waits at the same time"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let lines = &self.lines;
        produce(&mut self.producers, &self.numbers, budget, |producer, number| {
            let line = line(lines, number).trim_end();
            producer.client.execute(&producer.insert, &[&(number as i64), &line])?;
            Ok(())
        })
    }
}

/// The directory with `initdb` and `postgres`; empty where both are on the path.
fn find() -> Option<PathBuf> {
    let there = |dir: PathBuf| {
        let runs = |name: &str| {
            Command::new(dir.join(name)).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        (runs("initdb") && runs("postgres")).then_some(dir)
    };
    there(PathBuf::from(DEBIAN)).or_else(|| there(PathBuf::new()))
}

struct Server {
    process: Child,
    /// A socket's path must be short, so that it lies in the system's own temporary directory.
    socket: TempDir,
    version: String,
}

impl Server {
    fn start(programs: &Path, dir: &Path, clients: usize) -> Result<Self> {
        let data = dir.join("postgres");
        std::fs::create_dir(&data)?;
        let socket = tempfile::Builder::new().prefix("peers-").tempdir()?;
        let user = Unprivileged::find()?;
        for path in [data.as_path(), socket.path()] {
            user.own(path)?;
        }
        let version = Command::new(programs.join("postgres")).arg("--version").output()?.stdout;
        let version = String::from_utf8(version)?;
        let number = version.split_whitespace().nth(2).unwrap_or("of unknown version");
        let made = user
            .command(&programs.join("initdb"))
            .args(["--auth=trust", "--no-sync", "--username=peers", "--encoding=UTF8", "--locale=C"])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
        let process = user
            .command(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(socket.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(["-c", "wal_sync_method=fdatasync", "-c", "autovacuum=off"])
            // Its checkpoints would fall into somebody else's turn.
            .args(["-c", "checkpoint_timeout=1h", "-c", "max_wal_size=8GB"])
            .args(["-c", &format!("max_connections={}", clients + 10)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start postgres")?;
        let mut server = Self { process, socket, version: format!("PostgreSQL {number}") };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            match self.connect() {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > Duration::from_secs(30) => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("postgres ended by itself: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(self.socket.path()).user("peers").dbname("postgres");
        config.connect(NoTls).context("cannot connect to postgres")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown. The data goes with its directory.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

/// Whom the server runs as: it refuses to be root.
struct Unprivileged {
    /// User and group, where we are root.
    ids: Option<(u32, u32)>,
}

impl Unprivileged {
    fn find() -> Result<Self> {
        if !rustix::process::getuid().is_root() {
            return Ok(Self { ids: None });
        }
        let id = |kind: &str, user: &str| -> Option<u32> {
            let output = Command::new("id").args([kind, user]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let ids = ["postgres", "nobody"].iter().find_map(|user| Some((id("-u", user)?, id("-g", user)?)));
        ids.map(|ids| Self { ids: Some(ids) }).context("there is no user to run postgres as")
    }

    fn own(&self, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.ids {
            chown(path, Some(user), Some(group))?;
            // It must be able to pass through the temporary directory that this lies in.
            if let Some(parent) = path.parent().filter(|_| path.ends_with("postgres")) {
                std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let Some((user, group)) = self.ids else { return Command::new(program) };
        // Becomes the program, so that a signal to it reaches that.
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.args(["--clear-groups", "--"]).arg(program).current_dir("/");
        command
    }
}
