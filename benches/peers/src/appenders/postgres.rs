//! A PostgreSQL server, started for the measurement in a new directory and reached through a socket
//! file.

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

/// The directory of the server's programs on Debian. Elsewhere they are on the path.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";

pub struct Postgres {
    /// Declared before the server, so that the connections close before it stops.
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
    /// Returns `None` if the server is not installed.
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
        format!("{}, one insert per transaction", self.server.version)
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the preallocated write-ahead log (`fsync=on`, `synchronous_commit=on`), shared by \
         concurrent producers"
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

/// Returns the directory with `initdb` and `postgres`, or an empty path if both are on the path.
fn find() -> Option<PathBuf> {
    let with_programs = |dir: PathBuf| {
        let runs = |name: &str| {
            Command::new(dir.join(name)).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        (runs("initdb") && runs("postgres")).then_some(dir)
    };
    with_programs(PathBuf::from(DEBIAN)).or_else(|| with_programs(PathBuf::new()))
}

struct Server {
    process: Child,
    /// In the system's temporary directory, because the path of a socket must be short.
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
        let initdb = user
            .command(&programs.join("initdb"))
            .args(["--auth=trust", "--no-sync", "--username=peers", "--encoding=UTF8", "--locale=C"])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .context("cannot run initdb")?;
        ensure!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr).trim());
        let process = user
            .command(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(socket.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(["-c", "wal_sync_method=fdatasync", "-c", "autovacuum=off"])
            // A checkpoint could happen during the turn of another contender.
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
                bail!("postgres ended: {status}");
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
        // SIGINT requests a fast shutdown.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

/// The user that the server runs as, because it refuses to run as root.
struct Unprivileged {
    /// User and group, if we are root.
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
            // The user must be able to enter the temporary directory that contains `path`.
            if let Some(parent) = path.parent().filter(|_| path.ends_with("postgres")) {
                std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let Some((user, group)) = self.ids else { return Command::new(program) };
        // setpriv replaces itself with the program, so signals reach the program.
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.args(["--clear-groups", "--"]).arg(program).current_dir("/");
        command
    }
}
