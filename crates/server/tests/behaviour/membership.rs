//! Who gets what, compared with a model that has sets where the server has workers, mailboxes and dense lists.

use std::collections::{BTreeMap, BTreeSet};

use posthaste::{Server, Socket};
use posthaste_testkit::{Message, Random};

use crate::spread::{Placed, Spread};

const ROOMS: usize = 4;
const STEPS: usize = 400;

/// What one task does with sockets and rooms that are its own, and who has to hear of it.
struct Schedule {
    task: usize,
    random: Random,
    sockets: Vec<Socket>,
    /// By room: the sockets in it.
    rooms: [BTreeSet<usize>; ROOMS],
    /// By socket: what it has to receive.
    expected: Vec<Vec<String>>,
}

impl Schedule {
    fn new(task: usize, sockets: Vec<Socket>) -> Self {
        let expected = vec![Vec::new(); sockets.len()];
        Self { task, random: Random::seeded(task as u64), sockets, rooms: Default::default(), expected }
    }

    fn room(&self, room: usize) -> String {
        format!("task {} room {room}", self.task)
    }

    fn some_rooms(&mut self, at_most: usize) -> BTreeSet<usize> {
        (0..self.random.below(at_most + 1)).map(|_| self.random.below(ROOMS)).collect()
    }

    fn names(&self, rooms: &BTreeSet<usize>) -> Vec<String> {
        rooms.iter().map(|room| self.room(*room)).collect()
    }

    async fn run(mut self, io: Server) -> Self {
        for step in 0..STEPS {
            let socket = self.random.below(self.sockets.len());
            let rooms = self.some_rooms(2);
            let names = self.names(&rooms);
            match self.random.below(5) {
                0 | 1 => {
                    self.sockets[socket].join(names);
                    rooms.iter().for_each(|room| _ = self.rooms[*room].insert(socket));
                }
                2 => {
                    self.sockets[socket].leave(names);
                    rooms.iter().for_each(|room| _ = self.rooms[*room].remove(&socket));
                }
                _ if !rooms.is_empty() => self.emit(&io, step, &rooms, &names).await,
                _ => {}
            }
            if self.random.once_in(20) {
                tokio::task::yield_now().await;
            }
        }
        self
    }

    /// Emits to the union of `rooms` but for some others; now and then as one of the sockets, or on another task.
    async fn emit(&mut self, io: &Server, step: usize, rooms: &BTreeSet<usize>, names: &[String]) {
        let except = self.some_rooms(1);
        let except_names = self.names(&except);
        let sender = self.random.once_in(3).then(|| self.random.below(self.sockets.len()));
        let operator = match sender {
            Some(sender) => self.sockets[sender].to(names),
            None => io.to(names),
        };
        let operator = operator.except(except_names);
        let number = (self.task, step);
        if self.random.once_in(4) {
            tokio::spawn(async move { operator.emit("event", &number).await }).await.unwrap().unwrap();
        } else {
            operator.emit("event", &number).await.unwrap();
        }
        let union = rooms.iter().flat_map(|room| self.rooms[*room].iter().copied()).collect::<BTreeSet<_>>();
        for socket in union {
            let excepted = except.iter().any(|room| self.rooms[*room].contains(&socket));
            if !excepted && sender != Some(socket) {
                self.expected[socket].push(format!(r#"2["event",{},{step}]"#, self.task));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn concurrent_joins_leaves_and_emits_reach_exactly_whom_they_should() {
    for workers in [1, 3] {
        let spread = Spread::over(workers, |_| {});
        let mut clients = spread.clients(12 / workers).await;
        let sockets: Vec<Socket> = clients.iter().map(|placed| placed.socket.clone()).collect();
        let schedules = sockets.chunks(4).enumerate().map(|(task, chunk)| Schedule::new(task, chunk.to_vec()));
        let io = &spread.running.io;
        let tasks: Vec<_> = schedules.map(|schedule| tokio::spawn(schedule.run(io.clone()))).collect();
        let mut expected = BTreeMap::new();
        for task in tasks {
            let schedule = task.await.unwrap();
            for (index, (socket, events)) in schedule.sockets.iter().zip(schedule.expected).enumerate() {
                let rooms: BTreeSet<String> = socket.rooms().await.iter().map(ToString::to_string).collect();
                let in_model = (0..ROOMS).filter(|room| schedule.rooms[*room].contains(&index));
                let own = socket.id().to_string();
                let mut model =
                    in_model.map(|room| format!("task {} room {room}", schedule.task)).collect::<BTreeSet<_>>();
                model.insert(own.clone());
                assert_eq!(rooms, model);
                expected.insert(own, events);
            }
        }
        io.emit("end", &()).await.unwrap();
        let mut total = 0;
        for Placed { client, socket, .. } in &mut clients {
            let mut received = Vec::new();
            loop {
                match client.message().await.unwrap() {
                    Message::Text(text) if text == r#"2["end"]"# => break,
                    Message::Text(text) => received.push(text),
                    Message::Binary(_) => unreachable!("nobody sends bytes"),
                }
            }
            total += received.len();
            assert_eq!(expected[&socket.id().to_string()], received);
        }
        assert!(total > 200, "the schedules emit something: {total}");
    }
}
