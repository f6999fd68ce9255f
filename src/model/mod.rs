//! Encoders of the BERT family: one file an architecture, heads once, over `dyn Encoder`.

mod bert;
mod block;
mod distilbert;
mod head;
mod pool;
mod roberta;

use std::fmt::Debug;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Tensor;

pub use block::Block;
pub use head::{ClassNames, MaskedLm, MlmNames, SequenceClassifier, cross_entropy};
pub use pool::{Form, FormArgs, Layers, Pool};

use crate::nn::{Batch, Chosen, Embedding, Scope};

/// Token ids to hidden states.
pub trait Encoder: Debug {
    /// The embeddings, normalised: `[tokens, hidden]`.
    fn embed(&self, batch: &Batch, train: bool) -> Tensor;

    /// The layers above them.
    fn blocks(&self) -> &[Rc<Block>];

    /// The table of word embeddings `[vocab, hidden]`, to which decoders may be tied.
    fn words(&self) -> &Embedding;

    /// What the blocks make of a batch as it is.
    fn run(&self, batch: &Batch, train: bool) -> Tensor {
        let embedded = self.embed(batch, train);
        let Some((last, others)) = self.blocks().split_last() else { return embedded };
        last.forward(&through(others, embedded, batch, train), batch, train)
    }

    /// The same at the tokens `index` `[chosen]`, and at no others: the last layer is asked for nothing else.
    fn run_at(&self, index: &Tensor, batch: &Batch, train: bool) -> Tensor {
        let (last, Some(chosen)) = (self.blocks().split_last(), Chosen::new(batch, index)) else {
            return self.run(batch, train).index_select(0, index);
        };
        let embedded = self.embed(batch, train);
        let Some((last, others)) = last else { return chosen.of(&embedded) };
        last.forward_at(&through(others, embedded, batch, train), &chosen, batch, train)
    }

    /// The last layer's hidden states `[tokens, hidden]`.
    fn forward(&self, batch: &Batch, train: bool) -> Tensor {
        match self.words().widened(batch) {
            None => self.run(batch, train),
            Some(wide) => wide.own(&self.run(&wide, train)),
        }
    }

    /// Those of the tokens `index` `[chosen]` alone: `[chosen, hidden]`.
    fn forward_at(&self, index: &Tensor, batch: &Batch, train: bool) -> Tensor {
        match self.words().widened(batch) {
            None => self.run_at(index, batch, train),
            Some(wide) => wide.own(&self.run(&wide, train)).index_select(0, index),
        }
    }

    /// The last layer's hidden states of the first token of each sequence `[batch, hidden]`: a virtual one, where there
    /// are any.
    fn first(&self, batch: &Batch, train: bool) -> Tensor {
        let wide = self.words().widened(batch);
        let batch = wide.as_ref().unwrap_or(batch);
        self.run_at(&batch.starts, batch, train)
    }

    /// Hidden states of every layer, the embeddings first, each `[tokens, hidden]`; not for training.
    fn hidden_states(&self, batch: &Batch) -> Vec<Tensor> {
        let wide = self.words().widened(batch);
        let taken = wide.as_ref().unwrap_or(batch);
        let mut all = vec![self.embed(taken, false)];
        for block in self.blocks() {
            all.push(block.forward(&all[all.len() - 1], taken, false));
        }
        match &wide {
            None => all,
            Some(wide) => all.iter().map(|xs| wide.own(xs)).collect(),
        }
    }
}

/// What layers make of `xs` `[tokens, hidden]`. The last of all is not among them: its way back comes first, before any is
/// computed again.
fn through(others: &[Rc<Block>], xs: Tensor, batch: &Batch, train: bool) -> Tensor {
    let recomputes = train && batch.recomputes;
    others.iter().fold(xs, |xs, block| match recomputes {
        true => block.recomputed(&xs, batch),
        false => block.forward(&xs, batch, train),
    })
}

/// What `config.json` says of an architecture.
pub trait Architecture: Debug {
    /// What the encoder's tensors are called before the dot, e.g. `bert`.
    fn prefix(&self) -> &'static str;

    /// Stem of transformers' class names, e.g. `Bert` in `BertForMaskedLM`.
    fn class(&self) -> &'static str;

    fn sizes(&self) -> Sizes;

    /// Builds the encoder at `scope`, which is the place of the prefix.
    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder>;

    fn mlm_names(&self) -> MlmNames;

    fn class_names(&self) -> ClassNames;
}

/// The numbers programs need of any architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub hidden: i64,
    pub layers: i64,
    pub heads: i64,
    pub vocab: i64,
    /// Longest sequence, special tokens included.
    pub max_length: i64,
    pub eps: f64,
    pub init_std: f64,
    /// Segments there are embeddings for; no limit where segments are not told apart.
    pub segments: i64,
    /// Whether the MLM decoder is the word embeddings.
    pub tied: bool,
}

impl Sizes {
    /// The same for texts behind so many other tokens.
    pub fn behind(self, tokens: i64) -> Self {
        Self { max_length: self.max_length - tokens, ..self }
    }
}

