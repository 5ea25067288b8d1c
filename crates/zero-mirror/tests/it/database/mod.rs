//! A real PostgreSQL server on a free loopback port, in a temporary directory. Dropping
//! [`Postgres`] stops the server and removes its files.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

pub(crate) const PASSWORD: &str = "hunter2+7";

pub(crate) struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    port: u16,
    settings: &'static [&'static str],
    process: Option<Child>,
    databases: usize,
}

/// Whether to skip tests that need a server. Prints a notice if so.
pub(crate) fn left_out() -> bool {
    let left_out = std::env::var("ZERO_TEST_WITHOUT_SERVERS").is_ok_and(|value| value == "1");
    if left_out {
        println!("SKIPPED: needs a PostgreSQL server, and ZERO_TEST_WITHOUT_SERVERS=1 is set");
    }
    left_out
}

/// Returns the directory of the newest server's programs. Installs a server if there is none and we
/// are root.
fn programs() -> PathBuf {
    const PACKAGE: &str = "postgresql-15";
    let newest = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let programs = versions.map(|version| version.unwrap().path().join("bin"));
        programs.filter(|programs| programs.join("initdb").exists()).max()
    };
    if let Some(programs) = newest() {
        return programs;
    }
    // Only one test installs at a time.
    let lock = fs::File::create(std::env::temp_dir().join("zero-test-packages.lock")).unwrap();
    lock.lock().unwrap();
    if newest().is_none() && rustix::process::getuid().is_root() {
        for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", PACKAGE]] {
            let mut install = Command::new("apt-get");
            let _ = install.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output();
        }
    }
    newest().unwrap_or_else(|| {
        panic!("PostgreSQL is not installed: install the package {PACKAGE}, or set ZERO_TEST_WITHOUT_SERVERS=1 to skip")
    })
}

/// The user and group that the server runs as, because it refuses to run as root. `None` if we are
/// not root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let id = |kind: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([kind, user]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().ok()
    };
    let ids = ["postgres", "nobody"].iter().find_map(|user| Some((id("-u", user)?, id("-g", user)?)));
    Some(ids.expect("the user `postgres` or `nobody`"))
}

#[allow(dead_code)]
impl Postgres {
    /// Starts a server without fsync: tests kill the server, not the machine.
    pub(crate) fn start() -> Self {
        Self::start_with(&["fsync=off"])
    }

    pub(crate) fn start_with(settings: &'static [&'static str]) -> Self {
        let programs = programs();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { programs, directory, port, settings, process: None, databases: 0 };
        server.initialize();
        server.run();
        server
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = unprivileged() {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let Some((user, group)) = unprivileged() else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        // setpriv replaces itself with the program, so signals reach the program. The program
        // ends with this process.
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.args(["--clear-groups", "--pdeathsig", "QUIT", "--"]).arg(program).current_dir("/");
        command
    }

    fn initialize(&self) {
        let (data, password) = (self.file("data"), self.file("password"));
        fs::create_dir(&data).unwrap();
        fs::write(&password, PASSWORD).unwrap();
        [&data, &password].into_iter().for_each(|path| self.own(path));
        let mut initdb = self.command("initdb");
        initdb.args([
            "--auth=scram-sha-256",
            "--username=zero",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        let output = initdb.arg("--pwfile").arg(password).arg("--pgdata").arg(&data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The database `tls` accepts TLS connections only.
        let rules = data.join("pg_hba.conf");
        let others = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("hostnossl tls all all reject\n{others}")).unwrap();
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(self.file("ca.pem"), authority.pem()).unwrap();
        fs::write(self.file("other-ca.pem"), self::authority().pem()).unwrap();
        for (name, pem) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let path = data.join(name);
            fs::write(&path, pem).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            self.own(&path);
        }
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn run(&mut self) {
        let log = fs::File::create(self.file("log")).unwrap();
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.file("data")).args(["-p", &self.port.to_string(), "-k", ""]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"]);
        postgres.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        self.process = Some(postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let start = Instant::now();
        loop {
            let mut ready = Command::new(self.programs.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "zero"]);
            if ready.status().unwrap().success() {
                return;
            }
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            let server_log = || fs::read_to_string(self.file("log")).unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "postgres: {}",
                server_log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as a crash would: without a checkpoint, so the next start recovers.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = kill_process(Pid::from_child(&process), Signal::QUIT);
            let _ = process.wait();
        }
    }

    /// The address of a new, empty database.
    pub(crate) fn database(&mut self) -> String {
        self.databases += 1;
        let name = format!("mirror_{}", self.databases);
        sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        // The password contains `+`, which an address must escape.
        format!("postgres://zero:{}@127.0.0.1:{}/{database}", PASSWORD.replace('+', "%2B"), self.port)
    }
}

/// PgBouncer in front of a server. A client's next transaction gets another of its connections to
/// the server.
#[allow(dead_code)]
pub(crate) struct PgBouncer {
    port: u16,
    process: Child,
}

#[allow(dead_code)]
impl PgBouncer {
    /// Its pools have this many connections to the server.
    pub(crate) const POOL_SIZE: usize = 3;

    pub(crate) fn start(server: &Postgres) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (settings, users) = (server.file("pgbouncer.ini"), server.file("users.txt"));
        fs::write(&users, format!("\"zero\" \"{PASSWORD}\"\n")).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             server_round_robin = 1\ndefault_pool_size = {}\nserver_tls_sslmode = disable\n",
            server.port,
            users.display(),
            Self::POOL_SIZE
        );
        fs::write(&settings, text).unwrap();
        [&settings, &users].into_iter().for_each(|path| server.own(path));
        let program = ["/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let program = program.iter().find(|path| Path::new(path).exists()).unwrap_or_else(|| {
            panic!("no PgBouncer here: install the package pgbouncer, or set ZERO_TEST_WITHOUT_SERVERS=1 to leave it out")
        });
        let mut command = server.command(program);
        let log = fs::File::create(server.file("pgbouncer.log")).unwrap();
        let process = command.arg(&settings).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let bouncer = Self { port, process };
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = || fs::read_to_string(server.file("pgbouncer.log")).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(30), "pgbouncer: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        bouncer
    }

    /// The address of a database of the server through this pool.
    pub(crate) fn url(&self, server: &Postgres, url: &str) -> String {
        url.replace(&format!(":{}/", server.port), &format!(":{}/", self.port))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Executes statements and returns all rows as text.
pub(crate) fn sql(url: &str, statements: &str) -> Vec<Vec<Option<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let messages =
            client.simple_query(statements).await.unwrap_or_else(|error| panic!("{error:?}: {statements}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        rows.collect()
    })
}
