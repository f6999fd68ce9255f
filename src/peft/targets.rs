//! Which linear layers a method means, as peft matches `target_modules` to names.

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde_json::{Value, json};

/// Words for targets, and what the architectures call them.
const WORDS: [(&str, &[&str]); 6] = [
    ("query", &["query", "q_lin"]),
    ("key", &["key", "k_lin"]),
    ("value", &["value", "v_lin"]),
    (
        "attention",
        &["query", "key", "value", "attention.output.dense", "q_lin", "k_lin", "v_lin", "out_lin"],
    ),
    ("ffn", &["intermediate.dense", "output.dense", "lin1", "lin2"]),
    (
        "all",
        &[
            "query",
            "key",
            "value",
            "intermediate.dense",
            "output.dense",
            "q_lin",
            "k_lin",
            "v_lin",
            "out_lin",
            "lin1",
            "lin2",
        ],
    ),
];

/// Linear layers by the ends of their names.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    ends: Vec<String>,
    /// In place of `ends`: what the whole name matches.
    pattern: Option<Regex>,
    excluded: Vec<String>,
    /// In place of `excluded`: what the whole name matches.
    spared: Option<Regex>,
    /// Parts that train as they are, and get nothing.
    saved: Vec<String>,
    /// The layers of the encoder that are meant, from 0; all if none is named.
    layers: Vec<u64>,
    /// `ffn` names `output.dense`, which is also the end of attention's; that one is meant only where it is named.
    spares_attention: bool,
}

impl Targets {
    /// From the words of `--targets`.
    pub fn new(words: &[String]) -> Self {
        let spell = |word: &String| match WORDS.iter().find(|(name, _)| name == word) {
            Some((_, names)) => names.iter().map(ToString::to_string).collect(),
            None => vec![word.clone()],
        };
        let mut ends: Vec<String> = words.iter().flat_map(spell).collect();
        ends.sort();
        ends.dedup();
        let named = |word: &str| words.iter().any(|target| target == word);
        let spares = named("ffn") && !["attention", "all", "output.dense"].into_iter().any(named);
        Self { ends, spares_attention: spares, ..Self::default() }
    }

    /// From the keys of an `adapter_config.json`.
    pub fn from_config(config: &Value) -> Result<Self> {
        let (mut words, mut pattern) = (list(config, "target_modules")?, None);
        if let [only] = &words[..]
            && config["target_modules"].is_string()
        {
            match only.as_str() {
                "all-linear" => words = vec!["all".into()],
                all => pattern = Some(regex(&format!("^(?:{all})$"))?),
            }
        }
        let mut excluded = list(config, "exclude_modules")?;
        let mut spared = None;
        if let Some(all) = config["exclude_modules"].as_str() {
            spared = Some(regex(&format!("^(?:{all})$"))?);
            excluded.clear();
        }
        let saved = list(config, "modules_to_save")?;
        let layers = super::layers(config, "layers_to_transform")?;
        Ok(Self { pattern, excluded, spared, saved, layers, ..Self::new(&words) })
    }

    /// Whether the linear layer of this full name is meant.
    pub fn has(&self, path: &str) -> bool {
        let spared = self.spares_attention && path.ends_with(".attention.output.dense");
        let found = match &self.pattern {
            Some(pattern) => pattern.is_match(path),
            None => self.ends.iter().any(|end| is_end(path, end)),
        };
        let excluded = self.excluded.iter().any(|end| is_end(path, end))
            || self.spared.as_ref().is_some_and(|pattern| pattern.is_match(path));
        let saved =
            self.saved.iter().any(|part| format!(".{path}.").contains(&format!(".{part}.")));
        found && !spared && !excluded && !saved && self.has_layer(path)
    }

    fn has_layer(&self, path: &str) -> bool {
        let number = path.split('.').find_map(|part| part.parse().ok());
        self.layers.is_empty() || number.is_some_and(|layer| self.layers.contains(&layer))
    }

    /// As a config has it: the ends, or in full where an end would also say a layer of `all` that is not among
    /// `meant`.
    pub fn to_config(&self, meant: &[&str], all: &[&str]) -> Value {
        let said = all.iter().filter(|path| self.ends.iter().any(|end| is_end(path, end))).count();
        if self.pattern.is_none() && said == meant.len() { json!(self.ends) } else { json!(meant) }
    }
}

