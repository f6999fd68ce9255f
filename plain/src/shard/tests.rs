//! Shards for tests.

use serde_json::json;

use super::{Header, Segments, Sequence, Shard, Special, Writer};

/// A shard of these tokens; 0 to 4 are special.
pub fn shard(texts: &[&[u32]]) -> Shard {
    let special =
        Special { cls: 0, sep: 2, mask: Some(4), pad: 1, unk: Some(3), all: vec![0, 1, 2, 3, 4] };
    let (source, command) = (json!({}), String::new());
    let tokenizer = "a".repeat(64);
    let header = Header {
        tokenizer,
        vocab_size: 30,
        special,
        max_length: 64,
        stride: None,
        join: false,
        source,
        command,
    };
    let mut writer = Writer::new(Vec::new(), header);
    for (row, tokens) in (0..).zip(texts) {
        let (tokens, words) = (tokens.to_vec(), vec![true; tokens.len()]);
        writer.push(Sequence { tokens, words, row, ..Default::default() }).unwrap();
    }
    let bytes = std::io::Cursor::new(writer.finish().unwrap());
    Shard::read([Segments::stream("test", Box::new(bytes))]).unwrap()
}