/// The architecture of a `config.json`, by its `model_type`.
pub fn architecture(config: &Value) -> Result<Box<dyn Architecture>> {
    let kind = config["model_type"].as_str().context("`model_type` is missing")?;
    Ok(match kind {
        "bert" => Box::new(parse::<bert::Config>(config)?),
        "roberta" => Box::new(parse::<roberta::Config>(config)?),
        "distilbert" => Box::new(parse::<distilbert::Config>(config)?),
        _ => bail!("model_type {kind:?} is none of bert, roberta, distilbert"),
    })
}

/// The largest number a size may be: with more, LibTorch could not count the weights of a layer.
const LARGEST: i64 = 1 << 24;
/// More layers than any encoder has: a config of a line shall not fill the memory with small ones.
const DEEPEST: i64 = 1 << 10;

/// Keys of sizes that are not among `Sizes`, and of dropout, in whatever architecture has them.
const COUNTS: [&str; 4] =
    ["intermediate_size", "hidden_dim", "type_vocab_size", "max_position_embeddings"];
const SHARES: [&str; 6] = [
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
];

/// Fails on numbers no model can be built from.
fn parse<C: DeserializeOwned + Architecture>(config: &Value) -> Result<C> {
    let parsed: C = serde_json::from_value(config.clone())?;
    let sizes = parsed.sizes();
    let Sizes { hidden, layers, heads, vocab, max_length, .. } = sizes;
    let fits = [hidden, heads, vocab, max_length].iter().all(|size| (1..=LARGEST).contains(size));
    if !fits || !(0..=DEEPEST).contains(&layers) || hidden % heads != 0 {
        bail!("its sizes cannot be built: {sizes:?}");
    }
    for key in COUNTS {
        let size = config[key].as_i64().unwrap_or(1);
        ensure!((1..=LARGEST).contains(&size), "{key} {size} does not lie in 1 to {LARGEST}");
    }
    for key in SHARES {
        let share = config[key].as_f64().unwrap_or(0.0);
        ensure!((0.0..=1.0).contains(&share), "{key} {share} does not lie in 0 to 1");
    }
    let position = config["position_embedding_type"].as_str().unwrap_or("absolute");
    if position != "absolute" {
        bail!("position_embedding_type {position:?}: only absolute positions are known");
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use serde_json::json;
    use tch::Device;

    use super::*;
    use crate::nn::{Everything, Ids, Parameters};

    const KEYS: [&str; 12] = [
        "vocab_size",
        "hidden_size",
        "dim",
        "num_attention_heads",
        "num_hidden_layers",
        "intermediate_size",
        "hidden_dim",
        "max_position_embeddings",
        "type_vocab_size",
        "pad_token_id",
        "hidden_dropout_prob",
        "attention_dropout",
    ];

    fn small(kind: &str) -> Value {
        json!({
            "model_type": kind, "vocab_size": 5, "hidden_size": 4, "dim": 4, "num_attention_heads": 2, "n_heads": 2,
            "num_hidden_layers": 1, "n_layers": 1, "intermediate_size": 3, "hidden_dim": 3, "pad_token_id": 0,
            "max_position_embeddings": 6, "type_vocab_size": 1,
        })
    }

    fn odd() -> impl Strategy<Value = Value> {
        let numbers = [i64::MIN, -2, -1, 0, 1, 2, 7, LARGEST + 1, i64::MAX].map(|n| json!(n));
        let others = [json!(0.5), json!(-0.1), json!(2.5), json!(1e300), json!(null), json!("1")];
        prop::sample::select([&numbers[..], &others].concat())
    }

    /// Builds both heads and has them compute; nothing of this may panic.
    fn compute(architecture: &dyn Architecture) {
        let ids = Ids { tokens: vec![0], second: None };
        let batch = Batch::new([&ids], Device::Cpu);
        let store = RefCell::new(Parameters::new(Device::Cpu, BTreeMap::new(), 0));
        let root = Scope::root(&store, &Everything);
        let _ =
            MaskedLm::new(&root, architecture).logits(&batch, &Tensor::from_slice(&[0i64]), true);
        let _ = SequenceClassifier::new(&root, architecture, 2).logits(&batch, true);
    }

    proptest! {
        #[test]
        fn any_config_is_an_error_or_a_model(
            kind in prop::sample::select(vec!["bert", "roberta", "distilbert"]),
            changes in btree_map(prop::sample::select(KEYS.to_vec()), odd(), 0..4),
        ) {
            let mut config = small(kind);
            changes.into_iter().for_each(|(key, value)| config[key] = value);
            if let Ok(architecture) = architecture(&config) {
                compute(&*architecture);
            }
        }
    }

    #[test]
    fn what_no_model_has_is_named() {
        let cause = |kind: &str, key: &str, value: Value| {
            let mut config = small(kind);
            config[key] = value;
            architecture(&config).unwrap_err().to_string()
        };
        assert_eq!(cause("roberta", "pad_token_id", json!(-2)), "pad_token_id -2 is below -1");
        let beyond = cause("roberta", "pad_token_id", json!(i64::MAX));
        assert!(beyond.starts_with("its sizes cannot be built"), "{beyond}");
        let none = cause("bert", "type_vocab_size", json!(0));
        assert_eq!(none, "type_vocab_size 0 does not lie in 1 to 16777216");
        let share = cause("distilbert", "attention_dropout", json!(1.5));
        assert_eq!(share, "attention_dropout 1.5 does not lie in 0 to 1");
    }
}
