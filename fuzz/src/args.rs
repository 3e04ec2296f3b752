//! Values with binary anywhere: written, read, passed on.

use bytes::Bytes;
use posthaste_socket_proto::{
    Args, ArgsWriter, Chain, DecodeLimits, Decoder, EmitArgs, EncodeError, Packet, encode_ack, encode_event,
};

use crate::input::Input;
use crate::tree::Tree;

const LIMITS: DecodeLimits = DecodeLimits { max_attachments: 10_000, max_attachment_bytes: 1_000_000 };

/// Several arguments.
struct Spread(Vec<Tree>);

impl EmitArgs for Spread {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|tree| writer.spread(&(tree,)))
    }
}

/// Laws: what is written is read; passed on it stays the same, alone or behind other arguments; forged placeholders are refused
/// exactly where a receiver would be misled.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let id = input.flag().then(|| input.number());
    let trees: Vec<_> = (0..1 + input.below(4)).map(|_| Tree::read(&mut input, 4)).collect();
    let mut blobs = Vec::new();
    trees.iter().for_each(|tree| tree.blobs(&mut blobs));
    let mut forged = Vec::new();
    trees.iter().for_each(|tree| tree.placeholders(&mut forged));
    let values = Spread(trees.clone());

    let mut text = b"before".to_vec();
    let attachments = match encode_event(&mut text, "/n", id, "x", &values) {
        Ok(attachments) => attachments,
        Err(error) => {
            assert!(!blobs.is_empty() && !forged.is_empty(), "{error:?} without reason");
            assert_eq!(text, b"before", "what cannot be written leaves nothing");
            return;
        }
    };
    assert!(blobs.is_empty() || forged.is_empty(), "a receiver would take data for a placeholder");
    assert_eq!(attachments, blobs);
    let text = String::from_utf8(text.split_off(6)).expect("text");

    let Packet::Event { namespace, id: id_read, event, args } = decoded(&text, &attachments) else {
        panic!("not an event: {text}");
    };
    assert_eq!((&*namespace, id_read, &*event), ("/n", id, "x"));
    assert_eq!(read(&args), trees, "{text}");

    // Passed on unread, alone: the same bytes.
    let mut again = Vec::new();
    let attachments_again = encode_event(&mut again, "/n", id, "x", &args).expect("what came can be sent");
    assert_eq!((String::from_utf8(again).expect("text"), attachments_again), (text, attachments));

    // Behind itself: twice the same values.
    let mut twice = Vec::new();
    let attachments = encode_ack(&mut twice, "/", 7, &Chain(&args, args.clone())).expect("what came can be sent");
    let Packet::Ack { args: both, .. } = decoded(&String::from_utf8(twice).expect("text"), &attachments) else {
        panic!("not an ack");
    };
    assert_eq!(read(&both), [trees.clone(), trees.clone()].concat());
    assert_eq!(read(&both.skip(trees.len())), trees);
}

fn decoded(text: &str, attachments: &[Bytes]) -> Packet<'static> {
    let mut decoder = Decoder::default();
    let mut packet = decoder.text(text, &LIMITS).expect("our own packet").map(Packet::into_owned);
    for attachment in attachments {
        assert_eq!(packet, None, "no packet before its last attachment");
        packet = decoder.binary(attachment.clone(), &LIMITS).expect("an attachment is awaited");
    }
    packet.unwrap_or_else(|| panic!("all there: {text}"))
}

/// The arguments one by one.
fn read(args: &Args<'_>) -> Vec<Tree> {
    let count = args.iter().count();
    (0..count).map(|index| args.skip(index).deserialize().expect("anything can be read as a tree")).collect()
}
