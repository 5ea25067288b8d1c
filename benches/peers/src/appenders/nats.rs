//! A NATS server with JetStream in file storage, started for the measurement on a free loopback
//! port.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, stream::StorageType};
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::{Appender, Lines, line};

pub struct Nats {
    /// Single-threaded: more client threads would take processor time from the server.
    runtime: Runtime,
    context: jetstream::Context,
    _server: Server,
    lines: Lines,
    producers: usize,
    next: u64,
}

impl Nats {
    /// Returns `None` if the server is not installed.
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Option<Self>> {
        if Command::new("nats-server").arg("--version").output().is_err() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (server, client) = Server::start(dir, &runtime)?;
        // `new` spawns a task, so it must run within the runtime.
        let context = runtime.block_on(async { jetstream::new(client) });
        let stream = jetstream::stream::Config {
            name: "events".to_owned(),
            subjects: vec!["events".to_owned()],
            storage: StorageType::File,
            ..Default::default()
        };
        runtime.block_on(context.create_stream(stream)).context("cannot create a stream")?;
        let (lines, next) = (lines.clone(), 1);
        Ok(Some(Self { runtime, context, _server: server, lines, producers, next }))
    }
}

impl Appender for Nats {
    fn name(&self) -> String {
        "NATS JetStream, file storage, default settings".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`write` to the stream's file, which is synced every two minutes"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { runtime, context, lines, producers, next, .. } = self;
        let begin = Instant::now();
        let total = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for producer in 0..*producers as u64 {
                let (context, lines, first) = (context.clone(), lines.clone(), *next + producer);
                tasks.spawn(async move {
                    let mut done = 0;
                    while begin.elapsed() < budget {
                        let payload =
                            Bytes::copy_from_slice(line(&lines, first + done).trim_end().as_bytes());
                        context.publish("events", payload).await?.await?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                });
            }
            let mut total = 0;
            while let Some(done) = tasks.join_next().await {
                total += done??;
            }
            anyhow::Ok(total)
        })?;
        *next += total;
        Ok(total as f64 / begin.elapsed().as_secs_f64())
    }
}

struct Server(Child);

impl Server {
    fn start(dir: &Path, runtime: &Runtime) -> Result<(Self, async_nats::Client)> {
        // The port is free now; another process could take it before the server does.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
            .arg(dir.join("nats"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nats-server")?;
        let mut server = Self(process);
        let begin = Instant::now();
        loop {
            match runtime.block_on(async_nats::connect(format!("127.0.0.1:{port}"))) {
                Ok(client) => return Ok((server, client)),
                Err(error) if begin.elapsed() > Duration::from_secs(30) => return Err(error.into()),
                Err(_) => {}
            }
            if let Some(status) = server.0.try_wait()? {
                bail!("nats-server ended by itself: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
