//! The contract for JetStream: on one server and on a cluster of three.

use crate::contract::{Server, Tampering, TestBed};
use crate::nats::{Nats, left_out, stream_of};
use async_nats::jetstream::stream::Stream;
use async_nats::{ConnectOptions, jetstream};
use zero_bus::{Checksum, Event};

/// Each destination has its own account, so one bus can be at several destinations.
const ACCOUNTS: usize = 100;

const PREFIX: &str = "CONTRACT";

struct Servers<const N: usize> {
    nats: Nats,
    created: usize,
}

impl<const N: usize> Servers<N> {
    fn of() -> Self {
        let account =
            |n| format!("A{n} {{ jetstream: enabled, users: [ {{ user: u{n}, password: secret{n} }} ] }}\n");
        let accounts: String = (1..=ACCOUNTS).map(account).collect();
        Self { nats: Nats::start_with(N, &format!("accounts {{\n{accounts}}}")), created: 0 }
    }

    fn new_destination(&mut self) -> String {
        self.created += 1;
        assert!(self.created <= ACCOUNTS, "ACCOUNTS is too small");
        let login = format!("nats://u{}:secret{}@", self.created, self.created);
        self.nats.address(PREFIX).replace("nats://", &login)
    }

    /// Replaces a stream by another with the same settings, as an administrator could. A message
    /// cannot be changed, and the settings of these streams forbid deletion.
    fn replace_stream(&self, url: &str, bus: Checksum, tampering: &Tampering) {
        let mut lines = crate::contract::lines_at(url, bus);
        let types: Vec<_> = (1..)
            .zip(&lines)
            .map(|(index, line)| Event::read_alone(line.as_bytes(), index).unwrap().event_type)
            .collect();
        let mut delete = None;
        let position = |index: &u64| *index as usize - 1;
        match tampering {
            Tampering::Line(index, line) => lines[position(index)] = line.clone(),
            Tampering::Swap(first, second) => lines.swap(position(first), position(second)),
            Tampering::Delete(index) => delete = Some(*index),
        }
        let (login, _) = url.trim_start_matches("nats://").split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let client = options.connect(self.nats.servers_of_client()).await.unwrap();
            let context = jetstream::new(client);
            let name = stream_of(PREFIX, bus);
            let mut stream: Stream = context.get_stream(&name).await.unwrap();
            let config = stream.info().await.unwrap().config.clone();
            context.delete_stream(&name).await.unwrap();
            let deletable = jetstream::stream::Config { deny_delete: false, ..config.clone() };
            let stream = context.create_stream(deletable).await.unwrap();
            for (line, event_type) in lines.into_iter().zip(&types) {
                let subject = config.subjects[0].replace('>', event_type);
                context.publish(subject, line.into()).await.unwrap().await.unwrap();
            }
            if let Some(index) = delete {
                stream.delete_message(index).await.unwrap();
            }
            context.update_stream(config).await.unwrap();
        });
    }
}

impl<const N: usize> Server for Servers<N> {
    fn kill(&mut self) {
        for node in 0..N {
            self.nats.kill(node);
        }
    }

    fn start(&mut self) {
        for node in 0..N {
            self.nats.restart(node);
        }
        self.nats.wait_until_up();
    }
}

impl<const N: usize> TestBed for Servers<N> {
    const NAME: &'static str = if N == 1 { "JetStream, one server" } else { "JetStream, a cluster" };

    fn start() -> Self {
        Self::of()
    }

    fn destination(&mut self) -> String {
        self.new_destination()
    }

    fn server(&mut self) -> Option<&mut dyn Server> {
        Some(self)
    }

    fn tamper(&mut self, url: &str, bus: Checksum, tampering: &Tampering) -> bool {
        self.replace_stream(url, bus, tampering);
        true
    }
}

#[test]
fn one_server_passes_the_contract() {
    if !left_out() {
        crate::contract::run_all::<Servers<1>>();
    }
}

/// Takes three minutes, so `.ci/soak` runs it.
#[test]
#[ignore = "a soak: run .ci/soak"]
fn a_cluster_passes_the_contract() {
    if !left_out() {
        crate::contract::run_all::<Servers<3>>();
    }
}
