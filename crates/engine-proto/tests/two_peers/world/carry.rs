//! What the network does with what it is given, and what goes wrong with it.

use posthaste_engine_proto::Transport;

use super::{Event, World};
use crate::client::Act as ClientAct;
use crate::network::Lane;
use crate::server::Act as ServerAct;
use crate::story::Trouble;
use crate::wire::{Method, RequestId, StreamId};

impl World {
    pub(super) fn carry_up(&mut self, act: ClientAct) {
        let at = self.now + self.latency();
        match act {
            ClientAct::Request(id, method) => {
                self.at_client.insert(id);
                let is_post = matches!(method, Method::Post(_));
                if is_post {
                    self.posts.insert(id);
                }
                match (self.cut, self.lurking) {
                    (Some(Trouble::LoudCut), _) => self.fail_soon(id),
                    (Some(_), _) => {}
                    (None, Some(Trouble::RequestLost | Trouble::ConnectionLost)) => {
                        self.strike();
                        self.fail_soon(id);
                    }
                    (None, _) => self.agenda.at(at, Event::Request(id, method)),
                }
            }
            ClientAct::Connect(stream, purpose) => {
                assert_eq!(stream.0, self.lanes.len(), "streams are numbered as they are opened");
                self.lanes.push((Lane::default(), Lane::default()));
                if self.cut == Some(Trouble::LoudCut) {
                    self.agenda.at(at, Event::BrokenAtClient(stream));
                }
                let at = self.lanes[stream.0].0.arrival(at);
                self.agenda.at(at, Event::Connect(stream, purpose));
            }
            ClientAct::Send(stream, frame) => {
                let at = self.lanes[stream.0].0.arrival(at);
                self.agenda.at(at, Event::Up(stream, frame));
            }
            ClientAct::Lose(stream) => self.agenda.at(at, Event::BrokenAtServer(stream)),
        }
    }

    pub(super) fn carry_down(&mut self, act: ServerAct) -> Result<(), String> {
        let at = self.now + self.latency();
        match act {
            ServerAct::Answer(id, answer) => {
                if !self.at_server.remove(&id) {
                    return Err(format!("{id:?} was answered, but not open"));
                }
                if self.lurking == Some(Trouble::AnswerLost) {
                    self.strike();
                    self.fail_soon(id);
                    self.lost = Some(id);
                }
                if self.lost == Some(id) {
                    if self.rng.chance(50) {
                        self.agenda.at(at, Event::AnswerBroken(id));
                    }
                } else {
                    self.agenda.at(at, Event::Answer(id, answer));
                }
            }
            ServerAct::Accept(stream) => {
                let at = self.lanes[stream.0].1.arrival(at);
                self.agenda.at(at, Event::Accepted(stream));
            }
            ServerAct::Write(stream, bytes) => {
                let at = self.lanes[stream.0].1.arrival(at);
                self.agenda.at(at, Event::Down(stream, bytes));
            }
            ServerAct::Close(stream) => {
                let at = self.lanes[stream.0].1.arrival(at);
                self.agenda.at(at, Event::Closed(stream));
            }
        }
        Ok(())
    }

    pub(super) fn strike(&mut self) {
        self.lurking = None;
        self.struck = Some(self.now);
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::SilentCut => {
                self.strike();
                self.cut = Some(trouble);
            }
            Trouble::LoudCut => {
                self.strike();
                self.cut = Some(trouble);
                for id in self.at_client.clone() {
                    self.fail_soon(id);
                }
                for id in self.at_server.clone() {
                    let at = self.now + self.latency();
                    self.agenda.at(at, Event::RequestBroken(id));
                }
                for stream in 0..self.lanes.len() {
                    self.break_stream(StreamId(stream));
                }
            }
            Trouble::ConnectionLost if self.client.transport() == Transport::WebSocket => {
                self.strike();
                for stream in 0..self.lanes.len() {
                    self.break_stream(StreamId(stream));
                }
            }
            Trouble::ConnectionLost => {
                // A poll that is parked; else the next request meets it.
                let Some(&id) = self.at_server.iter().find(|id| !self.posts.contains(id)) else {
                    return self.lurking = Some(trouble);
                };
                self.strike();
                self.lost = Some(id);
                let at = self.now + self.latency();
                self.agenda.at(at, Event::RequestBroken(id));
                self.fail_soon(id);
            }
            Trouble::RequestLost | Trouble::BodyLost | Trouble::AnswerLost => self.lurking = Some(trouble),
        }
    }

    pub(super) fn break_stream(&mut self, stream: StreamId) {
        let (up, down) = (self.now + self.latency(), self.now + self.latency());
        self.agenda.at(up, Event::BrokenAtServer(stream));
        self.agenda.at(down, Event::BrokenAtClient(stream));
    }

    pub(super) fn fail_soon(&mut self, id: RequestId) {
        let at = self.now + self.latency();
        self.agenda.at(at, Event::RequestFailed(id));
    }
}
