//! The pieces of the hot paths by themselves, in time: `cargo bench -p posthaste-counts`, on a machine that does nothing else.
//!
//! Each is on the way of every message. Where an operation takes longer than it did, they tell where to look.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use posthaste_adapter::{Flags, IntoRooms, Member, Membership, Room, Rooms, SocketId, Target};
use posthaste_counts::masked_text;
use posthaste_engine_proto::Sid;
use posthaste_socket_proto::{
    Connection, ConnectionLimits, Decoder as PacketDecoder, Inbound, encode_ack, encode_event,
};
use posthaste_websocket_proto::{Decoded, Decoder, FrameHeader, Limits, Opcode, append_frame, unmask};
use serde_json::value::RawValue;

/// Payloads, in bytes: the usual one, one whose frame has a longer header, one that fills many cache lines.
const SIZES: [usize; 3] = [128, 1_024, 65_536];
/// Members of the rooms that are walked.
const MEMBERS: [u32; 3] = [10, 1_000, 10_000];

fn main() {
    divan::main();
}

fn argument(bytes: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).expect("a string is JSON")
}

#[divan::bench(args = SIZES)]
fn unmask_payload(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut payload = vec![b'x'; bytes];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| unmask(black_box(&mut payload), [0x37, 0xfa, 0x21, 0x3d]));
}

#[divan::bench(args = SIZES)]
fn check_utf8(bencher: Bencher<'_, '_>, bytes: usize) {
    // Mostly ASCII, as JSON is, with a letter now and then that is not.
    let text = "all but one is in ASCII; an ä ".repeat(bytes / 30);
    let text = text.as_bytes();
    bencher.counter(BytesCount::new(text.len())).bench(|| str::from_utf8(black_box(text)).is_ok());
}

#[divan::bench]
fn parse_frame_header(bencher: Bencher<'_, '_>) {
    let frame = masked_text(r#"2["hi"]"#);
    bencher.bench(|| FrameHeader::parse(black_box(&frame)));
}

/// Header, unmasking and UTF-8 together, as a message comes; with the copy that puts the masked bytes back.
#[divan::bench(args = SIZES)]
fn decode_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let frame = masked_text(&"x".repeat(bytes));
    let (limits, mut decoder) = (Limits::default(), Decoder::new());
    let mut input = frame.clone();
    assert!(matches!(decoder.decode(&mut input, &limits), Ok(Decoded::Frame { .. })), "one whole frame");
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        input.copy_from_slice(&frame);
        black_box(decoder.decode(&mut input, &limits)).is_ok()
    });
}

#[divan::bench(args = SIZES)]
fn encode_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let payload = vec![b'x'; bytes];
    let mut out = Vec::with_capacity(bytes + 16);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        out.clear();
        append_frame(&mut out, Opcode::Text, black_box(&payload));
    });
}

#[divan::bench(args = SIZES)]
fn decode_event(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = format!(r#"20["echo",{}]"#, argument(bytes));
    let limits = ConnectionLimits::default().decode;
    let mut decoder = PacketDecoder::default();
    assert!(matches!(decoder.text(&text, &limits), Ok(Some(_))), "one whole packet");
    bencher
        .counter(BytesCount::new(text.len()))
        .bench_local(|| matches!(black_box(decoder.text(black_box(&text), &limits)), Ok(Some(_))));
}

#[divan::bench(args = SIZES)]
fn encode_event_packet(bencher: Bencher<'_, '_>, bytes: usize) {
    let argument = argument(bytes);
    let mut out = Vec::with_capacity(bytes + 64);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        out.clear();
        encode_event(&mut out, "/", None, "bcast", black_box(&argument)).is_ok()
    });
}

#[divan::bench(args = SIZES)]
fn encode_ack_packet(bencher: Bencher<'_, '_>, bytes: usize) {
    let argument = argument(bytes);
    let mut out = Vec::with_capacity(bytes + 64);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        out.clear();
        encode_ack(&mut out, "/", 7, black_box(&argument)).is_ok()
    });
}

/// Members in a room, each of them in another one too.
fn membership(members: u32) -> Membership {
    let mut membership = Membership::default();
    for number in 0..members {
        let mut id = [0; Sid::BYTES];
        id[..4].copy_from_slice(&number.to_le_bytes());
        let member = membership.insert(SocketId::from_bytes(id), number);
        membership.join(member, &Room::from("room"));
        membership.join(member, &Room::from("hall"));
    }
    membership
}

fn rooms(names: &[&'static str]) -> Rooms {
    let mut rooms = Rooms::default();
    names.iter().for_each(|name| name.append_to(&mut rooms));
    rooms
}

fn walk(bencher: Bencher<'_, '_>, members: u32, target: &Target) {
    let mut membership = membership(members);
    bencher.counter(ItemsCount::new(members)).bench_local(|| {
        let mut slots = 0_u64;
        membership.select(black_box(target), |_, slot| slots += u64::from(slot));
        slots
    });
}

#[divan::bench(args = MEMBERS)]
fn walk_one_room(bencher: Bencher<'_, '_>, members: u32) {
    walk(bencher, members, &Target { rooms: rooms(&["room"]), except: Rooms::default(), flags: Flags::default() });
}

#[divan::bench(args = MEMBERS)]
fn walk_two_rooms(bencher: Bencher<'_, '_>, members: u32) {
    walk(
        bencher,
        members,
        &Target { rooms: rooms(&["room", "hall"]), except: Rooms::default(), flags: Flags::default() },
    );
}

#[divan::bench(args = MEMBERS)]
fn join_and_leave(bencher: Bencher<'_, '_>, members: u32) {
    let mut membership = membership(members);
    let room = Room::from("another");
    bencher.bench_local(|| {
        membership.join(Member(0), &room);
        membership.leave(Member(0), &room)
    });
}

/// What one client costs the ground floor: a message judged by the state machine of its connection.
#[divan::bench]
fn receive_event(bencher: Bencher<'_, '_>) {
    let now = std::time::Instant::now();
    let mut connection = Connection::<u32>::new(now);
    let limits = ConnectionLimits::default();
    assert!(connection.receive_text("0", now, &limits).is_ok(), "a wish to join");
    assert!(connection.accept(&"/".into(), 1).is_ok(), "it was asked for");
    let text = format!(r#"20["echo",{}]"#, argument(128));
    let received = connection.receive_text(&text, now, &limits);
    assert!(matches!(received, Ok(Some(Inbound::Event { .. }))), "an event of a socket that has joined");
    bencher.bench_local(|| matches!(connection.receive_text(black_box(&text), now, &limits), Ok(Some(_))));
}
