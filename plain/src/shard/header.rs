//! What a segment says of itself, in safetensors' `__metadata__`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::masking::MaskedBy;

pub const VERSION: &str = "1";

/// The special tokens of the tokenizer that wrote the shard, as ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    pub cls: u32,
    pub sep: u32,
    pub mask: Option<u32>,
    pub pad: u32,
    pub unk: Option<u32>,
    /// Every special token, those above included: never masked.
    pub all: Vec<u32>,
}

/// Where the tokens of a segment came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// sha256 of `tokenizer.json`, hexadecimal.
    pub tokenizer: String,
    pub vocab_size: u32,
    pub special: Special,
    pub max_length: u32,
    /// Where adjacent sequences of one row are windows of its text: the tokens each repeats of the one before.
    pub stride: Option<u32>,
    /// A sequence may have several texts, one after the other.
    pub join: bool,
    /// Data set, split and digest of what was read.
    pub source: serde_json::Value,
    /// The command line that wrote it.
    pub command: String,
}

/// A header with what differs from segment to segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    pub header: Header,
    pub labels: Option<Vec<String>>,
    pub masked: Option<MaskedBy>,
}

impl Meta {
    pub fn to_map(&self) -> Result<BTreeMap<String, String>> {
        let h = &self.header;
        let mut map: BTreeMap<String, String> = [
            ("format", "tapt".to_owned()),
            ("version", VERSION.to_owned()),
            ("kind", if self.masked.is_some() { "masked" } else { "tokens" }.to_owned()),
            ("tokenizer", h.tokenizer.clone()),
            ("vocab_size", h.vocab_size.to_string()),
            ("special", serde_json::to_string(&h.special)?),
            ("max_length", h.max_length.to_string()),
            ("source", h.source.to_string()),
            ("command", h.command.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(stride) = h.stride {
            map.insert("stride".into(), stride.to_string());
        }
        if h.join {
            map.insert("join".into(), "true".into());
        }
        if let Some(labels) = &self.labels {
            map.insert("labels".into(), serde_json::to_string(labels)?);
        }
        if let Some(masked) = &self.masked {
            masked.write(&mut map);
        }
        Ok(map)
    }

    pub fn from_map(map: &HashMap<String, String>) -> Result<Self> {
        let format = map.get("format").map_or("none", String::as_str);
        ensure!(format == "tapt", "not a token shard (its format is {format:?})");
        let version = get(map, "version")?;
        ensure!(
            version == VERSION,
            "shard version {version:?}: this program reads version {VERSION}"
        );
        let header = Header {
            tokenizer: get(map, "tokenizer")?.to_owned(),
            vocab_size: parse(map, "vocab_size")?,
            special: serde_json::from_str(get(map, "special")?).context("metadata `special`")?,
            max_length: parse(map, "max_length")?,
            stride: map.contains_key("stride").then(|| parse(map, "stride")).transpose()?,
            join: map.get("join").is_some_and(|join| join == "true"),
            source: serde_json::from_str(get(map, "source")?).context("metadata `source`")?,
            command: get(map, "command")?.to_owned(),
        };
        let labels = map.get("labels").map(|names| serde_json::from_str(names));
        let labels = labels.transpose().context("metadata `labels`")?;
        let masked = match get(map, "kind")? {
            "tokens" => None,
            "masked" => Some(MaskedBy::read(map)?),
            kind => return Err(anyhow!("shard kind {kind:?}: tokens or masked is wanted")),
        };
        Ok(Self { header, labels, masked })
    }
}

pub fn get<'a>(map: &'a HashMap<String, String>, key: &str) -> Result<&'a str> {
    map.get(key).map(String::as_str).ok_or_else(|| anyhow!("metadata `{key}` is missing"))
}

pub fn parse<T: FromStr>(map: &HashMap<String, String>, key: &str) -> Result<T> {
    let text = get(map, key)?;
    text.parse().map_err(|_| anyhow!("metadata `{key}`: {text:?} is not a number it can be"))
}

/// Fails where a header names a tensor twice: readers would disagree on which of the two is meant.
pub fn check_names(json: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Unique>(json).map(|_| ())
}

/// An object whose keys differ.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a safetensors header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(name) = seen.replace(name) {
                return Err(A::Error::custom(format_args!("it names `{name}` twice")));
            }
        }
        Ok(self)
    }
}
