//! The files beside tokenizer.json, and what transformers makes of them when it opens a directory.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    TruncationDirection, TruncationParams,
};

use crate::shard::Special;

/// Larger limits in tokenizer_config.json mean that there is none.
const NO_LIMIT: f64 = 1e6;

/// Roles of special tokens, each with the keys that name it and the usual spellings.
const CLS: Role = (&["cls_token", "bos_token"], &["[CLS]", "<s>"]);
const SEP: Role = (&["sep_token", "eos_token"], &["[SEP]", "</s>"]);
const MASK: Role = (&["mask_token"], &["[MASK]", "<mask>"]);
const PAD: Role = (&["pad_token"], &["[PAD]", "<pad>"]);
const UNK: Role = (&["unk_token"], &["[UNK]", "<unk>"]);
type Role = (&'static [&'static str], &'static [&'static str]);

/// tokenizer_config.json and special_tokens_map.json, empty where they are missing.
pub struct Config {
    config: Map<String, Value>,
    special: Map<String, Value>,
}

impl Config {
    pub fn beside(file: &Path) -> Result<Self> {
        let read = |name: &str| object(&file.with_file_name(name));
        Ok(Self {
            config: read("tokenizer_config.json")?,
            special: read("special_tokens_map.json")?,
        })
    }

    /// The model's own limit of tokens a sequence, if it has one.
    pub fn longest(&self) -> Option<u32> {
        let limit = self.config.get("model_max_length")?.as_f64()?;
        (limit < NO_LIMIT).then_some(limit as u32)
    }

    /// The side that is cut.
    pub fn direction(&self, own: Option<&TruncationParams>) -> TruncationDirection {
        match self.config.get("truncation_side").and_then(Value::as_str) {
            Some("left") => TruncationDirection::Left,
            Some(_) => TruncationDirection::Right,
            None => own.map_or(TruncationDirection::Right, |own| own.direction),
        }
    }

    /// The ids of the special tokens.
    pub fn special(&self, tokenizer: &Tokenizer) -> Result<Special> {
        let find = |role: Role| self.id(role, tokenizer);
        let must = |role: Role| {
            find(role).ok_or_else(|| anyhow!("no special token {}", role.1.join(" or ")))
        };
        let (cls, sep, pad) = (must(CLS)?, must(SEP)?, must(PAD)?);
        let added = tokenizer.get_added_tokens_decoder();
        let mut all: Vec<u32> =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        all.extend([Some(cls), Some(sep), Some(pad), find(MASK), find(UNK)].into_iter().flatten());
        all.sort_unstable();
        all.dedup();
        Ok(Special { cls, sep, mask: find(MASK), pad, unk: find(UNK), all })
    }

    fn id(&self, (keys, usual): Role, tokenizer: &Tokenizer) -> Option<u32> {
        let named = keys.iter().flat_map(|key| [self.special.get(*key), self.config.get(*key)]);
        let named =
            named.flatten().filter_map(|token| token.as_str().or(token.get("content")?.as_str()));
        named.chain(usual.iter().copied()).find_map(|token| tokenizer.token_to_id(token))
    }

    /// Changes the parts that transformers changes where the settings differ from tokenizer.json.
    pub fn apply(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let class = self.config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        if ["BertTokenizer", "DistilBertTokenizer"].iter().any(|bert| class.starts_with(bert)) {
            self.apply_normalizer(tokenizer)?;
        }
        if !self.config.is_empty() {
            self.apply_prefix_space(tokenizer)?;
        }
        self.add_tokens(tokenizer)
    }

    fn apply_normalizer(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let wanted = [
            ("lowercase", self.setting("do_lower_case", json!(true))),
            ("strip_accents", self.setting("strip_accents", Value::Null)),
            ("handle_chinese_chars", self.setting("tokenize_chinese_chars", json!(true))),
        ];
        if let Some(own) = tokenizer.get_normalizer() {
            let changed: NormalizerWrapper = changed(own, &wanted)?;
            tokenizer.with_normalizer(Some(changed));
        }
        Ok(())
    }

    fn apply_prefix_space(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let wanted = [("add_prefix_space", self.setting("add_prefix_space", json!(false)))];
        if let Some(own) = tokenizer.get_pre_tokenizer() {
            let changed: PreTokenizerWrapper = changed(own, &wanted)?;
            tokenizer.with_pre_tokenizer(Some(changed));
        }
        if let Some(own) = tokenizer.get_post_processor() {
            let changed: PostProcessorWrapper = changed(own, &wanted)?;
            tokenizer.with_post_processor(Some(changed));
        }
        Ok(())
    }

    fn setting(&self, key: &str, default: Value) -> Value {
        self.config.get(key).cloned().unwrap_or(default)
    }

    /// Adds the tokens that only tokenizer_config.json has.
    fn add_tokens(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let Some(Value::Object(listed)) = self.config.get("added_tokens_decoder") else {
            return Ok(());
        };
        let mut listed: Vec<(u32, AddedToken)> = listed
            .iter()
            .map(|(id, token)| Ok((id.parse()?, serde_json::from_value(token.clone())?)))
            .collect::<Result<_>>()
            .context("tokenizer_config.json: added_tokens_decoder")?;
        listed.sort_by_key(|(id, _)| *id);
        let own = tokenizer.get_added_tokens_decoder();
        let new = listed
            .into_iter()
            .map(|(_, token)| token)
            .filter(|token| !own.values().any(|o| same(o, token)));
        tokenizer.add_tokens(&new.collect::<Vec<_>>());
        Ok(())
    }
}

fn same(a: &AddedToken, b: &AddedToken) -> bool {
    let flags = |t: &AddedToken| [t.single_word, t.lstrip, t.rstrip, t.normalized, t.special];
    a.content == b.content && flags(a) == flags(b)
}

/// A part of a tokenizer with other values for those of its own settings that are named.
fn changed<T: serde::Serialize + serde::de::DeserializeOwned>(
    part: &T,
    wanted: &[(&str, Value)],
) -> Result<T> {
    let mut state = serde_json::to_value(part)?;
    for (key, value) in wanted {
        if let Some(own) = state.get_mut(*key) {
            *own = value.clone();
        }
    }
    Ok(serde_json::from_value(state)?)
}

fn object(file: &Path) -> Result<Map<String, Value>> {
    if !file.exists() {
        return Ok(Map::new());
    }
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{}: not a JSON object", file.display()))
}
