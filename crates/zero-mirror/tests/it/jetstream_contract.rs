//! The contract, for JetStream: on one server, and on a cluster of three.

use crate::contract::{Place, Server, Tampering};
use crate::nats::{Nats, left_out, stream_of};
use async_nats::jetstream::stream::Stream;
use async_nats::{ConnectOptions, jetstream};
use zero_bus::{Checksum, Event};

/// Destinations are made in accounts of their own, so that one bus can be in many.
const ACCOUNTS: usize = 100;

const PREFIX: &str = "CONTRACT";

struct Servers<const N: usize> {
    nats: Nats,
    made: usize,
}

impl<const N: usize> Servers<N> {
    fn of() -> Self {
        let account =
            |n| format!("A{n} {{ jetstream: enabled, users: [ {{ user: u{n}, password: secret{n} }} ] }}\n");
        let accounts: String = (1..=ACCOUNTS).map(account).collect();
        Self { nats: Nats::start_with(N, &format!("accounts {{\n{accounts}}}")), made: 0 }
    }

    fn new_destination(&mut self) -> String {
        self.made += 1;
        assert!(self.made <= ACCOUNTS, "more accounts are wanted");
        let login = format!("nats://u{}:secret{}@", self.made, self.made);
        self.nats.address(PREFIX).replace("nats://", &login)
    }

    /// There is no changing a message in its place, and these streams let none be deleted. But who may administrate can put
    /// another stream in the place of one, which looks the same.
    fn replace(&self, url: &str, bus: Checksum, tampering: &Tampering) {
        let mut lines = crate::contract::lines_at(url, bus);
        let types: Vec<_> = (1..)
            .zip(&lines)
            .map(|(index, line)| Event::read_alone(line.as_bytes(), index).unwrap().event_type)
            .collect();
        let mut delete = None;
        let place = |index: &u64| *index as usize - 1;
        match tampering {
            Tampering::Line(index, line) => lines[place(index)] = line.clone(),
            Tampering::Swap(one, other) => lines.swap(place(one), place(other)),
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
            let open = jetstream::stream::Config { deny_delete: false, ..config.clone() };
            let stream = context.create_stream(open).await.unwrap();
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

impl<const N: usize> Place for Servers<N> {
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
        self.replace(url, bus, tampering);
        true
    }
}

#[test]
fn one_server_holds_to_the_contract() {
    if !left_out() {
        crate::contract::holds::<Servers<1>>();
    }
}

/// Three minutes, so it is run by `.ci/soak`.
#[test]
#[ignore = "a soak: run .ci/soak"]
fn a_cluster_holds_to_the_contract() {
    if !left_out() {
        crate::contract::holds::<Servers<3>>();
    }
}