/// The whole name, or its end after a dot.
fn is_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// A list of strings, or one string.
fn list(config: &Value, key: &str) -> Result<Vec<String>> {
    Ok(match &config[key] {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => {
            let all: Option<_> = all.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            all.with_context(|| format!("`{key}` must list names"))?
        }
        _ => bail!("`{key}` must list names"),
    })
}

fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).with_context(|| format!("the pattern {pattern:?}"))
}

/// Numbers for layers whose names match: peft's `rank_pattern` and `alpha_pattern`.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<(String, Regex, f64)>);

impl Patterns {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, f64)>) -> Result<Self> {
        let pair = |(key, number): (&str, f64)| -> Result<_> {
            Ok((key.to_owned(), regex(&format!("^(?:.*\\.)?(?:{key})$"))?, number))
        };
        Ok(Self(pairs.into_iter().map(pair).collect::<Result<_>>()?))
    }

    pub fn from_config(config: &Value, key: &str) -> Result<Self> {
        let said = &config[key];
        if said.is_null() {
            return Ok(Self::default());
        }
        let numbers = said.as_object().and_then(|pairs| {
            pairs.iter().map(|(key, number)| Some((&key[..], number.as_f64()?))).collect()
        });
        let numbers: Vec<(&str, f64)> = numbers.ok_or_else(|| super::unread(key, said))?;
        Self::new(numbers)
    }

    /// The number of the first pattern that matches.
    pub fn get(&self, path: &str) -> Option<f64> {
        self.0.iter().find(|(_, regex, _)| regex.is_match(path)).map(|&(.., number)| number)
    }

    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|&(.., number)| number)
    }

    pub fn to_config(&self, factor: f64) -> Value {
        // Ranks are whole, and peft takes no 2.0 for one.
        let whole =
            |number: f64| if number.fract() == 0.0 { json!(number as i64) } else { json!(number) };
        self.0.iter().map(|(key, _, number)| (key.clone(), whole(number * factor))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [&str; 4] = [
        "bert.encoder.layer.0.attention.self.query",
        "bert.encoder.layer.0.attention.output.dense",
        "bert.encoder.layer.1.output.dense",
        "bert.pooler.dense",
    ];

    fn meant(targets: &Targets) -> Vec<usize> {
        (0..PLACES.len()).filter(|&i| targets.has(PLACES[i])).collect()
    }

    fn words(words: &[&str]) -> Targets {
        Targets::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_stand_for_layers() {
        assert_eq!(meant(&words(&["query"])), [0]);
        assert_eq!(meant(&words(&["attention"])), [0, 1]);
        assert_eq!(meant(&words(&["ffn"])), [2]);
        assert_eq!(meant(&words(&["ffn", "attention"])), [0, 1, 2]);
        assert_eq!(meant(&words(&["all"])), [0, 1, 2]);
        assert_eq!(meant(&words(&["ery"])), [0_usize; 0]);
    }

    #[test]
    fn configs_say_which_layers() {
        let of = |config: Value| meant(&Targets::from_config(&config).unwrap());
        assert_eq!(of(json!({"target_modules": ["dense"], "layers_to_transform": [1]})), [2]);
        assert_eq!(of(json!({"target_modules": ".*output.*"})), [1, 2]);
        assert_eq!(of(json!({"target_modules": "all-linear"})), [0, 1, 2]);
        let spared = json!({"target_modules": ["dense"], "exclude_modules": ["pooler.dense"]});
        assert_eq!(of(spared), [1, 2]);
        let pattern = json!({"target_modules": ["dense"], "exclude_modules": ".*pooler.*"});
        assert_eq!(of(pattern), [1, 2]);
        assert_eq!(of(json!({"target_modules": ["dense"], "modules_to_save": ["pooler"]})), [1, 2]);
        assert!(Targets::from_config(&json!({"target_modules": [1]})).is_err());
    }

    #[test]
    fn patterns_give_numbers() {
        let patterns = Patterns::new([("layer.0.*query", 4.0), ("dense", 2.0)]).unwrap();
        let got = PLACES.map(|place| patterns.get(place));
        assert_eq!(got, [Some(4.0), Some(2.0), Some(2.0), Some(2.0)]);
        assert!(Patterns::new([("(", 1.0)]).is_err());
    }
}
